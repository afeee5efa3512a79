"""The plan of an extraction: ordered inputs cut into shards, and the ledger of what failed.

A shard becomes one part file. What is in a part depends on the plan alone, not on who computes it, when, or how often
it was interrupted: so resuming is doing the shards whose part is missing, and any worker may do any shard.
"""

from __future__ import annotations

import hashlib
import json
import operator
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar, overload

import numpy as np
import numpy.typing as npt

from .errors import FormatError

PLAN_VERSION = 1
MIN_SHARD_ITEMS = 256
MAX_SHARDS = 4096
_BLOCK = 4096  # elements that a lazy sequence makes at a time, and items in a line of a stored plan
_MOST_PLACES = 65_535  # what two bytes can number; as tuples of two strings in a dictionary, about 20 MB

T = TypeVar("T", covariant=True)


class Lazy(Sequence[T]):
    """A sequence whose elements are made when they are asked for. It equals any sequence of the same elements."""

    @abstractmethod
    def read(self, start: int, stop: int) -> list[T]:
        """The elements of ``start ≤ row < stop``, both within the length."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        rows = range(len(self))[index]
        if isinstance(rows, int):
            return self.read(rows, rows + 1)[0]
        return self.read(rows.start, max(rows.start, rows.stop)) if rows.step == 1 else [self[row] for row in rows]

    def __iter__(self) -> Iterator[T]:
        for start in range(0, len(self), _BLOCK):
            yield from self.read(start, min(start + _BLOCK, len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"{type(self).__name__}([{shown}{', …' if len(self) > 3 else ''}], {len(self)} in all)"


class Texts(Lazy[str]):
    """Strings in two buffers: each takes its UTF-8 bytes and 8 more, where a list of them takes 57 more."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes, self._ends = bytearray(), array("Q")
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Add one to the end; half a character is kept as it is."""
        self._bytes += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends)

    def read(self, start: int, stop: int) -> list[str]:
        """See `Lazy`."""
        first = self._ends[start - 1] if start else 0
        whole, ends = self._bytes[first : self._ends[stop - 1]] if stop else b"", self._ends[start:stop]
        texts, begin = [], 0
        for end in ends:
            texts.append(whole[begin : end - first].decode("utf-8", "surrogatepass"))
            begin = end - first
        return texts


def repeated_rows(texts: Iterable[str], count: int) -> npt.NDArray[np.int64]:
    """Rows, rising, whose text may occur more than once among ``count``: certainly all of which it is true.

    It takes 16 bytes a text while it works, where a set of them takes about 130. A text that occurs once is named too
    where its hash of 64 bits equals another's: of ten million texts, in one run of 400,000. So whoever acts on the answer
    looks at the texts themselves.
    """
    hashes = np.fromiter(map(hash, texts), np.int64, count)
    ordered = np.sort(hashes)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    return np.flatnonzero(np.isin(hashes, twice)) if len(twice) else np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Item:
    """One input image: the id its descriptor is stored under, and where it lies."""

    id: str
    path: str


class Items(Lazy[Item]):
    """Items in little memory: each takes the bytes of its id and 10 more, if its path is its id with something around.

    What is around an id, such as ``/data/`` and ``.jpg``, is the same for many; where it is not, the path is kept whole.
    """

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self._texts = Texts()
        self._places = array("H")  # of each item, in `_around`; 0: id and path stand in the text, with the id's length
        self._around = [("", "")]
        self._numbers: dict[tuple[str, str], int] = {}
        for item in items:
            self.append(item)

    def append(self, item: Item) -> None:
        """Add one to the end."""
        head, found, tail = item.path.rpartition(item.id) if item.id else ("", "", "")
        place = self._numbers.get((head, tail), 0) if found else 0
        if found and not place and len(self._around) <= _MOST_PLACES:
            place = self._numbers[head, tail] = len(self._around)
            self._around.append((head, tail))
        self._texts.append(item.id if place else f"{len(item.id)} {item.id}{item.path}")
        self._places.append(place)

    def __len__(self) -> int:
        return len(self._places)

    def read(self, start: int, stop: int) -> list[Item]:
        """See `Lazy`."""
        items = []
        for text, place in zip(self._texts.read(start, stop), self._places[start:stop], strict=True):
            if place:
                head, tail = self._around[place]
                items.append(Item(text, f"{head}{text}{tail}"))
            else:
                length, _, both = text.partition(" ")
                items.append(Item(both[: int(length)], both[int(length) :]))
        return items


@dataclass(frozen=True, slots=True)
class Failure:
    """One row of the failure ledger.

    Attributes:
        id, path: of the image.
        stage: ``"read"``, ``"decode"`` or ``"engine"``.
        reason: one line.
    """

    id: str
    path: str
    stage: str
    reason: str


@dataclass(frozen=True)
class Shard:
    """A run of consecutive items that becomes one part file."""

    index: int
    items: Sequence[Item]

    def batches(self, batch_size: int) -> Iterator[Sequence[Item]]:
        """The items in runs of ``batch_size``; the last may be shorter."""
        for start in range(0, len(self.items), batch_size):
            yield self.items[start : start + batch_size]


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
        for start in range(0, len(self.items), _BLOCK):
            stop = start + _BLOCK
            rows = json.dumps([[item.id, item.path] for item in self.items[start:stop]])
            yield (" " if start else "") + rows[1:-1] + ("," if stop < len(self.items) else "")
        yield "]}"

    def to_json(self) -> str:
        """ASCII JSON on one line; undecodable bytes of file names survive as lone surrogates."""
        return "".join(self._pieces())

    def lines(self) -> Iterator[str]:
        """The same with line ends between the items, for `from_lines`."""
        return (piece + "\n" for piece in self._pieces())

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what `to_json` wrote.

        Raises:
            FormatError: it is damaged or of another version.
        """
        return cls.from_lines([text])

    @classmethod
    def from_lines(cls, lines: Iterable[str], *, with_items: bool = True) -> Plan:
        """Read what `lines` gave, or `to_json`; memory holds the items and one line.

        Args:
            lines: of a plan; one that `to_json` wrote is one line.
            with_items: also read the items, rather than everything else alone.

        Raises:
            FormatError: it is damaged or of another version.
        """
        try:
            rest = iter(lines)
            head = next(rest, "").strip()
            whole = head.endswith("}")
            values = json.loads(head if whole else head + "]}")
            if values["version"] != PLAN_VERSION:
                raise FormatError(f"the plan has version {values['version']}; this isc-fast reads {PLAN_VERSION}")
            for name in ("batch_size", "shard_size"):
                if not isinstance(values[name], int) or values[name] < 1:
                    raise ValueError(f"{name} is {values[name]!r}")
            items = Items()
            while with_items:
                for id_, path in values["items"]:
                    items.append(Item(id_, path))
                line = "]}" if whole else next(rest).strip()
                if line == "]}":
                    break
                values["items"] = json.loads(f"[{line.removesuffix(',')}]")
            return cls(
                inputs=values["inputs"],
                items=items,
                engine_id=values["engine_id"],
                decoder=values["decoder"],
                batch_size=values["batch_size"],
                shard_size=values["shard_size"],
            )
        except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            reason = str(error) or "it is cut short"
            raise FormatError(f"the plan of this extraction is damaged ({reason})") from error

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

    def drift(self, other: Plan) -> str | None:
        """In words, how the images of two plans differ, this one being the older, or None."""
        if len(self.items) == len(other.items) and all(map(operator.eq, self.items, other.items)):
            return None
        mine, theirs = (np.fromiter(map(hash, plan.items), np.int64, len(plan.items)) for plan in (self, other))
        new, gone = len(np.setdiff1d(theirs, mine)), len(np.setdiff1d(mine, theirs))
        return f"{new} new, {gone} gone" if new or gone else "the same ones in another order"
