"""``isc-fast calibrate``: what scores mean for one's own photos, without labels."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from .flags import (
    ENGINE_HELP,
    ID_RULES,
    IDS_HELP,
    PHOTOS_HELP,
    add_choice_flags,
    add_json,
    add_negatives,
    choice,
    given,
)
from .output import note, progress, show

HELP = "find the thresholds for your own photos without labels, from edited copies of some of them"
EXAMPLE = "isc-fast calibrate photos/ --engine v107.onnx -o calibration.json"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("photos", nargs="+", metavar="PHOTOS", help=PHOTOS_HELP)
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help="the calibration, a small JSON file that --calibration takes",
    )
    parser.add_argument("--engine", metavar="FILE", help=f"{ENGINE_HELP} (default: demo)")
    add_negatives(parser, "normalise by these first, as the descriptors will be normalised")
    parser.add_argument("--sample", type=int, metavar="N", help="photos to draw, a fifth as strangers (default: 400)")
    parser.add_argument("--copies", type=int, metavar="N", help="edited copies of each (default: 5)")
    parser.add_argument(
        "--share", type=float, metavar="S", help="of the photos that are expected to be copies (default: 0.01)"
    )
    parser.add_argument(
        "--references",
        type=int,
        metavar="N",
        help="photos that each photo will be compared with (default: all others of the collection)",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="another one draws other photos (default: 2021)")
    parser.add_argument("--ids", choices=ID_RULES, help=IDS_HELP)
    parser.add_argument("--plot", metavar="FILE", help="draw precision, recall and scores too: .svg or .png")
    add_choice_flags(parser)
    add_json(parser, "the thresholds as ")


def run(arguments: Namespace) -> int:
    """Calibrate, and print the thresholds."""
    from ..runs.calibrate import FEW, PRECISIONS, calibrate

    if arguments.plot:
        from ..review.plots import check_plot, plot_calibration

        check_plot(arguments.plot)
    options = given(
        arguments, "engine", "negatives", "method", "sample", "copies", "share", "references", "seed", "ids"
    )
    with progress("calibrate", "photos") as printer:
        found = calibrate(arguments.photos, arguments.output, choice=choice(arguments), progress=printer, **options)
    made = found.calibration
    if found.unread:
        note(f"note: {found.unread} photos cannot be read; others were taken in their place")
    if made.left_out:
        note(f"note: {made.left_out} photos were left out, because another one is as like them as copies are")
    if made.photos < FEW:
        note(
            f"note: of only {made.photos} photos, the precisions are rather too high and their intervals too narrow: few photos "
            "show no rare look-alikes; give hundreds"
        )
    if arguments.plot:
        counts = f"{len(made.true)} copies of {made.photos} photos"
        title = f"{found.engine_name}: {counts}; for {found.words}, with {found.task.copies:.3g} copies"
        plot_calibration(arguments.plot, made, found.task, list(found.at.values()), title)
    if arguments.json:
        show(json.dumps(found.to_dict()))
        return 0
    show(
        f"{found.path}: {len(made.true)} copies of {made.photos} photos, and {made.strange_copies} of {made.strangers} "
        f"strangers, which have no original here; for {found.words}, with {found.task.copies:.3g} copies"
    )
    show(f"{'precision':>9} {'threshold':>9}  {'95 % interval':<15} {'copies found':>12} {'wrong pairs':>11}")
    for precision, at in found.at.items():
        interval = f"{at.lowest:.4f}–{at.highest:.4f}"
        show(f"{precision:>9g} {at.threshold:>9.2f}  {interval:<15} {at.recall:>12.1%} {at.false_pairs:>11.2g}")
    missed = [f"{precision:g}" for precision in PRECISIONS if precision not in found.at]
    if missed:
        show(
            f"no threshold gives a precision of {' or '.join(missed)}: among so many pairs, too many unrelated ones score as high"
        )
    if not found.at:
        return 0
    middle = sorted(found.at.values(), key=lambda at: at.threshold)[len(found.at) // 2]
    show(f"copies found by edit at {middle.threshold:.2f}:")
    for kind, recall in sorted(made.recall_by_kind(middle.threshold).items(), key=lambda pair: pair[1]):
        show(f"  {kind:<14}{recall:>7.0%}")
    return 0
