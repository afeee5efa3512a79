"""``isc-fast evaluate``: score matches against a ground truth."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from .flags import add_json
from .output import show

HELP = "score matches against a ground truth, in every protocol"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("matches", metavar="MATCHES", help="matches.csv, .jsonl or .parquet")
    parser.add_argument("truth", metavar="GROUND_TRUTH.csv")
    parser.add_argument("--protocol", choices=("kit", "official", "per-query"), help="only this one")
    add_json(parser)


def run(arguments: Namespace) -> int:
    """Evaluate, and print the figures."""
    from ..evaluation.metrics import check_references, evaluate
    from ..matching.matches import read_matches, read_truth

    options = {"protocols": (arguments.protocol,)} if arguments.protocol else {}
    matches, truth = read_matches(arguments.matches), read_truth(arguments.truth)
    result = evaluate(matches, truth, **options)
    check_references(matches, truth)
    show(json.dumps(result.to_dict()) if arguments.json else result)
    return 0
