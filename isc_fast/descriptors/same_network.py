"""Whether two engines are one network, and what was measured between their precisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .provenance import EngineFacts

_DIFFERENCES = {
    "checkpoint_sha256": "they come from different checkpoints",
    "preprocessing": "they prepare photos differently",
    "height": "their inputs differ in size",
    "width": "their inputs differ in size",
}


def network_difference(one: EngineFacts, other: EngineFacts) -> str | None:
    """Why two engines do not pass for one network, or None where they do."""
    if not one.checkpoint_sha256 or not other.checkpoint_sha256:
        return "nothing shows that they are the same network, for not both name their checkpoint"
    networks = one.network, other.network
    for key in sorted({*networks[0], *networks[1]}, key=lambda name: (name not in _DIFFERENCES, name)):
        values = [network.get(key) for network in networks]
        if values[0] != values[1]:
            shown = " and ".join(str(value)[:24] for value in values)
            return f"{_DIFFERENCES.get(key, f'their {key} differs')} ({shown})"
    return None


_MEASURED: tuple[tuple[str, str, str], ...] = (
    ("accuracy", "cosine_p01", "at the 1st percentile of edited copies"),
    ("parity", "original_cosine_min", "at the lowest"),
    ("parity", "cosine_min", "at the lowest"),
)
"""Where an engine says how near its descriptors are to those of the network in fp32, the most telling figure first."""


def figures_in_words(engines: Sequence[EngineFacts]) -> str:
    """The measured cosines of the engines that do not compute in plain fp32, in words."""
    words: dict[str, None] = {}
    for engine in engines:
        if engine.arithmetic == "fp32":
            continue
        for record, key, where in _MEASURED:
            figure: Any = (getattr(engine, record) or {}).get(key)
            if figure is not None:
                words[f"the measured cosine between {engine.arithmetic} and fp32 is {figure:.5f} {where}"] = None
                break
    return ", and ".join(words)
