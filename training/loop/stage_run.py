"""One stage of a run: the network, its optimizer and its data come together, and the trainer runs them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ...engines.protocol import Engine
from ...errors import CheckpointError
from ...files.atomic import make_folder, write_text
from ...machine.cores import available_cores
from ...networks.model import DescriptorNet
from ...networks.pretrained import load_start
from ...progress import ProgressCallback
from ..checks import check
from ..data.collection import Collection
from ..data.dataset import SampleDataset
from ..data.held_out import HeldOut
from ..launched import local_world_size
from ..names import DESCRIPTION_FILE, STATE_FILE
from ..options import RunOptions
from ..stages import Stage
from ..views.artwork import Artwork
from .distributed import Process, joined, wait_for_all
from .learner import Learner
from .optimizer import take_over_momentum
from .state import Identity
from .teacher import open_teacher
from .trainer import Trainer
from .warm_start import begin_with_fitted_head, begin_with_whitened_head

Progress = Callable[[str], ProgressCallback]


@contextlib.contextmanager
def cores_shared(options: RunOptions, device: torch.device) -> Iterator[int]:
    """Divide this machine's cores among its training processes, and yield how many loader processes this one starts.

    With a GPU, all cores make views. Without a GPU, one core makes views and the network computes on the others. torch must
    not have more threads than free cores: its threads would wait for each other, and a step would take many times as long.
    """
    cores = max(1, -(-available_cores() // local_world_size()))
    if device.type != "cpu":
        yield cores if options.workers is None else options.workers
        return
    workers = 1 if options.workers is None else options.workers
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, cores - workers)))
    try:
        yield workers
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class StageRun:
    """A stage whose images were collected and checked, with all that it is run with.

    Attributes:
        stage, start, overwrite, options, progress, log: see `isc_fast.training.run.train_stage`.
        folder: the folder of the stage's files.
        collection: the stage's images.
        held_out: the images to evaluate on, or None.
        artwork: fonts and emoji, or None if the stage has no hard views.
        teacher: the file of the engine that the stage learns from, or None.
    """

    stage: Stage
    folder: Path
    collection: Collection
    options: RunOptions
    start: str | os.PathLike[str]
    held_out: HeldOut | None
    artwork: Artwork | None
    overwrite: bool
    progress: Progress | None
    log: Callable[[str], None] | None
    teacher: str | os.PathLike[str] | None = None


def run_stage(run: StageRun) -> None:
    """Run a stage in this process and those that torchrun started beside it.

    Raises:
        IscFastError, KeyboardInterrupt: see `isc_fast.training.run.train_stage`.
    """
    with joined(run.options.device) as process:
        check(run.stage, run.collection, process.world_size, run.options.accumulate)
        # The work runs in its own function: when that returns, Python frees the networks before the process group ends.
        _run(run, process)


def _run(run: StageRun, process: Process) -> None:
    stage, folder, options = run.stage, run.folder, run.options
    identity = Identity(stage, run.collection.digest(), options.seed, options.accumulate, options.ema_decay)
    with cores_shared(options, process.device) as workers:
        # A teacher that cannot run here is an error before anything is written.
        teacher = None if run.teacher is None else open_teacher(run.teacher, stage, process, options.teacher_device)
        make_folder(folder)
        resume = (folder / STATE_FILE).exists() and not run.overwrite
        wait_for_all()  # every process must look for the state before the first process starts to write
        dataset = SampleDataset(
            run.collection,
            stage,
            seed=options.seed,
            artwork=run.artwork,
            views_on=options.views_on,
            teacher_input=teacher.spec.input if teacher else None,
        )
        if process.first:
            _describe(run, identity)
        learner = _begin(stage, run.start, process, options, dataset, workers, teacher, anew=not resume)
        trainer = Trainer(
            learner,
            dataset,
            identity,
            options,
            folder,
            workers=workers,
            held_out=run.held_out,
            teacher=teacher,
            progress=run.progress(stage.name) if run.progress and process.first else None,
            log=run.log,
        )
        trainer.run(resume=resume)


def _begin(
    stage: Stage,
    start: str | os.PathLike[str],
    process: Process,
    options: RunOptions,
    dataset: SampleDataset,
    workers: int,
    teacher: Engine | None,
    *,
    anew: bool,
) -> Learner:
    """Make the learner of a stage.

    With ``anew``, its network gets the stage's first weights. Otherwise the trainer loads them from the saved state.
    """
    torch.manual_seed(options.seed)  # every process must draw the same random head
    net = DescriptorNet(stage.arch, stage.dim, stage.gem_p)
    momentum = None
    if anew:
        momentum = load_start(net, start)
        if stage.resume and momentum is None:
            raise CheckpointError(
                f"{stage.name} goes on with the momentum of {stage.start}, but {os.fspath(start)} holds no momentum; "
                f"start from a checkpoint that training of {stage.start} wrote"
            )
        if stage.head_start == "whitened":
            begin_with_whitened_head(net, dataset, stage, process, workers=workers, seed=options.seed)
        elif stage.head_start == "fitted" and teacher is not None:
            begin_with_fitted_head(net, dataset, stage, process, teacher, workers=workers, seed=options.seed)
    learner = Learner(
        net, stage, process, accumulate=options.accumulate, compile=options.compile, ema_decay=options.ema_decay
    )
    if anew and stage.resume:
        take_over_momentum(learner.optimizer, momentum, os.fspath(start))
    return learner


def _describe(run: StageRun, identity: Identity) -> None:
    content: dict[str, Any] = {
        "stage": asdict(identity.stage),
        "start": os.fspath(run.start),
        "samples": len(run.collection.samples),
        "negatives": len(run.collection.negatives),
        "images_sha256": identity.data,
        "options": {name: os.fspath(v) if isinstance(v, Path) else v for name, v in asdict(run.options).items()},
    }
    write_text(run.folder / DESCRIPTION_FILE, json.dumps(content, indent=2) + "\n")
