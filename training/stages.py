"""The table of stages: every value of the reference solution's training schedule, as data.

Source: Yokoo, "Contrastive Learning with Large Memory Bank and Negative Embedding Subtraction for Accurate Copy
Detection", 2021 (arXiv 2112.04323), and the authors' published code. Where a field differs from that code on purpose, its
description says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

Negatives = Literal["none", "reference", "training"]
Views = Literal["augmented", "pairs", "distilled"]
HeadStart = Literal["random", "whitened", "fitted"]
Precision = Literal["fp16", "bf16", "fp32"]
OptimizerName = Literal["sgd", "adamw"]
ViewsOn = Literal["workers", "device"]

# timm has renamed this network and still accepts this name, which the published files hold.
PUBLISHED_ARCH = "tf_efficientnetv2_m_in21ft1k"

NO_PHOTO = -1
"""Fills the places in a row of labels if a view shows fewer photos than others do."""
MOST_PHOTOS = 6
"""The largest number of photos that one view shows."""


@dataclass(frozen=True)
class HardView:
    """How often and how strongly the edits of a hard view change a photo.

    Attributes:
        rotation: the probability of a counter-clockwise turn by 0 to 180 degrees. The result is cropped to the largest
            upright rectangle inside.
        overlay: the probability that the photo is pasted onto another one, or another one onto it.
        overlay_opacity: the lowest opacity of the pasted photo. The highest is 1.
        overlay_size: the lowest and the highest height of the pasted photo, as a share of the background's height.
        colour_jitter: the strength of the colour change, which every hard view has. Brightness, contrast and saturation
            are multiplied by factors from 1 − ``colour_jitter`` to 1 + ``colour_jitter``, and the hue moves by up to a
            fifth of a turn.
        pixelize, shuffle_pixels, jpeg, grayscale, blur, perspective, text, emoji, edge_enhance: the probability of the
            edit with this name.
        flip, turn_over: the probability of mirroring left and right, and of mirroring top and bottom.
        erase: the probability that one rectangle becomes noise.
        parts: the probability that the photo becomes a part of a page: one of two to six pictures, or small on another one.
        frame: the probability that the photo gets a frame of one colour. A photo on a page has no overlay.
        bend: the probability that the photo is bent, as by a lens or by waves on water.
        screen: the probability of stripes, a reflection and less contrast, as in a photo of a screen.
        blur_radius: the largest radius of the blur, in pixels.
        blur_reference_size: None keeps the radius the same for views of any size, as published; it blurs small views far
            more than large ones. With a number, the radius is multiplied by view size / ``blur_reference_size``.
    """

    rotation: float
    overlay: float
    overlay_opacity: float
    overlay_size: tuple[float, float]
    colour_jitter: float
    jpeg: float
    perspective: float
    text: float
    emoji: float
    edge_enhance: float
    pixelize: float = 0.25
    shuffle_pixels: float = 0.25
    grayscale: float = 0.25
    blur: float = 0.25
    flip: float = 0.5
    turn_over: float = 0.1
    erase: float = 0.25
    parts: float = 0.0
    frame: float = 0.0
    bend: float = 0.0
    screen: float = 0.0
    blur_radius: float = 10.0
    blur_reference_size: int | None = None


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        name: the name that the authors gave the stage. The second run of v83 is ``v83-2``.
        start: where the first weights come from: ``"imagenet"``, or the name of the stage before.
        arch: the backbone's timm name, as checkpoints hold it.
        resume: whether the stage takes over the optimizer and the epoch count of the stage before, in addition to its
            weights.
        input_size: the side of the square input, in pixels.
        reference_world_size: the number of processes of the published run. That run divided its gradient by this number, and
            the learning rates are tuned to that. The loss is scaled so that any number of processes makes the same step.
        batch_size: the samples of one step, over all processes. A sample is the views of a photo, or a labelled pair,
            together with its negatives.
        negatives_per_sample: how many images that match nothing are drawn for each sample, with replacement.
        negatives_from: where these images come from: ``"reference"`` and ``"training"`` name the set of images, ``"none"``
            stands for no negatives.
        views: ``"augmented"`` trains on a moderate view and hard views of one photo, ``"pairs"`` on a labelled query and its
            reference, ``"distilled"`` on the whole photo, a moderate view and hard views, each beside the teacher's descriptor
            of the same view.
        first_epoch, epochs: the published run went from ``first_epoch`` to ``epochs - 1``. The learning rate falls over
            ``epochs``.
        use_epoch: the epoch whose checkpoint the next stage starts from. Training stops after it.
        learning_rate: the learning rate of epoch 0, in the units of the published run.
        falling: whether the rate falls linearly with the epoch: ``learning_rate · (1 − epoch / epochs)``.
        hard_views: how many hard views of a photo a sample has.
        shows_others: whether a view counts as a copy of every photo that it shows, and not only of its own. Without this,
            the photos that are beside the own one on a page, or below or above it, count as photos it does not show.
        temperature: None computes the contrastive loss. A number computes the cross-entropy over cosines that are divided by
            it (InfoNCE), and the margins then have no effect.
        spread: the weight of a term that moves each descriptor away from the nearest one with a different label.
        teacher: the id of the engine whose descriptors the network learns to give; empty for stages without one. The loss is then
            that of `isc_fast.training.loop.teaching`, at ``temperature``, and labels, margins, memory and ``spread`` have no
            effect.
        similarity: the weight of the term that makes the batch's similarities those of the teacher's descriptors.
        view_size: the side of the views before teacher and student each prepare them in their own way; None is ``input_size``.
        pos_margin, neg_margin: a positive pair adds to the loss if its distance is above ``pos_margin``, a negative pair if
            its distance is below ``neg_margin``.
        memory_size: the number of descriptors in the cross-batch memory.
        hard_view: the settings of the hard view, or None if the stage has no augmentation.
        optimizer: ``"sgd"``, as published, or ``"adamw"``.
        momentum, weight_decay: the settings of the optimizer; AdamW takes no momentum. Biases and normalisation layers do
            not decay.
        sample_size: how many training images are used: the first ones in the order of their names.
        gem_p, dim: see `isc_fast.networks.model.DescriptorNet`.
        precision: the precision of the arithmetic on a GPU, under autocast. A CPU computes in fp32 instead of fp16, because
            it has no fast fp16 arithmetic.
        channels_last: the memory order of images and feature maps. It changes the speed, not the results.
        head_start: ``"random"`` starts with a random head, as the published stages do. ``"whitened"`` starts with a head that
            is fitted in closed form, see `isc_fast.training.loop.whitening`; a small network on little data needs it.
            ``"fitted"`` starts with the head that comes nearest to the teacher, see `isc_fast.training.loop.head_fit`.
        backbone_rate: the learning rate of the backbone, as a share of the head's learning rate.
        frozen: patterns of the parameters that training leaves unchanged, such as ``backbone.*``. They follow the rules for
            patterns of file names.
        freeze_statistics: whether the backbone normalises with the statistics of its first weights instead of the batch's.
    """

    name: str
    start: str
    input_size: int
    reference_world_size: int
    batch_size: int
    epochs: int
    use_epoch: int
    learning_rate: float
    falling: bool
    neg_margin: float
    memory_size: int
    hard_view: HardView | None
    resume: bool = False
    first_epoch: int = 0
    negatives_per_sample: int = 0
    negatives_from: Negatives = "none"
    views: Views = "augmented"
    hard_views: int = 1
    shows_others: bool = False
    temperature: float | None = None
    spread: float = 0.0
    teacher: str = ""
    similarity: float = 0.0
    view_size: int | None = None
    pos_margin: float = 0.0
    optimizer: OptimizerName = "sgd"
    momentum: float = 0.9
    weight_decay: float = 1e-6
    sample_size: int = 1_000_000
    gem_p: float = 1.0
    dim: int = 256
    arch: str = PUBLISHED_ARCH
    precision: Precision = "fp16"
    channels_last: bool = False
    head_start: HeadStart = "random"
    backbone_rate: float = 1.0
    frozen: tuple[str, ...] = ()
    freeze_statistics: bool = False

    @property
    def images_per_step(self) -> int:
        """The number of images in one step, over all processes."""
        return self.batch_size * (self.views_per_sample + self.negatives_per_sample)

    @property
    def photos_per_view(self) -> int:
        """How many photos a view can count as a copy of."""
        return MOST_PHOTOS if self.shows_others and self.views == "augmented" else 1

    @property
    def views_per_sample(self) -> int:
        """The number of images of a sample that match each other."""
        return {"pairs": 2, "augmented": 1 + self.hard_views, "distilled": 2 + self.hard_views}[self.views]

    @property
    def drawn_size(self) -> int:
        """The side of the views that are drawn, in pixels."""
        return self.view_size or self.input_size

    def learning_rate_of(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0. The rate changes only between epochs."""
        return self.learning_rate * (1 - epoch / self.epochs if self.falling else 1.0)


_V83 = HardView(
    rotation=0.25, overlay=0.05, overlay_opacity=0.6, overlay_size=(0.4, 0.6), colour_jitter=0.70,
    jpeg=0.25, perspective=0.25, text=0.25, emoji=0.25, edge_enhance=0.25,
)  # fmt: skip
_V86 = HardView(
    rotation=0.30, overlay=0.075, overlay_opacity=0.5, overlay_size=(0.3, 0.7), colour_jitter=0.75,
    jpeg=0.30, perspective=0.30, text=0.30, emoji=0.30, edge_enhance=0.30,
)  # fmt: skip
_V98 = HardView(
    rotation=0.35, overlay=0.10, overlay_opacity=0.4, overlay_size=(0.2, 0.8), colour_jitter=0.80,
    jpeg=0.35, perspective=0.35, text=0.35, emoji=0.35, edge_enhance=0.30,
)  # fmt: skip

# The tiny schedule is the same training at a small scale, for two cores and a thousand photos. The published values do not
# train at this scale. Therefore the head is fitted in closed form first, the backbone learns slowly and keeps its
# statistics, and the radius of the blur, which is in pixels, shrinks with the input.
_TINY: dict[str, Any] = {
    "arch": "tf_efficientnet_lite0", "reference_world_size": 1, "memory_size": 1_024, "gem_p": 3.0, "precision": "bf16",
    "channels_last": True, "backbone_rate": 0.04, "freeze_statistics": True, "falling": True, "neg_margin": 1.1,
    "frozen": ("backbone.conv_stem.*", "backbone.bn1.*", "backbone.blocks.[012].*", "*.conv_dw.*"),
}  # fmt: skip

# The mini schedule goes on from the tiny one, for the same machines. Its views are of the kinds that the tiny network failed on,
# and the record 0035 says why the loss and the optimizer are others, with figures. Views as hard as those of v86 at this size
# show a small network little: the share of its copies that it found fell.
_MINI_VIEW = HardView(
    rotation=0.12, overlay=0.15, overlay_opacity=0.6, overlay_size=(0.3, 0.8), colour_jitter=0.35,
    jpeg=0.25, perspective=0.15, text=0.15, emoji=0.15, edge_enhance=0.1, pixelize=0.1, shuffle_pixels=0.05, grayscale=0.12,
    blur=0.12, flip=0.25, turn_over=0.03, erase=0.12, parts=0.25, frame=0.12, bend=0.12, screen=0.15, blur_reference_size=512,
)  # fmt: skip
_MINI: dict[str, Any] = {
    "arch": "tf_efficientnet_lite0", "reference_world_size": 1, "memory_size": 2_048, "gem_p": 3.0, "precision": "bf16",
    "channels_last": True, "freeze_statistics": True, "batch_size": 48, "shows_others": True,
    "neg_margin": 1.0, "temperature": 0.05, "spread": 3.0, "optimizer": "adamw", "backbone_rate": 0.5,
    "frozen": ("backbone.conv_stem.*", "backbone.bn1.*", "backbone.blocks.[012].*", "*.conv_dw.*"), "hard_view": _MINI_VIEW,
}  # fmt: skip

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("v83", "imagenet", 256, 4, 128, epochs=5, use_epoch=4, learning_rate=0.1, falling=False,
              neg_margin=1.0, memory_size=20_000, hard_view=_V83),
        Stage("v83-2", "v83", 256, 4, 128, epochs=10, use_epoch=5, learning_rate=0.1, falling=False,
              neg_margin=1.0, memory_size=20_000, hard_view=_V83, resume=True, first_epoch=5),
        Stage("v86", "v83-2", 384, 8, 128, epochs=7, use_epoch=5, learning_rate=0.1, falling=False,
              neg_margin=1.0, memory_size=20_000, hard_view=_V86),
        Stage("v98", "v86", 512, 16, 64, epochs=3, use_epoch=1, learning_rate=0.1, falling=True,
              neg_margin=1.0, memory_size=20_000, hard_view=_V98, negatives_per_sample=2, negatives_from="reference"),
        Stage("v107", "v98", 512, 16, 16, epochs=10, use_epoch=9, learning_rate=0.5, falling=True,
              neg_margin=1.1, memory_size=1_000, hard_view=None, views="pairs",
              negatives_per_sample=30, negatives_from="reference"),
        Stage("v198", "v86", 512, 16, 64, epochs=3, use_epoch=1, learning_rate=0.1, falling=True,
              neg_margin=1.0, memory_size=20_000, hard_view=_V98, negatives_per_sample=2, negatives_from="training"),
        Stage("v207", "v198", 512, 16, 16, epochs=10, use_epoch=9, learning_rate=0.5, falling=True,
              neg_margin=1.1, memory_size=1_000, hard_view=None, views="pairs",
              negatives_per_sample=30, negatives_from="training"),
        Stage("tiny-1", "imagenet", 160, batch_size=64, epochs=20, use_epoch=19, learning_rate=0.05, head_start="whitened",
              hard_view=replace(_V83, blur_reference_size=512), **_TINY),
        Stage("tiny-2", "tiny-1", 160, batch_size=64, epochs=40, use_epoch=39, learning_rate=0.05,
              hard_view=replace(_V86, overlay=0.2, overlay_size=(0.3, 0.8), blur_reference_size=512), **_TINY),
        Stage("tiny", "tiny-2", 192, batch_size=32, epochs=4, use_epoch=3, learning_rate=0.02, hard_view=None,
              views="pairs", negatives_per_sample=2, negatives_from="reference", **_TINY),
        Stage("mini-1", "tiny", 128, epochs=24, use_epoch=23, learning_rate=1.5e-4, falling=False, **_MINI),
        Stage("mini-2", "mini-1", 160, epochs=15, use_epoch=14, learning_rate=2e-4, falling=True, **_MINI),
        Stage("mini", "mini-2", 160, epochs=42, use_epoch=41, learning_rate=3e-4, falling=True, **_MINI),
    )
}  # fmt: skip


# The stage of `isc-fast distill`, which fills in the teacher and what follows from it. It starts nearer to its goal than the mini
# schedule does, with a head that is fitted to the teacher, so nothing has to be frozen.
STUDENT = Stage(
    "student", "imagenet", 224, 1, 32, epochs=20, use_epoch=19, learning_rate=3e-4, falling=True, neg_margin=1.0, memory_size=1,
    hard_view=replace(_MINI_VIEW, erase=0.0), views="distilled", temperature=0.1, similarity=0.1, optimizer="adamw",
    arch="tf_efficientnet_lite0", gem_p=3.0, precision="bf16", channels_last=True, backbone_rate=0.3, head_start="fitted",
    freeze_statistics=True,
)  # fmt: skip


def schedule(last: str) -> list[Stage]:
    """Return the chain of stages that ends in the stage ``last``, from first to last."""
    chain = [STAGES[last]]
    while chain[0].start in STAGES:
        chain.insert(0, STAGES[chain[0].start])
    return chain
