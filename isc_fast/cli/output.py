"""What a verb writes to standard error: notes, and progress. Results go to standard output, by ``print``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from ..progress import ProgressPrinter


def note(text: str) -> None:
    """Print a line to standard error."""
    print(text, file=sys.stderr)


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
