"""A collection joined with itself: each pair once, equal rows as one, block after block, and what comes of files of pairs."""

from __future__ import annotations

import numpy as np
import pytest
from fake_searcher import FakeSearcher
from oracles import named, near_ties, similarity, unit_rows

from isc_fast.descriptors.store import open_descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.errors import DamageError, InputError, IscFastError, MismatchError, OutputError
from isc_fast.matching.pairs import self_join as module
from isc_fast.matching.pairs import self_join as self_join_module
from isc_fast.matching.pairs.mutual import mutual_pairs
from isc_fast.matching.pairs.pair_files import PairFiles
from isc_fast.matching.pairs.self_join import SelfJoin, self_join
from isc_fast.matching.searchers import equal_rows
from isc_fast.matching.searchers.equal_rows import same_rows, same_rows_of
from isc_fast.matching.searchers.exact import scores_of

pytest.importorskip("faiss")


def joined(parts):
    return [np.concatenate(side) for side in zip(*parts, strict=True)]


def as_dict(parts):
    first, second, scores = joined(parts)
    assert (first < second).all()
    found = dict(zip(zip(first.tolist(), second.tolist(), strict=True), scores.tolist(), strict=True))
    assert len(found) == len(first), "a pair came twice"
    return found


def with_copies(seed, n, d, noise=0.4):
    """Unit rows of which one in twenty is a near copy of another one, wherever that lies."""
    rng = np.random.default_rng(seed)
    rows = unit_rows(seed, n, d).copy()
    copies = rng.choice(n, n // 20, replace=False)
    rows[copies] = rows[rng.integers(0, n, len(copies))] + noise * unit_rows(seed + 1, len(copies), d)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def by_brute_force(rows, threshold):
    """{(first, second): score} by the definition of a score."""
    close = np.argwhere(np.triu(rows @ rows.T >= threshold - 1e-5, 1))
    scores = scores_of(rows[close[:, 0]], rows[close[:, 1]], "ip")
    return {(a, b): float(s) for (a, b), s in zip(close.tolist(), scores, strict=True) if s >= np.float32(threshold)}


@pytest.mark.parametrize("block", [16_384, 1500, 700])
def test_pairs_equal_brute_force(block):
    rows = with_copies(1, 4000, 64)
    expected = by_brute_force(rows, 0.5)
    assert len(expected) > 150
    assert as_dict(self_join(named(rows), 0.5, device=FakeSearcher(block))) == expected


@pytest.mark.slow
def test_twenty_thousand_rows_of_256_equal_brute_force(tmp_path):
    rows = with_copies(2, 20_000, 256)
    rows[5000:5300] = rows[77]
    write_descriptors(tmp_path / "c.h5", named(rows))
    with open_descriptors(tmp_path / "c.h5") as stored:
        join = SelfJoin(stored, 0.6)
        found = as_dict(pairs for number in range(join.blocks) for pairs in join.pairs(number))
    expected = by_brute_force(np.delete(rows, np.s_[5000:5300], axis=0), 0.6)
    number = np.delete(np.arange(20_000), np.s_[5000:5300])
    expected = {(int(number[a]), int(number[b])): score for (a, b), score in expected.items()}
    expected |= {(77, other): found[77, other] for other in range(5000, 5300)}
    assert found == expected
    assert len(expected) > 1000


def test_equal_rows_are_one(monkeypatch):
    """Thousands of them are as many pairs, not millions, and only the first is compared with others."""
    rows = with_copies(3, 3000, 64)
    rows[1000:2500] = rows[10]
    rows[2600] = rows[2500]
    near = rows[10] + 0.3 * unit_rows(9, 1, 64)[0]
    rows[2700] = near / np.linalg.norm(near)
    searcher = FakeSearcher(800)
    join = SelfJoin(named(rows), 0.9, device=searcher)
    assert join.blocks == 4
    found = as_dict(pairs for number in range(4) for pairs in join.pairs(number))
    of_ten = [pair for pair in found if 10 in pair]
    assert sorted(of_ten) == [(10, other) for other in [*range(1000, 2500), 2700]]
    assert (2500, 2600) in found
    assert not any(1000 <= row < 2500 for pair in found for row in pair if 10 not in pair)
    assert sum(count for count, _ in searcher.asked) < 2 * 1500 + 1, "equal rows were searched too"


@pytest.mark.parametrize("kept_bytes", [1 << 27, 700])
def test_equal_rows_of_a_collection_are_those_of_an_array(monkeypatch, kept_bytes):
    monkeypatch.setattr(equal_rows, "_KEPT_BYTES", kept_bytes)
    _, rows = near_ties(4, 1, 2000, 16)
    expected = same_rows(rows)
    assert 1000 < len(set(expected.tolist())) < 2000
    for size in (2000, 300, 1):
        found = same_rows_of(lambda size=size: (rows[start : start + size] for start in range(0, 2000, size)))
        np.testing.assert_array_equal(found, expected)
    assert len(same_rows_of(lambda: ())) == 0


def test_rows_of_one_hash_stand_for_themselves(monkeypatch):
    rows = unit_rows(5, 100, 16).copy()
    rows[50] = rows[3]
    monkeypatch.setattr(equal_rows, "_hashes", lambda block: np.zeros(len(block), np.uint64))
    found = same_rows_of(lambda: (rows[start : start + 30] for start in range(0, 100, 30)))
    np.testing.assert_array_equal(found, np.arange(100))


def test_a_block_that_is_dense_does_not_slow_down_the_others():
    """Copies that lie side by side, as a burst of photos does, come out whole."""
    rows = with_copies(6, 2600, 64)
    rows[100:400] = rows[100] + 1e-3 * unit_rows(7, 300, 64)
    assert as_dict(self_join(named(rows), 0.5, device=FakeSearcher(1300))) == by_brute_force(rows, 0.5)


@pytest.mark.parametrize(
    ("change", "threshold", "message"),
    [
        ({}, 1.5, "the threshold is a cosine, from -1 to 1, and was 1.5"),
        ({}, -1.01, "the threshold is a cosine"),
        ({}, float("nan"), "the threshold is a cosine, .* and was nan"),
        ({"smoothing": {"k": 10}}, 0.5, "the descriptors are smoothed negatives"),
        (
            {"normalization": {"method": "score", "role": "query"}},
            0.5,
            "normalised by scores as a query, .* --method nes",
        ),
    ],
)
def test_what_cannot_be_joined_is_one_line(change, threshold, message):
    with pytest.raises(IscFastError, match=message) as raised:
        SelfJoin(named(unit_rows(1, 5, 8), engine_id="e", **change), threshold)
    assert isinstance(raised.value, MismatchError if change else InputError)
    assert "\n" not in str(raised.value)


def test_no_row_and_one_row():
    with pytest.raises(InputError, match="no descriptor to compare"):
        SelfJoin(named(np.empty((0, 8))), 0.5)
    assert as_dict(self_join(named(unit_rows(1, 1, 8)), -1)) == {}


def test_a_number_that_is_not_finite_is_an_error():
    rows = unit_rows(1, 50, 8).copy()
    rows[20, 3] = np.nan
    with pytest.raises(InputError, match=r"row 20 .* holds NaN"):
        list(self_join(named(rows), 0.5))


# --- files of pairs ---


def test_pairs_in_files_are_those_that_were_written(tmp_path):
    rows = with_copies(8, 2000, 64)
    join = SelfJoin(named(rows), 0.5, device=FakeSearcher(600))
    files = PairFiles(tmp_path / "pairs", join.blocks)
    for piece in files.missing():
        files.write(piece, join.pairs(piece))
    assert files.missing() == []
    assert as_dict(files) == as_dict(files) == by_brute_force(rows, 0.5)
    assert len(files) == len(by_brute_force(rows, 0.5))
    again = PairFiles(tmp_path / "pairs", join.blocks)
    assert as_dict(again) == as_dict(files)


def test_an_interrupted_piece_is_not_there(tmp_path):
    files = PairFiles(tmp_path / "pairs", 2)

    def cut():
        yield np.array([0]), np.array([1]), np.array([0.5], np.float32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write(1, cut())
    files.write(0, [])
    assert files.missing() == [1]
    assert [path.name for path in (tmp_path / "pairs").iterdir()] == ["000000.pairs"]


@pytest.mark.parametrize("run", [1, 2, 3, 64])
def test_runs_of_blocks_give_the_same_pairs_in_the_same_order(monkeypatch, run):
    rows = with_copies(11, 1000, 32)
    rows[300:420] = rows[7]  # a whole block equals an earlier row
    whole = [np.concatenate(column) for column in zip(*self_join(named(rows), 0.4), strict=True)]
    expected = as_dict(self_join(named(rows), 0.4))
    monkeypatch.setattr(self_join_module, "RUN", run)
    join = SelfJoin(named(rows), 0.4, rows=60)
    assert join.blocks == sum(-(-(17 - block) // run) for block in range(17))
    assert sum(join.comparisons(piece) for piece in range(join.blocks)) == sum(
        min(60, 1000 - start) * (1000 - start) for start in range(0, 1000, 60)
    )
    pairs = [pairs for piece in range(join.blocks) for pairs in join.pairs(piece)]
    assert as_dict(pairs) == expected
    assert sum(len(first) for first, _, _ in pairs) == len(whole[0]), "each pair once"


def test_pair_files_that_cannot_be(tmp_path):
    files = PairFiles(tmp_path / "pairs", 1)
    one = np.array([0.5], np.float32)
    with pytest.raises(InputError, match="at most 4294967296 rows"):
        files.write(0, [(np.array([0]), np.array([2**32]), one)])
    files.write(0, [(np.array([0]), np.array([2**32 - 1]), one)])
    assert [pairs[1].tolist() for pairs in files] == [[2**32 - 1]]
    (tmp_path / "pairs" / "000000.pairs").write_bytes(b"12345")
    with pytest.raises(DamageError, match=r"000000\.pairs is damaged .* remove it, and run the same command again"):
        list(files)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        PairFiles(tmp_path / "file", 1)


# --- mutual pairs ---


@pytest.mark.parametrize("k", [1, 3])
def test_mutual_pairs_are_among_each_others_nearest(k):
    """A hub that is like everything stays with its own nearest only."""
    rows = with_copies(10, 300, 16, noise=0.5)
    rows[200] = rows[0]
    same = same_rows(rows)
    parts = list(self_join(named(rows), 0.3))
    scores = similarity(rows, rows).astype(np.float32)
    scores = np.where(scores >= np.float32(0.3), scores, -np.inf)
    np.fill_diagonal(scores, -np.inf)
    scores[200] = scores[:, 200] = -np.inf
    top = np.argsort(-scores, axis=1)[:, :k]
    expected = {(a, b) for a in range(300) for b in range(a + 1, 300) if b in top[a] and a in top[b]}
    expected = {pair for pair in expected if scores[pair] > -np.inf} | {(0, 200)}
    assert set(as_dict(mutual_pairs(parts, k, same))) == expected
    assert 10 < len(expected) < len(as_dict(parts))
    with pytest.raises(InputError, match="at least 1, not 0"):
        list(mutual_pairs(parts, 0, same))


def test_the_public_function_gives_what_the_pieces_give():
    rows = with_copies(11, 900, 64)
    join = module.SelfJoin(named(rows), 0.5, device=FakeSearcher(400))
    assert as_dict(p for n in range(join.blocks) for p in join.pairs(n)) == as_dict(self_join(named(rows), 0.5))
    assert sum(join.comparisons(n) for n in range(join.blocks)) >= 900 * 899 / 2
