"""Verdicts: what people said of pairs on a page, in files that the page saves and every search takes.

| name | what is in it |
|---|---|
| ``.json`` | ``{"format": "isc-fast verdicts", "version": 1, "verdicts": [{"query_id", "reference_id", "verdict", "set"}, …]}`` |
| ``.csv`` | the columns ``query_id,reference_id,verdict`` and, where there are several collections, ``set`` |

Other fields and columns, such as ``score``, do not count. docs/review.md says more.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import FormatError, InputError
from ...files.reading import open_regular, parse_json
from .matches import Matches, Truth

RIGHT, WRONG, UNDECIDED = "right", "wrong", "undecided"
WORDS = (RIGHT, WRONG, UNDECIDED)
FORMAT, VERSION = "isc-fast verdicts", 1
_COLUMNS = ("query_id", "reference_id", "verdict")
_EXPECTED = "a file of verdicts, as the page saves it"


@dataclass(frozen=True)
class Verdicts:
    """What somebody said of pairs.

    Attributes:
        words: by collection (an empty text where there is one only), query id and reference id: one of `WORDS`.
    """

    words: Mapping[tuple[str, str, str], str]

    def __len__(self) -> int:
        return len(self.words)

    def of(self, query: str, reference: str, collection: str = "", *, either_way: bool = False) -> str | None:
        """What was said of a pair; None if nothing was.

        Args:
            query, reference: the ids.
            collection: of the query, where there are several. A verdict that names none holds for all of them.
            either_way: whether the pair has no direction, as in one collection.
        """
        for name in (collection, ""):
            for one, other in ((query, reference), (reference, query))[: 1 + either_way]:
                word = self.words.get((name, one, other))
                if word is not None:
                    return word
        return None

    def pairs(self, word: str) -> Iterator[tuple[str, str, str]]:
        """Collection, query id and reference id of the pairs of which this was said."""
        return (pair for pair, said in self.words.items() if said == word)


def read_verdicts(path: str | os.PathLike[str]) -> Verdicts:
    """Read a file of verdicts.

    Raises:
        FormatError: it cannot be read, is no such file, or says two things of one pair; the message names the entry.
    """
    name, words = os.fspath(path), dict[tuple[str, str, str], str]()
    for number, row in enumerate(_records(Path(path)), 1):
        query, reference, word = (_text(row, column, name, number) for column in _COLUMNS)
        collection = "" if row.get("set") is None else _text(row, "set", name, number)
        if word not in WORDS:
            raise FormatError(f"entry {number} of {name} has the verdict {word[:40]!r}; expected {', '.join(WORDS)}")
        if words.setdefault((collection, query, reference), word) != word:
            raise FormatError(f"entry {number} of {name} says {word} of {query!r} and {reference!r}, and an earlier one "
                              f"{words[collection, query, reference]}; keep one of the two")  # fmt: skip
    return Verdicts(words)


def holds_verdicts(path: str | os.PathLike[str]) -> bool:
    """Whether a file of labels is one of verdicts, by its beginning, and not a ground truth."""
    try:
        with open_regular(path) as stream:
            begins = stream.read(1 << 16).decode("utf-8", "replace").removeprefix("\ufeff").lstrip()
    except OSError:
        return False  # whoever reads it says so
    return begins.startswith("{") or "verdict" in begins.partition("\n")[0].strip().split(",")


def labels_of(matches: Matches, verdicts: Verdicts) -> tuple[Matches, Truth]:
    """The pairs that somebody judged right or wrong, and which of them are right, for `isc_fast.evaluate`.

    Of the other pairs nobody knows, so they do not count. A pair that was judged right and is not among the matches was missed.

    Raises:
        InputError: no pair of the matches was judged, or none was judged right.
    """
    said = [verdicts.of(query, reference) for query, reference, _ in matches]
    judged = [row for row, word in enumerate(said) if word in (RIGHT, WRONG)]
    if not judged:
        some = next(iter(verdicts.words), None)
        found = f"; it says something of {some[1]!r} and {some[2]!r}" if some else ""
        raise InputError(f"no pair of the matches is judged right or wrong in the file of verdicts{found}")
    right = frozenset((query, reference) for _, query, reference in verdicts.pairs(RIGHT))
    if not right:
        raise InputError("the verdicts hold no pair that is right, so there is nothing to find; judge more pairs")
    queries = {query for word in (RIGHT, WRONG) for _, query, _ in verdicts.pairs(word)}
    return matches.take(judged), Truth(frozenset(queries), right)


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with open_regular(path) as stream:
            text = stream.read().decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}; expected {_EXPECTED}") from error
    return _of_json(path, text) if text.lstrip().startswith("{") else _of_csv(path, text)


def _of_json(path: Path, text: str) -> Iterator[Mapping[str, Any]]:
    try:
        found = parse_json(text, any_number=True)
    except ValueError as error:
        raise FormatError(f"{path} is no JSON ({error}); expected {_EXPECTED}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("verdicts"), list):
        raise FormatError(f'{path} is JSON without "format": "{FORMAT}" and a list "verdicts"; expected {_EXPECTED}')
    if found.get("version") != VERSION:
        version = str(found.get("version"))[:20]
        raise FormatError(
            f"{path} has verdicts of version {version}, and this isc-fast reads {VERSION}; save them again"
        )
    for number, row in enumerate(found["verdicts"], 1):
        if not isinstance(row, dict):
            raise FormatError(
                f"entry {number} of {path} is {str(row)[:60]!r}; expected an object with {', '.join(_COLUMNS)}"
            )
        yield row


def _of_csv(path: Path, text: str) -> Iterator[Mapping[str, Any]]:
    try:
        rows = csv.DictReader(io.StringIO(text, newline=""))
        if not set(_COLUMNS) <= set(rows.fieldnames or ()):
            raise FormatError(
                f"{path} begins with {text.partition(chr(10))[0][:80]!r}; expected a CSV with {','.join(_COLUMNS)}"
            )
        for row in rows:
            yield {**row, "set": row.get("set") or None}
    except csv.Error as error:
        raise FormatError(f"{path} is no CSV ({error}); expected {_EXPECTED}") from error


def _text(row: Mapping[str, Any], column: str, name: str, number: int) -> str:
    value = row.get(column)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise FormatError(f"entry {number} of {name} has no text {column}; expected {', '.join(_COLUMNS)}")
    return str(value)
