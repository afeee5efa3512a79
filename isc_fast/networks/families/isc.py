"""The networks of the Image Similarity Challenge's descriptor track, in the published format of their checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import CheckpointError
from ..checkpoint import as_checkpoint, build_network
from ..presets import preset_in_name
from .base import Built, Family, Weights, Wishes, checked_power, plain_name


def _holds(weights: Weights) -> bool:
    return isinstance(weights.content, Mapping) and "arch" in weights.content


def _build(weights: Weights, wishes: Wishes) -> Built:
    file = weights.path
    checkpoint = as_checkpoint(file, weights.content, weights.sha256)
    side = wishes.size or checkpoint.input_size
    if side is None:
        raise CheckpointError(f"{file} does not say the size of its input; pass it, for example --size 512")
    preset = preset_in_name(file.name) or preset_in_name(wishes.name or "")
    # The published networks were evaluated with the power of their presets; any other with the one that it names itself.
    powers = (wishes.gem_p, preset.gem_p if preset else None, checkpoint.gem_p, 1.0)
    power = next(power for power in powers if power is not None)
    if preset and wishes.gem_p is None and checkpoint.gem_p not in (None, preset.gem_p):
        wishes.say(
            f"warning: {file} is named like {preset.name}, which pools with the power {preset.gem_p:g}, but its own arguments "
            f"say {checkpoint.gem_p:g}; the engine pools with {preset.gem_p:g}: choose with --gem-p, or rename the file"
        )
    checked_power(power)
    return Built(build_network(checkpoint, gem_p=power), preset.name if preset else plain_name(file), side)


ISC = Family("ISC", _holds, _build)
