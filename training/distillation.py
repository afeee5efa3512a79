"""`distill`: train a small network to give the descriptors of an engine, and make an engine of it."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..descriptors.teaching import Teaching
from ..engines.base import describe_engine
from ..engines.kind import Described
from ..errors import InputError, MismatchError, ParityError, TrainingError, require
from ..export.publishing import try_to_write
from ..export.report import ExportReport
from ..files.reading import parse_json
from ..items import Item
from ..progress import ProgressCallback
from ..sources.choice import Choice
from ..sources.listing import as_source
from .checks import check, check_loaders, check_start
from .data.collection import Collection
from .launched import current_rank, world_size
from .names import DESCRIPTION_FILE, STATE_FILE, checkpoint_path
from .options import RunOptions
from .overrides import override
from .run import Progress, train_on
from .stages import STUDENT, Stage
from .views.artwork import find_artwork

MIN_COSINE, MIN_NEIGHBOURS = 0.6, 0.6
"""Below these a student is not published: the mean cosine with its teacher, and the share of edited views of held-out photos for
which both find the same nearest photo."""

HELD_OUT_SHARE, FEWEST_HELD_OUT, MOST_HELD_OUT = 0.1, 8, 1_000
FEWEST_PHOTOS = 40


@dataclass(frozen=True)
class Student:
    """What `distill` made.

    Attributes:
        teaching: whose student it is, and how near it came on photos that training never saw.
        report: of the engine.
        checkpoint: the student's weights with that record, from which `isc_fast.export` makes other kinds of engine.
        trained_on: how many photos.
    """

    teaching: Teaching
    report: ExportReport
    checkpoint: Path
    trained_on: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**self.report.to_dict(), "checkpoint": str(self.checkpoint), "trained_on": self.trained_on}

    def __str__(self) -> str:
        found = self.teaching
        return "\n".join(
            (
                str(self.report),
                f"{'likeness':<11} cosine {found.cosine_mean:.4f} on average, {found.cosine_p01:.4f} at the 1st percentile, "
                f"{found.cosine_whole:.4f} for whole photos",
                f"{'neighbours':<11} the same in {found.neighbours:.1%} of edited views; their own photo in {found.finds:.1%}, "
                f"of the teacher {found.teacher_finds:.1%}",
                f"{'measured':<11} on {found.photos} photos of the data that training never saw; trained on {self.trained_on}",
            )
        )


@dataclass(frozen=True)
class _Job:
    """What is to be trained, checked as far as that needs no torch."""

    stage: Stage
    teacher: Described
    training: Collection
    held_out: Collection


def hold_out(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """Set a tenth of the photos aside by their names: those whose ids have the lowest SHA-256.

    Returns:
        the photos to train on and those to measure on, each in the order of ``items``. At least 8 are set aside and at most
        1,000.
    """
    count = min(max(FEWEST_HELD_OUT, round(HELD_OUT_SHARE * len(items))), MOST_HELD_OUT)
    digests = {item.id: hashlib.sha256(item.id.encode("utf-8", "surrogateescape")).digest() for item in items}
    aside = set(sorted(digests, key=digests.__getitem__)[:count])
    return [item for item in items if item.id not in aside], [item for item in items if item.id in aside]


def distill(
    teacher: str | os.PathLike[str],
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    arch: str = STUDENT.arch,
    size: int = STUDENT.input_size,
    epochs: int = STUDENT.epochs,
    settings: Sequence[str] = (),
    start: str | os.PathLike[str] = "imagenet",
    name: str | None = None,
    choice: Choice | None = None,
    min_cosine: float = MIN_COSINE,
    min_neighbours: float = MIN_NEIGHBOURS,
    overwrite: bool = False,
    options: RunOptions | None = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> Student | None:
    """Train a small network to give an engine's descriptors, measure how near it comes, and export it.

    The teacher describes each view of a photo at its own size and preprocessing, the student at its own; what is learned is the
    stage `isc_fast.training.stages.STUDENT`. A tenth of the photos, chosen by their names, is not trained on. On these both are
    compared at the end, and a student that is too far away is not published.

    What training leaves lies in the folder of the output's name with ``.training`` in the place of its suffix: checkpoints,
    logs and, while it is unfinished, the state from which the same call goes on to the same weights.

    Args:
        teacher: an engine of any kind that runs here.
        data: photos, as `isc_fast.list_images` takes them.
        output: the engine to make, an ``.onnx`` file. An older one is replaced.
        arch: the student's backbone, by timm's name.
        size: the side of the student's input, in pixels.
        epochs: how often each photo is seen, in other views each time.
        settings: other values of the stage, such as ``batch_size=64``, see `isc_fast.training.overrides`.
        start: ``"imagenet"``, a checkpoint, or a file with the weights of a timm backbone.
        name: what the engine calls itself; by default the output's stem.
        choice: which of the photos are taken.
        min_cosine, min_neighbours: see `MIN_COSINE`.
        overwrite: train anew, whatever the folder holds.
        options: how to train; by default `RunOptions()`.
        progress: a function that takes the name of a step and returns a callback for its progress.
        log: a function that receives one line for each thing that is worth one.

    Returns:
        the student; None in every process but the first where torchrun started several.

    Raises:
        InputError: the photos are too few, or a value cannot be used. No training has started.
        EngineError, MissingExtraError: the teacher cannot run here. No training has started.
        CheckpointError, DownloadError, MismatchError: the first weights, or what the folder holds, cannot be used.
        OutputError: the engine cannot be written.
        TrainingError: the loss or a weight became infinite or NaN.
        ParityError: the student is too far from its teacher, or the engine from the student. Nothing was published.
        KeyboardInterrupt: the run was interrupted and has saved its state.
    """
    options, engine_file, log = options or RunOptions(), Path(output), log or (lambda _: None)
    if engine_file.suffix.lower() != ".onnx":
        raise InputError(
            f"a student is written as .onnx, not as {engine_file.name!r}; give -o {engine_file.with_suffix('.onnx')}, and make "
            "other kinds of engine from that: isc-fast export"
        )
    check_loaders(options.workers)
    job = _collect(teacher, data, arch, size, epochs, settings, choice, options)
    folder = engine_file.with_suffix(".training")
    final = checkpoint_path(folder, job.stage.use_epoch)
    trained = final.exists() and not overwrite
    if not trained and (overwrite or not (folder / STATE_FILE).exists()):
        check_start(start)
    for module in ("onnx", "onnxscript"):
        require(module, "export")
    try_to_write([engine_file])
    if trained:
        _check_same(folder, job)
        log(f"{folder} holds the trained student; measuring it")
    else:
        if overwrite and current_rank() == 0:
            final.unlink(missing_ok=True)  # or the next call would take it for this run's, if this run is interrupted
        train_on(
            job.stage,
            job.training,
            folder,
            options=options,
            start=start,
            overwrite=overwrite,
            progress=progress,
            log=log,
            teacher=job.teacher.path,
        )
    if current_rank() > 0:
        return None
    measured = _measure(job, final, options, progress)
    _check_likeness(measured, min_cosine, min_neighbours, folder)
    return _publish(job, final, measured, engine_file, name, log)


def _collect(
    teacher: str | os.PathLike[str],
    data: str | os.PathLike[str],
    arch: str,
    size: int,
    epochs: int,
    settings: Sequence[str],
    choice: Choice | None,
    options: RunOptions,
) -> _Job:
    described = describe_engine(teacher)
    stage = student_stage(described, arch=arch, size=size, epochs=epochs, settings=settings)
    if options.views_on != "workers":
        raise InputError(
            "the views of a student are made by workers, which prepare them for its teacher too; expected views_on='workers', "
            f"not {options.views_on!r}"
        )
    source = as_source(data, choice=choice)
    items = [*source.list().found]
    if len(items) < FEWEST_PHOTOS:
        raise InputError(
            f"{os.fspath(data)} holds {len(items)} photos; expected at least {FEWEST_PHOTOS}, and some thousands for a student "
            "that is of use; give a folder with more"
        )
    training, held_out = (Collection([(item,) for item in part], open_photo=source.open) for part in hold_out(items))
    check(stage, training, world_size(), options.accumulate)
    return _Job(stage, described, training, held_out)


def student_stage(teacher: Described, *, arch: str, size: int, epochs: int, settings: Sequence[str] = ()) -> Stage:
    """Return the stage that a student of an engine trains on.

    Raises:
        InputError: a setting cannot be used, or changes what follows from the teacher.
    """
    spec = teacher.spec
    if epochs < 1 or size < 32:
        raise InputError(f"epochs is {epochs} and size {size}; expected at least 1 epoch and 32 pixels")
    drawn = max(size, spec.height, spec.width)
    fixed: dict[str, Any] = {"teacher": teacher.id, "dim": spec.dim, "views": STUDENT.views, "epochs": epochs}
    stage = replace(STUDENT, arch=arch, input_size=size, view_size=drawn, use_epoch=epochs - 1, **fixed)
    chosen = override(stage, settings)
    for field, value in {**fixed, "use_epoch": epochs - 1, "arch": arch, "input_size": size}.items():
        if getattr(chosen, field) != value:
            raise InputError(_cannot_be_set(field, getattr(chosen, field), value, spec.name))
    return chosen


def _cannot_be_set(field: str, found: Any, value: Any, teacher: str) -> str:
    flags = {"epochs": "--epochs", "use_epoch": "--epochs", "arch": "--arch", "input_size": "--size"}
    if field in flags:
        return f"--set {field} is {found}, and {flags[field]} says {value}; give {flags[field]} alone"
    of = (
        f"those of its teacher {teacher} have {value} numbers"
        if field == "dim"
        else f"it follows from the teacher {teacher}"
    )
    return f"--set {field} is {found}, and a student's cannot be chosen: {of}; leave it out"


def _check_same(folder: Path, job: _Job) -> None:
    """See that the training that lies in a folder is complete for this very job.

    Raises:
        MismatchError: it is another student's.
        TrainingError: the folder's description cannot be read.
    """
    file = folder / DESCRIPTION_FILE
    try:
        found = parse_json(file.read_text("utf-8"))
        same = (
            found["stage"] == json.loads(json.dumps(asdict(job.stage))),
            found["images_sha256"] == job.training.digest(),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{file} cannot be read; train anew with --overwrite, or name another output") from error
    if not all(same):
        what = "of other photos" if same[0] else "with another teacher or other settings"
        raise MismatchError(
            f"{folder} holds a student that was trained {what}; give --overwrite to train anew, or another output"
        )


def _measure(job: _Job, checkpoint: Path, options: RunOptions, progress: Progress | None) -> Teaching:
    gate = require("isc_fast.training.loop.student_gate", "train")
    callback: ProgressCallback | None = progress("comparing") if progress else None
    artwork = find_artwork(options.fonts, options.emoji)
    measured: Teaching = gate.measure_student(
        checkpoint, job.stage, job.held_out, job.teacher.path, options, artwork, callback
    )
    return measured


def _check_likeness(found: Teaching, min_cosine: float, min_neighbours: float, folder: Path) -> None:
    """Refuse a student that is too far from its teacher.

    Raises:
        ParityError: it is.
    """
    cosine, neighbours = found.cosine_mean or 0.0, found.neighbours or 0.0
    if cosine >= min_cosine and neighbours >= min_neighbours:
        return
    raise ParityError(
        f"the student does not reproduce {found.name}: on {found.photos} photos that it has not seen, the mean cosine is "
        f"{cosine:.3f} and the nearest photo is the same for {neighbours:.3f} of edited views; expected at least "
        f"{min_cosine:g} and {min_neighbours:g}; nothing was published; train on more photos or with more --epochs, or take it "
        f"as it is, trained in {folder}: --min-cosine {_below(cosine)} --min-neighbours {_below(neighbours)}"
    )


def _below(value: float) -> str:
    """A number with two digits that is not above the value."""
    return f"{math.floor(value * 100) / 100:g}"


def _publish(
    job: _Job, final: Path, measured: Teaching, output: Path, name: str | None, log: Callable[[str], None]
) -> Student:
    """Write the measured student's checkpoint, and the engine."""
    checkpoints = require("isc_fast.networks.checkpoint", "train")
    student = final.with_name("student.pth.tar")
    record = json.dumps(measured.write(), sort_keys=True)
    checkpoints.rewrite_checkpoint(final, student, {checkpoints.STUDENT_OF: record})
    export = require("isc_fast.export", "export")
    report = export.export_engine(student, output, name=name or output.stem, log=log)
    return Student(measured, report, student, len(job.training.samples))


def plan_distillation(
    teacher: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    arch: str = STUDENT.arch,
    size: int = STUDENT.input_size,
    epochs: int = STUDENT.epochs,
    settings: Sequence[str] = (),
    choice: Choice | None = None,
    options: RunOptions | None = None,
) -> str:
    """Return what `distill` would do, with hours from a training step and a call of the teacher that are measured on this device.

    Args:
        teacher, data, arch, size, epochs, settings, choice, options: see `distill`.

    Raises:
        IscFastError: as `distill`, as far as it is found before training.
    """
    options = options or RunOptions()
    job = _collect(teacher, data, arch, size, epochs, settings, choice, options)
    estimate = require("isc_fast.training.estimate", "train")
    with require("isc_fast.training.loop.distributed", "train").joined(options.device) as process:
        engine = require("isc_fast.training.loop.teacher", "train").open_teacher(
            job.teacher.path, job.stage, process, options.teacher_device
        )
        if not process.first:
            return ""
        one = estimate.estimate_stage(job.stage, job.training, process, measure=True)
        table: str = estimate.render([replace(one, teacher_images_per_s=estimate.measure_teacher(engine))], process)
        return f"{table}\n{len(job.held_out.samples)} photos are held out by their names, to measure the student on"
