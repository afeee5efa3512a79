"""What a verb writes to standard error: notes, and progress. Results go to standard output, by ``print``."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..progress import ProgressPrinter

if TYPE_CHECKING:
    from ..descriptors.comparing import Verdict


def note(text: str) -> None:
    """Print a line to standard error."""
    print(text, file=sys.stderr)


def tell(verdict: Verdict) -> None:
    """Print what a user should know about two sets that were compared."""
    for remark in verdict.remarks:
        note(f"{remark.grade.name.lower()}: {remark.words}")


@contextlib.contextmanager
def told_in_one_line() -> Iterator[None]:
    """Leave out Python's own form of a warning that `tell` prints."""
    from ..descriptors.comparing import PrecisionWarning

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


@contextlib.contextmanager
def named_progress(unit: str = "images") -> Iterator[Callable[[str], ProgressPrinter]]:
    """Give printers for the steps of a longer run; each line ends when the run is done or breaks off."""
    with contextlib.ExitStack() as stack:
        yield lambda label: stack.enter_context(progress(label, unit))
