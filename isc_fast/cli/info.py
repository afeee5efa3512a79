"""``isc-fast info``: say what a file is."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import InputError
from .flags import add_json
from .output import show

HELP = "say what an engine, a descriptor file, an index, a file of matches or a folder OUTPUT.parts is"
EXAMPLE = "isc-fast info v107.onnx"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--failures", action="store_true", help="list the images that got no descriptor, as JSON lines")
    parser.add_argument(
        "--notes", action="store_true", help="list the images whose descriptor says little, as JSON lines"
    )
    add_json(parser)


def run(arguments: Namespace) -> int:
    """Print what is known of the file, or the rows of its ledger of failures."""
    about = _about(arguments.file)
    ledger = {name: about.pop(name, None) for name in ("failures", "notes")}
    for name, rows in ledger.items():
        if vars(arguments)[name]:
            if rows is None:
                raise InputError(
                    f"{arguments.file} has no ledger of {name}; expected descriptors made by isc-fast extract"
                )
            for row in rows:
                show(json.dumps(asdict(row)))
            return 0
        if rows or (rows is not None and name == "failures"):
            about[name] = len(rows)
    if arguments.json:
        show(json.dumps(about))
    else:
        for key, value in about.items():
            shown = json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
            show(f"{key:<18} {shown}")
    return 0


def _about(file: str) -> dict[str, Any]:
    """Return what there is to say of a file; ``failures`` and ``notes`` are the rows of its ledger."""
    from ..engines.base import describe_engine, names_engine
    from ..runs.folder_facts import describe_folder

    folder = describe_folder(file)
    if folder is not None:
        return folder
    if names_engine(file):
        found = describe_engine(file)
        return {"kind": "engine", "path": str(found.path), "id": found.id, **found.spec.to_dict(), **found.facts}
    if Path(file).suffix.lower() in (".csv", ".jsonl", ".parquet"):
        return _about_matches(file)
    return _about_descriptors(file)


def _about_matches(file: str) -> dict[str, Any]:
    from ..matching.matches import read_matches

    matches = read_matches(file)
    views = {} if matches.views is None else {"views": dict(Counter(matches.views).most_common())}
    return {"kind": "matches", "path": file, "pairs": len(matches), "queries": len(set(matches.query_ids)), **views}


def _about_descriptors(file: str) -> dict[str, Any]:
    from ..descriptors.formats.table import find_format, read_descriptors
    from ..descriptors.hdf5 import open_hdf5
    from ..descriptors.manifest import parts_home, read_manifest
    from ..descriptors.store import open_descriptors

    found_format = find_format(file)
    if found_format.name == "isc-fast":
        with open_descriptors(file) as found:
            shape = {"count": len(found), "dim": found.dim, "failures": list(found.failures)}
            home = parts_home(file)
            parts = {} if home is None else {"parts": len(read_manifest(home).parts)}
            return {"kind": "descriptors", "path": file, **parts, **shape, "notes": list(found.notes), **found.meta}
    about: dict[str, Any] = {"kind": "descriptors", "path": file, "dialect": found_format.name}
    if found_format.is_folder:
        read = read_descriptors(file)
        return {**about, "count": len(read), "dim": read.dim}
    with open_hdf5(file) as raw:
        return {**about, **{name: _shape(raw, name) for name in sorted(raw)}}


def _shape(file: Any, name: str) -> str:
    """What there is to say of an entry of a foreign file."""
    from ..descriptors.hdf5 import DAMAGE, dataset

    try:
        data = dataset(file, name)
        return f"{data.dtype} {data.shape}"
    except DAMAGE as error:
        return str(error)
