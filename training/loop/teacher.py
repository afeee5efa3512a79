"""Opens the engine that a network learns from, where the network trains."""

from __future__ import annotations

import os

import torch

from ...engines.base import Engine, load_engine
from ...errors import MismatchError
from ..stages import Stage
from .distributed import Process


def open_teacher(path: str | os.PathLike[str], stage: Stage, process: Process, device: str | None = None) -> Engine:
    """Open the teacher of a stage.

    Args:
        path: its file.
        stage: the stage that names it.
        process: this process of the run. On a processor the teacher takes as many threads as torch, which waits for it.
        device: what the teacher runs on; by default what the network trains on.

    Raises:
        EngineError, MissingExtraError: it cannot run here.
        MismatchError: the file is another engine than the one that the stage names.
    """
    where = device or str(process.device)
    engine = load_engine(path, device=where, threads=torch.get_num_threads() if where == "cpu" else None)
    if engine.id != stage.teacher:
        raise MismatchError(
            f"{os.fspath(path)} is the engine {engine.id[:12]} and {stage.name} learns from {stage.teacher[:12]}; did the file "
            "change in between? Run the same command again"
        )
    return engine
