"""The saved state of an unfinished stage, from which an interrupted run continues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ...errors import CheckpointError, MismatchError
from ...networks.checkpoint import read_safely, save_atomically
from ..stages import HardView, Stage
from .learner import Learner

_FORMAT = "isc-fast training state 1"


@dataclass(frozen=True)
class Position:
    """How far a run has come in its stage.

    Attributes:
        epoch: the current epoch, counted from 0.
        step: how many steps of this epoch are finished.
        skipped: how many images could not be read since the stage began.
    """

    epoch: int
    step: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class Identity:
    """Everything that decides the course of a run. A run continues only from a state with an equal identity.

    Attributes:
        stage: the stage.
        data: the digest of the images, see `isc_fast.training.data.collection.Collection.digest`.
        seed, accumulate, ema_decay: see `isc_fast.training.options.RunOptions`.
    """

    stage: Stage
    data: str
    seed: int
    accumulate: int
    ema_decay: float | None


def save_state(path: Path, learner: Learner, identity: Identity, position: Position) -> None:
    """Write the state atomically.

    The state holds no random generators, because all random numbers follow from the seed and the position.

    Raises:
        OutputError: the file cannot be written. The earlier state is untouched.
    """
    content = {"format": _FORMAT, **asdict(identity), "position": asdict(position), "learner": learner.state_dict()}
    save_atomically(path, content)


def _differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    found = []
    for name, value in now.items():
        before = saved.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            found += _differences(before, value)
        # A tuple equals the list with the same values, because a file may turn one into the other.
        elif before != value and not (isinstance(value, tuple) and isinstance(before, list) and list(value) == before):
            found.append("the images" if name == "data" else f"{name} ({before} then, {value} now)")
    return found


def _completed(stage: Any) -> Any:
    """Return a saved stage with the settings that are newer than its file. Their defaults change nothing."""
    if not isinstance(stage, Mapping):
        return stage
    whole = {**_defaults(Stage), **stage}
    if isinstance(whole.get("hard_view"), Mapping):
        whole["hard_view"] = {**_defaults(HardView), **whole["hard_view"]}
    return whole


def _defaults(settings: type[Stage] | type[HardView]) -> dict[str, Any]:
    return {field.name: field.default for field in fields(settings) if field.default is not MISSING}


def load_state(path: Path, learner: Learner, identity: Identity) -> Position:
    """Restore the state of an interrupted run, and return the position where it continues.

    Raises:
        CheckpointError: the file is damaged or is not a saved state.
        MismatchError: the state belongs to another stage, to other options or to other images.
    """
    content, _ = read_safely(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is not the state of an unfinished run; delete it to start the stage again")
    content["stage"] = _completed(content.get("stage"))
    differences = _differences(content, asdict(identity))
    if differences:
        raise MismatchError(
            f"{path.parent} holds an unfinished run that differs in {', '.join(differences[:4])}; give the same options to "
            "continue it, or name another output folder or give --overwrite to start again"
        )
    try:
        learner.load_state_dict(content["learner"])
        return Position(**content["position"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{path} does not fit this run ({reason}); delete it to start the stage again") from error
