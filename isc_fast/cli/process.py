"""What a command owes to the system: streams that may be missing or narrow, and signals that end it in order."""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

INTERRUPTED = 130
"""The exit status after SIGINT or SIGTERM."""

_ANY_TEXT = "isc_fast.any_text"
_AGAIN_S = 0.05


def _encode_anyhow(error: UnicodeError) -> tuple[bytes, int]:
    """Bytes that are no text, as file names may have, stay as they are; what an encoding lacks is written as its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    written = b""
    for character in error.object[error.start : error.end]:
        as_byte = 0xDC80 <= ord(character) <= 0xDCFF
        written += bytes([ord(character) - 0xDC00]) if as_byte else character.encode("ascii", "backslashreplace")
    return written, error.end


def prepare_streams() -> None:
    """Open the standard streams that whoever started this process closed, and let all of them take any text.

    A stream that is missing leads nowhere. If its number stayed free, the next file that is opened would get it, and what a
    library prints would end in that file.
    """
    codecs.register_error(_ANY_TEXT, _encode_anyhow)
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors=_ANY_TEXT)  # type: ignore[union-attr]


def flush_output() -> str | None:
    """Write what standard output still holds; returns why that failed, or None. After a failure, it leads nowhere."""
    try:
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
        return "" if isinstance(error, BrokenPipeError) else error.strerror or str(error)
    return None


class Interrupts:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt, so that a stopped container leaves a state that resumes, like Ctrl-C.

    A signal that whoever started this process lets it ignore stays ignored, as SIGINT is in a script's background.

    Attributes:
        seen: whether a signal came.
    """

    def __init__(self) -> None:
        self.seen = False

    def _interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        self.seen = True
        raise KeyboardInterrupt

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Catch the signals inside the block. After an interruption, the next signal ends the process at once."""
        kept = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                kept[number] = signal.signal(number, self._interrupt)
        hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        try:
            yield
        finally:
            sys.unraisablehook = hook
            for number, before in kept.items():
                signal.signal(number, _leave if self.seen else before)

    def _unraisable(self, what: Any) -> None:
        """An interruption that came where Python cannot pass it on, such as in a function that HDF5 calls, comes again."""
        if not (self.seen and isinstance(what.exc_value, KeyboardInterrupt)):
            sys.__unraisablehook__(what)
            return
        again = threading.Timer(_AGAIN_S, signal.raise_signal, [signal.SIGINT])
        again.daemon = True
        again.start()


def _leave(_signal: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)
