from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from isc_fast.assets import demo_photos

sys.path.insert(0, str(Path(__file__).parent))

from fakes import FakeEngine


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(scope="session")
def photos() -> Sequence[Path]:
    """The real photos that ship with the package."""
    return demo_photos()


@pytest.fixture
def folder_of(photos: Sequence[Path]) -> Callable[[Path, int], Path]:
    """Make a folder of the first n photos, as links."""

    def make(folder: Path, count: int) -> Path:
        folder.mkdir(parents=True)
        for photo in photos[:count]:
            (folder / photo.name).symlink_to(photo)
        return folder

    return make
