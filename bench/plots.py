"""Drawings of what benchmarks measured, in the package's look: rates against ceilings, and accuracy against rates."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from isc_fast.review.drawing import LINE, QUIET, RIGHT, new_figure, save_figure

_MARKERS = "osD^vPX"
_ROW_INCHES = 0.3


def add_plot(parser: ArgumentParser) -> None:
    """Add the flag."""
    parser.add_argument("--plot", metavar="FILE", help="draw the rows too: .svg or .png (extra plot)")


def plot_ceilings(path: str, rows: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """Draw the rate of each row as a bar with its range, and its ceiling as a line.

    Args:
        path: ends in .svg or .png.
        rows: by name: ``images_per_s``, ``min``, ``max``, ``cosine_min`` and, where there is a ceiling, ``share_of_ceiling``.
        title: stands above.
    """
    figure, axes = new_figure(title, 1, (9.0, 1.2 + _ROW_INCHES * len(rows)))
    for place, row in enumerate(rows.values()):
        rate = row["images_per_s"]
        axes.barh(place, rate, 0.62, color=LINE, alpha=0.75, label="measured, with its range" if place == 0 else None)
        axes.plot([row["min"], row["max"]], [place, place], color="black", linewidth=1.2)
        words = f" cosine {row['cosine_min']:.5f}"
        if row["share_of_ceiling"]:
            ceiling = rate / row["share_of_ceiling"]
            axes.plot([ceiling, ceiling], [place - 0.4, place + 0.4], color=RIGHT, linewidth=2.2)
            words += f", {row['share_of_ceiling']:.0%} of the ceiling"
        axes.text(max(rate, row["max"]), place, words, va="center", fontsize=7)
    axes.plot([], [], color=RIGHT, linewidth=2.2, label="ceiling: the processor's peak in this precision")
    axes.set(yticks=range(len(rows)), yticklabels=list(rows), xlabel="images/s", xlim=(0, None))
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(visible=False, axis="y")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), fontsize=8, frameon=False, ncols=2)
    save_figure(figure, path)


def plot_tradeoff(path: str, rows: Mapping[str, Mapping[str, Any]], ours: str, title: str) -> None:
    """Draw the accuracy of each row over its rate.

    Args:
        path: ends in .svg or .png.
        rows: by name: ``micro_ap``, ``images_per_s``, ``min`` and ``max``.
        ours: the row of isc-fast.
        title: stands above.
    """
    figure, axes = new_figure(title, 1)
    for number, (name, row) in enumerate(rows.items()):
        colour = LINE if name == ours else QUIET
        axes.plot([row["min"], row["max"]], [row["micro_ap"]] * 2, color=colour, linewidth=1)
        marker = _MARKERS[number % len(_MARKERS)]
        axes.plot(row["images_per_s"], row["micro_ap"], marker, color=colour, markersize=8, label=name)
    axes.set(xlabel="images/s, from files to matches", ylabel="µAP", xlim=(0, None), ylim=(0, 1.02))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    save_figure(figure, path)
