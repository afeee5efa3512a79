"""Columns that lie in files without a name while they are gone through."""

from __future__ import annotations

import os

import numpy as np
import pytest

from isc_fast.files import spilled
from isc_fast.files.lazy import BLOCK
from isc_fast.files.spilled import SpilledRows, SpilledTexts

PIECES = [[], ["a", "ö\udcff", ""], [], [""], ["photos/0001", "two\nlines"], ["x" * 5000], []]


@pytest.fixture
def texts(tmp_path):
    made = SpilledTexts(tmp_path)
    for piece in PIECES:
        made.add(piece)
    yield made
    made.close()


def test_texts_come_back_whole_and_in_any_slice(texts):
    expected = [text for piece in PIECES for text in piece]
    assert len(texts) == len(expected)
    assert list(texts) == expected
    for start in range(len(expected) + 1):
        for stop in range(start, len(expected) + 1):
            assert texts[start:stop] == expected[start:stop]
    assert [texts[row] for row in range(-len(expected), len(expected))] == expected * 2


def test_a_long_piece_is_read_some_thousand_at_a_time(tmp_path, monkeypatch):
    texts = SpilledTexts(tmp_path)
    long = [f"photo {number}" for number in range(3 * BLOCK + 5)]
    texts.add(["first"])
    texts.add(long)
    assert list(texts) == ["first", *long]
    read: list[int] = []
    real = spilled._Spill.read
    monkeypatch.setattr(spilled._Spill, "read", lambda *given: read.append(given[2] - given[1]) or real(*given))
    assert texts[2 * BLOCK + 7] == long[2 * BLOCK + 6]
    assert len(read) == 1
    assert read[0] < 20 * BLOCK
    texts.close()


def test_texts_may_be_added_after_some_were_read(texts):
    assert texts[0] == "a"
    texts.add(["late"])
    assert texts[len(texts) - 1] == "late"


def test_of_nothing_there_is_nothing(tmp_path):
    for pieces in ([], [[]], [[], []]):
        texts, rows = SpilledTexts(tmp_path), SpilledRows(tmp_path, 2, np.int64)
        for piece in pieces:
            texts.add(piece)
            rows.add(np.empty((len(piece), 2), np.int64))
        assert (len(texts), list(texts), list(rows.blocks())) == (0, [], [])


@pytest.mark.parametrize("at_once", [1, 16, 50, 1 << 20])
def test_rows_come_back_in_blocks_as_often_as_they_are_asked_for(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(spilled, "_AT_ONCE", at_once)
    table = np.random.default_rng(0).integers(-(2**60), 2**60, (11, 3))
    rows = SpilledRows(tmp_path, 3, np.int64)
    for part in np.split(table, [0, 4, 4, 9]):
        rows.add(part)
    for _ in range(2):
        blocks = list(rows.blocks())
        assert all(block.nbytes <= max(at_once, 24) for block in blocks)
        np.testing.assert_array_equal(np.concatenate(blocks), table)


def test_no_file_is_seen_and_none_is_left(tmp_path, texts):
    assert os.listdir(tmp_path) == []
    texts.close()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_takes_no_file_is_the_system_s_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        SpilledTexts(tmp_path / "gone")
