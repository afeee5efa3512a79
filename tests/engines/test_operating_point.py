"""The default threshold: what is measured, what is read back, and how it grows with a collection."""

from __future__ import annotations

import math

import numpy as np
import pytest

from isc_fast.assets import demo_photos
from isc_fast.engines.base import load_engine
from isc_fast.engines.operating_point import HIGHEST, OperatingPoint
from isc_fast.export.operating_point import measure_operating_point, point_of

RNG = np.random.default_rng(0)


def test_the_score_is_the_lowest_with_the_precision():
    true = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], np.float32)
    false = np.concatenate([np.linspace(-0.2, 0.3, 600), [0.55]]).astype(np.float32)
    found = OperatingPoint.read(point_of(true, false, 100))
    assert found is not None
    assert found.score == pytest.approx(0.6), "below it stands a wrong pair: 5 of 6 right are too few"
    assert (found.precision, found.recall, found.copies, found.references) == (1.0, 4 / 6, 6, 100)


def test_scores_that_tie_with_a_wrong_pair_do_not_count_as_right():
    true = np.full(50, 0.5, np.float32)
    false = np.concatenate([np.zeros(500), np.full(3, 0.5)]).astype(np.float32)
    assert point_of(true, false, 10) == {}


def test_nothing_is_said_where_nothing_can_be():
    true = np.array([0.9, np.nan], np.float32)
    assert point_of(true, np.zeros(100, np.float32), 10) == {}
    assert point_of(np.full(9, 0.5, np.float32), np.zeros(100, np.float32), 10) == {}, (
        "unrelated photos all score alike"
    )


def test_the_tail_of_unrelated_pairs_is_estimated():
    false = RNG.exponential(0.05, 200_000).astype(np.float32)
    point = OperatingPoint.read(point_of(np.full(100, 0.99, np.float32), false, 100))
    assert point is not None
    assert point.tail_scale == pytest.approx(0.05, rel=0.15)
    for threshold in (0.4, 0.5):
        assert point.false_pairs(threshold, 1e6) == pytest.approx(1e6 * math.exp(-threshold / 0.05), rel=0.5)


def test_the_threshold_grows_with_the_collection_and_has_an_end():
    point = OperatingPoint(0.5, 0.99, 0.8, 225, 45, 20, 0.35, 0.003, 0.04)
    sizes = [10, 60, 1000, 10_000, 100_000, 10**9]
    found = [point.threshold(size, size * (size - 1) / 2) for size in sizes]
    assert found[0] == 0.5, "a small collection gets what was measured"
    assert found == sorted(found)
    assert found[-1] == HIGHEST
    threshold = found[3]
    assert (
        point.false_pairs(threshold, 10_000 * 9_999 / 2) <= 10 < point.false_pairs(threshold - 0.02, 10_000 * 9_999 / 2)
    )


@pytest.mark.parametrize(
    ("precision", "recall", "told"),
    [
        (1.0, 0.8, "found 80% of them, and no wrong pair"),
        (209 / 210, 209 / 225, "found 93% of them, and 1 wrong pair"),
        (200 / 202, 200 / 225, "found 89% of them, and 2 wrong pairs"),
        (0.0, 0.0, "found 0% of them, and no wrong pair"),
    ],
)
def test_what_was_wrong_is_told_by_its_number(precision, recall, told):
    point = OperatingPoint(0.5, precision, recall, 225, 45, 20, 0.35, 0.003, 0.04)
    assert str(point) == f"from 0.50 on, a test of 225 edited copies against 45 photos {told}"
    assert point.in_words("60 photos").endswith(told)


SANE = OperatingPoint(0.5, 0.99, 0.8, 225, 45, 20, 0.35, 0.003, 0.04).to_dict()


@pytest.mark.parametrize(
    "change",
    [{"score": math.nan}, {"score": 7.0}, {"score": "high"}, {"score": None}, {"tail_scale": 0.0}, {"tail_share": 0}],
    ids=str,
)
def test_what_cannot_be_is_not_read(change):
    assert OperatingPoint.read(SANE) is not None
    assert OperatingPoint.read({**SANE, **change}) is None


def test_an_engine_that_does_not_say_it_has_none():
    assert OperatingPoint.read({}) is None
    assert OperatingPoint.read(None) is None
    assert OperatingPoint.read({name: SANE[name] for name in SANE if name != "recall"}) is None


def test_the_engine_of_the_package_says_what_is_measured_again():
    engine = load_engine("demo")
    told = engine.spec.operating_point
    measured = measure_operating_point(engine, demo_photos(), lambda line: None)
    assert OperatingPoint.read(told) is not None
    assert measured.keys() == told.keys()
    for name, value in measured.items():
        assert value == pytest.approx(told[name], rel=0.05), name
    assert measure_operating_point(engine, demo_photos()[:15], lambda line: None) == {}, "too few photos"
