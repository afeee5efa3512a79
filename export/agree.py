"""Comparing an engine's descriptors with those it has to give, on real photos; torch-free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..engines.base import Engine
from ..errors import InputError, ParityError
from .photos import load_photos
from .telling import Say, counting

MIN_ROUNDED_COSINE = 0.999
"""Lowest cosine of any photo between a network with rounded weights and the network itself."""

_BATCH = 4
_SINGLES = 8  # photos that are also described one by one
_NAMED = 3

Vectors = npt.NDArray[np.float32]
Describe = Callable[[npt.NDArray[np.uint8]], Vectors]
"""Takes ``uint8 (n, h, w, 3)`` and gives the descriptors ``float32 (n, dim)``."""


@dataclass(frozen=True)
class Standard:
    """What an engine has to agree with.

    Attributes:
        describe: gives the right descriptors.
        of: what gives them, for messages: ``"the network it came from"``.
        min_cosine: every photo's two descriptors have to agree at least this well.
        remedy: what a user can try where they do not.
        original: gives the descriptors as they were before the weights were rounded; with these the engine has to agree to
            `MIN_ROUNDED_COSINE`. None where no weight was rounded.
    """

    describe: Describe
    of: str
    min_cosine: float
    remedy: str
    original: Describe | None = None


@dataclass(frozen=True)
class _Described:
    """Descriptors of the same photos, one row each.

    Attributes:
        names: of the photos.
        found: by the engine, in batches.
        expected: by the standard.
        original: by the network before its weights were rounded, or None.
        alone: rows of the photos that the engine also described one by one.
        singles: what it gave for these.
    """

    names: Sequence[str]
    found: Vectors
    expected: Vectors
    original: Vectors | None
    alone: Sequence[int]
    singles: Vectors


def cosines(left: Vectors, right: Vectors) -> npt.NDArray[np.float64]:
    """Cosine of each pair of rows, in float64."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((a * b).sum(axis=1) / lengths)


def agree(engine: Engine, standard: Standard, photos: Sequence[Path], say: Say) -> dict[str, Any]:
    """Compare an engine's descriptors with the right ones and return what was measured.

    Args:
        engine: loaded from the file that is to be published.
        standard: what gives the right descriptors, and how near the engine has to come.
        photos: real images; noise hides errors that photos show.
        say: gets a line for every twenty photos.

    Returns:
        Numbers and strings only: they travel in the engine's specification.

    Raises:
        InputError: there is no photo, or one cannot be decoded.
        ParityError: the engine disagrees, gives values that are not finite or rows that are not of unit length, or
            depends on the batch; the worst photos are named.
    """
    if not photos:
        raise InputError("there are no photos to verify the engine on; pass some, for example --photos FOLDER")
    rows = _describe(engine, standard, photos, counting(say, "verifying", "photos", 20))
    lengths = np.linalg.norm(rows.found.astype(np.float64), axis=1)
    _check_values(rows, lengths, standard)
    agreement = cosines(rows.found, rows.expected)
    _check_agreement(rows, agreement, standard)
    parity: dict[str, Any] = {
        "photos": len(rows.names),
        "runtime": engine.device,
        "min_cosine": standard.min_cosine,
        "cosine_min": float(agreement.min()),
        "cosine_p01": float(np.percentile(agreement, 1)),
        "cosine_p50": float(np.percentile(agreement, 50)),
        "cosine_mean": float(agreement.mean()),
        "max_abs_difference": float(np.abs(rows.found - rows.expected).max()),
        "unit_length_deviation": float(np.abs(lengths - 1).max()),
        "batch_max_abs_difference": float(np.abs(rows.singles - rows.found[rows.alone]).max()),
        "worst_photo": rows.names[int(agreement.argmin())],
    }
    if len(rows.names) > 1:
        parity["cosine_between_photos"] = _between(rows.expected)
    if rows.original is not None:
        parity |= _rounding(rows, rows.original)
    return parity


def _describe(
    engine: Engine, standard: Standard, photos: Sequence[Path], progress: Callable[[int, int], None]
) -> _Described:
    """Describe the photos by the engine, in batches and some of them alone, and by the standard."""
    spec = engine.spec
    found, expected, original, singles = [], [], [], []
    alone = {round(i) for i in np.linspace(0, len(photos) - 1, min(_SINGLES, len(photos)))}
    for start in range(0, len(photos), _BATCH):
        pixels = load_photos(photos[start : start + _BATCH], spec.input)
        found.append(engine.run(pixels))
        expected.append(standard.describe(pixels))
        if standard.original is not None:
            original.append(standard.original(pixels))
        singles += [engine.run(pixels[i : i + 1]) for i in range(len(pixels)) if start + i in alone]
        progress(min(start + _BATCH, len(photos)), len(photos))
    return _Described(
        [path.name for path in photos],
        np.concatenate(found),
        np.concatenate(expected),
        np.concatenate(original) if original else None,
        sorted(alone),
        np.concatenate(singles),
    )


def _not_finite(vectors: Vectors) -> npt.NDArray[np.bool_]:
    """Which rows hold a NaN or an infinity."""
    return np.asarray(~np.isfinite(vectors).all(axis=1))


def _check_values(rows: _Described, lengths: npt.NDArray[np.float64], standard: Standard) -> None:
    """Refuse values that are not finite, and rows that are not of unit length."""
    _refuse(rows.names, _not_finite(rows.expected), f"{standard.of} gives values that are not finite")
    remedy = f", or {standard.remedy}"
    _refuse(rows.names, _not_finite(rows.found), "the engine gives values that are not finite", remedy)
    _refuse(rows.names, np.abs(lengths - 1) > 1e-4, "the engine gives rows that are not of unit length")


def _refuse(names: Sequence[str], bad: npt.NDArray[np.bool_], what: str, remedy: str = "") -> None:
    if bad.any():
        first = [names[i] for i in np.flatnonzero(bad)[:_NAMED]]
        raise ParityError(
            f"{what}, for {int(bad.sum())} of {len(names)} photos ({', '.join(first)}); nothing was published; "
            f"check the checkpoint it came from{remedy}"
        )


def _check_agreement(rows: _Described, agreement: npt.NDArray[np.float64], standard: Standard) -> None:
    """Refuse an engine that disagrees, or that describes a photo otherwise alone than in a batch."""
    names, bound = rows.names, standard.min_cosine
    if not agreement.min() >= bound:  # also when it is NaN
        worst = [f"{agreement[i]:.6f} for {names[i]}" for i in np.argsort(agreement)[:_NAMED]]
        raise ParityError(
            f"the engine does not agree with {standard.of}: cosine {', '.join(worst)}; expected at least "
            f"{bound} for all of {len(names)} photos; nothing was published; {standard.remedy}"
        )
    single = cosines(rows.singles, rows.found[rows.alone])
    if not single.min() >= bound:
        name = names[rows.alone[int(single.argmin())]]
        raise ParityError(
            f"the engine describes {name} differently alone and in a batch of {_BATCH}: cosine "
            f"{single.min():.6f}, expected at least {bound}; nothing was published"
        )


def _between(vectors: Vectors) -> float:
    """Mean cosine between different photos: close to 1 means that the comparison can see nothing."""
    rows = vectors.astype(np.float64)
    n = len(rows)
    return float(((rows @ rows.T).sum() - (rows * rows).sum()) / (n * (n - 1))) if n > 1 else float("nan")


def _rounding(rows: _Described, original: Vectors) -> dict[str, float]:
    """What the rounding of the weights changed; it is refused where that is too much."""
    rounded = cosines(rows.found, original)
    if not rounded.min() >= MIN_ROUNDED_COSINE:
        raise ParityError(
            f"this network does not bear rounded weights: cosine {rounded.min():.6f} for "
            f"{rows.names[int(rounded.argmin())]}, expected at least {MIN_ROUNDED_COSINE}; nothing was published; keep its "
            "weights in fp32"
        )
    return {"original_cosine_min": float(rounded.min()), "original_cosine_mean": float(rounded.mean())}
