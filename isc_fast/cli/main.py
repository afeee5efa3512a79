"""The command line: one file for each verb, with its flags and what it does side by side.

Printing help loads nothing heavy, because a verb imports the library only when it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Protocol

from .. import __version__
from ..errors import IscFastError
from . import challenge, convert, demo, doctor, evaluate, export, extract, info, negatives, normalize, report, search

from . import train, tune, verify  # isort: skip


class Verb(Protocol):
    """What the module of a verb holds."""

    HELP: str
    """One line for the list of verbs, which begins with a small letter and has no full stop."""

    def add(self, parser: argparse.ArgumentParser) -> None:
        """Add the verb's flags."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Call the library and print the result; returns the exit status.

        Raises:
            IscFastError: its message is printed as one line, and the exit status is 1.
        """
        ...


VERBS: dict[str, Verb] = {
    "train": train,
    "export": export,
    "extract": extract,
    "negatives": negatives,
    "normalize": normalize,
    "search": search,
    "evaluate": evaluate,
    "report": report,
    "convert": convert,
    "challenge": challenge,
    "demo": demo,
    "tune": tune,
    "doctor": doctor,
    "info": info,
    "verify": verify,
}
"""Every verb, in the order in which help lists them."""


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line."""
    parser = argparse.ArgumentParser("isc-fast", description="Find edited copies of photos.")
    parser.add_argument("--version", action="version", version=f"isc-fast {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, verb in VERBS.items():
        description = verb.HELP[0].upper() + verb.HELP[1:] + "."
        verb.add(verbs.add_parser(name, help=verb.HELP, description=description))
    return parser


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status: 0, 1 (``error: …``), 2 (usage), 130 (interrupted)."""
    given = make_parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)  # a stopped container leaves a state that resumes, like Ctrl-C
    # Ids may hold bytes that are not valid text; they are printed as they are.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    try:
        _quiet_pillow()
        status = VERBS[given.verb].run(given)
        sys.stdout.flush()
        return status
    except IscFastError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to go on", file=sys.stderr)
        _leave_decoders()
        return 130
    except BrokenPipeError:  # the reader of a pipe went away: `isc-fast info … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _leave_decoders() -> None:
    """End the process at once if a photo is still being decoded: Python would wait for it, and a library may hang in it."""
    if any(thread.name.startswith("decode") for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(130)


def _quiet_pillow() -> None:
    """Let Pillow not warn on standard error: what is wrong with a photo stands in the ledger."""
    from ..decoders.opening import quiet_pillow

    quiet_pillow()


if __name__ == "__main__":
    sys.exit(main())
