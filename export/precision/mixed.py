"""Which layers bear which precision: found by measuring, since a few of them make nearly all of the error.

On the demo's network in plain bf16, the second of 48 convolutions alone made 71 % of the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .layers import Layer

COST = {"fp32": 1.0, "bf16": 0.51, "int8": 0.33}
"""Time of one operation against fp32, as whole engines of v107's network have it (`bench/engine.py`: OpenVINO in fp32, in bf16,
and in int8 with bf16 around). The matrix peaks alone would say 0.47 and 0.24: quantising between layers takes the rest."""

Loss = Callable[[Sequence[Layer]], float]
"""What is lost when these layers are computed in one lower precision and all others are not: 1 − mean cosine."""

Choice = Mapping[str, str]
"""Precision by the layer's name; a layer that is not in it stays in fp32."""

_FINEST = 0.05  # a group whose loss is below this share of the budget is not taken apart
_LEAST_GROUPS = 8


@dataclass(frozen=True)
class Group:
    """Neighbouring layers that were measured together.

    Attributes:
        layers: in the order of the graph.
        loss: what they add when they alone are computed in the lower precision.
    """

    layers: tuple[Layer, ...]
    loss: float

    @property
    def operations(self) -> float:
        """Of all layers, for one image."""
        return sum(layer.operations for layer in self.layers)


def measure_groups(layers: Sequence[Layer], loss: Loss, budget: float) -> list[Group]:
    """Split the layers into groups so fine that those which lose much stand alone.

    To first order losses add up, so a group that loses little need not be taken apart: large parts of a network take one
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
    """Each layer's loss; within a group shared out by operations."""
    return {
        layer.name: group.loss * layer.operations / max(group.operations, 1.0)
        for group in groups
        for layer in group.layers
    }


@dataclass(frozen=True)
class _Step:
    """Taking one layer to a lower precision, from the one before it."""

    layer: str
    precision: str
    loss: float
    saved: float

    @property
    def price(self) -> float:
        return self.loss / self.saved


def _steps(layer: Layer, losses: Mapping[str, float]) -> list[_Step]:
    """The layer's steps, each dearer than the one before: a precision that another one beats in both is left out."""
    left = sorted(losses, key=lambda precision: COST[precision], reverse=True)
    steps: list[_Step] = []
    at_cost, at_loss = 1.0, 0.0
    while left:
        possible = [
            _Step(layer.name, to, max(losses[to] - at_loss, 0.0), (at_cost - COST[to]) * max(layer.operations, 1.0))
            for to in left
        ]
        step = min(reversed(possible), key=lambda step: step.price)
        steps.append(step)
        at_cost, at_loss = COST[step.precision], losses[step.precision]
        left = left[left.index(step.precision) + 1 :]
    return steps


def choose(layers: Sequence[Layer], losses: Mapping[str, Mapping[str, float]], budget: float) -> dict[str, str]:
    """The precision of each layer that saves the most time for what may be lost, the losses being added up.

    Steps are taken in the order of what they lose for the time that they save, those left out that the rest of the budget
    does not hold. That is within one step of the best there is.

    Args:
        layers: of the graph.
        losses: by lower precision, by the layer's name; a layer that is not there is not computed in it.
        budget: of all of them together.
    """
    steps = [
        step
        for layer in layers
        for step in _steps(layer, {to: found[layer.name] for to, found in losses.items() if layer.name in found})
    ]
    chosen: dict[str, str] = {}
    refused: set[str] = set()
    spent = 0.0
    for step in sorted(steps, key=lambda step: step.price):
        if step.layer in refused or spent + step.loss > budget:
            refused.add(step.layer)
            continue
        spent += step.loss
        chosen[step.layer] = step.precision
    return chosen


def choose_measured(
    layers: Sequence[Layer],
    losses: Mapping[str, Mapping[str, float]],
    loss: Callable[[Choice], float],
    budget: float,
    attempts: int = 6,
) -> tuple[dict[str, str], float]:
    """As `choose`, checked by measuring the choice as a whole, with less to spend where the losses did more than add up.

    Returns:
        the choice and its measured loss; an empty one and 0 where nothing can be afforded.
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
    """What part of the arithmetic is done in each precision."""
    total = sum(layer.operations for layer in layers)
    found = dict.fromkeys(COST, 0.0)
    for layer in layers:
        found[choice.get(layer.name, "fp32")] += layer.operations / total
    return found
