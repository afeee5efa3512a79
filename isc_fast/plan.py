"""The plan of an extraction: ordered inputs cut into shards, and the ledger of what failed.

A shard becomes one part file. What is in a part depends on the plan alone, not on who computes it, when, or how often
it was interrupted: so resuming is doing the shards whose part is missing, and any worker may do any shard.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from .errors import FormatError

PLAN_VERSION = 1
MIN_SHARD_ITEMS = 256
MAX_SHARDS = 4096


@dataclass(frozen=True, slots=True)
class Item:
    """One input image: the id its descriptor is stored under, and where it lies."""

    id: str
    path: str


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

    def shard(self, index: int) -> Shard:
        """The shard of that index, ``0 ≤ index < shard_count``."""
        start = index * self.shard_size
        return Shard(index, self.items[start : start + self.shard_size])

    @cached_property
    def id(self) -> str:
        """SHA-256 of the whole plan, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode("ascii")).hexdigest()

    def to_json(self) -> str:
        """ASCII JSON; undecodable bytes of file names survive as lone surrogates."""
        return json.dumps(
            {
                "version": PLAN_VERSION,
                "inputs": list(self.inputs),
                "engine_id": self.engine_id,
                "decoder": self.decoder,
                "batch_size": self.batch_size,
                "shard_size": self.shard_size,
                "items": [[item.id, item.path] for item in self.items],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what `to_json` wrote.

        Raises:
            FormatError: it is damaged or of another version.
        """
        try:
            values = json.loads(text)
            if values["version"] != PLAN_VERSION:
                raise FormatError(f"the plan has version {values['version']}; this isc-fast reads {PLAN_VERSION}")
            for name in ("batch_size", "shard_size"):
                if not isinstance(values[name], int) or values[name] < 1:
                    raise ValueError(f"{name} is {values[name]!r}")
            return cls(
                inputs=values["inputs"],
                items=[Item(id_, path) for id_, path in values["items"]],
                engine_id=values["engine_id"],
                decoder=values["decoder"],
                batch_size=values["batch_size"],
                shard_size=values["shard_size"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"the plan of this extraction is damaged ({error})") from error

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
        mine, theirs = set(self.items), set(other.items)
        if list(self.items) == list(other.items):
            return None
        if mine == theirs:
            return "the same ones in another order"
        return f"{len(theirs - mine)} new, {len(mine - theirs)} gone"
