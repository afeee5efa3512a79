"""What an index looks like on the disk: a manifest that names segments, each a folder.

| file | what |
|---|---|
| ``index.json`` | the manifest: what was promised, the segments, the digest of each file. It is replaced in one step |
| ``segment-…/rows.h5`` | the rows and their ids, a descriptor file |
| ``segment-…/keys.bin`` | where an id's row is; see `isc_fast.matching.index.keys` |
| ``segment-…/candidates.faiss`` | faiss' inverted lists; missing in a small segment, whose rows are compared one by one |
| ``segment-…/gone-….bin`` | numbers of the rows that were removed, int64, rising |

A file is never changed. A segment that no manifest names was left by a writer that was killed, and the next writer removes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...descriptors.formats.other_folders import index_instead
from ...errors import DamageError, FormatError
from ...files.atomic import write_text
from ...files.reading import parse_json
from .manifest_types import typed
from .measured import Recall

VERSION = 1
MANIFEST = "index.json"
ROWS, KEYS, CANDIDATES = "rows.h5", "keys.bin", "candidates.faiss"
_SEGMENT = re.compile(r"segment-[0-9a-f]{16}")
_GONE = re.compile(r"gone-[0-9a-f]{16}\.bin")


@dataclass(frozen=True)
class Lists:
    """The inverted lists of a segment.

    Attributes:
        factory: faiss' name of their kind, such as ``"IVF2048,SQ8"``.
        nprobe: how many lists a query looks into.
        spread: so many times k candidates are scored by their stored rows.
        recall: as it was measured when they were made.
    """

    factory: str
    nprobe: int
    spread: int
    recall: Recall


@dataclass(frozen=True)
class SegmentFacts:
    """What the manifest says of a segment.

    Attributes:
        name: of its folder.
        rows: how many it has, those that were removed included.
        files: digests by the names of its files.
        lists: None where every row is compared.
        gone: how many of the rows were removed.
        gone_file: where their numbers stand; empty where none was removed.
    """

    name: str
    rows: int
    files: Mapping[str, str]
    lists: Lists | None = None
    gone: int = 0
    gone_file: str = ""


@dataclass(frozen=True)
class Promise:
    """What an index was asked for when it was built.

    Attributes:
        recall: share of the k best rows that a query finds, at least.
        k: of which recall is measured.
        memory_bytes: for the inverted lists of one segment; None where nobody set a limit.
        flat_below: a segment of fewer rows has no lists.
    """

    recall: float
    k: int
    memory_bytes: int | None
    flat_below: int


@dataclass(frozen=True)
class Manifest:
    """What `index.json` holds.

    Attributes:
        dim: of the rows.
        meta: how they were made; see `isc_fast.descriptors.store.Descriptors`.
        promise: what the index was asked for.
        segments: the oldest first.
    """

    dim: int
    meta: Mapping[str, Any]
    promise: Promise
    segments: Sequence[SegmentFacts] = field(default=())

    @property
    def live(self) -> int:
        """How many rows there are, those that were removed not counted."""
        return sum(segment.rows - segment.gone for segment in self.segments)


def _text(manifest: Manifest) -> str:
    body = {"version": VERSION, **asdict(manifest)}
    return json.dumps({**body, "sha256": _sha256(body)}, indent=1) + "\n"


def _sha256(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest in one step.

    Raises:
        OutputError: it cannot be written; the old one stays.
    """
    write_text(folder / MANIFEST, _text(manifest))


def has_manifest(folder: Path) -> bool:
    """Whether a folder is an index."""
    return (folder / MANIFEST).is_file()


def _instead(folder: Path) -> str:
    if folder.is_dir() and any(folder.iterdir()):
        return index_instead(str(folder))
    return f"make one: isc-fast index build REFERENCES.h5 -o {folder}"


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an index.

    Raises:
        FormatError: there is none, or another version wrote it.
        DamageError: it is damaged, or is none of an index.
    """
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise FormatError(f"{folder} is no index: it has no {MANIFEST}; {_instead(folder)}") from error
    except NotADirectoryError as error:
        raise FormatError(
            f"{folder} is a file, and an index is a folder; if it holds descriptors, make one of it: isc-fast index build "
            f"{shlex.quote(str(folder))} -o index/"
        ) from error
    except OSError as error:
        raise FormatError(f"cannot read the index {folder}: {error.strerror or error}") from error
    broken = DamageError(f"{path} is damaged; copy the index again from a sound copy, or build it again")
    try:
        body = parse_json(text)
        sha256, version = body.pop("sha256", None), body.get("version")
    except (ValueError, AttributeError) as error:
        raise broken from error
    if version != VERSION and isinstance(version, int):
        raise FormatError(f"{path} has format version {version}; this isc-fast reads {VERSION}")
    if sha256 != _sha256(body):
        raise broken
    try:
        body.pop("version")
        manifest = typed(Manifest, body)
        if manifest.dim < 1:
            raise ValueError("rows without numbers")
        for facts in manifest.segments:
            _check_segment(facts)
    except (KeyError, TypeError, ValueError) as error:
        raise broken from error
    return manifest


def _check_segment(facts: SegmentFacts) -> None:
    """See that a segment names its own files, and all that are read of it.

    Raises:
        ValueError: it does not.
    """
    needed = {ROWS, KEYS} | ({CANDIDATES} if facts.lists else set()) | ({facts.gone_file} if facts.gone else set())
    if not _SEGMENT.fullmatch(facts.name) or facts.gone > facts.rows or needed - facts.files.keys():
        raise ValueError(f"the segment {facts.name!r:.60} has no rows, no keys or no lists")
    for name in {*facts.files, facts.gone_file} - {ROWS, KEYS, CANDIDATES, ""}:
        if not _GONE.fullmatch(name):
            raise ValueError("a name that leads out of the index")
    if facts.lists is not None and not (facts.lists.nprobe and facts.lists.spread):
        raise ValueError("lists that nobody looks into")


def new_segment_name() -> str:
    """A name that no segment has."""
    return f"segment-{secrets.token_hex(8)}"


def new_gone_name() -> str:
    """A name that no list of removed rows has."""
    return f"gone-{secrets.token_hex(8)}.bin"


def sweep(folder: Path, manifest: Manifest | None) -> None:
    """Remove what a manifest does not name: of writers that were killed, or of the manifest before.

    Only the one writer of an index may call this. Whoever has opened a file keeps it.
    """
    named = {segment.name: segment for segment in (manifest.segments if manifest else ())}
    for entry in os.scandir(folder):
        if _SEGMENT.fullmatch(entry.name) and entry.name not in named:
            shutil.rmtree(entry.path, ignore_errors=True)
    for name, segment in named.items():
        for entry in os.scandir(folder / name):
            if _GONE.fullmatch(entry.name) and entry.name != segment.gone_file:
                os.unlink(entry.path)


def holds_other_files(folder: Path) -> bool:
    """Whether a folder holds something that no index holds."""
    ours = re.compile(rf"{re.escape(MANIFEST)}|{_SEGMENT.pattern}|\..*\.isc-fast\.tmp")
    return any(not ours.fullmatch(name) for name in os.listdir(folder))
