"""The table of the published networks: their input size, their pooling and how they were trained."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """How one published network is evaluated.

    Attributes:
        name: the name of the stage of the reference solution, as its authors number it.
        size: the side of the square network input, in pixels.
        trained_as: how the stage was trained, in words.
        gem_p: the power of generalised-mean pooling at evaluation. 1.0 is average pooling.
        dim: the length of a descriptor.
    """

    name: str
    size: int
    trained_as: str
    gem_p: float = 1.0
    dim: int = 256


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("v83", 256, "self-supervised at 256 pixels"),
        Preset("v86", 384, "self-supervised at 384 pixels, from v83"),
        Preset("v98", 512, "self-supervised at 512 pixels with real negatives, from v86"),
        Preset("v107", 512, "fine-tuned on labelled pairs, from v98: the submitted network"),
        Preset("v198", 512, "as v98, with training images instead of references as negatives"),
        Preset("v207", 512, "as v107, from v198, with training images as negatives"),
    )
}


def preset_in_name(name: str) -> Preset | None:
    """Return the preset that a file name mentions (``isc_ft_v107.pth.tar`` → v107), or None."""
    found = {match for match in re.findall(r"(?<![a-z0-9])v\d+(?![0-9])", name.lower()) if match in PRESETS}
    return PRESETS[found.pop()] if len(found) == 1 else None
