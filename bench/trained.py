"""What the benchmarks of lower precisions measure: an fp32 engine, photos, and the accuracy gate's edited copies of them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from isc_fast.assets import DEMO_ENGINE, demo_photos
from isc_fast.engines.base import Engine, load_engine
from isc_fast.export.photos import Photos, split_photos
from isc_fast.export.precision.gate import Benchmark, Vectors, describe_benchmark, make_benchmark
from isc_fast.sources.listing import list_images


@dataclass(frozen=True)
class Trained:
    """An engine in fp32, the photos that calibrate and measure, the edited copies, and the engine's descriptors of them."""

    exact: Engine
    photos: Photos
    benchmark: Benchmark
    expected: tuple[Vectors, Vectors]


def trained_parser(description: str | None, smoke: str) -> argparse.ArgumentParser:
    """Return a parser of the flags that both benchmarks have. ``smoke`` is the help text of ``--smoke``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", type=Path, default=DEMO_ENGINE, help="engine in fp32")
    parser.add_argument("--photos", help="folder; every second photo calibrates, the others measure")
    parser.add_argument("--images", type=int, default=32, help="images to describe in each turn of the timing")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help=smoke)
    return parser


def open_trained(given: argparse.Namespace) -> Trained:
    """Load what the flags name. ``--smoke`` takes few photos, and sets the flags for images and rounds low."""
    paths = [Path(item.path) for item in list_images(given.photos).items] if given.photos else demo_photos()
    photos = split_photos(paths)
    if given.smoke:
        photos, given.images, given.rounds = Photos(photos.calibration[:8], photos.held_out[:8]), 4, 1
    exact = load_engine(given.engine, runtime="onnxruntime")
    benchmark = make_benchmark(photos.held_out, exact.spec.input)
    return Trained(exact, photos, benchmark, describe_benchmark(exact, benchmark))
