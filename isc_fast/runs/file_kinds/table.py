"""The table of file kinds: a row for each kind of file or folder that a verb reads or writes, and what finds the row of a file.

A new kind of file is one row here. `tests/runs/file_kinds/test_file_kinds.py` asks for everything that verbs write, so that a new
output without a row fails there; docs/files.md has the table for people.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import FormatError, InputError
from ...files.homes import is_bucket
from ...items import Failure
from ...stores.urls import is_url
from .base import FileKind, Glance
from .contents import ARCHIVE, CONTENTS, DESCRIPTORS, ENGINE, PHOTOS
from .documents import DOCUMENTS
from .folders import FOLDERS, run_in_bucket
from .listings import LISTS, TABLES

KINDS: tuple[FileKind, ...] = (
    ENGINE,
    *FOLDERS,
    *DOCUMENTS,
    *CONTENTS,
    DESCRIPTORS,
    *TABLES,
    ARCHIVE,
    *LISTS,
    PHOTOS,
)
"""In the order in which they are tried; the first that fits says what a file is."""

_LEDGERS = ("failures", "notes")


@dataclass(frozen=True)
class FileFacts:
    """What a file or folder is.

    Attributes:
        kind: one of the names in `KINDS`.
        what: what that is and who writes it, in words.
        path: of the file or folder.
        facts: what there is to say, ready for JSON: how many rows it has, of which engine it is, and so on.
        next: what to do with it next, in words and commands.
        ledgers: of descriptors, the images without a descriptor, ``failures``, and those whose descriptor says little, ``notes``.
    """

    kind: str
    what: str
    path: str
    facts: Mapping[str, Any]
    next: str
    ledgers: Mapping[str, Sequence[Failure]]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with the length of each ledger that has rows; that of failures always."""
        counts = {name: len(rows) for name, rows in self.ledgers.items() if rows or name == "failures"}
        return {"kind": self.kind, "what": self.what, "path": self.path, **self.facts, **counts, "next": self.next}


def kind_of(path: str | os.PathLike[str]) -> FileKind | None:
    """The kind of a file or folder; None for one that isc-fast does not know.

    Args:
        path: exists.

    Raises:
        FormatError: it cannot be read.
        MissingExtraError: it is Parquet, and pyarrow is not installed.
    """
    return _fitting(Glance(path))


def _fitting(seen: Glance) -> FileKind | None:
    return next((kind for kind in KINDS if kind.fits(seen)), None)


def describe_file(path: str | os.PathLike[str]) -> FileFacts:
    """Say what a file or folder is that isc-fast reads or writes. No engine's runtime is loaded, and nothing in it is run.

    Args:
        path: of the file or folder; ``"demo"``, the engine inside the package; or the address in a bucket of a
            result in parts, or of a run of dedup, find or leaks.

    Returns:
        its kind, what there is to say of it, and what to do with it next.

    Raises:
        InputError: there is no such file.
        FormatError: it is of no kind that isc-fast knows, or is damaged.
        EngineError: it is no engine, although its name is one's.
        MissingExtraError: it is Parquet, and pyarrow is not installed.
    """
    name = os.fspath(path)
    seen = Glance(name)
    if is_url(name) or is_bucket(name):
        return _told((is_bucket(name) and run_in_bucket(name)) or DESCRIPTORS, seen, name)
    if ENGINE.fits(seen):
        return _told(ENGINE, seen, name)
    if not os.path.lexists(name):
        raise InputError(f"there is no {name}; expected a file or folder that isc-fast reads or writes")
    kind = _fitting(seen)
    if kind is not None:
        return _told(kind, seen, name)
    found = f"the columns {', '.join(seen.columns[:12])}" if len(seen.columns) > 1 else f"{seen.head[:24]!r}"
    raise FormatError(
        f"cannot tell what {name} is: it begins with {found}; expected a file that isc-fast reads or writes, such as descriptors "
        "(.h5), matches (.csv with query_id,reference_id,score) or photos; docs/files.md lists all"
    )


def _told(kind: FileKind, seen: Glance, name: str) -> FileFacts:
    facts = kind.facts(seen)
    path = str(facts.pop("path", name))
    ledgers = {ledger: facts.pop(ledger) for ledger in _LEDGERS if isinstance(facts.get(ledger), Sequence)}
    after = str(facts.pop("next", kind.next)).replace("{path}", shlex.quote(name))
    return FileFacts(kind.name, kind.what, path, facts, after, ledgers)
