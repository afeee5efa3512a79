"""Where the time goes from typing ``isc-fast find`` to the page, for a folder of a thousand photos.

    python bench/first_result.py               some minutes
    python bench/first_result.py --smoke       takes seconds and shows only that it runs

A process of its own imports the package and finds 20 copies among the photos with the engine inside the package. Times are of the
processor, all threads together, which other programs disturb least; what the time on a clock is follows from the cores. Decoding
and the network are measured alone, in the same process, on the same photos: what is left of the descriptions is this package's.
Modules are compiled before, as they are after the first call of an installed package. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import PHOTO_SIZE, machine_card, make_photos
from PIL import Image

COPIES = 20
ALONE = 100  # photos that are decoded and described alone


def find(folder: Path) -> dict[str, Any]:
    """In a process that has imported nothing: seconds of the processor, by what they are spent on."""
    busy = time.process_time
    import isc_fast.runs.copies.find as module
    from isc_fast.runs.sides.describing import Describing

    made = {"start and import": busy()}

    def timed(name: str, work: Any) -> Any:
        def timing(*given: Any, **options: Any) -> Any:
            began = busy()
            try:
                return work(*given, **options)
            finally:
                made[name] = made.get(name, 0.0) + busy() - began

        return timing

    Describing.sides = timed("describe", Describing.sides)  # type: ignore[method-assign]
    module.search_sides = timed("search", module.search_sides)
    module.write_page = timed("page", module.write_page)
    began = time.monotonic()
    found = module.find_copies(folder / "queries", folder / "references", folder / "out")
    clock_s, whole = time.monotonic() - began, busy()
    made["the rest"] = whole - sum(made.values())
    made |= alone(folder)
    made["describe, beyond both"] = made["describe"] - made["of it decode"] - made["of it network"]
    return {"core_s": {**made, "whole": whole}, "clock_s": clock_s, "matched": found.matched, "pairs": found.pairs}


def alone(folder: Path) -> dict[str, float]:
    """What decoding and the network take of all photos, by some of them."""
    from isc_fast.assets import DEMO_ENGINE
    from isc_fast.decoders.base import make_decoder
    from isc_fast.engines.base import load_engine

    photos = sorted(folder.rglob("*.jpg"))
    some = [str(path) for path in photos[:: max(1, len(photos) // ALONE)]]
    engine = load_engine(DEMO_ENGINE)
    size = engine.default_batch_size
    engine.run(next(iter(make_decoder().batches([some[:size]], engine.spec.input))).pixels)
    began, pixels = time.process_time(), []
    for batch in make_decoder().batches([some[at : at + size] for at in range(0, len(some), size)], engine.spec.input):
        pixels.append(batch.pixels.copy())
    decoded = time.process_time()
    for batch in pixels:
        engine.run(batch)
    scale = len(photos) / len(some)
    return {"of it decode": scale * (decoded - began), "of it network": scale * (time.process_time() - decoded)}


def measured(folder: Path) -> dict[str, Any]:
    """Run `find` in a process of its own, twice: the first one compiles modules."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    compiles = [sys.executable, "-c", "import isc_fast.runs.copies.find, isc_fast.engines.ort, isc_fast.decoders.turbo"]
    subprocess.run(compiles, check=True, env=environment)
    command = [sys.executable, __file__, "--folder", str(folder)]
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.folder:
        print(json.dumps(find(given.folder)))
        return
    count = 24 if given.smoke else given.photos
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        made = make_photos(folder / "references", count, (320, 240) if given.smoke else PHOTO_SIZE)
        (folder / "queries").mkdir()
        for path in made[:COPIES]:
            with Image.open(path) as image:
                image.resize((image.width // 2, image.height // 2)).save(
                    folder / "queries" / Path(path).name, quality=50
                )
        result = measured(folder)
    for name, seconds in result["core_s"].items():
        print(f"{name:24} {seconds:7.2f} s of the processor")
    print(f"{result['clock_s']:.1f} s on the clock, after the import; {result['matched']} of {COPIES} copies found")
    print(json.dumps({"bench": "first_result", "photos": count, "machine": machine_card(), **result}))


if __name__ == "__main__":
    main()
