"""The staged schedule of the reference solution, every value of it, as data.

Source: Yokoo, "Contrastive Learning with Large Memory Bank and Negative Embedding Subtraction for Accurate Copy
Detection", 2021 (arXiv 2112.04323), and the authors' published code. What differs from that code on purpose stands beside
the field it concerns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

Negatives = Literal["none", "reference", "training"]
Views = Literal["augmented", "pairs"]
HeadStart = Literal["random", "whitened"]
Precision = Literal["fp16", "bf16", "fp32"]

PUBLISHED_ARCH = (
    "tf_efficientnetv2_m_in21ft1k"  # timm has renamed it and still knows it; the published files carry this
)


@dataclass(frozen=True)
class HardView:
    """How often, and how strongly, the hard view of a photo is edited. Probabilities are of one operation each.

    Attributes:
        rotation: of a counter-clockwise turn by 0 to 180 degrees, cropped to the largest upright rectangle inside.
        overlay: of pasting the photo onto another, or another onto it.
        overlay_opacity: lowest opacity of what is pasted; the highest is 1.
        overlay_size: lowest and highest size of it, as a share of the background's height.
        colour_jitter: not how often but how much, in every view: brightness, contrast and saturation are multiplied by
            1 − this to 1 + this, and the hue moves by up to a fifth of a turn.
        pixelize, shuffle_pixels, jpeg, grayscale, blur, perspective, text, emoji, edge_enhance: as named.
        flip, turn_over: of mirroring left and right, and top and bottom.
        erase: of one rectangle of noise.
        blur_radius: largest radius of the blur, in pixels.
        blur_reference_size: None leaves that radius as it is at any size of view, as published, which blurs small views
            far more than large ones; with a number, the radius grows and shrinks as view size / number.
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
    blur_radius: float = 10.0
    blur_reference_size: int | None = None


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        name: as its authors number it; the second run of v83 is ``v83-2``.
        start: where the weights come from: ``"imagenet"``, or the stage before.
        arch: the backbone's timm name, as checkpoints carry it.
        resume: also take over that stage's optimizer and epoch count, not only its weights.
        input_size: side of the square input, in pixels.
        reference_world_size: processes the published run had. Its gradient was the true one divided by this number, and the
            learning rates belong to that; the loss is scaled so that any number of processes takes the same step.
        batch_size: samples of one step over all processes; a sample is two views, or a pair, and its negatives.
        negatives_per_sample: images drawn for each sample that match nothing, with replacement.
        negatives_from: which images those are.
        views: ``"augmented"``: a moderate and a hard view of one photo; ``"pairs"``: a labelled query and its reference.
        first_epoch, epochs: the published run went from ``first_epoch`` to ``epochs - 1``; the rate falls over ``epochs``.
        use_epoch: whose checkpoint the next stage starts from; the schedule stops after it.
        learning_rate: at the first epoch, in the units of the published run.
        falling: whether it falls linearly with the epoch, ``learning_rate · (1 − epoch / epochs)``.
        pos_margin, neg_margin: distances beyond which a positive, and below which a negative, adds to the loss.
        memory_size: descriptors in the cross-batch memory.
        hard_view: of the augmentation, or None where there is none.
        momentum, weight_decay: of SGD; biases and normalisation layers do not decay.
        sample_size: training images that are used, the first in order of their names.
        gem_p, dim: see `isc_fast.networks.model.DescriptorNet`.
        precision: of the arithmetic on a GPU, under autocast. A processor has no use for fp16 and takes fp32 instead.
        channels_last: memory order of images and feature maps; results are the same, the speed is not.
        head_start: ``"whitened"`` begins with a head fitted in closed form, see `isc_fast.training.loop.whitening`; a small
            network on little data needs it, the published stages begin at random.
        backbone_rate: learning rate of the backbone as a share of the head's.
        frozen: patterns, as for file names, of parameters that stay as they are, such as ``backbone.*``.
        freeze_statistics: whether the backbone normalises with the statistics it came with, not with the batch's.
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
    pos_margin: float = 0.0
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
        """Images of one step over all processes."""
        return self.batch_size * (2 + self.negatives_per_sample)

    def learning_rate_of(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0; it changes between epochs only."""
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

# The same in small, for two cores and a thousand photos. What differs, differs because the recipe taken literally does not
# start at this scale: the head begins in closed form, the backbone follows slowly with the statistics it came with, and
# the blur, which is in pixels, shrinks with the input.
_TINY: dict[str, Any] = {
    "arch": "tf_efficientnet_lite0", "reference_world_size": 1, "memory_size": 1_024, "gem_p": 3.0, "precision": "bf16",
    "channels_last": True, "backbone_rate": 0.04, "freeze_statistics": True, "falling": True, "neg_margin": 1.1,
    "frozen": ("backbone.conv_stem.*", "backbone.bn1.*", "backbone.blocks.[012].*", "*.conv_dw.*"),
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
    )
}  # fmt: skip


def schedule(last: str) -> list[Stage]:
    """The chain of stages that ends in this one, first to last."""
    chain = [STAGES[last]]
    while chain[0].start in STAGES:
        chain.insert(0, STAGES[chain[0].start])
    return chain
