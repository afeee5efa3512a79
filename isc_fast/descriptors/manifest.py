"""The manifest of descriptors that lie in parts: which part files make up one set, in order, and how they were made.

A result in parts is a folder, on this machine or in a bucket, with ``manifest.json`` and, in folders named by plans, the parts.
The manifest is JSON with one line for each part. It is written last and in one step, so a folder that has one is whole. The same
set has the same manifest, byte by byte, whoever computed it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DamageError, FormatError
from ..files.atomic import write_text
from ..files.homes import FolderHome, Home, home_of, is_bucket
from ..files.reading import one_line, open_regular, parse_json
from ..files.sums import digest_of
from ..stores.urls import is_url, unfold

MANIFEST = "manifest.json"
VERSION = 1
_AGAIN = "run the same isc-fast {} again, which computes it"
AGAIN = _AGAIN.format("extract")
"""What brings a part back that is lost, of a result of isc-fast extract; see `Manifest.again`."""

BEGUN = re.compile(r"begun-(?:new|[0-9a-f]{16})\.json")
"""Names of the file that says what was begun in a folder and is not done."""
FIRST_BEGUN = "begun-new.json"
"""Its name where there was no manifest before."""

_FORMAT = "isc-fast descriptors in parts"
_BEGINNING = json.dumps({"format": _FORMAT}).removesuffix("}").encode()
_LARGEST_BYTES, _PIECE_BYTES = 1 << 30, 1 << 22
_NAME = re.compile(r"[0-9a-f]{64}/part-[0-9]{6,12}\.h5")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST = 1 << 48  # no count and no size is as large


class Part(NamedTuple):
    """One part file of a set.

    Attributes:
        name: of the file in the folder: that of its plan, a slash, ``part-NUMBER.h5``.
        rows, failures, notes: how many it holds.
        bytes: its size.
        sha256: of the whole file.
        checksums: the last 32 bytes of the file, which are the SHA-256 of its checksums. Who has read them, and compares each
            block with its checksum, need not read the whole file first.
        devices: who computed its rows, by their numbers in `Manifest.devices`.
        vectors: where in the file the rows begin, as little-endian float32 one behind the other; None where they lie otherwise.
            So they are read past HDF5, which takes milliseconds to open a file.
    """

    name: str
    rows: int
    failures: int
    notes: int
    bytes: int
    sha256: str
    checksums: str
    devices: tuple[int, ...] = ()
    vectors: int | None = None


@dataclass(frozen=True)
class Manifest:
    """What a manifest says.

    Attributes:
        plan_id: of the plan whose shards the parts are; it is the name of their folder.
        dim: length of one descriptor.
        unique: whether no two ids are equal.
        stamps: SHA-256 of sizes and times of all listed photos, in order; None where those of some are unknown.
        meta: how the descriptors were made, as the file says it that `isc_fast.assemble` makes.
        devices: what computed them: the facts that decide about the last bits of a number.
        parts: in order.
    """

    plan_id: str
    dim: int
    unique: bool
    stamps: str | None
    meta: Mapping[str, Any]
    devices: Sequence[Mapping[str, Any]]
    parts: Sequence[Part]

    @property
    def rows(self) -> int:
        """The number of descriptors."""
        return sum(part.rows for part in self.parts)

    @property
    def again(self) -> str:
        """What brings a part back that is lost."""
        made = (("normalization", "normalize"), ("smoothing", "negatives"))
        return _AGAIN.format(next((verb for fact, verb in made if self.meta.get(fact)), "extract"))

    @property
    def failures(self) -> int:
        """The number of images without one."""
        return sum(part.failures for part in self.parts)

    @property
    def notes(self) -> int:
        """The number of images whose descriptor says little."""
        return sum(part.notes for part in self.parts)

    def text(self) -> str:
        """The manifest as it is written: everything but the parts in the first line, then one line for each part."""
        head = {
            "format": _FORMAT,
            "version": VERSION,
            "rows": self.rows,
            "failures": self.failures,
            "notes": self.notes,
        }
        head |= {field.name: getattr(self, field.name) for field in fields(self) if field.name != "parts"}
        head["meta"], head["devices"] = _sorted(self.meta), [_sorted(device) for device in self.devices]
        lines = ",\n".join(json.dumps(part._asdict()) for part in self.parts)
        return json.dumps(head).removesuffix("}") + ', "parts": [\n' + lines + "\n]}\n"

    @property
    def id(self) -> str:
        """SHA-256 of the manifest's bytes, in hexadecimal."""
        return hashlib.sha256(self.text().encode("ascii")).hexdigest()

    def write(self, place: str | os.PathLike[str] | Home) -> None:
        """Write it to its home, in one step. In a folder it replaces an older one.

        Raises:
            OutputError: it cannot be written, or another one is in the bucket.
        """
        home, text = home_of(place), self.text()
        if home.once:
            write = partial(write_text, text=text)
            home.create(MANIFEST, write, lambda: home.read(MANIFEST, len(text) + 1) == text.encode("ascii"))
        else:
            write_text(home.file(MANIFEST), text)

    def lost(self, place: str | os.PathLike[str] | Home) -> list[tuple[int, str]]:
        """The numbers of the parts that are not there or have another size, each with what is wrong with it in words."""
        home, found = home_of(place), []
        there = {folder: home.sizes(folder) for folder in {part.name.partition("/")[0] for part in self.parts}}
        for number, part in enumerate(self.parts):
            folder, _, file = part.name.partition("/")
            size = there[folder].get(file)
            if size is None:
                found.append((number, "is not there"))
            elif size != part.bytes:
                found.append((number, f"has {size} bytes, not {part.bytes}"))
        return found


def _sorted(values: Mapping[str, Any]) -> Any:
    """The same JSON, with its keys in order."""
    return json.loads(json.dumps(values, sort_keys=True))


def parts_home(path: str | os.PathLike[str]) -> Home | None:
    """The home of a result in parts, named by its folder, its prefix in a bucket, or its manifest; None for anything else.

    Raises:
        StoreError: its bucket cannot be reached.
    """
    name = unfold(os.fspath(path))
    if is_url(name):
        if not is_bucket(name):
            return None
        home = home_of(name.removesuffix(f"/{MANIFEST}"))
    else:
        place = Path(path)
        file = place / MANIFEST if place.is_dir() else place
        if file.name != MANIFEST:
            return None
        home = FolderHome(file.parent)
    try:
        return home if home.read(MANIFEST, len(_BEGINNING)) == _BEGINNING else None
    except OSError:
        return None


def ends_of(path: str | os.PathLike[str]) -> list[int] | None:
    """Where the parts of a result in parts end, as rows; None where it is no such result.

    Raises:
        FormatError: the manifest is damaged.
        StoreError: its bucket cannot be reached.
    """
    home = parts_home(path)
    return None if home is None else [*accumulate(part.rows for part in read_manifest(home).parts)]


def starts_of(count: int, size: int, ends: Sequence[int] | None) -> list[int]:
    """The first photo of each run of a set that is cut into runs.

    Args:
        count: photos of the set.
        size: of a run at least.
        ends: where the part files of the set end, see `ends_of`; with them, a run is cut at one of these only.
    """
    starts = [0]
    while (end := starts[-1] + size) < count:
        if ends is not None:
            end = ends[bisect_left(ends, end)]
            if end >= count:
                break
        starts.append(end)
    return starts


def is_unfinished(path: str | os.PathLike[str]) -> bool:
    """Whether a folder or a prefix holds a result in parts that is being extracted or brought up to date.

    Raises:
        StoreError: its bucket cannot be reached.
    """
    if is_bucket(path):
        return home_of(path).size(FIRST_BEGUN) is not None
    return any(BEGUN.fullmatch(name) for name in FolderHome(Path(path)).sizes(""))


def digests_of(file: Path) -> tuple[int, str, str]:
    """Size in bytes, SHA-256, and the digest of the checksums of a part, which is read as a whole.

    Raises:
        DamageError: its checksums are damaged.
        FormatError: it cannot be read.
    """
    whole, size = hashlib.sha256(), 0
    try:
        with open_regular(file) as stream:
            while piece := stream.read(_PIECE_BYTES):
                whole.update(piece)
                size += len(piece)
    except OSError as error:
        raise FormatError(f"cannot read {file}: {error.strerror or error}") from error
    return size, whole.hexdigest(), digest_of(file)


def read_manifest(place: str | os.PathLike[str] | Home) -> Manifest:
    """Read the manifest of a home. Parts are not looked at.

    Raises:
        FormatError: there is none, it is damaged or of another version, or it names a file that is no part of this home.
        StoreError: its bucket cannot be reached.
    """
    home = home_of(place)
    file = f"{home.address}/{MANIFEST}"
    try:
        text = home.read(MANIFEST, _LARGEST_BYTES + 1)
    except OSError as error:
        raise FormatError(
            f"cannot read {file}: {error.strerror or error}; expected what isc-fast extract wrote"
        ) from error
    try:
        if len(text) > _LARGEST_BYTES:
            raise ValueError(f"it has more than {_LARGEST_BYTES} bytes")
        values = parse_json(text)
        if values["format"] != _FORMAT:
            raise ValueError(f"its format is {values['format']!r:.60}")
        if values["version"] != VERSION:
            raise FormatError(
                f"{file} has format version {values['version']!r:.20}; this isc-fast reads {VERSION}: install the isc-fast that "
                "wrote it"
            )
        return _checked(values)
    except FormatError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{one_line(error)} is missing" if isinstance(error, KeyError) else one_line(error)
        raise DamageError(
            f"{file} is damaged ({reason}); copy it from a sound copy, or remove it and run the same isc-fast extract again",
            reason,
        ) from error


def _checked(values: Mapping[str, Any]) -> Manifest:
    """The manifest in parsed JSON.

    Raises:
        ValueError, KeyError, TypeError: something in it has another form, or does not go together.
    """
    devices = values["devices"]
    if not isinstance(devices, list) or not all(isinstance(device, dict) for device in devices):
        raise ValueError("devices is no list of objects")
    parts = [_part(row, len(devices)) for row in values["parts"]]
    if not parts:
        raise ValueError("it names no part")
    names = {part.name for part in parts}
    if len(names) < len(parts):
        twice = next(part.name for number, part in enumerate(parts) if part.name in {p.name for p in parts[:number]})
        raise ValueError(f"it names {twice} twice")
    if not isinstance(values["meta"], dict) or not isinstance(values["unique"], bool):
        raise ValueError("meta is no object, or unique is neither true nor false")
    if values["stamps"] is not None:
        _digest(values["stamps"], "stamps")
    made = Manifest(
        plan_id=_digest(values["plan_id"], "plan_id"),
        dim=_count(values["dim"], "dim", least=1),
        unique=values["unique"],
        stamps=values["stamps"],
        meta=values["meta"],
        devices=devices,
        parts=parts,
    )
    for name in ("rows", "failures", "notes"):
        if _count(values[name], name) != getattr(made, name):
            raise ValueError(f"its parts have {getattr(made, name)} {name}, not {values[name]}")
    return made


def _part(row: Any, devices: int) -> Part:
    name = row["name"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"it names {name!r:.80}, which is no part in its folder")
    by = row["devices"]
    if not isinstance(by, list) or not all(_count(number, "device") < devices for number in by):
        raise ValueError(f"{name} names devices that are not there")
    return Part(
        name=name,
        rows=_count(row["rows"], "rows"),
        failures=_count(row["failures"], "failures"),
        notes=_count(row["notes"], "notes"),
        bytes=_count(row["bytes"], "bytes"),
        sha256=_digest(row["sha256"], "sha256"),
        checksums=_digest(row["checksums"], "checksums"),
        devices=tuple(by),
        vectors=None if row["vectors"] is None else _count(row["vectors"], "vectors"),
    )


def _count(value: Any, name: str, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < _MOST:
        raise ValueError(f"{name} is {value!r:.40}")
    return value


def _digest(value: Any, name: str) -> str:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ValueError(f"{name} is {value!r:.80}")
    return value
