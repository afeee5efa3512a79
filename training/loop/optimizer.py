"""The optimizer: which parameters decay, how they are grouped, and the learning rate of each epoch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...errors import CheckpointError
from ..stages import Stage

_HEAD = ("fc.", "bn.")


def _decays(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim > 1 and not name.endswith(".bias") and "gain" not in name


def make_optimizer(net: nn.Module, stage: Stage) -> torch.optim.Optimizer:
    """Make SGD with momentum, or AdamW, for the trained parameters.

    The first group holds the parameters without weight decay, the second one those with weight decay. The order matters,
    because the published files store the momentum by place. If the backbone has a learning rate of its own, two more groups
    hold the parameters of the head. The value ``rate`` of a group is its share of the epoch's learning rate.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    split = stage.backbone_rate != 1.0
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            in_head = split and name.startswith(_HEAD)
            groups.setdefault((in_head, _decays(name, parameter)), []).append(parameter)
    made = [
        {
            "params": parameters,
            "weight_decay": stage.weight_decay if decays else 0.0,
            "rate": 1.0 if in_head else stage.backbone_rate,
        }
        for (in_head, decays), parameters in sorted(groups.items(), key=lambda entry: entry[0])
    ]
    if stage.optimizer == "adamw":
        return torch.optim.AdamW(made, lr=stage.learning_rate, weight_decay=0.0)  # each group has its own decay
    return torch.optim.SGD(made, lr=stage.learning_rate, momentum=stage.momentum)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every group to its share of ``learning_rate``."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["rate"]


def take_over_momentum(optimizer: torch.optim.Optimizer, saved: Any, source: str) -> None:
    """Copy the momentum of a checkpoint into the optimizer. Learning rates and weight decay stay those of the stage.

    Args:
        optimizer: the optimizer to change.
        saved: the optimizer's state that the checkpoint holds.
        source: the name of the checkpoint, for messages.

    Raises:
        CheckpointError: the checkpoint holds no momentum, or the momentum of another network.
    """
    try:
        groups, states = saved["param_groups"], saved["state"]
        places = [[(place, states[place]["momentum_buffer"]) for place in group["params"]] for group in groups]
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{source} holds no momentum of SGD, and this stage continues with one; name a checkpoint that training wrote"
        ) from error
    expected = [[tuple(parameter.shape) for parameter in group["params"]] for group in optimizer.param_groups]
    found = [[tuple(buffer.shape) if buffer is not None else None for _, buffer in group] for group in places]
    if found != expected:
        raise CheckpointError(
            f"the momentum in {source} does not fit this network: {sum(map(len, found))} tensors in {len(found)} groups "
            f"instead of {sum(map(len, expected))} in {len(expected)}; name a checkpoint of the same network"
        )
    for group, saved_group in zip(optimizer.param_groups, places, strict=True):
        for parameter, (_, buffer) in zip(group["params"], saved_group, strict=True):
            optimizer.state[parameter]["momentum_buffer"] = buffer.detach().clone().to(parameter)
