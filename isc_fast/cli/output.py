"""What a verb prints: results to standard output by `show`, notes and progress to standard error.

File names and ids come from strangers. What would steer a terminal in them is shown as its number, not sent.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OutputError
from ..progress import ProgressPrinter

if TYPE_CHECKING:
    from ..descriptors.verdict import Verdict
    from ..extraction.pipeline import Extraction
    from ..runs.tasks.normalizing import PartsMade

_FAILURES_SHOWN = 10


# Control characters, and those that turn the direction of writing; not the line end and the tab.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text with everything that steers a terminal written as its number; line ends stay."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def one_printable_line(text: str) -> str:
    """The same, on one line."""
    return printable(text.replace("\n", "\\n"))


def show(result: object) -> None:
    """Print a result to standard output.

    Raises:
        OutputError: that is not possible, for example on a full disk. A pipe that nobody reads any more is a BrokenPipeError.
    """
    try:
        print(printable(str(result)))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {error.strerror or error}") from error


def show_parts(made: PartsMade, words: str) -> None:
    """Print what became of a result in parts; ``words`` say what it is when it is whole."""
    if made.complete:
        show(f"{made.folder}: {words}, {made.parts} parts")
    else:
        show(
            f"{made.folder}: {made.done} of {made.parts} parts are there; the job that sees the last one writes the manifest"
        )


def print_error(text: str) -> None:
    """Print to standard error as it is. Where that is not possible, nobody can be told."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def note(text: str) -> None:
    """Print a line to standard error."""
    print_error(one_printable_line(text))


def propose(hubs: int, suggestions: Path | str | None) -> None:
    """Print that some photos may belong on a stop list."""
    if suggestions is not None:
        photos = f"{hubs} photos match" if hubs > 1 else "1 photo matches"
        note(
            f"note: {photos} many others that have little in common: {suggestions}; look at them, and leave out what says "
            "nothing with --stop-list FILE"
        )


def tell(verdict: Verdict) -> None:
    """Print what a user should know about two sets that were compared."""
    for remark in verdict.remarks:
        note(f"{remark.grade.name.lower()}: {remark.words}")


@contextlib.contextmanager
def told_in_one_line() -> Iterator[None]:
    """Leave out Python's own form of a warning that `tell` prints."""
    from ..descriptors.verdict import PrecisionWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)
        yield


@contextlib.contextmanager
def progress(label: str, unit: str = "images") -> Iterator[ProgressPrinter]:
    """Give a printer of progress; its line ends when the work is done or breaks off."""
    printer = ProgressPrinter(label, unit=unit)
    try:
        yield printer
    finally:
        printer.close()


class _Noting(logging.Handler):
    """Prints what a part of the library warns of while it works, each on a line of its own."""

    def __init__(self, printer: ProgressPrinter) -> None:
        super().__init__(logging.WARNING)
        self._printer = printer

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        self._printer.close()
        note(f"note: {record.getMessage()}")


@contextlib.contextmanager
def noted(logger: str, printer: ProgressPrinter) -> Iterator[None]:
    """Print what a logger is told inside the block, between the lines of progress."""
    handler = _Noting(printer)
    logging.getLogger(logger).addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger(logger).removeHandler(handler)


class _Keeping(logging.Handler):
    """Keeps what a part of the library warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def noted_after(logger: str) -> Iterator[None]:
    """Print what a logger is told inside the block when the block ends, below the lines of progress."""
    handler, log = _Keeping(), logging.getLogger(logger)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        for message in handler.messages:
            note(f"note: {message}")


@contextlib.contextmanager
def named_progress(unit: str = "images", **units: str) -> Iterator[Callable[[str], ProgressPrinter]]:
    """Give printers for the steps of a longer run; each line ends when the run is done or breaks off.

    Args:
        unit: what a step counts.
        units: the same of the steps whose names begin with these words.
    """
    with contextlib.ExitStack() as stack:
        yield lambda label: stack.enter_context(progress(label, units.get(label.split()[0], unit)))


def note_what_is_missing(made: Extraction) -> None:
    """Print what an extraction left out, could not read, or has doubts about."""
    from ..sources.listing import containers_among, in_words, patterns_in_words
    from ..stores.urls import without_stamp

    if made.note:
        note(f"note: {made.note}")
    if made.ignored:
        note(f"note: {made.ignored} files were left out by their names: {in_words(made.ignored_suffixes)}")
    if packed := containers_among(made.ignored_suffixes):
        note(f"note: {packed} of them are archives or tables beside images; to describe their photos, name them")
    if made.excluded:
        left = patterns_in_words(made.excluded)
        note(
            f"note: files and folders left out by patterns: {left}; --no-default-excludes takes what no --exclude names"
        )
    if count := unread(made):
        note(
            f"note: {count} of them are pictures of formats that isc-fast does not read; convert them, for example to PNG"
        )
    for failure in made.failures[:_FAILURES_SHOWN]:
        note(f"failed: {without_stamp(failure.path)}: {failure.reason}")
    if len(made.failures) > _FAILURES_SHOWN:
        note(f"… and {len(made.failures) - _FAILURES_SHOWN} more: isc-fast info {made.path} --failures")
    if made.notes:
        images = "1 image is" if len(made.notes) == 1 else f"{len(made.notes)} images are"
        note(
            f"note: {images} of one single colour, and match every other such image: isc-fast info {made.path} --notes"
        )


def unread(made: Extraction) -> int:
    """How many of the files that were left out are pictures all the same, by their names."""
    from ..sources.folders import UNREAD_SUFFIXES

    return sum(count for suffix, count in made.ignored_suffixes.items() if suffix in UNREAD_SUFFIXES)
