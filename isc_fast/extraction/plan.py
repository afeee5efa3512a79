"""The plan of an extraction: ordered inputs cut into shards, and the ledger of what failed.

A shard becomes one part file. What is in a part depends on the plan alone, not on who computes it, when, or how often
it was interrupted: so resuming is doing the shards whose part is missing, and any worker may do any shard.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import operator
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..errors import FormatError
from ..files.lazy import BLOCK, Lazy
from ..files.repeats import count_changes
from ..items import Item

PLAN_VERSION = 1
MIN_SHARD_ITEMS = 256
MAX_SHARDS = 4096


@dataclass(frozen=True)
class Shard:
    """A run of consecutive items that becomes one part file."""

    index: int
    items: Sequence[Item]

    def batches(self, batch_size: int) -> Iterator[Sequence[Item]]:
        """The items in runs of ``batch_size``; the last may be shorter."""
        for start in range(0, len(self.items), batch_size):
            yield self.items[start : start + batch_size]


@contextlib.contextmanager
def _damage_in_words(file: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except (FormatError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        words = error if isinstance(error, FormatError) else f"the plan of this extraction is damaged ({error})"
        raise FormatError(f"{words}; remove the folder {os.path.dirname(file)} to start again") from error


def _as_lines(items: Sequence[Item]) -> Iterator[str]:
    """The items as JSON without the outer brackets, in lines of `BLOCK` each."""
    for start in range(0, len(items), BLOCK):
        rows = json.dumps([[item.id, item.path] for item in items[start : start + BLOCK]])
        yield (" " if start else "") + rows[1:-1] + ("," if start + BLOCK < len(items) else "")


class StoredItems(Lazy[Item]):
    """The items in a plan's file. Memory holds where its lines begin, and the last line that was asked for.

    The file is open only while it is read: on network file systems, what is open cannot be removed.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self._file = os.fspath(file)
        self._ends = array("Q")  # of the head's line, and of the lines of items
        end, last = 0, b""
        with open(file, "rb") as stream:
            for last in stream:
                end += len(last)
                self._ends.append(end)
        if last.strip() != b"]}":
            raise ValueError("it is cut short")
        self._ends.pop()
        self._kept: tuple[int, list[Item]] = (-1, [])
        lines = len(self._ends) - 1
        self._count = (lines - 1) * BLOCK + len(self._line(lines - 1)) if lines else 0

    def __len__(self) -> int:
        return self._count

    def _raw(self, number: int) -> str:
        start, end = self._ends[number], self._ends[number + 1]
        with open(self._file, "rb", buffering=0) as stream:
            return os.pread(stream.fileno(), end - start, start).decode("ascii").removesuffix("\n")

    def _line(self, number: int) -> list[Item]:
        kept, items = self._kept
        if kept != number:
            items = [Item(*map(_text, pair)) for pair in json.loads(f"[{self._raw(number).removesuffix(',')}]")]
            if not 0 < len(items) <= BLOCK or (len(items) < BLOCK and number + 2 < len(self._ends)):
                raise ValueError(f"line {number + 2} has {len(items)} images")
            self._kept = (number, items)
        return items

    def read(self, start: int, stop: int) -> list[Item]:
        """See `Lazy`.

        Raises:
            FormatError: the file is damaged there.
        """
        items: list[Item] = []
        with _damage_in_words(self._file):
            for number in range(start // BLOCK, -(-stop // BLOCK)):
                first = number * BLOCK
                items += self._line(number)[max(0, start - first) : stop - first]
        return items

    def lines(self) -> Iterator[str]:
        """What stands in the file, a line at a time, without its end.

        Raises:
            FormatError: the file is damaged.
        """
        with _damage_in_words(self._file):
            yield from map(self._raw, range(len(self._ends) - 1))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def default_shard_size(count: int, batch_size: int) -> int:
    """Items of a shard: few enough that a crash costs little, and at most `MAX_SHARDS` part files.

    A multiple of the batch size, so that only the very last batch of the plan can be short.
    """
    wanted = max(MIN_SHARD_ITEMS, -(-count // MAX_SHARDS))
    return -(-wanted // batch_size) * batch_size


@dataclass(frozen=True)
class Plan:
    """What will be computed, fixed before the first pixel is decoded.

    Attributes:
        inputs: where the images were listed, and how, as text: the same inputs may list other images tomorrow.
        items: the images, in the order of the result.
        engine_id: SHA-256 of the engine file.
        decoder: name of the decoder, since decoders differ in their last bits.
        batch_size: images in one engine call; part of the plan, since it can change the last bits of a descriptor.
        shard_size: items in one part file.
    """

    inputs: Sequence[str]
    items: Sequence[Item]
    engine_id: str
    decoder: str
    batch_size: int
    shard_size: int

    @property
    def shard_count(self) -> int:
        """Number of shards, and so of part files."""
        return -(-len(self.items) // self.shard_size)

    def rows(self, index: int) -> range:
        """Which items the shard of that index holds."""
        return range(len(self.items))[index * self.shard_size : (index + 1) * self.shard_size]

    def shard(self, index: int) -> Shard:
        """The shard of that index, ``0 ≤ index < shard_count``."""
        rows = self.rows(index)
        return Shard(index, self.items[rows.start : rows.stop])

    @cached_property
    def id(self) -> str:
        """SHA-256 of the whole plan, in hexadecimal."""
        digest = hashlib.sha256()
        for piece in self._pieces():
            digest.update(piece.encode("ascii"))
        return digest.hexdigest()

    def _pieces(self) -> Iterator[str]:
        """The plan as ASCII JSON, in pieces that are small however many items there are; a line may end after each."""
        values = {
            "version": PLAN_VERSION,
            "inputs": list(self.inputs),
            "engine_id": self.engine_id,
            "decoder": self.decoder,
            "batch_size": self.batch_size,
            "shard_size": self.shard_size,
            "items": [],
        }
        yield json.dumps(values).removesuffix("]}")
        if isinstance(self.items, StoredItems):
            yield from self.items.lines()
        else:
            yield from _as_lines(self.items)
        yield "]}"

    def lines(self) -> Iterator[str]:
        """What `read` takes: ASCII JSON; undecodable bytes of file names survive as lone surrogates."""
        return (piece + "\n" for piece in self._pieces())

    @classmethod
    def read(cls, file: str | os.PathLike[str], *, with_items: bool = True) -> Plan:
        """Read a file of the lines that `lines` gave. The items stay in it, and are read where they are asked for.

        Args:
            file: of a plan.
            with_items: also look for the items, rather than read everything else alone.

        Raises:
            FileNotFoundError: there is none.
            FormatError: it is damaged or of another version. Of its items, only the last are looked at now.
        """
        with open(file, "rb") as stream, _damage_in_words(file):
            values = json.loads(stream.readline().decode("ascii").strip() + "]}")
            if values["version"] != PLAN_VERSION:
                raise FormatError(f"the plan has version {values['version']}; this isc-fast reads {PLAN_VERSION}")
            for name in ("batch_size", "shard_size"):
                if not isinstance(values[name], int) or values[name] < 1:
                    raise ValueError(f"{name} is {values[name]!r}")
            return cls(
                inputs=values["inputs"],
                items=StoredItems(file) if with_items else [],
                engine_id=values["engine_id"],
                decoder=values["decoder"],
                batch_size=values["batch_size"],
                shard_size=values["shard_size"],
            )

    def difference(self, other: Plan) -> str | None:
        """In words, the first thing but the images in which two plans differ, this one being the older, or None."""
        if list(self.inputs) != list(other.inputs):
            then = ", ".join([text for text in self.inputs if text not in other.inputs] or self.inputs)
            now = ", ".join([text for text in other.inputs if text not in self.inputs] or other.inputs)
            return f"other inputs ({then} then, {now} now)"
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

    def drift(self, other: Plan, folder: str | os.PathLike[str] | None = None) -> str | None:
        """In words, how the images of two plans differ, this one being the older, or None.

        Args:
            other: the newer plan.
            folder: for temporary files; by default the system's.
        """
        if len(self.items) == len(other.items) and all(map(operator.eq, self.items, other.items)):
            return None
        new, gone = count_changes(self.items, other.items, folder)
        return f"{new} new, {gone} gone" if new or gone else "the same ones in another order"
