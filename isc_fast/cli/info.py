"""``isc-fast info``: say what a file is."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict

from ..errors import InputError
from .flags import add_json
from .output import show

HELP = "say what any file or folder is that isc-fast reads or writes, and what to do with it next"
EXAMPLE = "isc-fast info v107.onnx"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "file",
        metavar="FILE",
        help="engine, descriptors, matches, list, page, index, folder of photos, …; docs/files.md",
    )
    parser.add_argument("--failures", action="store_true", help="list the images that got no descriptor, as JSON lines")
    parser.add_argument(
        "--notes", action="store_true", help="list the images whose descriptor says little, as JSON lines"
    )
    add_json(parser)


def run(arguments: Namespace) -> int:
    """Print what is known of the file, or the rows of its ledger of failures."""
    from ..runs.file_kinds.table import describe_file

    found = describe_file(arguments.file)
    for name in ("failures", "notes"):
        if vars(arguments)[name]:
            if name not in found.ledgers:
                raise InputError(
                    f"{arguments.file} has no ledger of {name}; expected descriptors made by isc-fast extract"
                )
            for row in found.ledgers[name]:
                show(json.dumps(asdict(row)))
            return 0
    about = found.to_dict()
    if arguments.json:
        show(json.dumps(about))
        return 0
    for key, value in about.items():
        shown = json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
        show(f"{key:<18} {shown}")
    return 0
