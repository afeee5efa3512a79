"""Two collections joined: every pair above a score, and equal rows as one."""

from __future__ import annotations

import numpy as np
import pytest
from fake_searcher import FakeSearcher
from oracles import named, unit_rows

from isc_fast.errors import InputError, MismatchError
from isc_fast.matching.pairs.cross_join import CrossJoin
from isc_fast.matching.searchers.exact import scores_of

pytest.importorskip("faiss")


def joined(queries, references, threshold, size=100):
    join = CrossJoin(named(queries), named(references), threshold, device=FakeSearcher(size))
    parts = [pairs for number in range(join.blocks) for pairs in join.pairs(number)]
    first, second, scores = (np.concatenate(side) for side in zip(*parts, strict=True))
    found = dict(zip(zip(first.tolist(), second.tolist(), strict=True), scores.tolist(), strict=True))
    assert len(found) == len(first), "a pair came twice"
    return found


def every_pair(queries, references, threshold):
    scores = scores_of(np.repeat(queries, len(references), 0), np.tile(references, (len(queries), 1)), "ip")
    scores = scores.reshape(len(queries), -1)
    return {(a, b): float(scores[a, b]) for a, b in np.argwhere(scores >= np.float32(threshold)).tolist()}


@pytest.mark.parametrize("size", [1000, 170, 64])
def test_pairs_equal_brute_force(size):
    queries, references = unit_rows(1, 300, 16), unit_rows(2, 500, 16)
    expected = every_pair(queries, references, 0.5)
    assert len(expected) > 1000
    assert joined(queries, references, 0.5, size) == expected


def test_equal_rows_of_both_sides_are_one():
    """Each of them is in a pair with the first on the other side; nothing is paired that does not match."""
    queries, references = unit_rows(1, 200, 16).copy(), unit_rows(2, 300, 16).copy()
    references[5] = queries[3] + 0.1 * unit_rows(3, 1, 16)[0]
    references[100:250] = references[5]
    queries[50:180] = queries[3]
    everything = every_pair(queries, references, 0.7)
    found = joined(queries, references, 0.7)
    assert all(everything[pair] == score for pair, score in found.items())
    for side in (0, 1):
        assert {pair[side] for pair in found} == {pair[side] for pair in everything}
    assert {pair for pair in found if pair[0] == 3 and pair[1] >= 100} >= {(3, other) for other in range(100, 250)}
    assert {pair for pair in found if 50 <= pair[0] < 180 and pair[1] == 5} == {(other, 5) for other in range(50, 180)}
    assert len(everything) > 131 * 151 > 10 * len(found)


def test_what_cannot_be_joined():
    rows = named(unit_rows(1, 3, 8))
    with pytest.raises(InputError, match="there is no reference descriptor"):
        CrossJoin(rows, named(np.empty((0, 8))), 0.5)
    with pytest.raises(InputError, match="from -1 to 1, and was 2"):
        CrossJoin(rows, rows, 2)
    with pytest.raises(MismatchError):
        CrossJoin(named(unit_rows(1, 3, 8), engine_id="a"), named(unit_rows(1, 3, 8), engine_id="b"), 0.5)
