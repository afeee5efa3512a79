"""What is checked before a run begins. All of it is found together, in seconds, and needs no torch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import InputError
from ..networks.torch_files import refuse_other_files
from .data.collection import Collection, collect
from .data.sampling import steps_per_epoch
from .stages import Stage

SOCKET_PATH_BYTES = 107
"""The longest path of a socket that Linux takes, see unix(7)."""


def check(stage: Stage, collection: Collection, world_size: int, accumulate: int = 1) -> None:
    """Check that a stage fits its data and its processes, before training starts.

    Args:
        stage: the stage to train.
        collection: the images that it trains on.
        world_size: the number of training processes.
        accumulate: the number of parts in which each process computes its share of a batch.

    Raises:
        InputError: some of these numbers do not fit together. The message names all of them and says what to change.
    """
    _refuse(_misfits(stage, collection, world_size, accumulate, "--set "))


def collect_all(
    stages: Sequence[Stage],
    data: str | os.PathLike[str],
    *,
    ground_truth: str | os.PathLike[str] | None,
    world_size: int,
    accumulate: int,
) -> list[Collection]:
    """Collect the images of several stages, and check that each stage fits them.

    Raises:
        InputError: something is missing or does not fit. The message names everything that is wrong with any stage.
        FormatError: the ground truth has a wrong format.
    """
    found, problems = [], []
    for stage in stages:
        try:
            collection = collect(data, stage, ground_truth=ground_truth)
        except InputError as error:
            problems.append(str(error))
            continue
        found.append(collection)
        flag = "--set " if len(stages) == 1 else f"--set {stage.name}."
        if stage.teacher or stage.views == "distilled":
            problems.append(f"{stage.name} learns from an engine; run: isc-fast distill --teacher ENGINE --data PHOTOS")
        problems += _misfits(stage, collection, world_size, accumulate, flag)
    _refuse(problems)
    return found


def check_start(start: str | os.PathLike[str]) -> None:
    """Check that the first weights can be a file of weights, by its first bytes.

    Raises:
        CheckpointError: there is no such file, or it is something else.
    """
    if start != "imagenet" and Path(start).suffix != ".safetensors":
        refuse_other_files(Path(start))


def check_loaders(workers: int | None) -> None:
    """Check that loader processes can hand their batches over, for which each listens on a socket in the temporary folder.

    Where the socket's path is too long for the system, torch loses the batch, and training would wait for it for ever.

    Args:
        workers: see `isc_fast.training.options.RunOptions`; 0 needs no socket.

    Raises:
        InputError: the path of the temporary folder is too long.
    """
    if workers == 0:
        return
    from multiprocessing import connection

    # Newer versions of Python choose a shorter folder by themselves, so the path is asked for and not computed.
    length = len(os.fsencode(connection.arbitrary_address("AF_UNIX")))  # type: ignore[attr-defined]
    if length > SOCKET_PATH_BYTES:
        raise InputError(
            f"the temporary folder {tempfile.gettempdir()} makes the path of a loader's socket {length} bytes long; expected "
            f"at most {SOCKET_PATH_BYTES}; set TMPDIR to a shorter folder, or make views in the training process: --workers 0"
        )


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise InputError("; also, ".join(dict.fromkeys(problems)))


def _misfits(stage: Stage, collection: Collection, world_size: int, accumulate: int, flag: str) -> list[str]:
    """Return a line for everything that does not fit. Each line takes the advice of those before it as followed."""
    samples = len(collection.samples)
    if stage.batch_size < 1 or stage.memory_size < 1 or stage.input_size < 32:
        return [
            f"{stage.name} has batch_size {stage.batch_size}, memory_size {stage.memory_size} and input_size "
            f"{stage.input_size}; expected at least 1, 1 and 32"
        ]
    if stage.hard_views < 1 or (stage.temperature is not None and stage.temperature <= 0):
        return [
            f"{stage.name} has hard_views {stage.hard_views} and temperature {stage.temperature}; expected at least 1, and a "
            "number above 0 or none"
        ]
    hard = stage.hard_view
    if hard is not None and hard.parts + hard.frame > 1:
        return [
            f"{stage.name} has hard_view.parts {hard.parts} and hard_view.frame {hard.frame}; expected a sum of at most 1, "
            "because a photo lies on one page"
        ]
    if stage.teacher:
        found = _misfits_with_a_teacher(stage)
        if found:
            return found
    found = []
    if steps_per_epoch(stage, samples) < 1:
        batch = samples - samples % world_size
        advice = f"add images or give {flag}batch_size={batch}" if batch else f"add images, at least {world_size}"
        found.append(f"{stage.name} has {samples} samples for batches of {stage.batch_size}; {advice}")
        if not batch:
            return found
        stage = replace(stage, batch_size=batch)
    elif stage.batch_size % world_size:
        batch = -(-stage.batch_size // world_size) * world_size
        found.append(
            f"the batch of {stage.name}, {stage.batch_size} samples, does not divide among {world_size} processes; start "
            f"{_nearest_divisor(stage.batch_size, world_size)}, or give {flag}batch_size={batch}"
        )
        stage = replace(stage, batch_size=batch)
    images = stage.images_per_step // world_size
    if images % accumulate or images // accumulate < 2:
        found.append(
            f"a process's share of the batch of {stage.name}, {images} images, does not divide into {accumulate} equal "
            "parts of two images or more; choose another --accumulate"
        )
    epoch = steps_per_epoch(stage, samples) * stage.images_per_step
    if stage.teacher:  # its loss has no memory
        return found
    if stage.images_per_step > stage.memory_size:
        found.append(
            f"a step of {stage.name} has {stage.images_per_step} images, and its memory holds {stage.memory_size}; give "
            f"{flag}memory_size={stage.images_per_step} or more"
        )
    elif stage.memory_size > epoch:
        found.append(
            f"the memory of {stage.name}, {stage.memory_size}, is larger than the data set: an epoch has {epoch} images "
            f"({samples} samples); add images or give {flag}memory_size={max(stage.images_per_step, epoch // 4)}"
        )
    return found


def _misfits_with_a_teacher(stage: Stage) -> list[str]:
    """Return a line for every value with which a network cannot learn from a teacher."""
    found = []
    if stage.views != "distilled" or stage.hard_view is None:
        found.append(
            f"{stage.name} has a teacher and the views {stage.views!r}; expected 'distilled', with a hard view"
        )
    elif stage.hard_view.erase:
        found.append(
            f"{stage.name} has hard_view.erase {stage.hard_view.erase}; expected 0, because the teacher would still see "
            "what is erased in the network's input"
        )
    if stage.temperature is None or stage.similarity < 0:
        found.append(
            f"{stage.name} has temperature {stage.temperature} and similarity {stage.similarity}; expected a number above 0 and "
            "one of at least 0"
        )
    if stage.drawn_size < stage.input_size:
        found.append(
            f"{stage.name} has view_size {stage.view_size}; expected at least its input_size, {stage.input_size}"
        )
    return found


def _nearest_divisor(number: int, limit: int) -> int:
    return max(divisor for divisor in range(1, limit + 1) if number % divisor == 0)
