"""The account of a run by itself: events in random orders, without any worker."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from isc_fast.errors import EngineError
from isc_fast.extraction.plan import Plan
from isc_fast.extraction.runners.account import Account, Report, refuse_undone
from isc_fast.items import Item
from isc_fast.progress import Tally

BATCHES, IMAGES = 3, 2  # of each shard, and of each batch


def account_of(*shards: int) -> Account:
    return Account(shards, Tally(99, 99, None))


def stored(shard: int) -> Report:
    return Report(shard, IMAGES, 0, stored=True)


# --- one rule each


def test_shards_are_handed_out_in_order_and_once():
    account = account_of(3, 5, 8)
    assert [account.hand_out(worker) for worker in (1, 2, 1, 2, 1)] == [3, 5, 8, None, None]
    assert not account.over
    for worker, shard in ((1, 3), (2, 5), (1, 8)):
        account.report(worker, stored(shard))
    assert account.over
    assert account.undone == 0


def test_nothing_to_do_is_over_at_once():
    assert account_of().over


def test_what_a_dead_worker_held_is_tried_after_all_else_and_alone():
    account = account_of(0, 1, 2, 3)
    assert [account.hand_out(1) for _ in range(2)] == [0, 1]
    account.died(1, "gone")
    assert account.undone == 4
    assert [account.hand_out(2) for _ in range(3)] == [2, 3, None], "no suspect beside others"
    account.report(2, stored(2))
    assert account.hand_out(2) is None, "not even when only one other is held"
    account.report(2, stored(3))
    assert [account.hand_out(2), account.hand_out(2), account.hand_out(3)] == [0, None, 1]


def test_a_worker_that_holds_a_suspect_gets_nothing_else():
    account = account_of(0, 1)
    assert [account.hand_out(1), account.hand_out(2)] == [0, 1]
    account.died(1, "gone")
    account.report(2, stored(1))
    assert account.hand_out(2) == 0
    account = account_of(0, 1)
    assert [account.hand_out(1), account.hand_out(2)] == [0, 1]
    account.died(1, "gone")
    assert account.hand_out(3) == 0
    account.died(2, "the machine is gone", blame=False)
    assert account.hand_out(3) is None, "though shard 1 is there again"
    assert account.hand_out(4) == 1


def test_a_shard_is_left_after_two_deaths():
    account = account_of(0, 1)
    assert account.hand_out(1) == 0
    account.died(1, "first")
    assert account.hand_out(2) == 1
    account.report(2, stored(1))
    assert account.hand_out(2) == 0
    account.died(2, "second")
    assert account.left == {0: "second"}
    assert account.over
    assert account.hand_out(3) is None


def test_after_two_deaths_photos_are_isolated_where_that_can_be():
    account = Account([0, 1], Tally(99, 99, None), isolates=True)
    assert (account.hand_out(1), account.hand_out(2)) == (0, 1)
    account.died(1, "first")
    assert not account.must_isolate(0)
    assert account.hand_out(3) == 0
    account.died(3, "the machine is gone", blame=False)
    assert not account.must_isolate(0)
    assert account.hand_out(4) == 0
    assert not account.must_end_isolated
    account.died(4, "second")
    assert (account.left, account.must_end_isolated, account.undone) == ({}, True, 1)
    assert (account.must_isolate(0), account.must_isolate(1)) == (True, False)
    assert account.hand_out(5) == 0
    assert (account.holding(5), account.must_end_isolated, account.must_isolate(0)) == (1, False, True)
    account.died(5, "third")
    assert account.left == {0: "third"}
    assert not account.must_isolate(0)
    with pytest.raises(EngineError, match=r"^3 processes ended over the images"):
        refuse_undone(account, PLAN)


def test_only_the_shard_that_was_computed_is_to_blame():
    """Workers 1 and 2 are killed from outside, and shard 1 was in the hands of both."""
    account = account_of(0, 1)
    assert [account.hand_out(1) for _ in range(2)] == [0, 1]
    account.died(1, "killed")
    assert account.hand_out(2) == 0
    account.report(2, stored(0))
    assert account.hand_out(2) == 1
    account.died(2, "killed")
    assert account.left == {}
    assert account.hand_out(3) == 1
    account.report(3, stored(1))
    assert account.over


def test_the_shard_behind_one_that_was_stored_is_to_blame():
    account = account_of(0, 1)
    assert [account.hand_out(1) for _ in range(2)] == [0, 1]
    account.report(1, stored(0))
    account.died(1, "once")
    assert account.hand_out(2) == 1
    account.died(2, "twice")
    assert account.left == {1: "twice"}


def test_nobody_is_to_blame_where_a_machine_is_gone():
    account = account_of(0, 1, 2)
    for worker in range(5):
        assert len({account.hand_out(worker), account.hand_out(worker)} & {0, 1, 2}) == 2
        account.died(worker, "the machine is gone", blame=False)
    assert account.left == {}
    assert account.undone == 3
    held = [account.hand_out(9) for _ in range(4)]
    assert {*held[:3]} == {0, 1, 2}, "they are no suspects, or no worker would hold them all"


def test_a_suspect_stays_one_where_a_machine_is_gone():
    account = account_of(0, 1)
    assert [account.hand_out(1) for _ in range(2)] == [0, 1]
    account.died(1, "killed")
    assert account.hand_out(2) == 0
    account.died(2, "the machine is gone", blame=False)
    assert account.left == {}
    assert [account.hand_out(3), account.hand_out(3)] == [1, None]


def test_images_of_a_shard_that_is_lost_are_not_counted():
    steps: list[tuple[int, int, int]] = []
    account = Account([0, 1], Tally(12, 12, lambda *step: steps.append(step)))
    for shard in (account.hand_out(1), account.hand_out(1)):
        assert shard is not None
        account.report(1, Report(shard, 2, 1, stored=False))
    account.report(1, Report(0, 4, 0, stored=True))
    account.died(1, "gone")
    assert steps == [(2, 12, 1), (4, 12, 2), (8, 12, 2), (6, 12, 1)]


def test_a_report_that_comes_late_changes_nothing():
    """A worker that was given up for dead may still report."""
    account = account_of(0)
    account.hand_out(1)
    account.died(1, "given up")
    account.report(1, stored(0))
    assert account.undone == 1
    assert account.hand_out(2) == 0
    account.report(1, stored(0))
    assert not account.over
    account.report(2, stored(0))
    account.report(2, stored(0))
    assert account.over


# --- the words at the end

PLAN = Plan([], [Item(str(i), f"/p/{i}.jpg") for i in range(6)], "e" * 64, "pillow", 2, 2)


def test_a_run_that_did_everything_is_no_error():
    account = account_of(0)
    account.hand_out(1)
    account.report(1, stored(0))
    account.died(2, "the process on cpu ended with status 1")
    refuse_undone(account, PLAN)


def test_the_error_names_the_shard_that_is_left():
    account = account_of(1, 2)
    assert account.hand_out(1) == 1
    account.died(1, "worker 1 fell")
    assert [account.hand_out(3), account.hand_out(2)] == [2, 1]
    account.died(2, "worker 2 fell")
    words = r"^2 processes ended over the images /p/2.jpg to /p/3.jpg \(worker 2 fell\); "
    with pytest.raises(EngineError, match=words + "all else is done; "):
        refuse_undone(account, PLAN)  # worker 3 will have done the other
    account.died(3, "worker 3 fell")
    with pytest.raises(EngineError, match=words + "1 other parts are not done either; "):
        refuse_undone(account, PLAN)


def test_the_error_says_how_the_last_worker_died():
    account = account_of(0, 1)
    account.hand_out(1)
    account.died(1, "the process on cpu ended with status 3")
    with pytest.raises(
        EngineError, match=r"^the process on cpu ended with status 3, and no other is left; .* again, on"
    ):
        refuse_undone(account, PLAN)


# --- random orders of events, against what must always hold


class World:
    """Workers that ask, work and die in a random order, and a book kept by the test itself.

    Args:
        random: makes all choices.
        shards: how many there are.
        poison: those that kill every worker that holds them, sooner or later; the worker may be computing another one.
        kills: how many workers are killed from outside.
    """

    def __init__(self, random: Random, shards: int, poison: frozenset[int], kills: int) -> None:
        self.random, self.shards, self.poison, self.kills = random, shards, poison, kills
        self.counted: list[tuple[int, int, int]] = []
        total = shards * BATCHES * IMAGES
        tally = Tally(total, total, lambda *step: self.counted.append(step))
        self.account = Account(range(shards), tally, isolates=random.random() < 0.5)
        self.most = self.account.most_deaths
        self.held: dict[int, list[int]] = {}
        self.batches: Counter[int] = Counter()
        self.done: set[int] = set()
        self.blamed: Counter[int] = Counter()
        self.suspects: set[int] = set()
        self.deaths = 0
        self.ghosts: list[tuple[int, int]] = []
        self.workers = [0, 1, 2]

    def ask(self, worker: int) -> None:
        shard = self.account.hand_out(worker)
        held = self.held.setdefault(worker, [])
        if shard is None:
            return
        assert shard not in self.done, "it is done"
        assert not any(shard in others for others in self.held.values()), "two hold it"
        assert shard not in self.account.left, "it is left"
        assert not (held and shard in self.suspects), "a suspect is handed out beside others"
        assert self.suspects.isdisjoint(held), "something is handed out beside a suspect"
        held.append(shard)

    def work(self, worker: int) -> None:
        held = self.held.get(worker, [])
        if not held:
            return
        shard = held[0]
        if not self.poison.isdisjoint(held) and (shard in self.poison or self.random.random() < 0.3):
            self.die(worker)
            return
        self.batches[shard] += 1
        last = self.batches[shard] == BATCHES
        self.account.report(worker, Report(shard, IMAGES, 0, stored=last))
        if last:
            self.done.add(held.pop(0))

    def die(self, worker: int, *, blame: bool = True) -> None:
        held = self.held.pop(worker, [])
        self.account.died(worker, f"worker {worker} died", blame=blame)
        if blame and held:
            self.blamed[held[0]] += 1
            self.suspects.update(held)
        for shard in held:
            self.batches[shard] = 0
            self.ghosts.append((worker, shard))
        self.deaths += 1
        self.workers[self.workers.index(worker)] = max(self.workers) + 1

    def step(self) -> None:
        worker, chance = self.random.choice(self.workers), self.random.random()
        if self.kills and chance < 0.05:
            self.kills -= 1
            self.die(worker, blame=self.random.random() < 0.7)
        elif self.ghosts and chance < 0.1:
            ghost, shard = self.random.choice(self.ghosts)
            self.account.report(ghost, stored(shard))
        elif chance < 0.5:
            self.ask(worker)
        else:
            self.work(worker)
        self.check()

    def check(self) -> None:
        held = [shard for shards in self.held.values() for shard in shards]
        left = {shard for shard, deaths in self.blamed.items() if deaths >= self.most}
        assert set(self.account.left) == left
        assert max(self.blamed.values(), default=0) <= self.most
        assert self.account.undone + len(held) + len(self.done) + len(left) == self.shards, "each is in one place"
        assert self.account.over == (not held and not self.account.undone)
        if self.counted:
            assert self.counted[-1][0] == IMAGES * sum(self.batches.values())


@pytest.mark.parametrize("seed", range(300))
def test_whatever_happens_nothing_is_lost_or_done_twice(seed):
    random = Random(seed)
    count = random.randint(0, 12)
    poison = frozenset(random.sample(range(count), min(count, random.choice([0, 0, 1, 2]))))
    world = World(random, count, poison, kills=random.choice([0, 0, 3, 10]))
    killed_from_outside = world.kills
    for _ in range(20_000):
        if world.account.over:
            break
        world.step()
    assert world.account.over, "it comes to an end"
    assert world.done.isdisjoint(world.account.left)
    assert world.done | set(world.account.left) == set(range(count))
    assert poison <= set(world.account.left), "what kills every worker is left"
    if not killed_from_outside:
        assert set(world.account.left) == poison, "and nothing else is"
        assert world.deaths <= len(poison) * (world.most + 1), "a shard that kills is found soon"
