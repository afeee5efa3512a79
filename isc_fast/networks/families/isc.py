"""The networks of the Image Similarity Challenge's descriptor track, in the published format of their checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import CheckpointError
from ...files.reading import parse_json
from ..checkpoint import STUDENT_OF, Checkpoint, as_checkpoint, build_network
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
    name = preset.name if preset else plain_name(file)
    return Built(build_network(checkpoint, gem_p=power), name, side, teacher=_teacher(checkpoint))


def _teacher(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Whose student the network is; empty where it is nobody's."""
    text = checkpoint.args.get(STUDENT_OF)
    if text is None:
        return {}
    try:
        found = parse_json(text)
    except (ValueError, TypeError):
        found = None
    if not isinstance(found, Mapping):
        raise CheckpointError(
            f"args.{STUDENT_OF} of {checkpoint.path} is {str(text)[:60]!r}; expected what isc-fast distill writes there: copy "
            "or make it again"
        )
    return found


ISC = Family("ISC", _holds, _build)
