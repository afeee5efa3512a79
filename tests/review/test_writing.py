"""What a page holds: pairs that are spread over the scores, pictures, and nothing that an id could inject."""

from __future__ import annotations

import base64
import hashlib
import io
import re

import numpy as np
import pytest
from images import noise
from pages import read_page
from PIL import Image

from isc_fast import Matches, Truth, write_report
from isc_fast.assets import demo_photos
from isc_fast.decoders.rules import load_rgb
from isc_fast.errors import InputError
from isc_fast.evaluation.metrics import curve_of, evaluate
from isc_fast.review.curve import points_of
from isc_fast.review.pairs import Pair, ReviewPage, digest_of, spread
from isc_fast.review.writing import write_page

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>window.injured = 1</script>",
    "\"'`&amp;",
    "evil\u202egpj.exe",
    "bytes\udcff\udc80",
    "<!--",
    "line\u2028break\n",
    "{{ 7 * 7 }}",
]


def jpeg(width: int = 60, height: int = 40, seed: int = 0, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(noise(width, height, seed=seed)).save(out, "JPEG", **options)
    return out.getvalue()


def test_every_beginning_of_the_order_is_spread_over_the_scores():
    scores = np.random.default_rng(1).random(5000) ** 4
    order = spread(scores)
    assert sorted(order.tolist()) == list(range(5000))
    for count in (40, 200, 400):
        among = np.histogram(scores[order[:count]], 20, (scores.min(), scores.max()))[0]
        assert among.min() >= count // 20 - 1
    assert spread(scores).tolist() == order.tolist()
    assert sorted(spread([1.0, 1.0, np.inf]).tolist()) == [0, 1, 2]
    assert spread([]).tolist() == []


def test_a_page_stays_below_its_size_and_says_so(tmp_path):
    pairs = [Pair(f"q{row}", f"r{row % 7}", row / 300) for row in range(300)]
    photos = {f"q{row}": jpeg(100, 100, row) for row in range(300)}
    references = {f"r{row}": jpeg(100, 100, 1000 + row) for row in range(7)}
    page = ReviewPage("Title", "", pairs)
    shown = write_page(tmp_path / "small.html", page, photos, references, most_bytes=2_000_000)
    found = read_page(tmp_path / "small.html")
    assert 20 < shown < 300
    assert 1_700_000 < (tmp_path / "small.html").stat().st_size <= 2_000_000
    assert f"This page shows {shown} of 300 pairs, spread evenly over the scores." in found.html
    among = np.histogram(found.data["pairs"]["score"], 10, (0, 1))[0]
    assert among.min() >= shown // 10 - 3
    assert found.pairs == sorted(found.pairs, key=lambda pair: int(pair[0][1:])), "the order of the pairs stays"
    whole = write_page(tmp_path / "whole.html", page, photos, references)
    assert whole == 300
    assert "spread evenly" not in read_page(tmp_path / "whole.html").html


def test_pictures_are_upright_and_those_that_cannot_be_read_are_missing(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    photos = {"turned": jpeg(60, 40, exif=exif), "plain": jpeg(), "broken": b"no image"}
    pairs = [Pair("turned", "plain", 0.9), Pair("broken", "plain", 0.5), Pair("nowhere", "plain", 0.4)]
    assert write_page(tmp_path / "p.html", ReviewPage("", "", pairs), photos, {"plain": jpeg()}) == 3
    pictures = read_page(tmp_path / "p.html").pictures
    assert pictures["turned"].size == (40, 60)
    assert pictures["plain"].size == (60, 40)
    assert pictures["broken"] is None
    assert pictures["nowhere"] is None


def test_the_policy_lets_this_script_and_this_style_run_and_nothing_else(tmp_path):
    pairs = [Pair(id_, id_, 0.5, note=id_, set=id_) for id_ in HOSTILE]
    page = ReviewPage(HOSTILE[1], HOSTILE[0], pairs, figures=[(HOSTILE[0], HOSTILE[4])], stops=[(HOSTILE[1], "why")])
    write_page(tmp_path / "p.html", page, {}, {})
    found = read_page(tmp_path / "p.html")
    assert [right for _, right in found.pairs] == HOSTILE
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', found.html)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    (script,) = re.findall(r"<script>(.*?)</script>", found.html, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", found.html, re.DOTALL)
    for text in (script, style):
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy
    assert re.findall(r"<script[^>]*>", found.html) == [
        '<script type="application/json" id="data">', '<script type="text/plain" id="pictures">', "<script>",
    ]  # fmt: skip
    assert "<img src=x" not in found.html
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", found.html)


def test_the_digest_is_that_of_the_pairs():
    pairs = [Pair("a", "b", 0.5), Pair("c", "d\udcff", 0.25)]
    assert digest_of(pairs) == digest_of([Pair("a", "b", 0.5, note="x"), Pair("c", "d\udcff", 0.25, verdict="right")])
    assert len({digest_of(pairs), digest_of(pairs[:1]), digest_of(pairs[::-1]), digest_of([Pair("a", "b", 0.6)])}) == 4


def test_a_report_with_truth_has_the_curve_and_the_figures(tmp_path):
    ids = [f"q{row}" for row in range(6)]
    matches = Matches(ids, ["r"] * 6, np.array([0.9, 0.8, 0.7, 0.6, 0.5, np.inf], np.float32))
    truth = Truth(frozenset(ids), frozenset({("q0", "r"), ("q1", "r"), ("q3", "r"), ("q5", "r")}))
    shown = write_report(
        tmp_path / "r.html", matches, queries=dict.fromkeys(ids, jpeg()), references={"r": jpeg()}, truth=truth
    )
    data = read_page(tmp_path / "r.html").data
    assert shown == 6
    assert data["pairs"]["truth"] == [True, True, True, False, True, False]
    assert data["threshold"] == pytest.approx(0.8)
    assert data["curve"]["recall"] == [0.25, 0.5, 0.75, 0.75, 1.0, 1.0]
    assert data["curve"]["precision"] == pytest.approx([1, 1, 1, 0.75, 0.8, 4 / 6])


def test_the_curve_meets_the_figures_of_the_evaluation():
    random = np.random.default_rng(3)
    scores = random.random(9000).round(4).astype(np.float32)
    matches = Matches([f"q{row}" for row in range(9000)], ["r"] * 9000, scores)
    right = {(f"q{row}", "r") for row in np.flatnonzero(random.random(9000) < scores**0.3).tolist()}
    truth = Truth(frozenset(matches.query_ids), frozenset(right))
    scored = evaluate(matches, truth, protocols=("kit",))["kit"]
    points = points_of(curve_of(matches, truth, "kit"), 200)
    score, precision, recall = (np.array(points[name]) for name in ("score", "precision", "recall"))
    assert len(score) <= 201
    at = np.flatnonzero(precision >= 0.9)[-1]
    assert recall[at] == pytest.approx(scored.recall_at_p90, abs=2e-3)
    assert score[at] == pytest.approx(scored.threshold_at_p90, abs=1e-3)
    assert np.all(np.diff(recall) >= 0)
    for row in (3, 150):
        high = scores >= score[row] - 1e-6
        hits = sum((id_, "r") in right for id_, taken in zip(matches.query_ids, high, strict=True) if taken)
        assert (precision[row], recall[row]) == pytest.approx((hits / high.sum(), hits / len(right)), abs=1e-6)


def test_of_too_many_rows_a_report_shows_some_of_every_score(tmp_path):
    ids = [f"q{row}" for row in range(500)]
    matches = Matches(ids, ["r"] * 500, np.linspace(1, 0, 500, dtype=np.float32))
    common = {"queries": dict.fromkeys(ids, jpeg()), "references": {"r": jpeg()}}
    assert write_report(tmp_path / "r.html", matches, max_rows=50, **common) == 50
    scores = read_page(tmp_path / "r.html").data["pairs"]["score"]
    assert scores == sorted(scores, reverse=True)
    assert np.histogram(scores, 5, (0, 1))[0].min() >= 8
    with pytest.raises(InputError, match="at least 1 pair, not 0"):
        write_report(tmp_path / "r.html", matches, max_rows=0, **common)


@pytest.mark.parametrize("turn", [1, 6])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_large_jpeg_is_decoded_as_small_as_it_is_shown(turn, mode):
    """It looks as it does decoded whole, upright too; other formats have their size."""
    with Image.open(demo_photos()[3]) as photo:
        large = photo.convert("RGB").resize((2000, 1500)).convert(mode)
    out, exif = io.BytesIO(), Image.Exif()
    exif[274] = turn
    large.save(out, "JPEG", quality=95, exif=exif)
    whole, shown = load_rgb(out.getvalue()), load_rgb(out.getvalue(), 208)
    sides = (500, 375) if turn == 1 else (375, 500)
    assert shown.size == sides
    assert whole.size == (4 * sides[0], 4 * sides[1])
    assert load_rgb(out.getvalue(), 600).size == whole.size
    one, other = (
        np.asarray(image.resize((sides[0] // 5, sides[1] // 5), Image.Resampling.BOX), np.float32)
        for image in (whole, shown)
    )
    assert np.abs(one - other).mean() < 1
    png = io.BytesIO()
    large.convert("RGB").save(png, "PNG")
    assert load_rgb(png.getvalue(), 208).size == (2000, 1500)
