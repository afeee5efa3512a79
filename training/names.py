"""The names of the files that a run leaves and finds again."""

from __future__ import annotations

from pathlib import Path

STATE_FILE = "resume.pt"
DESCRIPTION_FILE = "stage.json"


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Return the path of the checkpoint of an epoch, counted from 0. The name is that of the published runs."""
    return folder / f"checkpoint_{epoch:04d}.pth.tar"
