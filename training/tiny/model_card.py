"""Measures every number of a model card with one command, on the held-out part of `isc_fast.training.tiny.data_set`.

    python -m isc_fast.training.tiny.model_card --engine ENGINE.onnx --data DATA -o CARD
    python -m isc_fast.training.tiny.model_card --engine ENGINE.onnx --also before=OLD.onnx --data DATA -o CARD
    python -m isc_fast.training.tiny.model_card --engine ENGINE.onnx --data DATA --held-out SECOND -o CARD2

The third command measures on the set of `isc_fast.training.tiny.second_set`; its table has columns for one to four edits.
The command writes ``CARD/figures.json`` and ``CARD/figures.md``. They show µAP and recall at 90 % precision (protocol
``kit``) over all queries and over those with one edit and with several, and recall@1 by kind of edit. Each engine is measured
without normalisation and with negative embedding subtraction (NES), whose negatives are ``DATA/training_images``. The
baselines are ImageNet features of the same kind of network, and perceptual hashes. Queries without a match count in every
row.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...descriptors.store import Descriptors, load_descriptors
from ...engines.base import Engine, file_sha256, load_engine
from ...errors import InputError, IscFastError
from ...evaluation.metrics import PER_QUERY_CAP
from ...extraction.pipeline import extract
from ...files.atomic import make_folder, write_text
from ...items import Item
from ...machine.versions import installed
from ...matching.normalizing.smoothing import smooth_negatives
from ...matching.normalizing.subtraction import subtract_negatives
from ...matching.two_sides import search
from ...sources.listing import Listing, list_images
from ..data.held_out import HeldOut, read_held_out
from .baselines import HASH_SIDES, HASHES, ImageNetEngine, as_hamming, describe_by_hash
from .figures import PROTOCOL, Row, as_markdown, measure

GEM_P = 3.0  # for ImageNet features, better than average pooling (µAP .450 against .412 on the first data set)


def engine_rows(
    name: str, engine: Engine, training: Sequence[Item], held_out: HeldOut, log: Callable[[str], None]
) -> Iterator[Row]:
    """Measure an engine without normalisation, and with negatives from the training images.

    Raises:
        InputError: an image cannot be read.
    """
    log(f"{name}: describing {len(training) + len(held_out.queries) + len(held_out.references)} images")

    def describe(items: Sequence[Item], folder: str) -> Descriptors:
        made = extract(Listing(list(items)), engine, Path(folder, "out.h5"), overwrite=True)
        if made.failures:
            raise InputError(f"{made.failures[0].path} cannot be used: {made.failures[0].reason}")
        return load_descriptors(made.path)

    with tempfile.TemporaryDirectory() as scratch:
        queries, references, train = (
            describe(items, scratch) for items in (held_out.queries, held_out.references, training)
        )
    negatives = smooth_negatives(train)
    yield measure(name, search(queries, references, k=PER_QUERY_CAP), held_out.truth)
    normalized = (subtract_negatives(side, negatives) for side in (queries, references))
    yield measure(f"{name}, with NES", search(*normalized, k=PER_QUERY_CAP), held_out.truth)


def _hash_rows(held_out: HeldOut, log: Callable[[str], None]) -> Iterator[Row]:
    for name in HASHES:
        for side in HASH_SIDES:
            log(f"{name}, {side * side} bits")
            queries, references = (
                describe_by_hash(items, name, side) for items in (held_out.queries, held_out.references)
            )
            matches = search(queries, references, k=PER_QUERY_CAP)
            yield measure(f"{name}, {side * side} bits", as_hamming(matches, side * side), held_out.truth)


def make_card(
    engines: Mapping[str, str | os.PathLike[str]],
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    held_out: str | os.PathLike[str] | None = None,
    baselines: bool = True,
    log: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """Measure engines and baselines, and write ``figures.json`` and ``figures.md``.

    Args:
        engines: the engine files by their names in the table. The baselines take the input size of the first engine.
        data: a folder that `isc_fast.training.tiny.data_set` made.
        out: the folder for the two files.
        held_out: the folder of the queries, the references and their ground truth, by default ``DATA/heldout``. The negatives
            are those of ``data`` in any case.
        baselines: whether to measure ImageNet features and perceptual hashes too.
        log: a function that receives one line when the measurement of a system starts.

    Returns:
        the rows of the table.

    Raises:
        InputError: no engine is given, the data set does not exist, or one of its images cannot be read.
        EngineError, DownloadError, MissingExtraError: an engine, its weights or a package is missing.
        OutputError: the files cannot be written.
    """
    if not engines:
        raise InputError("no engine is given to measure; name one with --engine ENGINE.onnx")
    folder = make_folder(out)
    measured = read_held_out(held_out or Path(data, "heldout"))
    training = list_images(Path(data, "training_images"), ids="stem").items
    loaded = {name: load_engine(path) for name, path in engines.items()}
    rows = [row for name, engine in loaded.items() for row in engine_rows(name, engine, training, measured, log)]
    if baselines:
        size = next(iter(loaded.values())).spec.height
        imagenet = ImageNetEngine(size, GEM_P)
        rows += engine_rows(f"ImageNet features, {size} px", imagenet, training, measured, log)
        rows += _hash_rows(measured, log)
    measured_on = describe_data(training, measured)
    figures = {
        "protocol": PROTOCOL,
        "data": measured_on,
        "engines": {name: {"sha256": engine.id, "input": engine.spec.height} for name, engine in loaded.items()},
        "versions": {"python": platform.python_version(), **dict.fromkeys(_PACKAGES), **installed(_PACKAGES)},
        "systems": [asdict(row) for row in rows],
    }
    write_text(folder / "figures.json", json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / "figures.md", as_markdown(rows, measured_on))
    return rows


_PACKAGES = ("isc-fast", "numpy", "pillow", "onnxruntime", "torch", "timm", "imagehash")


def describe_data(training: Sequence[Item], held_out: HeldOut) -> dict[str, Any]:
    """Return counts, and a digest over every file of the data. Two cards with an equal digest used the same data."""
    digest = hashlib.sha256()
    for items in (training, held_out.references, held_out.queries):
        for item in items:
            digest.update(f"{item.id} {file_sha256(item.path)}\n".encode("utf-8", "surrogateescape"))
    digest.update("".join(f"{query},{reference}\n" for query, reference in sorted(held_out.truth.pairs)).encode())
    return {
        "training_images": len(training),
        "references": len(held_out.references),
        "queries": len(held_out.queries),
        "copies": len(held_out.truth.pairs),
        "sha256": digest.hexdigest(),
    }


def _named(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise InputError(f"--also takes NAME=ENGINE, such as before=old.onnx, not {text!r}")
    return name, path


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: measure, write both files and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", required=True, help="the engine that the card is about")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=ENGINE", help="another one beside it")
    parser.add_argument("--data", required=True, type=Path, help="folder made by isc_fast.training.tiny.data_set")
    parser.add_argument("--held-out", type=Path, help="folder of another held-out set (default: DATA/heldout)")
    parser.add_argument("-o", "--output", required=True, type=Path, help="folder for figures.json and figures.md")
    parser.add_argument("--no-baselines", action="store_true", help="the engines alone")
    given = parser.parse_args(arguments)
    first = load_engine(given.engine).spec.name
    named = [(first, given.engine), *map(_named, given.also)]
    engines = dict(named)
    if len(engines) < len(named):
        raise InputError(f"two engines would have one name in the table: {', '.join(name for name, _ in named)}")
    make_card(
        engines,
        given.data,
        given.output,
        held_out=given.held_out,
        baselines=not given.no_baselines,
        log=lambda line: print(line, file=sys.stderr),
    )
    print((given.output / "figures.md").read_text("utf-8"))


if __name__ == "__main__":
    try:
        main()
    except IscFastError as error:
        sys.exit(f"error: {error}")
