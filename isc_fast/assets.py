"""Files that ship inside the package: the demo's engine, photos and negatives."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).resolve().parent / "data"
DEMO_ENGINE = ASSETS / "demo.onnx"
DEMO_NEGATIVES = ASSETS / "demo-negatives.h5"
DEMO_PHOTOS = ASSETS / "photos"
DEMO_LICENCES = DEMO_PHOTOS / "LICENSES.csv"


def demo_photos() -> list[Path]:
    """Return the photos that ship with the package, in the order of their names."""
    return sorted(DEMO_PHOTOS.glob("*.jpg"))
