"""Drawings that stand alone: precision and recall, what scores copies and other pairs have, what a calibration states."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..evaluation.calibration import Calibration, Expected, Task
from ..evaluation.metrics import Curve
from .drawing import LINE, QUIET, RIGHT, WRONG, add_legend, new_figure, save_figure
from .drawing import check_plot as check_plot

_BINS = 60

Floats = npt.NDArray[np.floating[Any]]


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
    figure, (left, right) = new_figure(title)
    left.plot(curve.recall, curve.precision, color=LINE, linewidth=1.8)
    left.axhline(0.9, color=QUIET, linewidth=0.8, linestyle="--")
    left.set(
        xlim=(0, 1), ylim=(0, 1.02), xlabel="recall: share of all true pairs", ylabel="precision: share that is right"
    )
    _scores(
        right, curve.scores[curve.correct], curve.scores[~curve.correct], ("right predictions", "wrong predictions")
    )
    save_figure(figure, path)


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
    figure, (left, right) = new_figure(title)
    left.fill_between(
        thresholds, [one.lowest for one in at], [one.highest for one in at], color=LINE, alpha=0.15, linewidth=0
    )
    left.plot(
        thresholds, [one.precision for one in at], color=LINE, linewidth=1.8, label="precision, with 95 % interval"
    )
    left.plot(thresholds, [one.recall for one in at], color=RIGHT, linewidth=1.8, label="recall, mean over edits")
    for one in marked:
        left.axvline(one.threshold, color=QUIET, linewidth=0.8, linestyle="--")
        left.annotate(f"{one.threshold:.2f} ", (one.threshold, 0.02), fontsize=7, color=QUIET, ha="right", rotation=90)
    left.set(xlim=(0, 1), ylim=(0, 1.06), xlabel="threshold", ylabel="share")
    add_legend(left)
    names = ("copies and their originals", f"the {len(calibration.tail)} highest unrelated pairs")
    _scores(right, calibration.true, calibration.tail, names)
    save_figure(figure, path)


def _scores(axes: Any, right: Floats, wrong: Floats, names: tuple[str, str]) -> None:
    both = np.concatenate([right, wrong]) if len(right) + len(wrong) else np.zeros(1)
    edges = np.linspace(float(both.min()), max(float(both.max()), float(both.min()) + 1e-6), _BINS + 1)
    for values, colour, name in ((wrong, WRONG, names[1]), (right, RIGHT, names[0])):
        axes.hist(values, edges, color=colour, alpha=0.65, label=f"{name} ({len(values):,})")
    axes.set(xlabel="score", ylabel="pairs", yscale="log" if len(both) > 1 else "linear")
    add_legend(axes)
