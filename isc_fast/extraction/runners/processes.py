"""The runner that computes with several worker processes on this machine, one for each device.

The workers ask for shards one by one, so a slow device does fewer of them. The calling process computes nothing and
touches no GPU. The result has the same bytes as that of one process.

When a worker dies, killed for its memory or by a fault of a driver, only the shards that it held are lost;
`isc_fast.extraction.runners.account` says which worker computes them instead. A photo that ends every process which decodes
it becomes a row of the ledger. An error that a worker reports ends the
run, as it ends the run of one process. In every case the parts that are complete stay, and the same command continues.

Waits without a limit. The run waits for ever where a worker neither works nor dies, for example because a file system
or a driver hangs, or because someone has stopped the process:

* `Processes.facts` waits for the worker that loads the engine;
* `_Run.until_done` waits for the next message of any worker, so one hanging worker is noticed only when all others are
done;
* `Worker.say` waits if a worker has stopped reading and the pipe (64 KB) is full;
* at the end of ``started``, a killed worker is waited for. A process inside a hanging system call ignores even SIGKILL.

A worker waits without a limit too: for the answer to its question. It ends if the calling process does.

The tests run several processes on the processor (`docs/gpu.md`).
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...errors import EngineError, MissingExtraError
from ...machine import cuda
from ...machine.devices import split_device
from ...progress import Tally
from .account import Account, Report
from .assignment import Assignment
from .base import Facts, Work
from .engine_tool import assigned, job_of
from .launch import Event, Worker, raise_reported, started


@dataclass(frozen=True)
class Processes:
    """Computes with worker processes; see `isc_fast.extraction.runners.base.Runner`.

    Args:
        engine: path of the engine's file, or ``"demo"``.
        devices: the device of each worker, as `isc_fast.machine.devices.parse_devices` gives them.
        options: further arguments of `isc_fast.load_engine`. Threads among them are those of all workers together.
        decode_threads: number of threads that decode, in all workers together; by default one for each core.
        isolated: see `isc_fast.decoders.base.make_decoder`.

    Raises:
        EngineError: one of the GPUs is not there, or they are not alike. Where ``cuda.bindings`` is not installed, that
        is not
            checked here.
    """

    engine: str
    devices: Sequence[str]
    options: Mapping[str, Any]
    decode_threads: int | None
    isolated: bool = False

    def __post_init__(self) -> None:
        gpus = [index for kind, index in map(split_device, self.devices) if kind == "cuda"]
        if gpus:
            with contextlib.suppress(MissingExtraError):
                cuda.check_alike(gpus)

    @cached_property
    def facts(self) -> Facts:
        """What the engine is when one process has the whole machine. A worker loads it only for that, and ends.

        So the plan, with its batch size, is the same for any number of workers. And what an engine does only once, such
        as building for a GPU, is not done by all workers at once.

        Raises:
            EngineError: the engine cannot be loaded.
        """
        with started(self.devices[:1], job_of(self.engine, self.options)) as ((worker,), events):
            _, message = events.get()
            if message is None:
                raise EngineError(
                    f"the process that loaded {self.engine} on {worker.device} {worker.how_it_ended()}; look at: "
                    "isc-fast doctor"
                )
            if message["kind"] == "error":
                raise_reported(worker, message)
            return Facts.of_message(message)

    def run(self, work: Work, tally: Tally) -> None:
        """See `isc_fast.extraction.runners.base.Runner`.

        Raises:
            InputError: only this process can open the photos.
            IscFastError: a worker reported it, or too many workers died.
        """
        job = job_of(self.engine, self.options)
        carry_out(assigned(work, job, threads=self.decode_threads, isolated=self.isolated), self.devices, tally)


def carry_out(assignment: Assignment, devices: Sequence[str], tally: Tally) -> None:
    """Compute shards with a worker process on each device.

    Args:
        assignment: the shards.
        devices: their names; those that there is no shard for are left out.
        tally: counts what is done.

    Raises:
        IscFastError: a worker reported it, or too many workers died.
    """
    account = Account(assignment.missing, tally, isolates=assignment.careful)
    job = {**assignment.job, "begin": assignment.begin}
    at_work, begun = devices[: len(assignment.missing)], False
    while at_work:
        with started(at_work, job, assignment.lock) as (workers, events):
            begun = _Run(assignment, account, workers).until_done(events, tally, begun=begun)
        # All may have died of one photo. One more finds out which it is.
        at_work = devices[:1] if account.must_end_isolated else ()
    assignment.refuse(account)


class _Run:
    """Answers the workers: it carries messages between their pipes and the account."""

    def __init__(self, assignment: Assignment, account: Account, workers: Sequence[Worker]) -> None:
        self._assignment, self._account = assignment, account
        self._alive = {worker.number: worker for worker in workers}
        self._waiting: list[Worker] = []  # those that have nothing to do and asked for more
        self._dismissed: set[int] = set()  # those that know there is no more

    def until_done(self, events: queue.SimpleQueue[Event], tally: Tally, *, begun: bool) -> bool:
        """Answer until every worker is gone.

        Args:
            events: what the workers say.
            tally: is told when the first of them is ready.
            begun: whether it was told already.

        Returns:
            whether it was told.

        Raises:
            IscFastError: a worker reported it.
        """
        while self._alive:
            worker, message = events.get()
            if message is None:
                self._gone(worker)
            elif message["kind"] == "error":
                raise_reported(worker, message)
            elif message["kind"] == "report":
                self._account.report(worker.number, Report(**message["report"]))
            else:
                if not begun:  # the rate that users see leaves out the time of loading
                    tally.begin()
                    begun = True
                self._asked(worker, wait=message["wait"])
            self._serve_waiting()
        return begun

    def _asked(self, worker: Worker, *, wait: bool) -> None:
        if wait:
            self._waiting.append(worker)
        elif not self._give(worker):
            worker.say({"shard": None})

    def _give(self, worker: Worker) -> bool:
        """Give a worker a shard, if there is one for it."""
        index = self._account.hand_out(worker.number)
        if index is None:
            return False
        worker.say(self._assignment.hand(index, self._account.must_isolate(index)))
        return True

    def _serve_waiting(self) -> None:
        """Give shards to the workers that wait, and dismiss them where no shard can come any more."""
        self._waiting = [worker for worker in self._waiting if not self._give(worker)]
        if self._account.over:
            for worker in self._waiting:
                self._dismissed.add(worker.number)
                worker.say({"shard": None})
            self._waiting = []

    def _gone(self, worker: Worker) -> None:
        del self._alive[worker.number]
        self._waiting = [other for other in self._waiting if other is not worker]
        if worker.number not in self._dismissed:
            self._account.died(worker.number, f"the process on {worker.device} {worker.how_it_ended()}")
