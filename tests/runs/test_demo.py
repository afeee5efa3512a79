from __future__ import annotations

import re

import numpy as np
import pytest
from fakes import FakeEngine
from pages import read_page

import isc_fast
from isc_fast.assets import DEMO_LICENCES, demo_photos
from isc_fast.errors import OutputError
from isc_fast.evaluation.edits.demo import EDITS


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return isc_fast.run_demo(tmp_path_factory.mktemp("demo"))


def test_it_finds_most_copies_and_normalisation_helps(result):
    """The bounds are a little below what was measured when the engine was made: µAP .958 and .961."""
    plain, normalized = result.plain["per-query"], result.normalized["per-query"]
    assert plain.micro_ap > 0.93
    assert normalized.micro_ap > max(0.95, plain.micro_ap)
    assert normalized.recall_at_p90 is not None
    assert normalized.recall_at_p90 > 0.85
    assert set(result.found) == set(EDITS)
    assert result.copies * len(EDITS) == plain.positives == 180
    assert sum(result.found.values()) == round(normalized.recall_at_p90 * plain.positives)
    assert (result.queries, result.references) == (270, 45)
    assert f"Look at {result.page}" in str(result)


def test_the_page_shows_every_query_and_counts_what_is_printed(result):
    page = read_page(result.page)
    assert len(page.pairs) == 270
    assert all(picture is not None for picture in page.pictures.values())
    columns = page.data["pairs"]
    assert set(columns["edit"]) == set(EDITS)
    found = [
        score >= result.threshold and right for score, right in zip(columns["score"], columns["truth"], strict=True)
    ]
    assert sum(found) == sum(result.found.values())
    wrong = [
        score >= result.threshold and not right for score, right in zip(columns["score"], columns["truth"], strict=True)
    ]
    assert sum(wrong) == result.false_alarms
    at = np.flatnonzero(np.array(page.data["curve"]["score"]) >= result.threshold - 1e-6)[-1]
    assert page.data["curve"]["recall"][at] == pytest.approx(result.normalized["per-query"].recall_at_p90)
    rows = re.findall(r'<th scope="row">(\w+)(?:<span>[^<]*</span>)?</th><td>(\d+)</td><td>(\d+)</td>', page.html)
    assert rows == [
        *((name, "30", str(count)) for name, count in result.found.items()),
        ("all", "180", str(sum(result.found.values()))),
    ]
    assert page.html.count("<table>") == 2, "one of figures, and one of keys"


def test_it_can_be_run_again_in_the_same_folder(result):
    again = isc_fast.run_demo(result.page.parent)
    assert again.normalized == result.normalized


@pytest.mark.parametrize(
    "theirs", ["ground_truth.csv", "references/mine.jpg", "queries/mine.jpg", "matches.csv", "index.html", "queries.h5"]
)
def test_a_folder_with_files_of_somebody_is_left_as_it_is(tmp_path, theirs):
    """Its names are those that people use for a collection of their own."""
    file = tmp_path / theirs
    file.parent.mkdir(exist_ok=True)
    file.write_text("query_id,reference_id\nmine,yours\n")
    with pytest.raises(OutputError, match=f"holds '{theirs}', which is not the demo's, and isc-fast demo writes only"):
        isc_fast.run_demo(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [theirs]


def test_another_engine_is_shown_without_negatives(tmp_path, monkeypatch):
    monkeypatch.setattr("isc_fast.runs.demo.load_engine", lambda _: FakeEngine())
    result = isc_fast.run_demo(tmp_path, engine="fake.onnx")
    assert result.normalized is None
    assert "negative" not in str(result)
    assert "negative" not in result.page.read_text("utf-8")


def test_every_photo_has_its_licence_and_source():
    import csv

    with open(DEMO_LICENCES, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["file"] for row in rows} == {photo.name for photo in demo_photos()}
    assert len(rows) == 60
    allowed = {"CC0-1.0", "public domain", "CC-BY-2.0", "CC-BY-3.0", "CC-BY-4.0"}
    assert {row["licence"] for row in rows} <= allowed
    assert all(row["title"] and row["author"] and row["source"] for row in rows)
