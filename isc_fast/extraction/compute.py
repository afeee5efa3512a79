"""Computing shards: decode → engine → rows. The decoder works ahead of the engine, and the engine ahead of the host.

An engine that can begin a batch without waiting for it (`isc_fast.engines.base.AsyncEngine`) gets the next one before the
descriptors of the last are asked for, so that it never waits for the host. Which images are in a batch, and what is stored
of it, does not depend on that.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from ..decoders.base import Batch, Decoder, DeviceBatch, DeviceDecoder, Problem
from ..engines.base import AsyncEngine, DeviceEngine, Engine, Pending
from ..items import Failure, Item
from .plan import Shard

Vectors = npt.NDArray[np.float32]
Store = Callable[[Shard, Vectors, Sequence[Failure]], None]
"""Called with a whole shard: descriptors ``float32 (n, dim)`` of the images that did not fail, and the failures."""
Told = Callable[[Shard, int, int], None]
"""Called after each batch, and after `Store` where it ends its shard, with (shard, images in it, how many of them failed)."""

AHEAD = 1
"""Batches that an engine has begun when it is given the next one: it works on one while the next is copied to it."""


@dataclass
class _Done:
    """The descriptors of an engine that begins nothing without waiting for it."""

    vectors: Vectors

    def result(self) -> Vectors:
        return self.vectors


@dataclass
class _Begun:
    """A batch that the engine works on; ``pending`` is None where every image of it failed before."""

    shard: Shard
    items: Sequence[Item]
    problems: list[Problem | None]
    pending: Pending | None


def compute_shards(
    shards: Iterable[Shard], batch_size: int, engine: Engine, decoder: Decoder, store: Store, told: Told
) -> None:
    """Compute shards in order.

    Where anything fails, the shards before it are stored: also the one whose last batch the engine still had.

    Args:
        shards: asked for as the decoder gets on, ahead of what is stored.
        batch_size: images in one engine call.
        engine, decoder: where the decoder leaves pixels on the GPU and the engine takes them there, they stay there.
        store, told: see their types; what they raise ends it.

    Raises:
        IscFastError: whatever the decoder, the engine or ``store`` raises.
    """
    order: deque[tuple[Shard, Sequence[Item]]] = deque()
    begun: deque[_Begun] = deque()
    rows: list[Vectors] = []
    failures: list[Failure] = []

    def jobs() -> Iterator[Sequence[str]]:
        for shard in shards:
            for items in shard.batches(batch_size):
                order.append((shard, items))
                yield [item.path for item in items]

    def finish_oldest() -> None:
        batch = begun.popleft()
        shard, items = batch.shard, batch.items
        try:
            vectors, problems = _finish(batch, engine.spec.dim)
            rows.append(vectors)
            failures.extend(problems)
            if items[-1] is shard.items[-1]:
                store(shard, np.concatenate(rows), list(failures))
                rows.clear()
                failures.clear()
            told(shard, len(items), len(problems))
        except BaseException:
            begun.clear()  # a shard that lacks this batch must not be stored
            raise

    # Pixels that a decoder has on the GPU stay there, for an engine that takes them there.
    make: Callable[[Iterable[Sequence[str]], int, int], Generator[Batch | DeviceBatch, None, None]] = decoder.batches
    if isinstance(decoder, DeviceDecoder) and isinstance(engine, DeviceEngine):
        make = decoder.device_batches
    ahead = AHEAD if isinstance(engine, AsyncEngine) else 0
    try:
        with contextlib.closing(make(jobs(), engine.spec.height, engine.spec.width)) as batches:
            for batch in batches:
                shard, items = order.popleft()
                begun.append(_Begun(shard, items, list(batch.problems), _begin(engine, batch)))
                del batch  # its memory is free again once the engine has begun with it
                while len(begun) > ahead:
                    finish_oldest()
        while begun:
            finish_oldest()
    except Exception:
        with contextlib.suppress(Exception):  # the first error is the one to report
            while begun:
                finish_oldest()
        raise


def _begin(engine: Engine, batch: Batch | DeviceBatch) -> Pending | None:
    """Give the engine a batch; when this returns, the batch's memory may be used for something else.

    The engine always runs on the whole batch, with black in the failed slots, so that the last bits of an image's
    descriptor do not depend on whether its neighbour could be read.
    """
    if all(batch.problems):
        return None
    if isinstance(batch, DeviceBatch):
        # The batch is complete, so there is no stream or event to wait for; its memory has been copied when this returns.
        return cast(DeviceEngine, engine).start_device(batch.pointer, len(batch.problems))
    if isinstance(engine, AsyncEngine):
        return engine.start(batch.pixels)
    return _Done(engine.run(batch.pixels))


def _finish(batch: _Begun, dim: int) -> tuple[Vectors, list[Failure]]:
    """The descriptors of one batch without its failures, and the failures."""
    problems = batch.problems
    vectors = np.empty((len(batch.items), dim), np.float32)
    if batch.pending is not None:
        vectors = batch.pending.result()
        for i in np.flatnonzero(~np.isfinite(vectors).all(axis=1)):
            problems[i] = problems[i] or Problem("engine", "the descriptor is not finite")
    good = [i for i, problem in enumerate(problems) if not problem]
    failures = [
        Failure(item.id, item.path, problem.stage, problem.reason)
        for item, problem in zip(batch.items, problems, strict=True)
        if problem
    ]
    return vectors[good], failures
