"""The two functions that a user calls to train: `train_stage` and `train_schedule`.

Both continue an interrupted run where it stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, InputError
from ..files.atomic import make_folder, write_text
from ..machine.cores import available_cores
from ..networks.model import DescriptorNet
from ..networks.pretrained import load_start
from ..progress import ProgressCallback
from .data.collection import Collection, collect
from .data.dataset import SampleDataset
from .data.sampling import steps_per_epoch
from .loop.distributed import Process, joined, local_world_size, wait_for_all
from .loop.evaluation import read_held_out
from .loop.learner import Learner
from .loop.optimizer import take_over_momentum
from .loop.state import Identity
from .loop.trainer import STATE_FILE, Trainer, checkpoint_path
from .loop.warm_start import begin_with_whitened_head
from .options import RunOptions
from .stages import STAGES, Stage
from .views.artwork import find_artwork

Progress = Callable[[str], ProgressCallback]


def check(stage: Stage, collection: Collection, world_size: int, accumulate: int = 1) -> None:
    """Check that a stage fits its data and its processes, before training starts.

    Args:
        stage: the stage to train.
        collection: the images that it trains on.
        world_size: the number of training processes.
        accumulate: the number of parts in which each process computes its share of a batch.

    Raises:
        InputError: two of these numbers do not fit together. The message names them and says what to change.
    """
    samples = len(collection.samples)
    if stage.batch_size < 1 or stage.memory_size < 1 or stage.input_size < 32:
        raise InputError(
            f"{stage.name} has batch_size {stage.batch_size}, memory_size {stage.memory_size} and input_size "
            f"{stage.input_size}; expected at least 1, 1 and 32"
        )
    if stage.batch_size % world_size:
        raise InputError(
            f"the batch of {stage.name}, {stage.batch_size} samples, does not divide among {world_size} processes; start "
            f"{_nearest_divisor(stage.batch_size, world_size)}, or give --set batch_size="
            f"{-(-stage.batch_size // world_size) * world_size}"
        )
    images = stage.images_per_step // world_size
    if images % accumulate or images // accumulate < 2:
        raise InputError(
            f"a process's share of the batch of {stage.name}, {images} images, does not divide into {accumulate} equal "
            "parts of two images or more; choose another --accumulate"
        )
    if stage.images_per_step > stage.memory_size:
        raise InputError(
            f"a step of {stage.name} has {stage.images_per_step} images, and its memory holds {stage.memory_size}; give "
            f"--set memory_size={stage.images_per_step} or more"
        )
    steps = steps_per_epoch(stage, samples)
    if steps < 1:
        raise InputError(
            f"{stage.name} has {samples} samples for batches of {stage.batch_size}; add images or give --set batch_size={samples}"
        )
    if stage.memory_size > steps * stage.images_per_step:
        raise InputError(
            f"the memory of {stage.name}, {stage.memory_size}, is larger than the data set: an epoch has "
            f"{steps * stage.images_per_step} images ({samples} samples); add images or give --set memory_size="
            f"{max(stage.images_per_step, steps * stage.images_per_step // 4)}"
        )


def _nearest_divisor(number: int, limit: int) -> int:
    return max(divisor for divisor in range(1, limit + 1) if number % divisor == 0)


@contextlib.contextmanager
def _cores_shared(options: RunOptions, device: torch.device) -> Iterator[int]:
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


def train_stage(
    stage: Stage,
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    start: str | os.PathLike[str] = "imagenet",
    ground_truth: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    options: RunOptions | None = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> Path:
    """Train one stage.

    If ``output`` holds an interrupted run of this stage, training continues from its saved state. If the stage is complete,
    the function returns at once. Under torchrun, every process calls this function and the processes share each batch.

    The function writes these files into ``output``:

    * one checkpoint for each epoch, in the published format,
    * ``log.csv``, the figures of the run,
    * ``stage.json``, which records the stage, its data and its options,
    * ``evaluation.jsonl``, if ``options.evaluate`` names a held-out set,
    * ``skipped.jsonl``, if there are images that it cannot read.

    Args:
        stage: a stage from `isc_fast.training.stages.STAGES`, or a changed copy of one.
        data: a folder with the layout of DISC21, see `isc_fast.training.data.collection.collect`.
        output: the folder for the files above. The function creates it if it does not exist.
        start: ``"imagenet"``, a checkpoint, or a file with the weights of a timm backbone. A stage with ``resume`` also
            takes over the checkpoint's momentum.
        ground_truth: the CSV of the labelled pairs. It is needed only if the file cannot be found by its name.
        overwrite: start the stage from its beginning, whatever ``output`` holds.
        options: how to run the stage; by default `RunOptions()`.
        progress: a function that takes the stage's name and returns a callback; the callback counts steps.
        log: a function that receives one line after each epoch.

    Returns:
        the checkpoint that the next stage starts from.

    Raises:
        InputError, FormatError: the data or the options cannot be used. No training has started.
        CheckpointError, DownloadError, MismatchError: the weights or the state in ``output`` cannot be used. No training
            has started.
        TrainingError: the loss or a weight became infinite or NaN.
        KeyboardInterrupt: the run received SIGINT or SIGTERM and has saved its state.
    """
    options = options or RunOptions()
    with joined(options.device) as process:
        # The work runs in its own function: when that returns, Python frees the networks before the process group ends.
        return _train_stage(stage, data, Path(output), process, start, ground_truth, overwrite, options, progress, log)


def _train_stage(
    stage: Stage,
    data: str | os.PathLike[str],
    folder: Path,
    process: Process,
    start: str | os.PathLike[str],
    ground_truth: str | os.PathLike[str] | None,
    overwrite: bool,
    options: RunOptions,
    progress: Progress | None,
    log: Callable[[str], None] | None,
) -> Path:
    final = checkpoint_path(folder, stage.use_epoch)
    if final.exists() and not overwrite:
        return final
    collection = collect(data, stage, ground_truth=ground_truth)
    check(stage, collection, process.world_size, options.accumulate)
    held_out = read_held_out(options.evaluate) if options.evaluate is not None else None
    artwork = find_artwork(options.fonts, options.emoji) if stage.hard_view is not None else None
    identity = Identity(stage, collection.digest(), options.seed, options.accumulate, options.ema_decay)
    make_folder(folder)
    resume = (folder / STATE_FILE).exists() and not overwrite
    wait_for_all()  # every process must look for the state before the first process starts to write
    dataset = SampleDataset(collection, stage, seed=options.seed, artwork=artwork, views_on=options.views_on)
    if process.first:
        _describe(folder, identity, collection, options, start)
    with _cores_shared(options, process.device) as workers:
        learner = _begin(stage, start, process, options, dataset, workers, anew=not resume)
        trainer = Trainer(
            learner,
            dataset,
            identity,
            options,
            folder,
            workers=workers,
            held_out=held_out,
            progress=progress(stage.name) if progress and process.first else None,
            log=log,
        )
        trainer.run(resume=resume)
    return final


def _begin(
    stage: Stage,
    start: str | os.PathLike[str],
    process: Process,
    options: RunOptions,
    dataset: SampleDataset,
    workers: int,
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
    learner = Learner(
        net, stage, process, accumulate=options.accumulate, compile=options.compile, ema_decay=options.ema_decay
    )
    if anew and stage.resume:
        take_over_momentum(learner.optimizer, momentum, os.fspath(start))
    return learner


def _describe(
    folder: Path, identity: Identity, collection: Collection, options: RunOptions, start: str | os.PathLike[str]
) -> None:
    content: dict[str, Any] = {
        "stage": asdict(identity.stage),
        "start": os.fspath(start),
        "samples": len(collection.samples),
        "negatives": len(collection.negatives),
        "images_sha256": identity.data,
        "options": {name: os.fspath(v) if isinstance(v, Path) else v for name, v in asdict(options).items()},
    }
    write_text(folder / "stage.json", json.dumps(content, indent=2) + "\n")


def train_schedule(
    stages: Sequence[Stage],
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    start: str | os.PathLike[str] = "imagenet",
    **arguments: Any,
) -> Path:
    """Train several stages, one after the other.

    Each stage starts from the checkpoint that its row in the table of stages names. Complete stages are skipped. The data of
    all stages are checked before the first stage starts.

    Args:
        stages: the stages from first to last, as `isc_fast.training.stages.schedule` returns them.
        data: a folder with the layout of DISC21, see `isc_fast.training.data.collection.collect`.
        output: the folder in which each stage gets a folder of its own.
        start: the weights that the first stage starts from.
        arguments: the other arguments of `train_stage`.

    Returns:
        the checkpoint of the last stage.

    Raises:
        IscFastError, KeyboardInterrupt: see `train_stage`.
    """
    options = arguments.get("options") or RunOptions()
    with joined(options.device) as process:
        for stage in stages:
            check(
                stage,
                collect(data, stage, ground_truth=arguments.get("ground_truth")),
                process.world_size,
                options.accumulate,
            )
        last = Path(output)
        for stage in stages:
            came_from = start if stage.start not in STAGES or stage is stages[0] else last
            last = train_stage(stage, data, Path(output) / stage.name, start=came_from, **arguments)
    return last
