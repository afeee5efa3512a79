"""Matches and ground truth, and their files: the CSV that the challenge fixed, JSON lines, and Parquet."""

from __future__ import annotations

import json
import os
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import FormatError, require
from ...files.atomic import replacing, try_to_write
from .match_rows import HEADER, SUFFIXES, csv_rows, match_rows

TRUTH_HEADER = "query_id,reference_id"
_IDS_AT_ONCE = 4096
_PAIRS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Matches:
    """Predicted pairs.

    Attributes:
        query_ids, reference_ids: the two ids of each pair.
        scores: ``float32 (n,)``, or ``float64`` where another tool's scores need it; a higher score means more alike.
        views: of each pair, which view of the query matched: ``"whole"``, ``"top-left"``, ``"mirrored"``, …, see
            `isc_fast.decoders.views`; None where whole photos were compared alone.
        verdicts: of each pair, ``"right"`` where somebody judged it so, else None; None where no verdicts were given.
    """

    query_ids: Sequence[str]
    reference_ids: Sequence[str]
    scores: npt.NDArray[np.floating[Any]]
    views: Sequence[str] | None = None
    verdicts: Sequence[str | None] | None = None

    def __post_init__(self) -> None:
        lengths = [len(self.query_ids), len(self.reference_ids), len(self.scores)]
        lengths += [len(column) for column in (self.views, self.verdicts) if column is not None]
        if len(set(lengths)) > 1:
            raise FormatError(f"columns of different length: {', '.join(map(str, lengths))}")

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[tuple[str, str, float]]:
        return zip(self.query_ids, self.reference_ids, map(float, self.scores), strict=True)

    def take(self, rows: Sequence[int]) -> Matches:
        """Some of the pairs, in the order of ``rows``."""
        return Matches(
            [self.query_ids[row] for row in rows],
            [self.reference_ids[row] for row in rows],
            self.scores[np.asarray(rows, np.int64)],
            None if self.views is None else [self.views[row] for row in rows],
            None if self.verdicts is None else [self.verdicts[row] for row in rows],
        )


@dataclass(frozen=True)
class Truth:
    """Ground truth.

    Attributes:
        queries: every labelled query, those without a match (distractors) included.
        pairs: the true (query id, reference id) pairs.
    """

    queries: frozenset[str]
    pairs: frozenset[tuple[str, str]]


def _csv_field(text: str, instead: str) -> str:
    try:
        text.encode("utf-8", "surrogateescape")
        bad = "a comma, quote or line end" if any(character in text for character in ',"\r\n') else ""
    except UnicodeEncodeError:
        bad = "a lone surrogate (half of a character)"
    if bad:
        raise FormatError(
            f"the id {text!r} holds {bad}, which the challenge's CSV cannot express; write JSON lines instead: {instead}"
        )
    return text


def _form(path: str | os.PathLike[str]) -> str:
    """The format in which matches are written to this path.

    Raises:
        FormatError: the name is that of another format.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        names = [str(Path(path).with_suffix(known)) for known in (".csv", ".jsonl", ".parquet")]
        raise FormatError(
            f"matches are written as CSV (.csv), as JSON lines (.jsonl) or as Parquet (.parquet), not as {suffix}: give -o "
            f"{names[0]}, {names[1]} or {names[2]}"
        )
    return SUFFIXES[suffix]


def has_views(path: str | os.PathLike[str]) -> bool:
    """Whether a file of matches of that name says which view of the query matched; the challenge's CSV does not."""
    return _form(path) != "csv"


_NOT_IN_CSV = re.compile('[,"\r\n\ud800-\udc7f\udd00-\udfff]')
_NOT_IN_PARQUET = re.compile("[\ud800-\udfff]")


def check_output(path: str | os.PathLike[str], *ids: Sequence[str]) -> None:
    """See before the work whether matches can be written: whether there is the folder, and a format that holds the ids.

    Args:
        path: as `write_matches` takes it.
        ids: of both sides, gone through once.

    Raises:
        FormatError: the name is that of another format, or an id cannot stand in it.
        OutputError: the file cannot be written.
        MissingExtraError: it is Parquet, and pyarrow is not installed.
    """
    form = _form(path)
    check_ids(form, "")
    try_to_write(path)
    check_ids(form, _instead(path), *ids)


def _instead(path: str | os.PathLike[str]) -> str:
    return f"-o {Path(path).with_suffix('.jsonl')}"


def check_ids(form: str, instead: str, *ids: Sequence[str]) -> None:
    """See before the work whether ids can stand in a format of matches.

    Args:
        form: one of `FORMATS`.
        instead: the flag that writes JSON lines, for the message.
        ids: of both sides, gone through once.

    Raises:
        FormatError: an id cannot.
        MissingExtraError: it is Parquet, and pyarrow is not installed.
    """
    if form == "parquet":
        require("pyarrow", "parquet")
    for side in ids if form in _CHECKS else ():
        pattern, check = _CHECKS[form]
        for start in range(0, len(side), _IDS_AT_ONCE):
            some = side[start : start + _IDS_AT_ONCE]
            if pattern.search("\0".join(some)):
                for id_ in some:
                    check(id_, instead)


def _parquet_text(text: str, instead: str) -> str:
    if _NOT_IN_PARQUET.search(text):
        raise FormatError(
            f"the id {text!r} is not UTF-8, which Parquet cannot hold; write JSON lines instead: {instead}"
        )
    return text


_CHECKS = {"csv": (_NOT_IN_CSV, _csv_field), "parquet": (_NOT_IN_PARQUET, _parquet_text)}
"""By format, what an id may not hold, and what says so."""


def write_matches(path: str | os.PathLike[str], matches: Matches) -> None:
    """Write matches, atomically, with enough digits that reading gives the same float32.

    A path that ends in ``.jsonl`` gets one JSON object a line, which holds any id. One that ends in ``.parquet`` gets the
    columns ``query_id``, ``reference_id`` and ``score``. Both also have ``view`` where the matches have views, and ``verdict``
    where verdicts were given. A path that ends
    in ``.csv`` or ``.txt``, or without a suffix, gets the challenge's CSV with the header ``query_id,reference_id,score``.

    Raises:
        FormatError: the path ends otherwise, an id cannot stand in the format, or a score is not a number.
        OutputError: the file cannot be written.
        MissingExtraError: it is Parquet, and pyarrow is not installed.
    """
    write_matches_as(_form(path), path, matches, _instead(path))


def write_matches_as(form: str, path: str | os.PathLike[str], matches: Matches, instead: str) -> None:
    """Write matches in one of `FORMATS`, whatever the path's name is; ``instead`` is the flag that writes JSON lines.

    Raises:
        FormatError, OutputError, MissingExtraError: see `write_matches`.
    """
    if np.isnan(matches.scores).any():
        first = int(np.flatnonzero(np.isnan(matches.scores))[0])
        pair = f"{matches.query_ids[first]!r}, {matches.reference_ids[first]!r}"
        raise FormatError(f"the score of {pair} is not a number (nan)")
    if form in _CHECKS:
        # Every id is checked once, before anything is written: a bad one must not cost half a file.
        for id_ in {*matches.query_ids, *matches.reference_ids}:
            _CHECKS[form][1](id_, instead)
    with replacing(path) as temporary:
        _WRITERS[form](temporary, matches)


def _write_csv(path: Path, matches: Matches) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as out:
        out.write(HEADER + "\n")
        for query, reference, score in zip(matches.query_ids, matches.reference_ids, matches.scores, strict=True):
            # str() of a number of numpy gives the shortest text that reads back as the same number.
            out.write(f"{query},{reference},{score!s}\n")


def _write_jsonl(path: Path, matches: Matches) -> None:
    more = {"view": matches.views, "verdict": matches.verdicts}
    with open(path, "w", encoding="ascii", newline="") as out:
        columns = (
            matches.query_ids,
            matches.reference_ids,
            matches.scores,
            *(repeat(None, len(matches)) if column is None else column for column in more.values()),
        )
        for query, reference, score, *others in zip(*columns, strict=True):
            row: dict[str, Any] = {"query_id": query, "reference_id": reference, "score": float(str(score))}
            row |= {name: value for name, value in zip(more, others, strict=True) if value is not None}
            out.write(json.dumps(row) + "\n")


def _write_parquet(path: Path, matches: Matches) -> None:
    arrow, parquet = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    kinds = {
        "query_id": arrow.string(),
        "reference_id": arrow.string(),
        "score": arrow.from_numpy_dtype(matches.scores.dtype),
    }
    columns: list[Any] = [matches.query_ids, matches.reference_ids, matches.scores]
    for name, column in (("view", matches.views), ("verdict", matches.verdicts)):
        if column is not None:
            kinds[name] = arrow.string()
            columns.append(column)
    schema = arrow.schema([*kinds.items()])
    with parquet.ParquetWriter(path, schema, write_page_checksum=True) as writer:
        for start in range(0, len(matches), _PAIRS_AT_ONCE):
            block = [column[start : start + _PAIRS_AT_ONCE] for column in columns]
            arrays = [arrow.array(values, kind) for values, kind in zip(block, kinds.values(), strict=True)]
            writer.write_table(arrow.table(arrays, schema=schema))


FORMATS = ("csv", "jsonl", "parquet")
"""Of matches, by the suffix of their files."""
_WRITERS = {"csv": _write_csv, "jsonl": _write_jsonl, "parquet": _write_parquet}


def read_matches(path: str | os.PathLike[str]) -> Matches:
    """Read a file of `write_matches`, or any CSV of the challenge's matching track, with its header or without one.

    The scores are float32, which is what a search gives; or float64 if some of them differ only beyond float32, so that these do
    not become ties. A file has views if its first pair has one.

    Raises:
        FormatError: the header, a row or a number is not what it should be; the message names the line.
        MissingExtraError: it is Parquet, and pyarrow is not installed.
    """
    queries: list[str] = []
    references: list[str] = []
    views: list[str] = []
    scores = array("d")
    with_views = False
    for query, reference, score, view in match_rows(path):
        with_views = with_views if queries else view is not None
        queries.append(query)
        references.append(reference)
        scores.append(score)
        if with_views:
            views.append(view or "")
    exact = np.array(scores, np.float64)
    with np.errstate(over="ignore"):  # a number that is too large for float32 becomes infinity
        short = exact.astype(np.float32)
    same_order = len(np.unique(short)) == len(np.unique(exact))
    return Matches(queries, references, short if same_order else exact, views if with_views else None)


def read_truth(path: str | os.PathLike[str]) -> Truth:
    """Read a ground-truth CSV: ``query_id,reference_id``, the reference empty for a query without a match.

    The header may be missing. A first line of other names than these is refused, so that it does not pass for a pair.

    Raises:
        FormatError: the header or a row is not what it should be, or there is not one true pair.
    """
    expected = f"ground truth: a CSV file that begins with {TRUTH_HEADER}"
    queries: set[str] = set()
    pairs: set[tuple[str, str]] = set()
    for where, (query, reference) in csv_rows(path, TRUTH_HEADER, expected):
        if not query:
            raise FormatError(f"{where}: the query id is empty")
        queries.add(query)
        if reference:
            pairs.add((query, reference))
    if not pairs:
        raise FormatError(f"{os.fspath(path)} holds no true pair; expected {expected}")
    return Truth(frozenset(queries), frozenset(pairs))
