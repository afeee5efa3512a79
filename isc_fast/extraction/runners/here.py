"""The runner that computes everything in the calling process, with one engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from ...decoders.base import make_decoder
from ...engines.base import Engine, gpu_of
from ...items import Failure
from ...progress import Tally
from ...sources.base import opener
from ..compute import Equipment, Vectors, compute_shards
from ..plan import Shard
from .base import Facts, Work, device_of


@dataclass(frozen=True)
class Here:
    """Computes in this process; see `isc_fast.extraction.runners.base.Runner`.

    Args:
        open_engine: returns the loaded engine. It is called once, when the engine is first needed.
        decode_threads: number of threads that decode; by default one for each core.
        isolated: see `isc_fast.decoders.base.make_decoder`.
    """

    open_engine: Callable[[], Engine]
    decode_threads: int | None = None
    isolated: bool = False

    @cached_property
    def engine(self) -> Engine:
        """The loaded engine.

        Raises:
            EngineError: it cannot be loaded.
        """
        return self.open_engine()

    @cached_property
    def facts(self) -> Facts:
        """See `isc_fast.extraction.runners.base.Runner`."""
        return Facts.of(self.engine)

    def run(self, work: Work, tally: Tally) -> None:
        """See `isc_fast.extraction.runners.base.Runner`."""
        gpu = gpu_of(self.engine)
        decoder = make_decoder(work.plan.decoder, self.decode_threads, gpu=gpu, isolated=self.isolated)
        tally.begin()
        shards = map(work.plan.shard, work.missing)
        size, views, expansion = work.plan.batch_size, work.plan.views, work.source.expansion
        opening = opener(work.source)
        equipment = Equipment(self.engine, decoder, size, opening, work.digesting, views, expansion)
        parts = work.parts.on(partial(device_of, self.engine))
        compute_shards(shards, equipment, _Sink(replace(work, parts=parts), tally))


@dataclass(frozen=True)
class _Sink:
    """Stores parts and counts images; see `isc_fast.extraction.compute.Sink`."""

    work: Work
    tally: Tally

    def store(self, shard: Shard, vectors: Vectors, ledger: Sequence[Failure]) -> None:
        self.work.parts.write_part(self.work.plan.id, shard, vectors, ledger)

    def count(self, _shard: Shard, images: int, failed: int) -> None:
        self.tally.add(images, failed)
