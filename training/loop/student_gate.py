"""How near a student comes to its teacher, on photos that training never saw: whole, and in edited views."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ...descriptors.provenance import EngineFacts
from ...descriptors.teaching import Teaching
from ...items import Vectors
from ...networks.checkpoint import build_network, load_checkpoint
from ...progress import ProgressCallback
from ..data.collection import Collection
from ..data.dataset import SampleDataset, make_loader
from ..data.inputs import InputMaker
from ..options import RunOptions
from ..stages import Stage
from ..views.artwork import Artwork
from .distributed import Process, choose_device
from .stage_run import cores_shared
from .teacher import open_teacher

_SEED = 2021  # of the views, whatever the seed of the training
_BATCH = 16


def measure_student(
    checkpoint: Path,
    stage: Stage,
    held_out: Collection,
    teacher: str | os.PathLike[str],
    options: RunOptions,
    artwork: Artwork,
    progress: ProgressCallback | None = None,
) -> Teaching:
    """Describe photos by a trained student and by its teacher, and compare.

    Args:
        checkpoint: the student's.
        stage: the stage that trained it. The views are those of its epoch 0, from other random numbers.
        held_out: photos that training never saw. What is laid over a view is one of them too.
        teacher: the file of the engine.
        options: where both run.
        artwork: fonts and emoji.
        progress: a function that is called with the photos that are done and all photos.

    Raises:
        EngineError, MissingExtraError: the teacher cannot run here.
        CheckpointError: the checkpoint cannot be used.
    """
    process = Process(0, 1, choose_device(options.device))
    with cores_shared(options, process.device) as workers:
        engine = open_teacher(teacher, stage, process, options.teacher_device)
        net = build_network(load_checkpoint(checkpoint), gem_p=stage.gem_p).to(process.device)
        dataset = SampleDataset(held_out, stage, seed=_SEED, artwork=artwork, teacher_input=engine.spec.input)
        inputs = InputMaker(net, dataset, process.device, teacher=engine)
        count = len(dataset)
        keys = [
            [(0, number) for number in range(start, min(start + _BATCH, count))] for start in range(0, count, _BATCH)
        ]
        mine, theirs = [], []
        if progress is not None:
            progress(0, count, 0)
        for done, batch in enumerate(make_loader(dataset, keys, workers=workers, pin=False), 1):
            images, rows = inputs(batch)
            with torch.inference_mode():
                vectors = net(images).float()
            shape = (stage.views_per_sample, len(batch.keys), stage.dim)
            mine.append(vectors.cpu().numpy().reshape(shape))
            theirs.append(rows.cpu().numpy().reshape(shape))
            if progress is not None:
                progress(min(done * _BATCH, count), count, 0)
    found = likeness(np.concatenate(mine, axis=1), np.concatenate(theirs, axis=1))
    network = EngineFacts.read(engine.spec.to_dict()).network
    return replace(found, id=engine.id, name=engine.spec.name, network=network)


def likeness(student: Vectors, teacher: Vectors) -> Teaching:
    """Compare descriptors of the same views.

    Args:
        student, teacher: unit rows ``float32 (views, photos, dim)``. The first view is the whole photo, the others are edited.

    Returns:
        the figures, without saying who the teacher is.
    """
    views, photos, _ = student.shape
    cosine = (student.astype(np.float64) * teacher).sum(axis=-1)
    nearest, right = (np.argmax(rows[1:] @ rows[0].T, axis=-1) for rows in (student, teacher))
    own = np.arange(photos)
    return Teaching(
        photos=photos,
        views=views,
        cosine_mean=float(cosine.mean()),
        cosine_p01=float(np.percentile(cosine, 1)),
        cosine_whole=float(cosine[0].mean()),
        neighbours=float((nearest == right).mean()),
        finds=float((nearest == own).mean()),
        teacher_finds=float((right == own).mean()),
    )
