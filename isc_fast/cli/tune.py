"""``isc-fast tune``: find how an engine runs fastest on this machine."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict

from .flags import ENGINE_HELP, add_json, given
from .output import note, show

HELP = "find how an engine runs fastest on this machine, and keep that beside it"
EXAMPLE = "isc-fast tune --engine v107.onnx"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--engine", required=True, metavar="FILE", help=ENGINE_HELP)
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="time that it may take, beside loading (default: 45)"
    )
    add_json(parser)


def run(arguments: Namespace) -> int:
    """Tune, and print what was tried."""
    from ..runs.tuner import tune

    found = tune(arguments.engine, log=note, **given(arguments, "seconds"))
    if arguments.json:
        rates = [{**asdict(setting), "images_per_s": round(rate, 3)} for setting, rate in found.images_per_s.items()]
        show(json.dumps({"path": str(found.path), "tried": rates}))
    else:
        show(found)
    return 0
