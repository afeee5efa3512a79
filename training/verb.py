"""The command ``isc-fast train``: it turns the flags into a call of `train_stage` or `train_schedule`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import InputError, require
from ..machine.allocator import keep_freed_memory
from .checks import collect_all
from .launched import current_rank, world_size
from .options import RunOptions
from .overrides import override
from .reporting import reported_once
from .run import Progress, train_schedule, train_stage
from .stages import STAGES, Stage, schedule

_OPTIONS = (
    "device", "workers", "views_on", "seed", "accumulate", "compile", "ema_decay", "log_every", "checkpoint_minutes",
    "evaluate", "fonts", "emoji", "max_steps",
)  # fmt: skip
_PATHS = {"evaluate", "fonts", "emoji"}


def _stages(given: Namespace) -> list[Stage]:
    name = given.schedule or given.stage
    if name not in STAGES:
        raise InputError(f"there is no stage {name!r}; choose one of {', '.join(STAGES)}")
    chosen = schedule(name) if given.schedule else [STAGES[name]]
    return [override(stage, given.set or []) for stage in chosen]


def _options(given: Namespace) -> RunOptions:
    values: dict[str, Any] = {name: getattr(given, name) for name in _OPTIONS if getattr(given, name) is not None}
    for name in _PATHS & values.keys():
        values[name] = Path(values[name])
    return RunOptions(**values)


def _start(given: Namespace, first: Stage) -> str:
    if given.init is None and first.start != "imagenet":
        raise InputError(
            f"{first.name} starts from {first.start}: name its checkpoint with --init FILE, or train all stages up to "
            f"{first.name} with --schedule {first.name}"
        )
    return given.init or "imagenet"


def _dry_run(given: Namespace, stages: list[Stage], options: RunOptions) -> str:
    collections = collect_all(
        stages, given.data, ground_truth=given.ground_truth, world_size=world_size(), accumulate=options.accumulate
    )
    estimate = require("isc_fast.training.estimate", "train")
    with require("isc_fast.training.loop.distributed", "train").joined(options.device) as process:
        estimates = [
            estimate.estimate_stage(stage, collection, process, measure=process.first)
            for stage, collection in zip(stages, collections, strict=True)
        ]
        return estimate.render(estimates, process) if process.first else ""


def train(given: Namespace, *, progress: Progress, note: Callable[[str], None], show: Callable[[str], None]) -> None:
    """Run ``isc-fast train`` with parsed flags.

    Args:
        given: the parsed flags.
        progress: a function that takes a stage's name and returns a callback for its progress.
        note: a function that receives one line after each epoch.
        show: a function that receives the result: the path of the last checkpoint, or the table of ``--dry-run``. It receives
            nothing if ``--max-steps`` ended the run.

    Raises:
        SystemExit: something failed, and this is not the first process. Only the first process reports errors.
        IscFastError, KeyboardInterrupt: see `isc_fast.training.run.train_stage`.
    """
    keep_freed_memory()
    with reported_once(given.max_steps, note):
        stages, options = _stages(given), _options(given)
        if given.dry_run:
            shown = _dry_run(given, stages, options)
            if shown:
                show(shown)
            return
        if given.output is None:
            raise InputError("name a folder for the checkpoints: -o FOLDER")
        start = _start(given, stages[0])
        common = {
            "ground_truth": given.ground_truth, "overwrite": given.overwrite, "options": options,
            "progress": progress, "log": note,
        }  # fmt: skip
        if given.schedule:
            made = train_schedule(stages, given.data, given.output, start=start, **common)
        else:
            made = train_stage(stages[0], given.data, given.output, start=start, **common)
        if current_rank() == 0:
            show(str(made))
