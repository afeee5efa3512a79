"""The command line: one file for each verb, with its flags and what it does side by side.

Printing help loads nothing heavy, because a verb imports the library only when it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
from collections.abc import Sequence
from typing import Protocol

from .. import __version__
from ..errors import IscFastError
from ..progress import what_is_kept
from . import (
    align,
    assemble,
    calibrate,
    challenge,
    completion,
    convert,
    dedup,
    demo,
    distill,
    doctor,
    evaluate,
    export,
    extract,
    find,
    index,
    info,
    leaks,
    merge,
    negatives,
    normalize,
    remove,
    rename,
    report,
    search,
)

from . import train, tune, verify  # isort: skip
from .file_flags import check_files
from .flags import help_of
from .output import one_printable_line, print_error
from .process import INTERRUPTED, Interrupts, flush_output, prepare_streams


class Verb(Protocol):
    """What the module of a verb holds."""

    HELP: str
    """One line for the list of verbs, which begins with a small letter and has no full stop."""

    EXAMPLE: str
    """A command line as somebody would type it."""

    def add(self, parser: argparse.ArgumentParser) -> None:
        """Add the verb's flags."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Call the library and print the result; returns the exit status.

        Raises:
            IscFastError: its message is printed as one line, and the exit status is 1.
        """
        ...


VERBS: dict[str, Verb] = {
    "dedup": dedup,
    "find": find,
    "leaks": leaks,
    "train": train,
    "distill": distill,
    "export": export,
    "extract": extract,
    "negatives": negatives,
    "normalize": normalize,
    "search": search,
    "index": index,
    "align": align,
    "evaluate": evaluate,
    "calibrate": calibrate,
    "report": report,
    "assemble": assemble,
    "merge": merge,
    "remove": remove,
    "rename": rename,
    "convert": convert,
    "challenge": challenge,
    "demo": demo,
    "tune": tune,
    "doctor": doctor,
    "info": info,
    "verify": verify,
    "completion": completion,
}
"""Every verb, in the order in which help lists them."""


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line."""
    parser = argparse.ArgumentParser("isc-fast", **help_of("find edited copies of photos", dedup.EXAMPLE))
    parser.add_argument("--version", action="version", version=f"isc-fast {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, verb in VERBS.items():
        verb.add(verbs.add_parser(name, help=verb.HELP, **help_of(verb.HELP, verb.EXAMPLE)))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status: 0, 1 (``error: …``), 2 (usage), 130 (interrupted)."""
    prepare_streams()
    interrupts = Interrupts()
    with interrupts.caught():
        try:
            status = _run(arguments)
        except (KeyboardInterrupt, Exception) as error:
            # What a library raises after an interruption is often something else: HDF5 cannot pass the interruption on.
            if not (interrupts.seen or isinstance(error, KeyboardInterrupt)):
                raise
            kept = what_is_kept(error)
            print_error(f"\ninterrupted{kept and f': {kept}'}; run the same command again")
            _leave_decoders()
            status = INTERRUPTED
    problem = flush_output()
    if problem:
        print_error(f"error: cannot write to standard output: {problem}")
    return status if problem is None or status == INTERRUPTED else 1


def _run(arguments: Sequence[str] | None) -> int:
    try:
        given = make_parser().parse_args(arguments)
        _quiet_pillow()
        check_files(given)
        return VERBS[given.verb].run(given)
    except SystemExit as end:  # help, the version, or wrong usage: argparse has printed what there is to say
        problem = flush_output()
        if problem is None:
            raise
        if problem:
            print_error(f"error: cannot write to standard output: {problem}")
        return 1 if end.code in (0, None) else 2
    except IscFastError as error:
        print_error(f"error: {one_printable_line(str(error))}")
    except BrokenPipeError:  # the reader of a pipe went away: `isc-fast info … | head`
        flush_output()
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print_error(f"error: {one_printable_line(place + (error.strerror or str(error)))}")
        flush_output()
    except MemoryError:
        print_error("error: there is not enough memory for this")
    return 1


def _leave_decoders() -> None:
    """End the process at once if a photo is still being decoded: Python would wait for it, and a library may hang in it."""
    decoding = sys.modules.get("isc_fast.decoders.threads")  # a run that decodes has imported it
    if decoding and any(thread.name.startswith(decoding.THREADS) for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(INTERRUPTED)


def _quiet_pillow() -> None:
    """Let Pillow not warn on standard error: what is wrong with a photo stands in the ledger."""
    from ..decoders.opening import quiet_pillow

    quiet_pillow()


if __name__ == "__main__":
    sys.exit(main())
