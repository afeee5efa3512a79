"""What every drawing shares: the check before the work, one look, and a file that is the same bytes for the same figures.

Drawings are SVG or PNG, by the name of the file.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import InputError, require
from ..files.atomic import replacing, try_to_write

SUFFIXES = (".svg", ".png")
WRITER = "isc-fast"
"""Stands in each drawing as what made it, so that no other picture is taken for one."""
RIGHT, WRONG, LINE, QUIET = "#1b7f5c", "#c2410c", "#1d4ed8", "#8a8f98"
"""Colours: what is right, what is wrong, a curve, and what stands behind."""

_SIZE = (9.0, 4.0)  # inches
_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e8eb",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "isc-fast",  # names in the file, which are random otherwise
    "svg.fonttype": "path",
}


def check_plot(path: str | os.PathLike[str]) -> None:
    """See before the work that a drawing can be made.

    Raises:
        InputError: its name ends in neither .svg nor .png.
        MissingExtraError: matplotlib is not installed.
        OutputError: it cannot be written.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(f"{os.fspath(path)} has to end in {' or '.join(SUFFIXES)}, which says how it is drawn")
    _library()
    try_to_write(path)


def new_figure(title: str, columns: int = 2, size: tuple[float, float] = _SIZE) -> tuple[Any, Any]:
    """A figure with its axes beside each other.

    Args:
        title: stands above, at the left.
        columns: how many axes.
        size: width and height in inches.

    Returns:
        the figure, and its axes: an array, or one alone.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    library = _library()
    with library.rc_context(_STYLE):
        figure = library.figure.Figure(figsize=size, layout="constrained")
        axes = figure.subplots(1, columns)
        figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure, axes


def add_legend(axes: Any) -> None:
    """Put the legend of some axes above them."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), fontsize=8, frameon=False, borderaxespad=0.2, labelspacing=0.25
    )


def save_figure(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure, as SVG or PNG by the name of the file.

    Raises:
        OutputError: it cannot be written.
    """
    form = Path(path).suffix.lower()[1:]
    metadata = {"Date": None, "Creator": WRITER} if form == "svg" else {"Software": WRITER}
    with replacing(path) as temporary, _library().rc_context(_STYLE):
        figure.savefig(temporary, format=form, dpi=150, metadata=metadata)


def _library() -> ModuleType:
    """Import matplotlib without leaving anything in the user's folders, where it would keep what it learns of fonts."""
    if "matplotlib" in sys.modules or "MPLCONFIGDIR" in os.environ:
        require("matplotlib.figure", "plot")
        return require("matplotlib", "plot")
    with tempfile.TemporaryDirectory(prefix="isc-fast-") as folder:
        os.environ["MPLCONFIGDIR"] = folder
        try:
            require("matplotlib.figure", "plot")
        finally:
            del os.environ["MPLCONFIGDIR"]
    return require("matplotlib", "plot")
