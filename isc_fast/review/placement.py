"""Where the right photo of a pair lies in the left one: what pages draw, and the evidence file that keeps it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FormatError
from ..files.atomic import replacing
from ..files.reading import open_regular, parse_json
from .alignment import Alignment, Floats

_MIRROR = np.array([[-1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
_SMALLEST_VOLUME = 1e-12  # of a homography that can be turned around
_EXPECTED = "the file that isc-fast align --evidence writes"


@dataclass(frozen=True, eq=False)
class Placement:
    """How the two photos of a pair lie in each other, as they are.

    Attributes:
        homography: from the left photo to the right one, both in shares of width and height ``float64 (3, 3)``. Its third row
            gives a number above 0 wherever the two agree.
        inliers: how many local features agree.
    """

    homography: Floats
    inliers: int

    @classmethod
    def of(cls, found: Alignment) -> Placement:
        """The placement of an alignment of the left photo, or of its mirror image, with the right one."""
        homography = found.homography @ _MIRROR if found.mirrored else found.homography
        x, y = found.query_points.mean(axis=0)
        return cls(homography * np.sign(homography[2] @ (x, y, 1.0)), found.inliers)

    @property
    def numbers(self) -> list[float]:
        """The homography's nine numbers, row after row, with eight digits each."""
        return [float(f"{number:.8g}") for number in self.homography.ravel()]


@dataclass(frozen=True)
class EvidenceRow:
    """One aligned pair, as an evidence file has it: ids, the score before it aligned, and the alignment."""

    query_id: str
    reference_id: str
    score: float
    found: Alignment


def write_evidence(path: str | os.PathLike[str], rows: Iterable[EvidenceRow]) -> None:
    """Write aligned pairs as JSON lines, one object for each.

    An object has ``query_id``, ``reference_id``, ``score``, ``inliers``, ``mirrored``, ``outline`` (the copy's corners in the
    original, in shares of its width and height) and ``homography`` (`Placement.numbers`, three rows of three).

    Raises:
        OutputError: the file cannot be written.
    """
    with replacing(Path(path)) as temporary, open(temporary, "w", encoding="ascii") as file:
        for row in rows:
            numbers = Placement.of(row.found).numbers
            values = {
                "query_id": row.query_id,
                "reference_id": row.reference_id,
                "score": row.score,
                "inliers": row.found.inliers,
                "mirrored": row.found.mirrored,
                "outline": np.round(row.found.outline(), 4).tolist(),
                "homography": [numbers[:3], numbers[3:6], numbers[6:]],
            }
            file.write(json.dumps(values) + "\n")


def read_evidence(path: str | os.PathLike[str]) -> dict[tuple[str, str], Placement]:
    """Read the placements of an evidence file, by query id and reference id.

    Raises:
        FormatError: it cannot be read, or is no such file; the message names the line.
    """
    try:
        with open_regular(path) as stream:
            lines = stream.read().decode("utf-8", "surrogateescape").splitlines()
    except OSError as error:
        raise FormatError(f"cannot read {os.fspath(path)}: {error.strerror or error}; expected {_EXPECTED}") from error
    made = {}
    for number, line in enumerate(lines, 1):
        try:
            row = parse_json(line)
            made[row["query_id"], row["reference_id"]] = _placement(row)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise FormatError(
                f"line {number} of {os.fspath(path)} says of no pair how it is placed (ids, inliers, and a homography of three "
                f"rows of three numbers); expected {_EXPECTED}"
            ) from error
    return made


def _placement(row: Mapping[str, Any]) -> Placement:
    homography = np.array(row["homography"], np.float64)
    ids = row["query_id"], row["reference_id"]
    if homography.shape != (3, 3) or not np.isfinite(homography).all() or not all(isinstance(id_, str) for id_ in ids):
        raise ValueError
    if abs(np.linalg.det(homography)) < _SMALLEST_VOLUME:
        raise ValueError
    return Placement(homography, int(row["inliers"]))
