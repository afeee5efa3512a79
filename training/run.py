"""The two functions that a user calls to train: `train_stage` and `train_schedule`.

Both continue an interrupted run where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import require
from ..progress import ProgressCallback
from .checks import check_loaders, check_start, collect_all
from .data.collection import Collection
from .data.held_out import read_held_out
from .launched import world_size
from .names import STATE_FILE, checkpoint_path
from .options import RunOptions
from .stages import STAGES, Stage
from .views.artwork import find_artwork

Progress = Callable[[str], ProgressCallback]


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
        KeyboardInterrupt: the run received SIGINT or SIGTERM and has saved its state. It is a
            `isc_fast.training.options.StepsDone` if the run made ``options.max_steps`` steps.
    """
    options = options or RunOptions()
    folder = Path(output)
    final = checkpoint_path(folder, stage.use_epoch)
    if final.exists() and not overwrite:
        return final
    # All that needs no torch comes before its import, which takes seconds.
    check_loaders(options.workers)
    if overwrite or not (folder / STATE_FILE).exists():
        check_start(start)
    (collection,) = collect_all(
        [stage], data, ground_truth=ground_truth, world_size=world_size(), accumulate=options.accumulate
    )
    train_on(stage, collection, folder, start=start, overwrite=overwrite, options=options, progress=progress, log=log)
    return final


def train_on(
    stage: Stage,
    collection: Collection,
    folder: Path,
    *,
    options: RunOptions,
    start: str | os.PathLike[str],
    overwrite: bool,
    progress: Progress | None,
    log: Callable[[str], None] | None,
    teacher: str | os.PathLike[str] | None = None,
) -> None:
    """Train one stage on images that were collected and checked.

    Args:
        stage, options, start, overwrite, progress, log: see `train_stage`.
        collection: the images.
        folder: for the files that `train_stage` names.
        teacher: the file of the engine that the stage learns from, if it names one.

    Raises:
        IscFastError, KeyboardInterrupt: see `train_stage`; also if the teacher cannot run here.
    """
    held_out = read_held_out(options.evaluate) if options.evaluate is not None else None
    artwork = find_artwork(options.fonts, options.emoji) if stage.hard_view is not None else None
    work = require("isc_fast.training.loop.stage_run", "train")
    run = work.StageRun(
        stage,
        folder,
        collection,
        options,
        start=start,
        held_out=held_out,
        artwork=artwork,
        overwrite=overwrite,
        progress=progress,
        log=log,
        teacher=teacher,
    )
    work.run_stage(run)


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
    collect_all(
        stages,
        data,
        ground_truth=arguments.get("ground_truth"),
        world_size=world_size(),
        accumulate=options.accumulate,
    )
    with require("isc_fast.training.loop.distributed", "train").joined(options.device):  # one group for all stages
        last = Path(output)
        for stage in stages:
            came_from = start if stage.start not in STAGES or stage is stages[0] else last
            last = train_stage(stage, data, Path(output) / stage.name, start=came_from, **arguments)
    return last
