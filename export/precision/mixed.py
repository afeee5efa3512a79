"""The choice of which layers bear which precision, by measuring, because a few layers make nearly all of the error.

On the demo's network in plain bf16, the second of 48 convolutions alone made 71 % of the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .layers import Layer

COST = {"fp32": 1.0, "bf16": 0.51, "int8": 0.33}
"""Time of one operation against fp32, measured on whole engines of v107's network (`bench/engine.py`: OpenVINO in fp32, in
bf16, and in int8 with bf16 around). The processor's peak rates alone would say 0.47 and 0.24; quantising between layers takes
the rest."""

Loss = Callable[[Sequence[Layer]], float]
"""Measures what is lost when these layers alone are computed in one lower precision: 1 − mean cosine."""

Choice = Mapping[str, str]
"""Precision by the layer's name; a layer that is not in it stays in fp32."""

_FINEST = 0.05  # a group that loses less than this share of the budget is not split
_LEAST_GROUPS = 8


@dataclass(frozen=True)
class Group:
    """Neighbouring layers that were measured together.

    Attributes:
        layers: the layers, in the order of the graph.
        loss: what is lost when they alone are computed in the lower precision.
    """

    layers: tuple[Layer, ...]
    loss: float

    @property
    def operations(self) -> float:
        """Multiplications and additions of all layers, for one image."""
        return sum(layer.operations for layer in self.layers)


def measure_groups(layers: Sequence[Layer], loss: Loss, budget: float) -> list[Group]:
    """Split the layers into groups so fine that those which lose much stand alone.

    To first order losses add up, so a group that loses little need not be split. Large parts of a network therefore take one
    measurement.
    """
    size = max(1, -(-len(layers) // _LEAST_GROUPS))
    floor = loss(())
    waiting = [tuple(layers[start : start + size]) for start in range(0, len(layers), size)]
    groups: list[Group] = []
    while waiting:
        some = waiting.pop()
        group = Group(some, max(loss(some) - floor, 0.0))
        if group.loss > _FINEST * budget and len(some) > 1:
            waiting += [some[: len(some) // 2], some[len(some) // 2 :]]
        else:
            groups.append(group)
    return groups


def by_layer(groups: Sequence[Group]) -> dict[str, float]:
    """The loss of each layer; the loss of a group is divided among its layers by their operations."""
    return {
        layer.name: group.loss * layer.operations / max(group.operations, 1.0)
        for group in groups
        for layer in group.layers
    }


@dataclass(frozen=True)
class _Change:
    """One layer's change to a lower precision, from the precision before it."""

    layer: str
    precision: str
    loss: float
    saved: float

    @property
    def price(self) -> float:
        return self.loss / self.saved


def _changes(layer: Layer, losses: Mapping[str, float]) -> list[_Change]:
    """The changes that are worth it for a layer, each with a higher price than the one before.

    A precision that loses more and saves less than another one is left out.
    """
    left = sorted(losses, key=lambda precision: COST[precision], reverse=True)
    changes: list[_Change] = []
    at_cost, at_loss = 1.0, 0.0
    while left:
        possible = [
            _Change(layer.name, to, max(losses[to] - at_loss, 0.0), (at_cost - COST[to]) * max(layer.operations, 1.0))
            for to in left
        ]
        change = min(reversed(possible), key=lambda change: change.price)
        changes.append(change)
        at_cost, at_loss = COST[change.precision], losses[change.precision]
        left = left[left.index(change.precision) + 1 :]
    return changes


def choose(layers: Sequence[Layer], losses: Mapping[str, Mapping[str, float]], budget: float) -> dict[str, str]:
    """Choose the precision of each layer so that the most time is saved while the losses together stay within the budget.

    Changes are made in the order of what they lose for the time that they save; a change that the rest of the budget does not
    hold is left out. The result is within one change of the best choice there is.

    Args:
        layers: all layers of the graph.
        losses: by lower precision, by the layer's name; a layer that is missing there is not computed in that precision.
        budget: what all of them together may lose.
    """
    changes = [
        change
        for layer in layers
        for change in _changes(layer, {to: found[layer.name] for to, found in losses.items() if layer.name in found})
    ]
    chosen: dict[str, str] = {}
    refused: set[str] = set()
    spent = 0.0
    for change in sorted(changes, key=lambda change: change.price):
        if change.layer in refused or spent + change.loss > budget:
            refused.add(change.layer)
            continue
        spent += change.loss
        chosen[change.layer] = change.precision
    return chosen


def choose_measured(
    layers: Sequence[Layer],
    losses: Mapping[str, Mapping[str, float]],
    loss: Callable[[Choice], float],
    budget: float,
    attempts: int = 6,
) -> tuple[dict[str, str], float]:
    """Choose as `choose` does, and measure the choice as a whole; where it loses more than the sum, choose again with less.

    Returns:
        the choice and its measured loss; an empty choice and 0 where the budget holds no change.
    """
    spend = budget
    for _ in range(attempts):
        choice = choose(layers, losses, spend)
        if not choice:
            break
        found = loss(choice)
        if found <= budget:
            return choice, found
        spend *= min(0.8, 0.95 * budget / found)
    return {}, 0.0


def shares(layers: Sequence[Layer], choice: Choice) -> dict[str, float]:
    """The share of the arithmetic that is done in each precision."""
    total = sum(layer.operations for layer in layers)
    found = dict.fromkeys(COST, 0.0)
    for layer in layers:
        found[choice.get(layer.name, "fp32")] += layer.operations / total
    return found
