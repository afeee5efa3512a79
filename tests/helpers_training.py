"""A toy collection that is laid out like DISC21, and training stages that are small enough for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from glob import glob
from pathlib import Path

import timm
import torch
from PIL import Image

from isc_fast.training.stages import STAGES, Stage

ARCH = "test_efficientnet"  # timm makes it for tests: 82,300 parameters, with fused normalisation and activation
SIZE = 64


def toy(name: str, **changes: object) -> Stage:
    """Return a published stage, made small for the toy collection and the toy network."""
    small: dict[str, object] = {
        "arch": ARCH, "input_size": SIZE, "dim": 16, "batch_size": 8, "memory_size": 60, "reference_world_size": 2,
        "sample_size": 40, "learning_rate": 0.02,
    }  # fmt: skip
    return replace(STAGES[name], **{**small, **changes})  # type: ignore[arg-type]


def make_collection(folder: Path, photos: Sequence[Path]) -> Path:
    """Make a collection of 40 training photos and 60 references; 20 of the references have a query."""
    for name in ("training_images", "reference_images", "query_images"):
        (folder / name).mkdir(parents=True)
    rows = ["query_id,reference_id"]
    for number, photo in enumerate(photos):
        image = Image.open(photo).convert("RGB").resize((120, 90))
        image.save(folder / "reference_images" / f"R{number:06d}.jpg", quality=90)
        if number < 40:
            image.save(folder / "training_images" / f"T{number:06d}.jpg", quality=90)
        if number < 20:
            image.crop((10, 10, 100, 80)).save(folder / "query_images" / f"Q{number:05d}.jpg", quality=60)
            rows.append(f"Q{number:05d},R{number:06d}")
    (folder / "public_ground_truth.csv").write_text("\n".join(rows) + "\n")
    return folder


def backbone_file(path: Path, seed: int = 0) -> Path:
    """Write random weights of the toy backbone as timm's own state_dict, with the classifier."""
    torch.manual_seed(seed)
    torch.save(timm.create_model(ARCH, pretrained=False).state_dict(), path)
    return path


def check_no_gloo_thread() -> None:
    """Check that no thread of a process group is alive: one that outlives its group may abort the process at its end."""
    assert "pt_gloo_runloop" not in [Path(name).read_text().strip() for name in glob("/proc/self/task/*/comm")]
