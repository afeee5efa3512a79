"""The estimate of a run that ``isc-fast train --dry-run`` prints.

It shows the stages, their steps and learning rates, and how long they would take on this device.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..engines.protocol import Engine
from ..networks.model import DescriptorNet
from ..progress import duration
from .data.collection import Collection
from .data.sampling import steps_per_epoch
from .loop.distributed import Process
from .loop.learner import Learner, usable_precision
from .stages import Stage

_WARM_UP, _TIMED = 1, 3
_MEASURED_IMAGES = {"cpu": 4, "cuda": 32}  # in one step; a larger step needs more memory and has about the same rate


@dataclass(frozen=True)
class StageEstimate:
    """The estimate of one stage.

    Attributes:
        stage: the stage.
        samples, negatives: the number of images or pairs that it trains on, and of images that it draws negatives from.
        steps_per_epoch: see `isc_fast.training.data.sampling.steps_per_epoch`.
        images_per_s: the measured rate of one device in training, without the time to make views. None if it was not
            measured.
        teacher_images_per_s: the measured rate of the stage's teacher, which describes every image too. None without a teacher.
    """

    stage: Stage
    samples: int
    negatives: int
    steps_per_epoch: int
    images_per_s: float | None = None
    teacher_images_per_s: float | None = None

    @property
    def epochs(self) -> range:
        """The epochs of the stage, counted from 0."""
        return range(self.stage.first_epoch, self.stage.use_epoch + 1)

    @property
    def images(self) -> int:
        """How many images go through the network in the whole stage."""
        return len(self.epochs) * self.steps_per_epoch * self.stage.images_per_step

    @property
    def device_hours(self) -> float | None:
        """How many hours the stage takes on one device, or None if the rate was not measured."""
        if self.images_per_s is None:
            return None
        return (self.images / self.images_per_s + self.images / (self.teacher_images_per_s or math.inf)) / 3600


def measure_step(stage: Stage, process: Process) -> float:
    """Measure the images per second of a training step in the stage's size and precision.

    The weights and the images are random.
    """
    device = process.device
    images = min(_MEASURED_IMAGES[device.type], stage.images_per_step)
    small = replace(
        stage, batch_size=images, memory_size=max(stage.memory_size, images), negatives_per_sample=0, shows_others=False
    )
    net = DescriptorNet(stage.arch, stage.dim, stage.gem_p)
    learner = Learner(net, small, Process(0, 1, device))
    layout = torch.channels_last if stage.channels_last else torch.contiguous_format
    shape = (images, 3, stage.input_size, stage.input_size)
    batch = torch.randn(shape, device=device).contiguous(memory_format=layout)
    labels = torch.arange(images, device=device) // 2
    if stage.teacher:
        labels = torch.nn.functional.normalize(torch.randn(images, stage.dim, device=device))
    times = []
    for _ in range(_WARM_UP + _TIMED):
        began = time.perf_counter()
        learner.step(batch, labels)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return images / statistics.median(times[_WARM_UP:])


def measure_teacher(engine: Engine) -> float:
    """Measure the images per second of an engine, on random pixels in its own batch size."""
    spec = engine.spec
    pixels = np.random.default_rng(0).integers(
        0, 256, (engine.default_batch_size, spec.height, spec.width, 3), np.uint8
    )
    times = []
    for _ in range(_WARM_UP + _TIMED):
        began = time.perf_counter()
        engine.run(pixels)
        times.append(time.perf_counter() - began)
    return len(pixels) / statistics.median(times[_WARM_UP:])


def estimate_stage(stage: Stage, collection: Collection, process: Process, *, measure: bool) -> StageEstimate:
    """Estimate one stage. With ``measure``, the rate of its steps is measured on the process's device."""
    return StageEstimate(
        stage,
        len(collection.samples),
        len(collection.negatives),
        steps_per_epoch(stage, len(collection.samples)),
        measure_step(stage, process) if measure else None,
    )


def _rates(one: StageEstimate) -> str:
    rates = [one.stage.learning_rate_of(epoch) for epoch in one.epochs]
    first, last = f"{rates[0]:.4g}", f"{rates[-1]:.4g}"
    return first if first == last else f"{first} → {last}"


def render(estimates: Sequence[StageEstimate], process: Process) -> str:
    """Return the table that ``isc-fast train --dry-run`` prints."""
    lines = [
        f"{'stage':<8} {'start':<9} {'size':>4} {'samples':>9} {'negatives':>9} {'epochs':>7} {'steps each':>10} "
        f"{'images':>12} {'learning rate':>16} {'images/s':>9} {'hours':>9}"
    ]
    for one in estimates:
        stage, hours = one.stage, one.device_hours
        epochs = f"{one.epochs[0]}–{one.epochs[-1]}"
        lines.append(
            f"{stage.name:<8} {stage.start:<9} {stage.input_size:>4} {one.samples:>9} {one.negatives:>9} "
            f"{epochs:>7} {one.steps_per_epoch:>10} {one.images:>12,} {_rates(one):>16} "
            f"{'–' if one.images_per_s is None else f'{one.images_per_s:.1f}':>9} "
            f"{'–' if hours is None else f'{hours:,.2f}':>9}"
        )
    for one in estimates:
        if one.teacher_images_per_s is not None:
            lines.append(
                f"{'teacher':<8} describes each of these images too: {one.teacher_images_per_s:.1f} images/s, in the hours"
            )
    total = [one.device_hours for one in estimates]
    if all(hours is not None for hours in total):
        hours = sum(hours for hours in total if hours is not None)
        kind = "GPU" if process.device.type == "cuda" else "processor"
        precision = ", ".join(sorted({usable_precision(p.stage.precision, process.device) for p in estimates}))
        lines += [
            "",
            f"{hours:,.2f} hours of one {kind} like this one, in {precision}, if making the views keeps up; "
            f"{duration(3600 * hours / process.world_size)} on {process.world_size} of them without loss",
        ]
    return "\n".join(lines)
