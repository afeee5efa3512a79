"""A runner for tests. Its workers live in this process, take shards in a random order, and die.

See `isc_fast.extraction.runners.base.Runner`. It shares only the account and `compute_shards` with the real runners.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from isc_fast.decoders.base import make_decoder
from isc_fast.engines.base import Engine
from isc_fast.extraction.compute import Equipment, Vectors, compute_shards
from isc_fast.extraction.plan import Shard
from isc_fast.extraction.runners.account import Account, Report, refuse_undone
from isc_fast.extraction.runners.base import Facts, Work
from isc_fast.items import Failure
from isc_fast.progress import Tally


class Death(BaseException):
    """An exception that ends a worker at once, as SIGKILL ends a process.

    Args:
        blame: whether the worker's shard may be the cause.
    """

    def __init__(self, *, blame: bool) -> None:
        self.blame = blame


@dataclass
class Toy:
    """A runner whose workers take turns.

    Args:
        engine: the engine that computes for all workers.
        seed: decides the order of the shards, the turns and the deaths.
        deaths: the number of workers that die in the middle of a shard; a new one takes the place of each. The first
            death is that of a process, the others are those of whole machines.
        poison: index of a shard that kills every worker which computes it.
    """

    engine: Engine
    seed: int
    deaths: int = 0
    poison: int | None = None
    computed: list[int] = field(default_factory=list)
    died: int = 0

    @property
    def facts(self) -> Facts:
        return Facts.of(self.engine)

    def run(self, work: Work, tally: Tally) -> None:
        random, shards = Random(self.seed), list(work.missing)
        random.shuffle(shards)
        account = Account(shards, tally)
        decoder = make_decoder(work.plan.decoder, 1)
        size, views = work.plan.batch_size, work.plan.views
        equipment = Equipment(
            self.engine, decoder, size, digesting=work.digesting, views=views, expansion=work.source.expansion
        )
        workers, newest = [0, 1, 2], 2
        tally.begin()
        while not account.over:
            worker = random.choice(workers)
            sink = _Sink(self, work, account, worker, random)
            try:
                compute_shards(_ahead(work, account, worker, random), equipment, sink)
            except Death as death:
                self.died, newest = self.died + 1, newest + 1
                workers[workers.index(worker)] = newest
                account.died(worker, f"the toy process {worker} was ended", blame=death.blame)
        refuse_undone(account, work.plan)


def _ahead(work: Work, account: Account, worker: int, random: Random) -> Iterator[Shard]:
    """Yield one to four shards for one worker, each when the decoder asks for it."""
    for _ in range(random.randint(1, 4)):
        index = account.hand_out(worker)
        if index is None:
            return
        yield work.plan.shard(index)


@dataclass
class _Sink:
    toy: Toy
    work: Work
    account: Account
    worker: int
    random: Random
    stored: set[int] = field(default_factory=set)

    def store(self, shard: Shard, vectors: Vectors, failures: Sequence[Failure]) -> None:
        if shard.index == self.toy.poison:
            raise Death(blame=True)
        self.work.parts.write_part(self.work.plan.id, shard, vectors, failures)
        self.toy.computed.append(shard.index)
        self.stored.add(shard.index)

    def count(self, shard: Shard, images: int, failed: int) -> None:
        self.account.report(self.worker, Report(shard.index, images, failed, stored=shard.index in self.stored))
        if self.toy.died < self.toy.deaths and self.random.random() < 0.3:
            raise Death(blame=not self.toy.died)
