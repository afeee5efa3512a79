"""Matches and ground truth, and their CSV files in the form that the challenge fixed."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import FormatError
from ..files.atomic import replacing, try_to_write
from ..files.reading import parse_json

HEADER = "query_id,reference_id,score"
TRUTH_HEADER = "query_id,reference_id"
_IDS_AT_ONCE = 4096


@dataclass(frozen=True)
class Matches:
    """Predicted pairs.

    Attributes:
        query_ids, reference_ids: the two ids of each pair.
        scores: ``float32 (n,)``, or ``float64`` where another tool's scores need it; a higher score means more alike.
    """

    query_ids: Sequence[str]
    reference_ids: Sequence[str]
    scores: npt.NDArray[np.floating[Any]]

    def __post_init__(self) -> None:
        if not len(self.query_ids) == len(self.reference_ids) == len(self.scores):
            raise FormatError(
                f"columns of different length: {len(self.query_ids)}, {len(self.reference_ids)}, {len(self.scores)}"
            )

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[tuple[str, str, float]]:
        return zip(self.query_ids, self.reference_ids, map(float, self.scores), strict=True)


@dataclass(frozen=True)
class Truth:
    """Ground truth.

    Attributes:
        queries: every labelled query, those without a match (distractors) included.
        pairs: the true (query id, reference id) pairs.
    """

    queries: frozenset[str]
    pairs: frozenset[tuple[str, str]]


def _csv_field(text: str, path: str | os.PathLike[str]) -> str:
    try:
        text.encode("utf-8", "surrogateescape")
        bad = "a comma, quote or line end" if any(character in text for character in ',"\r\n') else ""
    except UnicodeEncodeError:
        bad = "a lone surrogate (half of a character)"
    if bad:
        raise FormatError(
            f"the id {text!r} holds {bad}, which the challenge's CSV cannot express; "
            f"write JSON lines instead: -o {Path(path).with_suffix('.jsonl')}"
        )
    return text


def _as_json(path: str | os.PathLike[str]) -> bool:
    """Whether matches are written as JSON lines to this path, not as CSV.

    Raises:
        FormatError: the name is that of another format.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".csv", ".jsonl", ".txt", ""):
        raise FormatError(
            f"matches are written as CSV (.csv) or as JSON lines (.jsonl), not as {suffix}: give -o "
            f"{Path(path).with_suffix('.csv')} or {Path(path).with_suffix('.jsonl')}"
        )
    return suffix == ".jsonl"


_NOT_IN_CSV = re.compile('[,"\r\n\ud800-\udc7f\udd00-\udfff]')


def check_output(path: str | os.PathLike[str], *ids: Sequence[str]) -> None:
    """See before the work whether matches can be written: whether there is the folder, and a format that holds the ids.

    Args:
        path: as `write_matches` takes it.
        ids: of both sides, gone through once.

    Raises:
        FormatError: the name is that of another format, or an id cannot stand in the CSV.
        OutputError: the file cannot be written.
    """
    as_json = _as_json(path)
    try_to_write(path)
    for side in () if as_json else ids:
        for start in range(0, len(side), _IDS_AT_ONCE):
            some = side[start : start + _IDS_AT_ONCE]
            if _NOT_IN_CSV.search("\0".join(some)):
                for id_ in some:
                    _csv_field(id_, path)


def write_matches(path: str | os.PathLike[str], matches: Matches) -> None:
    """Write matches, atomically, with enough digits that reading gives the same float32.

    A path that ends in ``.jsonl`` gets one JSON object a line, which holds any id. A path that ends in ``.csv`` or ``.txt``, or
    without a suffix, gets the challenge's CSV with the header ``query_id,reference_id,score``.

    Raises:
        FormatError: the path ends otherwise, an id cannot stand in the CSV, or a score is not a number.
        OutputError: the file cannot be written.
    """
    as_json = _as_json(path)
    if np.isnan(matches.scores).any():
        first = int(np.flatnonzero(np.isnan(matches.scores))[0])
        pair = f"{matches.query_ids[first]!r}, {matches.reference_ids[first]!r}"
        raise FormatError(f"the score of {pair} is not a number (nan)")
    # Every id is checked once, before anything is written: a bad one must not cost half a file.
    checked = {} if as_json else {id_: _csv_field(id_, path) for id_ in {*matches.query_ids, *matches.reference_ids}}
    with (
        replacing(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as out,
    ):
        if as_json:
            for query, reference, score in zip(matches.query_ids, matches.reference_ids, matches.scores, strict=True):
                row = {"query_id": query, "reference_id": reference, "score": float(str(score))}
                out.write(json.dumps(row) + "\n")
        else:
            out.write(HEADER + "\n")
            for query, reference, score in zip(matches.query_ids, matches.reference_ids, matches.scores, strict=True):
                # str() of a number of numpy gives the shortest text that reads back as the same number.
                out.write(f"{checked[query]},{checked[reference]},{score!s}\n")


def _lines(path: str | os.PathLike[str], expected: str) -> Iterator[tuple[int, str]]:
    """(line number, line) of every line of a text file that is not blank; bytes that are not UTF-8 survive."""
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except OSError as error:
        raise FormatError(f"cannot read {os.fspath(path)}: {error.strerror or error}; expected {expected}") from error


def _score(text: Any, where: str) -> float:
    try:
        score = float(text)
    except (TypeError, ValueError, OverflowError) as error:
        raise FormatError(f"{where}: {str(text)[:80]!r} is not a number") from error
    if score != score:
        raise FormatError(f"{where}: the score is not a number (nan)")
    return score


def _id(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError
    return str(value)


def _names_columns(fields: list[str], header: str) -> bool:
    """Whether the first line of a file holds names of columns that are not ours; else it is a row of a file without a header."""
    if len(fields) != header.count(",") + 1:
        return True
    if header == HEADER:
        with contextlib.suppress(ValueError):
            float(fields[-1])
            return False
        return True
    text = ",".join(fields).lower()
    return not any(map(str.isdigit, text)) and any(word in text for word in ("query", "reference", "image", "id"))


def _csv_rows(path: str | os.PathLike[str], header: str, expected: str) -> Iterator[tuple[str, list[str]]]:
    """(place, fields) of every row; errors name the place. As in the evaluation kit, the header may be missing or repeated."""
    name, count, first = os.fspath(path), header.count(",") + 1, True
    for number, line in _lines(path, expected):
        where, fields, begins = f"{name}, line {number}", line.split(","), first
        first = False
        if line.rstrip() == header:
            continue
        if begins and _names_columns(fields, header):
            raise FormatError(f"{name} begins with {line[:80]!r}; expected {expected}")
        if '"' in line:
            raise FormatError(f"{where}: quotes, which the challenge's CSV does not use; write the ids without them")
        if len(fields) != count:
            raise FormatError(f"{where}: {len(fields)} fields; expected {count}: {header}")
        yield where, fields
    if first:
        raise FormatError(f"{name} begins with ''; expected {expected}")


def read_matches(path: str | os.PathLike[str]) -> Matches:
    """Read a file of `write_matches`, or any CSV of the challenge's matching track, with its header or without one.

    The scores are float32, which is what a search gives; or float64 if some of them differ only beyond float32, so that these do
    not become ties.

    Raises:
        FormatError: the header, a row or a number is not what it should be; the message names the line.
    """
    expected = f"matches: a CSV file that begins with {HEADER}, or .jsonl"
    queries, references, scores = [], [], []
    if Path(path).suffix.lower() == ".jsonl":
        for number, line in _lines(path, expected):
            where = f"{os.fspath(path)}, line {number}"
            try:
                row = parse_json(line, any_number=True)
                queries.append(_id(row["query_id"]))
                references.append(_id(row["reference_id"]))
                scores.append(_score(row["score"], where))
            except (ValueError, KeyError, TypeError) as error:
                raise FormatError(f"{where}: expected an object with query_id, reference_id and score") from error
    else:
        for where, (query, reference, score) in _csv_rows(path, HEADER, expected):
            queries.append(query)
            references.append(reference)
            scores.append(_score(score, where))
    exact = np.array(scores, np.float64)
    with np.errstate(over="ignore"):  # a number that is too large for float32 becomes infinity
        short = exact.astype(np.float32)
    same_order = len(np.unique(short)) == len(np.unique(exact))
    return Matches(queries, references, short if same_order else exact)


def read_truth(path: str | os.PathLike[str]) -> Truth:
    """Read a ground-truth CSV: ``query_id,reference_id``, the reference empty for a query without a match.

    The header may be missing. A first line of other names than these is refused, so that it does not pass for a pair.

    Raises:
        FormatError: the header or a row is not what it should be, or there is not one true pair.
    """
    expected = f"ground truth: a CSV file that begins with {TRUTH_HEADER}"
    queries: set[str] = set()
    pairs: set[tuple[str, str]] = set()
    for where, (query, reference) in _csv_rows(path, TRUTH_HEADER, expected):
        if not query:
            raise FormatError(f"{where}: the query id is empty")
        queries.add(query)
        if reference:
            pairs.add((query, reference))
    if not pairs:
        raise FormatError(f"{os.fspath(path)} holds no true pair; expected {expected}")
    return Truth(frozenset(queries), frozenset(pairs))
