"""Leaders and components against plain statements of what they are, on random graphs and on the worst ones."""

from __future__ import annotations

import numpy as np
import pytest
from fake_searcher import FakeSearcher
from oracles import named, unit_rows

from isc_fast.matching.groups import components as components_module
from isc_fast.matching.groups import leaders as leaders_module
from isc_fast.matching.groups.components import find_chain, find_components, find_crowd
from isc_fast.matching.groups.leaders import choose_leaders
from isc_fast.matching.pairs.self_join import self_join
from isc_fast.matching.searchers.equal_rows import same_rows
from isc_fast.matching.searchers.exact import scores_of


def stated(scores, order):
    """The leader rule: {row: (the row that stands for it, score)}; ``scores[a][b]`` holds each match in both directions."""
    place = {row: number for number, row in enumerate(order)}
    kept = []
    for row in order:
        if not any(other in scores[row] for other in kept):
            kept.append(row)
    found = {row: (row, None) for row in kept}
    for row in set(order) - set(kept):
        best = max((score, -place[other], other) for other, score in scores[row].items() if other in kept)
        found[row] = best[2], best[0]
    return found


def graph(rng, n, m, levels):
    """Random matches, each once, many of equal score, as blocks and as a table in both directions."""
    ends = rng.integers(0, n, (m, 2))
    ends = np.unique(np.sort(ends[ends[:, 0] != ends[:, 1]], axis=1), axis=0)
    rng.shuffle(ends)
    score = (rng.integers(-levels, levels, len(ends)) / levels).astype(np.float32)
    table = {row: {} for row in range(n)}
    for (a, b), s in zip(ends.tolist(), score.tolist(), strict=True):
        table[a][b] = table[b][a] = s
    cut = len(ends) // 3
    return [(ends[part, 0], ends[part, 1], score[part]) for part in (slice(0, cut), slice(cut, None))], table


def as_stated(found):
    return {
        row: (of, None if of == row else score)
        for row, (of, score) in enumerate(zip(found.of.tolist(), found.scores.tolist(), strict=True))
    }


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("at_once", [1 << 24, 7])
def test_leaders_are_those_of_the_statement(monkeypatch, seed, at_once):
    monkeypatch.setattr(leaders_module, "_AT_ONCE", at_once)
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    pairs, table = graph(rng, n, int(rng.integers(0, 4 * n)), 3)
    order = rng.permutation(n)
    found = choose_leaders(pairs, order)
    assert as_stated(found) == stated(table, order.tolist())
    assert np.isnan(found.scores[found.kept]).all()


def test_leaders_of_a_chain():
    """In order, every second photo stays; one for the whole group would take away photos that match nothing that is left."""
    n = 100_001
    links = [(np.arange(n - 1), np.arange(1, n), np.full(n - 1, 0.6, np.float32))]
    assert choose_leaders(links, np.arange(n)).kept.tolist() == [row % 2 == 0 for row in range(n)]
    assert find_components(links, n).sizes()[0] == n


def test_no_pair_keeps_everything():
    empty = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    for pairs in ([], [empty]):
        assert choose_leaders(pairs, np.arange(5)[::-1]).kept.all()
        found = find_components(pairs, 5)
        assert found.label.tolist() == [0, 1, 2, 3, 4]
        assert np.isinf(found.weakest()).all()
        assert find_chain(found, 0.5) is None


@pytest.mark.parametrize("seed", range(10))
def test_equal_rows_need_not_be_paired_with_each_other(seed):
    """The join gives each of them a pair with the first alone; leaders are those of all pairs, in any order of preference."""
    rng = np.random.default_rng(seed)
    rows = unit_rows(seed, 120, 4).copy()
    for _ in range(5):
        rows[rng.integers(0, 120, 8)] = rows[rng.integers(0, 120)]
    scores = scores_of(np.repeat(rows, 120, 0), np.tile(rows, (120, 1)), "ip").reshape(120, 120)
    table = {a: {b: float(scores[a, b]) for b in range(120) if b != a and scores[a, b] >= 0.8} for a in range(120)}
    order = rng.permutation(120)
    pairs = list(self_join(named(rows), 0.8, device=FakeSearcher(50)))
    found = choose_leaders(pairs, order, same_rows(rows))
    expected = stated(table, order.tolist())
    assert {row for row, (of, _) in expected.items() if of == row} == set(np.flatnonzero(found.kept).tolist())
    for row, (of, score) in as_stated(found).items():
        if of != row:
            assert score == expected[row][1], row
            assert scores[row, of] == expected[row][1]


# --- components ---


def components_stated(n, table):
    """The lowest row of each row's group, by walking."""
    label = [-1] * n
    for row in range(n):
        todo = [row] if label[row] == -1 else []
        while todo:
            here = todo.pop()
            if label[here] == -1:
                label[here] = row
                todo += table[here]
    return label


def at(table, least):
    return {row: {other: s for other, s in near.items() if s >= least} for row, near in table.items()}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("at_once", [1 << 22, 5])
def test_components_and_their_weakest_links(monkeypatch, seed, at_once):
    monkeypatch.setattr(components_module, "_AT_ONCE", at_once)
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 80))
    pairs, table = graph(rng, n, int(rng.integers(0, 2 * n)), 4)
    found = find_components(pairs, n)
    label = components_stated(n, table)
    assert found.label.tolist() == label
    assert found.sizes().tolist() == [label.count(row) for row in range(n)]
    weakest = found.weakest()
    for row in set(label):
        members = {other for other in range(n) if label[other] == row}
        if len(members) > 1:
            holds, falls = at(table, weakest[row]), at(table, np.nextafter(weakest[row], np.float32(2)))
            assert {r for r in members if components_stated(n, holds)[r] == row} == members
            assert {r for r in members if components_stated(n, falls)[r] == row} != members
    assert len(found.links[0]) == n - len(set(label))


def test_a_chain_is_told_from_a_group_of_copies():
    """Sixty photos that hang together by weak links, and sixty copies of one photo beside them."""
    row = np.arange(59)
    weak = (row, row + 1, np.full(59, 0.51, np.float32))
    strong = (np.full(59, 60), row + 61, np.full(59, 0.9, np.float32))
    assert find_chain(find_components([strong], 120), 0.5) is None
    chain = find_chain(find_components([weak], 120), 0.5)
    assert chain is not None
    assert (chain.size, chain.threshold, chain.left) == (60, 0.53125, 1)
    assert find_chain(find_components([weak, strong], 120), 0.5) is None, "the largest group that is left is as large"
    assert find_chain(find_components([(row[:40], row[:40] + 1, weak[2][:40])], 120), 0.5) is None, "few photos"


def test_a_crowd_is_a_large_group_whose_photos_are_not_equal():
    rows = np.arange(59)
    for score, count, expected in ((0.9, 59, 60), (0.995, 59, None), (0.9, 48, None)):
        links = (np.zeros(count, np.int64), rows[:count] + 1, np.full(count, score, np.float32))
        assert find_crowd(find_components([links], 100)) == expected, (score, count)
    assert find_crowd(find_components([], 0)) is None
