"""The plan of an extraction: ordered images, cut into shards.

A shard becomes one part file. The content of a part depends on the plan alone, not on who computes it, when, or after how many
interruptions. So an extraction resumes with the shards whose part is missing, and any worker may compute any shard.

The file of a plan is a table of its images (`isc_fast.files.table`) with the rest of the plan, and the plan's id, as JSON in its
head.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import gcd
from typing import TYPE_CHECKING, Any

from ..decoders.views import ONLY_WHOLE, VIEWS, in_words
from ..errors import FormatError
from ..files.atomic import replacing
from ..files.digests import Digests
from ..files.lazy import BLOCK
from ..files.reading import one_line, parse_json
from ..files.table import StoredTable, write_table
from ..items import Ints, Item
from ..sources.containers import lasting
from ..sources.stamps import stamps_of

if TYPE_CHECKING:
    from sqlite3 import Connection

PLAN_VERSION = 1
VIEWS_VERSION = 2
"""The version of a plan with views of photos: an earlier isc-fast, which would describe the whole photos alone, refuses it."""
SHARD_ROWS = 256
"""Descriptors of one part, about, while there are few enough parts. A part costs some 13 ms of the processor whatever it holds: a
thousandth of the work of a large network, and a hundredth of that of a small one."""
MIN_SHARD_ITEMS = 8
"""Images of one part at least, however many views each has."""
MAX_SHARDS = 4096
MOST_KEPT_ITEMS, MOST_KEPT_PARTS = 10_000, 100_000


BY_CONTAINER = "isc-fast:by-container"
"""The input that a plan has whose items are containers of images."""
_PART_BYTES = 1 << 28
"""Bytes of the containers of one part, about: some thousands of photos."""

_MOST_CALLS = 8
"""Engine calls whose pixels are decoded together, at most, to fill all of them with views."""

Digesting = Callable[[Sequence[Item]], Digests]
"""Gives the digests of images; see `isc_fast.decoders.contents.digests_of`."""


@dataclass(frozen=True)
class Shard:
    """A run of consecutive items that becomes one part file.

    Attributes:
        index: its number.
        items: the images.
        digesting: gives the digests of images, where they are wanted.
    """

    index: int
    items: Sequence[Item]
    digesting: Digesting | None = field(default=None, compare=False, repr=False)

    @cached_property
    def digests(self) -> Digests | None:
        """The digests of the items' bytes, ``uint8 (n, 16)``; None where nobody asked. Looked at as the stamps are."""
        return None if self.digesting is None else self.digesting(self.items)

    @cached_property
    def stamps(self) -> Ints:
        """Size and time of the items' files, ``int64 (n, 2)``. Whoever computes the shard looks before it opens the first."""
        return stamps_of([item.path for item in self.items])

    def batches(self, batch_size: int) -> Iterator[Sequence[Item]]:
        """The items in runs of ``batch_size``; the last run may be shorter."""
        for start in range(0, len(self.items), batch_size):
            yield self.items[start : start + batch_size]


@contextlib.contextmanager
def damage_in_words(file: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what reading a plan raises into a FormatError: the system's words, or which folder to remove where it is damaged."""
    try:
        yield
    except OSError as error:
        raise FormatError(f"cannot read the plan of this extraction, {file}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        folder = os.path.dirname(file)
        raise FormatError(
            f"the plan of this extraction is damaged ({one_line(error)}); remove the folder {folder} to start again"
        ) from error


class StoredItems(StoredTable):
    """The items in a plan's file.

    Raises:
        FormatError: the file is damaged.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        with damage_in_words(file):
            super().__init__(file)

    @contextlib.contextmanager
    def connected(self) -> Iterator[Connection]:
        """See `isc_fast.files.table.Table`."""
        with damage_in_words(self.file), super().connected() as db:
            yield db


def photos_at_once(batch_size: int, views: int) -> int:
    """Photos whose views fill an engine call; or a few calls, where those of one photo are more than a call takes."""
    if views <= batch_size:
        return batch_size // views
    common = gcd(batch_size, views)
    return batch_size // common if views // common <= _MOST_CALLS else 1


def rounded_up(number: int, unit: int) -> int:
    """The next multiple of a unit."""
    return -(-number // unit) * unit


def _least(views: int) -> int:
    """Items in a shard where there are few: their views are work for `SHARD_ROWS` descriptors."""
    return max(MIN_SHARD_ITEMS, -(-SHARD_ROWS // views))


def default_shard_size(count: int, batch_size: int, views: int = 1) -> int:
    """The number of items in a shard: small, so that an interruption costs little, but no more than `MAX_SHARDS` part files.

    It is a multiple of what the engine takes at once, so that only the last batch of the plan can be short.

    Args:
        count: of all items.
        batch_size: images in one engine call.
        views: of each image.
    """
    return rounded_up(max(_least(views), -(-count // MAX_SHARDS)), photos_at_once(batch_size, views))


def folder_shard_size(count: int, batch_size: int, views: int = 1) -> int:
    """The number of items in a shard whose part is kept: as for one file up to `MOST_KEPT_ITEMS`, so parts of 10 MB at most.

    A part is read as a whole by those who copy or check it, and whoever reads many small ones waits for each. Beyond
    `MOST_KEPT_PARTS` parts, they grow: 10⁹ images are 100,000 parts.
    """
    wanted = max(_least(views), min(-(-count // MAX_SHARDS), MOST_KEPT_ITEMS), -(-count // MOST_KEPT_PARTS))
    return rounded_up(wanted, photos_at_once(batch_size, views))


def container_shard_size(count: int, total_bytes: int) -> int:
    """The number of containers in a shard: one of a gigabyte, or many small ones; there are at most `MOST_KEPT_PARTS` shards."""
    fitting = _PART_BYTES * count // max(total_bytes, 1)
    return max(1, min(fitting, count), -(-count // MOST_KEPT_PARTS))


@dataclass(frozen=True)
class Plan:
    """What will be computed, fixed before the first pixel is decoded.

    Attributes:
        inputs: the inputs of the listing and its options, as text. The same inputs may list other images tomorrow.
        items: the images, in the order of the result; or the containers of images, see `by_container`.
        engine_id: SHA-256 of the engine file.
        decoder: the name of the decoder. Decoders differ in the last bits of a descriptor.
        batch_size: images in one engine call. It can change the last bits of a descriptor.
        shard_size: items in one part file.
        views: of each photo, names of `isc_fast.decoders.views.VIEWS`, the whole photo first.
    """

    inputs: Sequence[str]
    items: Sequence[Item]
    engine_id: str
    decoder: str
    batch_size: int
    shard_size: int
    views: tuple[str, ...] = ONLY_WHOLE

    @property
    def by_container(self) -> bool:
        """Whether the items are containers, whose images nobody knows before their shard is computed."""
        return BY_CONTAINER in self.inputs

    @property
    def shard_count(self) -> int:
        """The number of shards, which is the number of part files."""
        return -(-len(self.items) // self.shard_size)

    def rows(self, index: int) -> range:
        """The rows of the items that the shard of that index holds."""
        return range(len(self.items))[index * self.shard_size : (index + 1) * self.shard_size]

    def shard(self, index: int) -> Shard:
        """The shard of that index, ``0 ≤ index < shard_count``."""
        rows = self.rows(index)
        return Shard(index, self.items[rows.start : rows.stop])

    @cached_property
    def id(self) -> str:
        """SHA-256 of the whole plan, in hexadecimal. A plan that was read from a file takes it from the file."""
        return self._digest()

    def look_through(self, also: Callable[[Sequence[Item]], None]) -> None:
        """Find out the plan's id, and let a function have the items too, block by block: reading a long listing takes seconds."""
        vars(self)["id"] = self._digest(also)  # a cached property keeps its value there

    def _digest(self, also: Callable[[Sequence[Item]], None] | None = None) -> str:
        digest = hashlib.sha256()
        for piece in self.pieces(also):
            digest.update(piece.encode("ascii"))
        return digest.hexdigest()

    def _values(self) -> dict[str, Any]:
        """Everything but the items. A plan without views says what it always said."""
        plain = self.views == ONLY_WHOLE
        return {
            "version": PLAN_VERSION if plain else VIEWS_VERSION,
            "inputs": list(self.inputs),
            "engine_id": self.engine_id,
            "decoder": self.decoder,
            "batch_size": self.batch_size,
            "shard_size": self.shard_size,
            **({} if plain else {"views": list(self.views)}),
        }

    def pieces(self, also: Callable[[Sequence[Item]], None] | None = None) -> Iterator[str]:
        """Give the plan as ASCII JSON, in pieces of at most 4096 items. The id of the plan is the hash of all pieces.

        Of a photo in a container, only its name counts, so that a container which was touched is the same input, as a file is.

        Args:
            also: called with the items of each piece before it is given, so that the items are gone through once.
        """
        yield json.dumps({**self._values(), "items": []}).removesuffix("]}")
        for start in range(0, len(self.items), BLOCK):
            block = self.items[start : start + BLOCK]
            if also is not None:
                also(block)
            rows = json.dumps([[item.id, lasting(item.path)] for item in block])
            yield (" " if start else "") + rows[1:-1] + ("," if start + BLOCK < len(self.items) else "")
        yield "]}"

    def write(self, file: str | os.PathLike[str]) -> None:
        """Write the plan to a file, which appears whole or not at all.

        Raises:
            OutputError: the file cannot be written.
        """
        with replacing(file) as temporary, write_table(temporary) as table:
            id_ = self._digest(table.add)
            table.finish(json.dumps({**self._values(), "id": id_}))

    @classmethod
    def of_values(cls, values: dict[str, Any], items: Sequence[Item], file: str | os.PathLike[str]) -> Plan:
        """Make a plan of what a file holds: the values other than the items, the items, and the file's path for messages.

        Raises:
            FormatError: the file is of another version.
            ValueError, KeyError, TypeError: the file is damaged.
        """
        if values["version"] not in (PLAN_VERSION, VIEWS_VERSION):
            raise FormatError(
                f"the plan has version {values['version']}; this isc-fast reads {PLAN_VERSION} and {VIEWS_VERSION}; remove the "
                f"folder {os.path.dirname(file)} to start again"
            )
        for name in ("batch_size", "shard_size"):
            if not isinstance(values[name], int) or values[name] < 1:
                raise ValueError(f"{name} is {values[name]!r}")
        views = tuple(values.get("views", ONLY_WHOLE))
        if not views or not set(views) <= VIEWS.keys():
            raise ValueError(f"views are {values['views']!r:.80}")
        return cls(
            inputs=values["inputs"],
            items=items,
            engine_id=values["engine_id"],
            decoder=values["decoder"],
            batch_size=values["batch_size"],
            shard_size=values["shard_size"],
            views=views,
        )

    @classmethod
    def read(cls, file: str | os.PathLike[str]) -> Plan:
        """Read a file that `write` made. The items stay in the file, and are read when they are asked for.

        Raises:
            FileNotFoundError: there is no such file.
            FormatError: the file is damaged or of another version. Damage among its items shows when they are read.
        """
        os.stat(file)
        items = StoredItems(file)
        with damage_in_words(file):
            values = parse_json(items.head)
            plan = cls.of_values(values, items, file)
            vars(plan)["id"] = str(values["id"])  # a cached property keeps its value there
        return plan

    def difference(self, other: Plan) -> str | None:
        """Say in words how this older plan differs from another. Images are not compared, and the first difference counts.

        Returns:
            the words; None if the plans do not differ.
        """
        if list(self.inputs) != list(other.inputs):
            then = ", ".join([text for text in self.inputs if text not in other.inputs] or self.inputs)
            now = ", ".join([text for text in other.inputs if text not in self.inputs] or other.inputs)
            return f"other inputs ({then} then, {now} now)"
        if self.views != other.views:
            return f"other views (--views {in_words(self.views)} then, {in_words(other.views)} now)"
        for name, noun in (
            ("engine_id", "engine"),
            ("decoder", "decoder"),
            ("batch_size", "batch size"),
            ("shard_size", "shard size"),
        ):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"another {noun} ({str(mine)[:12]} then, {str(theirs)[:12]} now)"
        return None


def change_in_words(begun: Plan, wanted: Plan) -> str | None:
    """Say how the images of a plan that was begun differ from those of another, without going through them as `drift` does.

    Returns:
        the words; None if the images do not differ.
    """
    if begun.id == wanted.id:
        return None
    then, now = len(begun.items), len(wanted.items)
    return f"{then} then, {now} now" if then != now else "others of the same number, or in another order"


def drift(older: StoredItems, newer: StoredItems) -> str | None:
    """Say in words how the images of two plans differ.

    Returns:
        the words; None if the images do not differ.

    Raises:
        OutputError: there is no room for temporary files.
        FormatError: the file of a plan is damaged.
    """
    with damage_in_words(older.file):
        new, gone, equal = older.changes(newer)
    if equal:
        return None
    return f"{new} new, {gone} gone" if new or gone else "the same ones in another order"
