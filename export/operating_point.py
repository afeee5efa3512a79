"""Measuring the score at which an engine tells copies from other photos; see `isc_fast.engines.operating_point`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from ..engines.base import Engine
from ..engines.operating_point import PRECISION, OperatingPoint
from ..evaluation.copies import LONGEST_SIDE, SEED, describe_copies
from ..evaluation.edits.held_out import HELD_OUT_EDITS
from .photos import open_to_edit
from .telling import Say

_FEWEST_PHOTOS, _MOST_PHOTOS = 16, 60
_STRANGERS = 0.25  # share of the photos that are no references
_COPIES = 5  # of each photo, so that a large network needs minutes on two cores, not an hour
_TAIL_SHARE = 0.003

Scores = npt.NDArray[np.float32]


def measure_operating_point(engine: Engine, photos: Sequence[Path], say: Say) -> dict[str, Any]:
    """Find the score from which on 99 % of the pairs of held-out copies and photos are right.

    Args:
        engine: describes the copies and the photos.
        photos: at most 60 are taken. The same photos give the same copies.
        say: gets one line when this begins.

    Returns:
        what `OperatingPoint.to_dict` gives; empty where there are fewer than 16 photos, or no score has that precision.

    Raises:
        InputError: a photo cannot be decoded.
    """
    chosen = list(photos)
    Random(SEED).shuffle(chosen)
    chosen = chosen[:_MOST_PHOTOS]
    if len(chosen) < _FEWEST_PHOTOS:
        return {}
    say(f"describing {_COPIES * len(chosen)} edited copies, for a default threshold")
    references = len(chosen) - round(len(chosen) * _STRANGERS)
    trial = describe_copies(
        engine,
        [photo.name for photo in chosen],
        lambda number: open_to_edit(chosen[number], LONGEST_SIDE),
        strangers=len(chosen) - references,
        copies=_COPIES,
    )
    scores, true = trial.copies @ trial.photos.T, trial.is_true
    return point_of(scores[true], scores[~true], references)


def point_of(true: Scores, false: Scores, references: int) -> dict[str, Any]:
    """The operating point of measured scores; empty where no score has the precision, or they are not finite.

    Args:
        true: scores of copies with their originals, one for each copy.
        false: scores of all other pairs.
        references: how many photos the copies were compared with.
    """
    if not (np.isfinite(true).all() and np.isfinite(false).all()):
        return {}
    falling = np.sort(true)[::-1]
    right = np.arange(1, len(falling) + 1)
    wrong = len(false) - np.searchsorted(np.sort(false), falling, side="left")
    precision = right / (right + wrong)
    reached = np.flatnonzero(precision >= PRECISION)
    beyond = np.sort(false)[-max(2, round(_TAIL_SHARE * len(false))) :].astype(np.float64)
    scale = float((beyond - beyond[0]).mean())
    if not len(reached) or not scale > 0:
        return {}
    last = int(reached[-1])
    found = OperatingPoint(
        score=float(falling[last]),
        precision=float(precision[last]),
        recall=float((last + 1) / len(true)),
        copies=len(true),
        references=references,
        edits=len(HELD_OUT_EDITS),
        tail_from=float(beyond[0]),
        tail_share=len(beyond) / len(false),
        tail_scale=scale,
    )
    return found.to_dict() if OperatingPoint.read(found.to_dict()) else {}
