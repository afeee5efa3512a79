"""Progress on standard error. Terminals and notebooks show one line that is redrawn; a log gets a plain line every 15 seconds."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from .errors import IscFastError

ProgressCallback = Callable[[int, int, int], None]
"""A function that is called with (images done, all images, images that failed), first before this run does any work. Of photos in
containers that nobody has gone through, the number of all is -1."""

_TERMINAL_EVERY_S = 0.1
_LOG_EVERY_S = 15.0
_KEPT = "interrupted: "


def duration(seconds: float) -> str:
    """Write seconds as a clock does: ``75`` → ``1:15``, ``3700`` → ``1:01:40``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _is_notebook(stream: TextIO) -> bool:
    """Whether Jupyter shows what is printed. It redraws a line at a carriage return, and knows nothing else of a terminal."""
    return type(stream).__module__.startswith("ipykernel.")


@contextlib.contextmanager
def saying_what_is_kept(words: Callable[[], str]) -> Iterator[None]:
    """Say what is kept of the work in the block, in a note to the exception that interrupts it; see `BaseException.add_note`.

    It may be another exception than KeyboardInterrupt: a library such as HDF5 cannot pass that on.

    Args:
        words: gives ``"4 of 60 photos are kept"``; called after an interruption. It must not wait for a network.
    """
    try:
        yield
    except IscFastError:
        raise
    except BaseException as error:
        with contextlib.suppress(Exception):
            error.add_note(f"{_KEPT}{words()}")
        raise


def what_is_kept(error: BaseException) -> str:
    """What `saying_what_is_kept` has said; empty where nothing was."""
    notes = [note for note in getattr(error, "__notes__", ()) if isinstance(note, str)]
    return "; ".join(note.removeprefix(_KEPT) for note in notes if note.startswith(_KEPT))


class ProgressPrinter:
    """Prints images/s and the time left, for every function of the library that takes ``progress``.

    ``isc_fast.extract(…, progress=isc_fast.ProgressPrinter("photos"))`` shows one line that is redrawn, in a terminal and in a
    notebook, and plain lines in a log. Where a function has several steps, such as `isc_fast.find_duplicates`, give it the class
    itself: ``progress=isc_fast.ProgressPrinter``.

    Args:
        label: the name of the work, e.g. ``"extract"``.
        stream: the stream to print on; by default standard error.
        unit: the name of what is counted.
    """

    def __init__(self, label: str, stream: TextIO | None = None, unit: str = "images") -> None:
        self._label = label
        self._stream = stream or sys.stderr
        self._unit = unit
        self._notebook = _is_notebook(self._stream)
        self._redraws = self._notebook or self._stream.isatty()
        self._width = 0
        self._began: float | None = None
        self._first_done = 0
        self._printed = 0.0
        self._open_line = False

    def __call__(self, done: int, total: int, failed: int) -> None:
        now = time.monotonic()
        if self._began is None:
            self._began, self._first_done, self._printed = now, done, now
            if done:
                self._write(f"{self._label}: resuming, {done} of {total} {self._unit} are done", last=True)
            return
        due = now - self._printed >= (_TERMINAL_EVERY_S if self._redraws else _LOG_EVERY_S)
        if not due and (done < total or total < 0):
            return
        self._printed = now
        rate = (done - self._first_done) / max(now - self._began, 1e-9)
        left = f", {duration((total - done) / rate)} left" if rate and done < total else ""
        bad = f", {failed} failed" if failed else ""
        share = f"{done}/{total} {100 * done // max(total, 1)}%" if total >= 0 else f"{done} {self._unit}"
        self._write(f"{self._label}: {share}, {rate:.1f} {self._unit}/s{left}{bad}", last=done == total)

    def _write(self, line: str, *, last: bool) -> None:
        if self._redraws:
            shown = f"\r{line:<{self._width}}" if self._notebook else f"\r\x1b[K{line}"
            self._width = len(line)
            self._put(shown + ("\n" if last else ""))
            self._open_line = not last
        else:
            self._put(line + "\n")

    def _put(self, text: str) -> None:
        # A closed terminal, or a log on a full disk, must not end a run of many hours.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()

    def close(self) -> None:
        """End a line that is still being redrawn, so that the next text starts on a line of its own."""
        if self._open_line:
            self._put("\n")
            self._open_line = False


class Tally:
    """Counts the images that are done and calls a callback.

    Args:
        total: number of all images.
        todo: number of images that this run works on; the others are done already.
        callback: called after each change, if it is not None.
    """

    def __init__(self, total: int, todo: int, callback: ProgressCallback | None) -> None:
        self._total, self._done, self._failed = total, total - todo, 0
        self._before, self._callback = self._done, callback

    @property
    def images(self) -> int:
        """How many images this run has done."""
        return self._done - self._before

    def begin(self) -> None:
        """Call the callback before any work."""
        self.add(0, 0)

    def add(self, images: int, failed: int) -> None:
        """Count images that are done, and how many of them failed. Negative numbers take back what was lost."""
        self._done, self._failed = self._done + images, self._failed + failed
        if self._callback:
            self._callback(self._done, self._total, self._failed)
