"""Comparing an engine's descriptors with those it has to give, on real photos; torch-free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def cosines(left: Vectors, right: Vectors) -> npt.NDArray[np.float64]:
    """Cosine of each pair of rows, in float64."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((a * b).sum(axis=1) / lengths)


def counting_photos(say: Say) -> Callable[[int, int], None]:
    """What `agree` is given to say how far it is."""
    return counting(say, "verifying", "photos", 20)


def _not_finite(vectors: Vectors) -> npt.NDArray[np.bool_]:
    """Which rows hold a NaN or an infinity."""
    return np.asarray(~np.isfinite(vectors).all(axis=1))


def _between(vectors: Vectors) -> float:
    """Mean cosine between different photos: close to 1 means that the comparison can see nothing."""
    rows = vectors.astype(np.float64)
    n = len(rows)
    return float(((rows @ rows.T).sum() - (rows * rows).sum()) / (n * (n - 1))) if n > 1 else float("nan")


def agree(
    engine: Engine,
    describe: Describe,
    photos: Sequence[Path],
    *,
    of: str,
    min_cosine: float,
    remedy: str,
    original: Describe | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Compare an engine's descriptors with the right ones and return what was measured.

    Args:
        engine: the engine, loaded from the file that is to be published.
        describe: gives the right descriptors of ``uint8 (n, h, w, 3)``.
        photos: real images; noise hides errors that photos show.
        of: whose descriptors these are, for messages.
        min_cosine: every photo's two descriptors have to agree at least this well.
        remedy: what to try where they do not.
        original: gives them as they were before the weights were rounded; with these they have to agree to
            `MIN_ROUNDED_COSINE`.
        progress: is told (photos done, photos in all).

    Returns:
        Numbers and strings only: they travel in the engine's specification.

    Raises:
        InputError: there is no photo, or one cannot be decoded.
        ParityError: the engine disagrees, gives values that are not finite or rows that are not of unit length, or
            depends on the batch; the worst photos are named.
    """
    if not photos:
        raise InputError("there are no photos to verify the engine on; pass some, for example --photos FOLDER")
    spec = engine.spec
    found_blocks, expected_blocks, original_blocks, singles = [], [], [], []
    alone = {round(i) for i in np.linspace(0, len(photos) - 1, min(_SINGLES, len(photos)))}
    for start in range(0, len(photos), _BATCH):
        pixels = load_photos(photos[start : start + _BATCH], spec.height, spec.width)
        found_blocks.append(engine.run(pixels))
        expected_blocks.append(describe(pixels))
        if original is not None:
            original_blocks.append(original(pixels))
        singles += [engine.run(pixels[i : i + 1]) for i in range(len(pixels)) if start + i in alone]
        if progress:
            progress(min(start + _BATCH, len(photos)), len(photos))
    found, expected = np.concatenate(found_blocks), np.concatenate(expected_blocks)
    names = [path.name for path in photos]

    _refuse(names, _not_finite(expected), f"{of} gives values that are not finite")
    _refuse(names, _not_finite(found), "the engine gives values that are not finite", f", or {remedy}")
    lengths = np.linalg.norm(found.astype(np.float64), axis=1)
    _refuse(names, np.abs(lengths - 1) > 1e-4, "the engine gives rows that are not of unit length")
    agreement = cosines(found, expected)
    if not agreement.min() >= min_cosine:  # also when it is NaN
        worst = [f"{agreement[i]:.6f} for {names[i]}" for i in np.argsort(agreement)[:_NAMED]]
        raise ParityError(
            f"the engine does not agree with {of}: cosine {', '.join(worst)}; expected at least "
            f"{min_cosine} for all of {len(names)} photos; nothing was published; {remedy}"
        )
    order = sorted(alone)
    single_agreement = cosines(np.concatenate(singles), found[order])
    if not single_agreement.min() >= min_cosine:
        name = names[order[int(single_agreement.argmin())]]
        raise ParityError(
            f"the engine describes {name} differently alone and in a batch of {_BATCH}: cosine "
            f"{single_agreement.min():.6f}, expected at least {min_cosine}; nothing was published"
        )
    parity: dict[str, Any] = {
        "photos": len(names),
        "runtime": engine.device,
        "min_cosine": min_cosine,
        "cosine_min": float(agreement.min()),
        "cosine_p01": float(np.percentile(agreement, 1)),
        "cosine_p50": float(np.percentile(agreement, 50)),
        "cosine_mean": float(agreement.mean()),
        "max_abs_difference": float(np.abs(found - expected).max()),
        "unit_length_deviation": float(np.abs(lengths - 1).max()),
        "batch_max_abs_difference": float(np.abs(np.concatenate(singles) - found[order]).max()),
        "worst_photo": names[int(agreement.argmin())],
    }
    if len(names) > 1:
        parity["cosine_between_photos"] = _between(expected)
    if original_blocks:
        rounded = cosines(found, np.concatenate(original_blocks))
        if not rounded.min() >= MIN_ROUNDED_COSINE:
            raise ParityError(
                f"this network does not bear rounded weights: cosine {rounded.min():.6f} for "
                f"{names[int(rounded.argmin())]}, expected at least {MIN_ROUNDED_COSINE}; nothing was published; keep its "
                "weights in fp32"
            )
        parity["original_cosine_min"] = float(rounded.min())
        parity["original_cosine_mean"] = float(rounded.mean())
    return parity


def _refuse(names: Sequence[str], bad: npt.NDArray[np.bool_], what: str, remedy: str = "") -> None:
    if bad.any():
        first = [names[i] for i in np.flatnonzero(bad)[:_NAMED]]
        raise ParityError(
            f"{what}, for {int(bad.sum())} of {len(names)} photos ({', '.join(first)}); nothing was published; "
            f"check the checkpoint it came from{remedy}"
        )
