"""The file of a calibration: JSON that holds the scores and who made the descriptors, not a threshold."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..descriptors.provenance import Provenance
from ..errors import FormatError, InputError
from ..files.atomic import replacing
from ..files.reading import parse_json
from .calibration import Calibration

KIND, VERSION = "isc-fast calibration", 1


def write_calibration(path: str | os.PathLike[str], calibration: Calibration) -> None:
    """Write a calibration as JSON.

    Raises:
        OutputError: it cannot be written.
    """
    values = {
        "kind": KIND,
        "version": VERSION,
        "made_by": dict(calibration.meta),
        "dim": calibration.dim,
        "photos": calibration.photos,
        "left_out": calibration.left_out,
        "copies": {
            "kind": list(calibration.kinds),
            "score": np.round(calibration.true, 6).tolist(),
            "photo": calibration.true_of.tolist(),
        },
        "unrelated": {
            "pairs": calibration.pairs,
            "score": np.round(calibration.tail, 6).tolist(),
            "copy_of": calibration.tail_of.tolist(),
            "photo": calibration.tail_with.tolist(),
        },
        "copies_of": calibration.copies_of.tolist(),
    }
    with replacing(Path(path)) as temporary:
        temporary.write_text(json.dumps(values) + "\n", encoding="utf-8")


def read_calibration(path: str | os.PathLike[str]) -> Calibration:
    """Read what `write_calibration` wrote.

    Raises:
        InputError: there is no such file.
        FormatError: it is no calibration, or a newer one.
    """
    try:
        values = parse_json(Path(path).read_text("utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {os.fspath(path)}: {error.strerror or error}") from error
    except ValueError as error:
        raise FormatError(f"{os.fspath(path)} is no calibration: no JSON") from error
    if not isinstance(values, dict) or values.get("kind") != KIND:
        raise FormatError(f"{os.fspath(path)} is no calibration; isc-fast calibrate makes one")
    if values.get("version") != VERSION:
        raise FormatError(
            f"{os.fspath(path)} is a calibration of version {values.get('version')}, and this isc-fast reads {VERSION}"
        )
    try:
        found = _of_values(values)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, FormatError) as error:
        raise FormatError(f"{os.fspath(path)} is a damaged calibration; make it again") from error
    if not _is_sane(found):
        raise FormatError(f"{os.fspath(path)} is a damaged calibration; make it again")
    return found


def _of_values(values: Mapping[str, Any]) -> Calibration:
    copies, unrelated = values["copies"], values["unrelated"]
    Provenance.read(values["made_by"])
    return Calibration(
        values["made_by"],
        int(values["dim"]),
        int(values["photos"]),
        [str(kind) for kind in copies["kind"]],
        np.array(copies["score"], np.float64),
        np.array(copies["photo"], np.int64),
        int(unrelated["pairs"]),
        np.array(unrelated["score"], np.float64),
        np.array(unrelated["copy_of"], np.int64),
        np.array(unrelated["photo"], np.int64),
        np.array(values["copies_of"], np.int64),
        int(values["left_out"]),
    )


def _is_sane(found: Calibration) -> bool:
    columns = (found.true, found.true_of, found.tail, found.tail_of, found.tail_with, found.copies_of)
    if any(column.ndim != 1 for column in columns) or not len(found.true) or len(found.tail) < 2:
        return False
    if not len(found.true) == len(found.true_of) == len(found.kinds) or not len(found.tail) == len(
        found.tail_of
    ) == len(found.tail_with):
        return False
    numbers = np.concatenate([found.true_of, found.tail_of, found.tail_with])
    in_range = numbers.min() >= 0 and numbers.max() < len(found.copies_of) and (found.copies_of >= 0).all()
    in_range = in_range and found.tail_with.max() < found.photos <= len(found.copies_of)
    scores = np.concatenate([found.true, found.tail])
    falling = (np.diff(found.tail) <= 0).all()
    # Vectors of unit length may score a little more than 1; score normalisation lowers scores.
    finite = bool(np.isfinite(scores).all()) and float(np.abs(scores).max()) <= 10
    return bool(
        0 < found.dim < 1_000_000
        and in_range
        and falling
        and finite
        and found.pairs >= len(found.tail)
        and found.copies_of.sum() > 0
    )
