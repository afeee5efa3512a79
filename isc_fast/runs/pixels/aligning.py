"""What was seen of pairs in their pixels so far, so that an interrupted run goes on with the queries that are left.

The file lies beside the output. It is JSON lines: a head that says which pairs these are, then an object for each query that is
done. It is removed when the output is written.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...errors import OutputError
from ...files.atomic import output_error
from ...files.locks import locked
from ...files.reading import parse_json
from ...review.alignment import Alignment, Floats

FORMAT = "isc-fast aligning"
SUFFIX = ".aligning.jsonl"
"""What the name of the file beside an output ends with."""
ALIGNING, OWN = "aligning.jsonl", r"aligning(-\d+)?\.jsonl"
"""Its name in a folder that a verb fills; and its names as a regular expression, where a page has several lists of pairs."""


@dataclass(frozen=True)
class Seen:
    """What was seen of a query: its alignments by the row of the match, and the ids that could not be read, of each side."""

    found: Mapping[int, Alignment]
    unread: tuple[Sequence[str], Sequence[str]]


@dataclass
class Journal:
    """The file of one run.

    Attributes:
        done: what earlier runs have seen, by the number of the query.
    """

    done: dict[int, Seen] = field(default_factory=dict)
    _file: tuple[IO[bytes], Path] | None = None
    _count: int = 0

    def add(self, query: int, seen: Seen) -> None:
        """Keep what was seen of a query.

        Raises:
            OutputError: it cannot be written.
        """
        if self._file is not None:
            found = [[row, *_packed(one)] for row, one in seen.found.items()]
            _write(*self._file, {"query": query, "found": found, "unread": seen.unread})
        self._count += 1

    def in_words(self, queries: int) -> str:
        """Say what of so many queries is kept, for whoever interrupted the run."""
        if self._file is None:
            return "what was seen in pixels is not kept"
        return f"the pixels of {len(self.done) + self._count} of {queries} queries are kept"


@contextlib.contextmanager
def journal(path: Path | None, of: str) -> Iterator[Journal]:
    """Open the file of a run, or begin it.

    Args:
        path: None to keep nothing.
        of: what says which pairs and photos these are. What was seen of others is not taken.

    Raises:
        OutputError: it cannot be written, another run writes it, or it is somebody's.
    """
    if path is None:
        yield Journal()
        return
    try:
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise output_error(path, error) from error
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(os.fdopen(opened, "r+b"))
        try:
            stack.enter_context(locked(stream.fileno(), path))
        except BlockingIOError as error:
            raise OutputError(f"another run writes {path}: wait until it ends, or give another output") from error
        yield Journal(_read(stream, path, of), (stream, path))


def _read(stream: IO[bytes], path: Path, of: str) -> dict[int, Seen]:
    """What is in the file, which ends behind its last whole line then."""
    head, end, done = stream.readline(), 0, dict[int, Seen]()
    known = _head(head)
    if head and known.get("format") != FORMAT:
        raise OutputError(
            f"{path} is not isc-fast's, and what was seen so far would be kept there: rename it, or give another output"
        )
    if known.get("of") == of:
        end = len(head)
        with contextlib.suppress(ValueError, TypeError, KeyError):  # a line that was not written to its end
            for line in stream:
                row = parse_json(line.decode())
                found = {number: _unpacked(*packed) for number, *packed in row["found"]}
                queries, references = row["unread"]
                done[row["query"]] = Seen(found, (queries, references))
                end += len(line)
    stream.seek(end)
    stream.truncate()
    if not end:
        _write(stream, path, {"format": FORMAT, "of": of})
    return done


def _head(line: bytes) -> Mapping[str, Any]:
    with contextlib.suppress(ValueError):
        found = parse_json(line.decode())
        if isinstance(found, dict):
            return found
    return {}


def _write(stream: IO[bytes], path: Path, row: Mapping[str, Any]) -> None:
    try:
        stream.write(json.dumps(row).encode("ascii") + b"\n")
        stream.flush()
    except OSError as error:
        raise output_error(path, error) from error


def _packed(one: Alignment) -> list[Any]:
    return [one.inliers, one.mirrored, *map(_text, (one.homography, one.query_points, one.reference_points))]


def _unpacked(inliers: int, mirrored: bool, homography: str, query: str, reference: str) -> Alignment:
    return Alignment(
        _numbers(homography).reshape(3, 3),
        inliers,
        mirrored,
        _numbers(query).reshape(-1, 2),
        _numbers(reference).reshape(-1, 2),
    )


def _text(numbers: Floats) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers, "<f8").tobytes()).decode("ascii")


def _numbers(text: str) -> Floats:
    return np.frombuffer(base64.b64decode(text, validate=True), "<f8").astype(np.float64)
