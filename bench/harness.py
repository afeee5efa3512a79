"""What every benchmark shares: the description of the machine, medians over interleaved rounds, and the JSON at the end."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from isc_fast.assets import demo_photos
from isc_fast.engines.base import Engine
from isc_fast.machine.cores import available_cores, processor
from isc_fast.machine.versions import installed

_PACKAGES = (
    *("numpy", "pillow", "onnxruntime", "faiss-cpu", "torch", "timm"),
    *("torchvision", "simplejpeg", "cykooz-resizer"),  # decode.py compares these
)
PHOTO_SIZE = (1024, 768)
"""Width and height of a photo, as people share photos."""


def make_photos(folder: Path, count: int, size: tuple[int, int]) -> list[str]:
    """Make JPEG files of one size from the photos of the package, and return their paths."""
    folder.mkdir()
    sources = demo_photos()
    for i in range(count):
        image = Image.open(sources[i % len(sources)]).convert("RGB").resize(size, Image.Resampling.BICUBIC)
        image.save(folder / f"{i:05d}.jpg", quality=90)
    return sorted(str(path) for path in folder.iterdir())


def machine_card() -> dict[str, Any]:
    """Return the processor, the number of cores that this process may use, and the versions that matter."""
    return {
        "processor": processor(),
        "cores": available_cores(),
        "python": platform.python_version(),
        "versions": installed(_PACKAGES),
    }


def interleaved(ways: Mapping[str, Callable[[], int]], rounds: int) -> dict[str, dict[str, float]]:
    """Time each way in turn, round after round, so that a machine that slows down slows all of them.

    Args:
        ways: by name, a function that does the work and returns the number of images that it processed.
        rounds: number of timed runs of each way. The caller does the warm-up.

    Returns:
        by name: the median rate and the range, in images/s.
    """
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            began = time.perf_counter()
            count = run()
            rates[name].append(count / (time.perf_counter() - began))
    return {
        name: {"images_per_s": statistics.median(found), "min": min(found), "max": max(found)}
        for name, found in rates.items()
    }


def engine_rates(
    engines: Mapping[str, Engine], pixels: npt.NDArray[np.uint8], rounds: int
) -> dict[str, dict[str, float]]:
    """Time engines like `interleaved`, on ``uint8 (n, h, w, 3)``, each in its own batch size and after a warm-up."""

    def turn(engine: Engine) -> Callable[[], int]:
        def once() -> int:
            for start in range(0, len(pixels), engine.default_batch_size):
                engine.run(pixels[start : start + engine.default_batch_size])
            return len(pixels)

        return once

    for engine in engines.values():
        engine.run(pixels[:1])
    return interleaved({name: turn(engine) for name, engine in engines.items()}, rounds)


def finish(result: Mapping[str, Any]) -> None:
    """Print the result and the description of the machine as JSON, in the last line."""
    print(json.dumps({**result, "machine": machine_card()}))
