"""What a worker does with the shards that it is handed, whoever hands them out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from ...decoders.base import make_decoder
from ...decoders.contents import digests_of
from ...engines.base import Engine, gpu_of
from ...errors import EngineError
from ...items import Failure, Item
from ...sources.listing import open_item
from ...sources.whole_containers import Expansion
from ..compute import Equipment, Vectors, compute_shards
from ..parts import PartsFolder
from ..plan import Shard
from .account import Report
from .assignment import Channel


@dataclass(frozen=True)
class Handed:
    """A shard in a worker's hands.

    Attributes:
        shard: the shard.
        isolated: whether its photos must be decoded in processes of their own, because it ended workers before.
    """

    shard: Shard
    isolated: bool = False

    def message(self) -> dict[str, Any]:
        """It as a message; `of` is the way back."""
        items = [[item.id, item.path] for item in self.shard.items]
        return {"shard": self.shard.index, "items": items, "isolated": self.isolated}

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Handed:
        """The shard of a message."""
        items = [Item(id_, path) for id_, path in message["items"]]
        return cls(Shard(message["shard"], items), message["isolated"])


@dataclass(frozen=True)
class Task:
    """How the shards of a plan are computed.

    Attributes:
        engine_id, plan_id, batch_size, decoder, views: of the plan.
        decode_threads: this worker's.
        isolated: whether all photos are decoded in processes of their own.
        checksum: whether digests of the photos are stored.
        expansion: where shards hold containers, what gives their images, as a message.
    """

    engine_id: str
    plan_id: str
    batch_size: int
    decoder: str
    views: Sequence[str]
    decode_threads: int
    isolated: bool
    checksum: bool
    expansion: Mapping[str, Any] | None = None


class _Sink:
    """Stores parts and reports what was done; see `isc_fast.extraction.compute.Sink`."""

    def __init__(self, channel: Channel, parts: PartsFolder, plan_id: str) -> None:
        self._channel, self._parts, self._plan_id = channel, parts, plan_id
        self._stored: set[int] = set()

    def store(self, shard: Shard, vectors: Vectors, ledger: Sequence[Failure]) -> None:
        self._parts.write_part(self._plan_id, shard, vectors, ledger)
        self._stored.add(shard.index)

    def count(self, shard: Shard, images: int, failed: int) -> None:
        self._channel.report(Report(shard.index, images, failed, stored=shard.index in self._stored))


def compute_handed(channel: Channel, engine: Engine, parts: PartsFolder, task: Task) -> None:
    """Compute the shards that a channel hands out, until it says that there are no more.

    Raises:
        IscFastError: the decoder, the engine or the folder of parts raised it.
    """
    if engine.id != task.engine_id:
        raise EngineError(f"{engine.path} was changed while it was loaded; run the same command again")
    sink = _Sink(channel, parts, task.plan_id)
    kept: list[Handed] = []  # a shard to be isolated that came behind others

    def equipment(isolated: bool) -> Equipment:
        decoder = make_decoder(task.decoder, task.decode_threads, gpu=gpu_of(engine), isolated=isolated)
        digesting = partial(digests_of, photo_of=open_item) if task.checksum else None
        expansion = None if task.expansion is None else Expansion.of_message(task.expansion)
        views = tuple(task.views)
        return Equipment(engine, decoder, task.batch_size, digesting=digesting, views=views, expansion=expansion)

    def asked(*, wait: bool) -> Handed | None:
        message = channel.ask(wait=wait)
        return None if message is None else Handed.of(message)

    def following() -> Iterator[Shard]:
        while (handed := asked(wait=False)) is not None:
            if handed.isolated:
                kept.append(handed)
                return
            yield handed.shard

    usual = equipment(task.isolated)
    while (first := kept.pop() if kept else asked(wait=True)) is not None:
        if first.isolated:
            compute_shards([first.shard], equipment(True), sink)
        else:
            compute_shards(chain([first.shard], following()), usual, sink)
