"""The state of an unfinished stage: what a run that was stopped goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...errors import CheckpointError, MismatchError
from ...networks.checkpoint import read_safely, save_atomically
from ..stages import Stage
from .learner import Learner

_FORMAT = "isc-fast training state 1"


@dataclass(frozen=True)
class Position:
    """Where in a stage a run is.

    Attributes:
        epoch: that is running, or about to.
        step: steps of it that are done.
        skipped: images that could not be read so far.
    """

    epoch: int
    step: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class Identity:
    """What decides the course of a run: a state goes on with the same only.

    Attributes:
        data: digest of the images, see `isc_fast.training.data.collection.Collection.digest`.
        accumulate, ema_decay, seed: see `isc_fast.training.options.RunOptions`.
    """

    stage: Stage
    data: str
    seed: int
    accumulate: int
    ema_decay: float | None


def save_state(path: Path, learner: Learner, identity: Identity, position: Position) -> None:
    """Write the state, atomically. All randomness follows from the seed and the position, so none is saved.

    Raises:
        OutputError: it cannot be written; the state before is untouched.
    """
    content = {"format": _FORMAT, **asdict(identity), "position": asdict(position), "learner": learner.state_dict()}
    save_atomically(path, content)


def _differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    found = []
    for name, value in now.items():
        before = saved.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            found += _differences(before, value)
        # Lists and tuples count as the same: a file may turn one into the other.
        elif before != value and not (isinstance(value, tuple) and isinstance(before, list) and list(value) == before):
            found.append("the images" if name == "data" else f"{name} ({before} then, {value} now)")
    return found


def load_state(path: Path, learner: Learner, identity: Identity) -> Position:
    """Take over the state of a run that was stopped; returns where it goes on.

    Raises:
        CheckpointError: the file is damaged or no such state.
        MismatchError: it belongs to another stage, other options or other images.
    """
    content, _ = read_safely(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is no state of an unfinished run; delete it to begin the stage anew")
    differences = _differences(content, asdict(identity))
    if differences:
        raise MismatchError(
            f"{path.parent} holds an unfinished run that differs in {', '.join(differences[:4])}; give the same options to "
            "go on, or another output folder (or --overwrite) to begin anew"
        )
    try:
        learner.load_state_dict(content["learner"])
        return Position(**content["position"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{path} does not fit this run ({reason}); delete it to begin the stage anew") from error
