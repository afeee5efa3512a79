"""Computing shards: photos → decoder → engine → rows of descriptors.

The decoder works ahead of the engine, and the engine works ahead of this process. An engine that can begin a batch
without waiting for the result (`isc_fast.engines.base.AsyncEngine`) gets the next batch before the descriptors of the
last one are fetched, so it never waits for this process. None of this changes which images are in a batch, or what is
stored of it.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from ..decoders.base import Batch, Decoder, DeviceBatch, DeviceDecoder, one_colour
from ..decoders.preprocessing import Preprocessing
from ..decoders.views import ONLY_WHOLE
from ..engines.base import AsyncEngine, DeviceEngine, Engine, Pending, abilities
from ..items import NOTED, Failure, Item, Photo, Problem
from ..sources.listing import open_item
from ..sources.whole_containers import Expansion
from .plan import Digesting, Shard, photos_at_once

Vectors = npt.NDArray[np.float32]

_ONE_COLOUR = Problem(NOTED, "of one single colour: its descriptor is that of every such image")

OPENED_AHEAD = 64
"""Photos of a shard that are opened before the decoder asks for them."""

AHEAD = 1
"""Batches that an engine has begun when it is given the next one: it works on one while the next is copied to it."""


@dataclass(frozen=True)
class Equipment:
    """What computes shards.

    Attributes:
        engine, decoder: if the decoder can leave pixels on the GPU and the engine can take them there, they stay there.
        batch_size: images in one engine call.
        open_photo: gives the decoder the photo of an item, without waiting for it; see `isc_fast.sources.base.opener`.
        digesting: gives the digests of a shard's photos, where they are wanted.
        views: of each photo, in the order of its numbers in a row; see `isc_fast.decoders.views`.
        expansion: gives the images of a shard's items, where these are containers.
    """

    engine: Engine
    decoder: Decoder
    batch_size: int
    open_photo: Callable[[Item], Photo] = open_item
    digesting: Digesting | None = None
    views: tuple[str, ...] = ONLY_WHOLE
    expansion: Expansion | None = None

    @property
    def photos_at_once(self) -> int:
        """See `isc_fast.extraction.plan.photos_at_once`."""
        return photos_at_once(self.batch_size, len(self.views))


class Sink(Protocol):
    """Takes what was computed. An error that it raises ends the computation."""

    def store(self, shard: Shard, vectors: Vectors, ledger: Sequence[Failure]) -> None:
        """Store a whole shard: a row ``float32 (n, views · dim)`` for each image that did not fail; its failures and notes."""
        ...

    def count(self, shard: Shard, images: int, failed: int) -> None:
        """Note a batch of so many images, of which so many failed. The batch that ends a shard is counted after `store`."""
        ...


@dataclass
class _Done:
    """The descriptors from an engine that has waited for its result."""

    vectors: Vectors

    def result(self) -> Vectors:
        return self.vectors


@dataclass
class _Begun:
    """A batch that the engine works on; ``pending`` is None if every image of it failed before.

    ``flat`` says which inputs are of one single colour: those of an image's views stand one behind the other.
    """

    shard: Shard
    items: Sequence[Item]
    problems: list[Problem | None]
    flat: Sequence[bool]
    pending: Pending | None


def compute_shards(shards: Iterable[Shard], equipment: Equipment, sink: Sink) -> None:
    """Compute shards in order.

    If anything fails, the shards before it are stored, also the one whose last batch the engine was still working on.

    Args:
        shards: the next one is taken when the decoder needs it, which is before the last one is stored.
        equipment: what computes them.
        sink: takes the results.

    Raises:
        IscFastError: the decoder, the engine or the sink raised it.
    """
    engine, decoder, at_once = equipment.engine, equipment.decoder, equipment.photos_at_once
    wanted = replace(engine.spec.input, views=equipment.views)
    order: deque[tuple[Shard, Sequence[Item]]] = deque()
    begun: deque[_Begun] = deque()
    empty: deque[Shard] = deque()
    rows: list[Vectors] = []
    ledger: list[Failure] = []

    def jobs() -> Iterator[Sequence[Photo]]:
        for given in shards:
            items = given.items if equipment.expansion is None else equipment.expansion(given.items)
            shard = replace(given, items=items, digesting=equipment.digesting)
            if not items:  # nothing for the decoder
                empty.append(shard)
                continue
            # Before the first photo is opened: one that is changed from now on will be described again.
            _ = shard.stamps, shard.digests
            photos = opened_ahead(map(equipment.open_photo, shard.items))
            for items in shard.batches(at_once):
                order.append((shard, items))
                yield list(islice(photos, len(items)))

    def store_empty() -> None:
        while empty:
            shard = empty.popleft()
            sink.store(shard, np.empty((0, engine.spec.dim * len(equipment.views)), np.float32), [])
            sink.count(shard, 0, 0)

    def finish_oldest() -> None:
        batch = begun.popleft()
        shard, items = batch.shard, batch.items
        try:
            vectors, found = _finish(batch, engine.spec.dim, len(equipment.views))
            rows.append(vectors)
            ledger.extend(found)
            if items[-1] is shard.items[-1]:
                sink.store(shard, np.concatenate(rows), list(ledger))
                rows.clear()
                ledger.clear()
            sink.count(shard, len(items), len(items) - len(vectors))
        except BaseException:
            begun.clear()  # a shard that lacks this batch must not be stored
            raise

    # Pixels that a decoder has on the GPU stay there for an engine that takes them there.
    make: Callable[[Iterable[Sequence[Photo]], Preprocessing], Generator[Batch | DeviceBatch, None, None]]
    make = decoder.batches
    if isinstance(decoder, DeviceDecoder) and abilities(engine).takes_gpu_pixels:
        make = decoder.device_batches
    ahead = AHEAD if abilities(engine).is_async else 0
    try:
        with contextlib.closing(make(jobs(), wanted)) as batches:
            for batch in batches:
                shard, items = order.popleft()
                flat = batch.flat if isinstance(batch, DeviceBatch) else one_colour(batch.pixels)
                begun.append(
                    _Begun(shard, items, list(batch.problems), flat, _begin(engine, batch, equipment.batch_size))
                )
                del batch  # frees its memory: the engine has begun with it and needs it no more
                while len(begun) > ahead:
                    finish_oldest()
                store_empty()
        while begun:
            finish_oldest()
        store_empty()
    except Exception:
        with contextlib.suppress(Exception):  # the first error is the one that users must see
            while begun:
                finish_oldest()
        raise


def opened_ahead(photos: Iterator[Photo]) -> Iterator[Photo]:
    """The same photos, so many of which are opened before they are asked for: what a store has is fetched meanwhile."""
    waiting = deque(islice(photos, OPENED_AHEAD))
    while waiting:
        waiting.extend(islice(photos, 1))
        yield waiting.popleft()


def _begin(engine: Engine, batch: Batch | DeviceBatch, batch_size: int) -> Pending | None:
    """Give the engine a batch. When this returns, the memory of the batch may be used for something else.

    The engine always runs on the whole batch, in which the slots of failed images are black. So the last bits of a
    descriptor do not depend on whether its neighbour could be read.
    """
    if all(batch.problems):
        return None
    if isinstance(batch, DeviceBatch):
        # The batch is complete, so the engine waits for no stream or event. It copies the memory before this returns.
        return cast(DeviceEngine, engine).start_device(batch.pointer, len(batch.problems))
    if len(batch.pixels) > batch_size:  # views of a photo are more than a call takes
        starts = range(0, len(batch.pixels), batch_size)
        return _Done(np.concatenate([engine.run(batch.pixels[start : start + batch_size]) for start in starts]))
    if abilities(engine).is_async:
        return cast(AsyncEngine, engine).start(batch.pixels)
    return _Done(engine.run(batch.pixels))


def _finish(batch: _Begun, dim: int, views: int) -> tuple[Vectors, list[Failure]]:
    """A row of each image in a batch that did not fail, with the descriptors of all its views; and the rows of the ledger."""
    problems = batch.problems
    vectors = np.empty((len(batch.items), views * dim), np.float32)
    if batch.pending is not None:
        found = batch.pending.result()
        vectors = found if views == 1 else _said(found, batch.flat, views)
        for i in np.flatnonzero(~np.isfinite(vectors).all(axis=1)):
            problems[i] = problems[i] or Problem("engine", "the descriptor is not finite")
    good = [i for i, problem in enumerate(problems) if not problem]
    wholes = batch.flat[::views]
    rows = [problem or (_ONE_COLOUR if flat else None) for problem, flat in zip(problems, wholes, strict=True)]
    ledger = [
        Failure(item.id, item.path, row.stage, row.reason) for item, row in zip(batch.items, rows, strict=True) if row
    ]
    return vectors[good], ledger


def _said(found: Vectors, flat: Sequence[bool], views: int) -> Vectors:
    """Descriptors of views, ``(n · views, dim)``, as rows of images.

    A view of one single colour says nothing, and looks like every blank picture: the whole image stands in its place.
    """
    each = found.reshape(-1, views, found.shape[1])
    blank = np.asarray(flat, bool).reshape(-1, views, 1)
    return np.where(blank, each[:, :1], each).reshape(len(each), -1)
