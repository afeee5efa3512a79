"""``isc-fast evaluate``: score matches against a ground truth."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from .flags import add_json
from .output import note, show

HELP = "score matches against a ground truth, in every protocol"
EXAMPLE = "isc-fast evaluate matches.csv ground_truth.csv"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("matches", metavar="MATCHES", help="matches.csv, .jsonl or .parquet")
    parser.add_argument(
        "truth",
        metavar="GROUND_TRUTH.csv",
        help="or a file of verdicts, saved from a page: only judged pairs count then",
    )
    parser.add_argument("--protocol", choices=("kit", "official", "per-query"), help="only this one")
    parser.add_argument("--plot", metavar="FILE", help="draw precision, recall and scores too: .svg or .png")
    add_json(parser)


def run(arguments: Namespace) -> int:
    """Evaluate, and print the figures."""
    from ..evaluation.labels import read_labels
    from ..evaluation.metrics import check_references, curve_of, evaluate
    from ..matching.lists.matches import read_matches

    if arguments.plot:
        from ..review.plots import check_plot, plot_evaluation

        check_plot(arguments.plot)
    options = {"protocols": (arguments.protocol,)} if arguments.protocol else {}
    matches = read_matches(arguments.matches)
    labels = read_labels(arguments.truth, matches)
    result = evaluate(labels.matches, labels.truth, **options)
    if labels.judged is None:
        check_references(labels.matches, labels.truth)
    else:
        note(f"note: {labels.judged} of {len(matches)} pairs are judged right or wrong; the others do not count")
        if labels.lacking:
            note(
                f"warning: none of the {labels.lacking} pairs that were judged wrong is among these matches; if a run with "
                "--verdicts left them out, they look better than they are: evaluate the matches that were judged"
            )
    if arguments.plot:
        protocol, scores = next(iter(result.by_protocol.items()))
        recall = "–" if scores.recall_at_p90 is None else f"{scores.recall_at_p90:.4f}"
        title = (
            f"{arguments.matches}: µAP {scores.micro_ap:.4f}, recall at 90 % precision {recall} (protocol {protocol})"
        )
        plot_evaluation(arguments.plot, curve_of(labels.matches, labels.truth, protocol), title)
    show(json.dumps(result.to_dict()) if arguments.json else result)
    return 0
