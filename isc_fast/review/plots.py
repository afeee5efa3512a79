"""Drawings that stand alone: precision and recall, what scores copies and other pairs have, what a calibration states.

They are SVG or PNG, by the name of the file. The same figures give the same bytes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError, require
from ..evaluation.calibration import Calibration, Expected, Task
from ..evaluation.metrics import Curve
from ..files.atomic import replacing, try_to_write

SUFFIXES = (".svg", ".png")
_RIGHT, _WRONG, _LINE, _QUIET = "#1b7f5c", "#c2410c", "#1d4ed8", "#8a8f98"
_BINS = 60
_SIZE = (9.0, 4.0)
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

Floats = npt.NDArray[np.floating[Any]]


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


def plot_evaluation(path: str | os.PathLike[str], curve: Curve, title: str) -> None:
    """Draw precision over recall, and how many right and wrong predictions have which score.

    Args:
        path: ends in .svg or .png.
        curve: of one protocol; see `isc_fast.evaluation.metrics.curve_of`.
        title: stands above, such as the figures.

    Raises:
        InputError, MissingExtraError, OutputError: see `check_plot`.
    """
    check_plot(path)
    figure, (left, right) = _figure(title)
    left.plot(curve.recall, curve.precision, color=_LINE, linewidth=1.8)
    left.axhline(0.9, color=_QUIET, linewidth=0.8, linestyle="--")
    left.set(
        xlim=(0, 1), ylim=(0, 1.02), xlabel="recall: share of all true pairs", ylabel="precision: share that is right"
    )
    _scores(
        right, curve.scores[curve.correct], curve.scores[~curve.correct], ("right predictions", "wrong predictions")
    )
    _save(figure, path)


def plot_calibration(
    path: str | os.PathLike[str], calibration: Calibration, task: Task, marked: Sequence[Expected], title: str
) -> None:
    """Draw what a calibration states: precision with its interval and recall over the threshold, and the scores below it.

    Args:
        path: ends in .svg or .png.
        calibration, task: what is drawn, and for what.
        marked: thresholds that are pointed out.
        title: stands above.

    Raises:
        InputError, MissingExtraError, OutputError: see `check_plot`.
    """
    check_plot(path)
    thresholds = np.arange(0.0, 1.0, 0.02)
    at = [calibration.expected(float(threshold), task) for threshold in thresholds]
    figure, (left, right) = _figure(title)
    left.fill_between(
        thresholds, [one.lowest for one in at], [one.highest for one in at], color=_LINE, alpha=0.15, linewidth=0
    )
    left.plot(
        thresholds, [one.precision for one in at], color=_LINE, linewidth=1.8, label="precision, with 95 % interval"
    )
    left.plot(thresholds, [one.recall for one in at], color=_RIGHT, linewidth=1.8, label="recall, mean over edits")
    for one in marked:
        left.axvline(one.threshold, color=_QUIET, linewidth=0.8, linestyle="--")
        left.annotate(f"{one.threshold:.2f} ", (one.threshold, 0.02), fontsize=7, color=_QUIET, ha="right", rotation=90)
    left.set(xlim=(0, 1), ylim=(0, 1.06), xlabel="threshold", ylabel="share")
    _legend(left)
    names = ("copies and their originals", f"the {len(calibration.tail)} highest unrelated pairs")
    _scores(right, calibration.true, calibration.tail, names)
    _save(figure, path)


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


def _figure(title: str) -> tuple[Any, Any]:
    library = _library()
    with library.rc_context(_STYLE):
        figure = library.figure.Figure(figsize=_SIZE, layout="constrained")
        axes = figure.subplots(1, 2)
        figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure, axes


def _scores(axes: Any, right: Floats, wrong: Floats, names: tuple[str, str]) -> None:
    both = np.concatenate([right, wrong]) if len(right) + len(wrong) else np.zeros(1)
    edges = np.linspace(float(both.min()), max(float(both.max()), float(both.min()) + 1e-6), _BINS + 1)
    for values, colour, name in ((wrong, _WRONG, names[1]), (right, _RIGHT, names[0])):
        axes.hist(values, edges, color=colour, alpha=0.65, label=f"{name} ({len(values):,})")
    axes.set(xlabel="score", ylabel="pairs", yscale="log" if len(both) > 1 else "linear")
    _legend(axes)


def _legend(axes: Any) -> None:
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), fontsize=8, frameon=False, borderaxespad=0.2, labelspacing=0.25
    )


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    form = Path(path).suffix.lower()[1:]
    metadata = {"Date": None} if form == "svg" else {"Software": None}
    with replacing(path) as temporary, _library().rc_context(_STYLE):
        figure.savefig(temporary, format=form, dpi=150, metadata=metadata)
