"""Verdicts that somebody gives on a page, in a real Chromium, change the next run of every verb that made it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Visit, started
from fakes import FakeEngine
from pages import read_page
from PIL import Image

from isc_fast import find_copies, find_duplicates, find_leaks, read_descriptors, search
from isc_fast.runs.sides.describing import Describing

pytest.importorskip("faiss")
pytestmark = pytest.mark.slow  # which a browser is

HIGH = 0.999
"""The engine of these tests is a thumbnail: a copy of a photo scores above this, and no other photo does."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as running:
        yield running


@pytest.fixture(scope="module")
def folders(tmp_path_factory, photos) -> tuple[Path, Path, Path]:
    """Three copies, five originals, and all of them together."""
    root = tmp_path_factory.mktemp("walk")
    copies, originals, both = (root / name for name in ("copies", "originals", "both"))
    for folder in (copies, originals, both):
        folder.mkdir()
    for number, photo in enumerate(photos[:5]):
        shutil.copy(photo, originals / f"original-{number}.jpg")
        if number < 3:
            with Image.open(photo) as image:
                image.convert("RGB").save(copies / f"copy-{number}.jpg", quality=60)
    for folder in (copies, originals):
        for photo in folder.iterdir():
            shutil.copy(photo, both)
    return copies, originals, both


def judge(browser: Any, page: Path, *keys: str) -> tuple[list[tuple[str, str]], Path]:
    """Judge the first pairs of a page, as somebody would, and save: the pairs as they were shown, and the saved file."""
    one = Visit(browser, page)
    shown = []
    one.page.select_option("#sort", "id")
    for key in keys:
        left, right = one.chosen()
        shown.append((left, right))
        one.press(key)
    with one.page.expect_download() as waiting:
        one.page.click("#save-json")
    file = page.with_name(f"{page.stem}-{waiting.value.suggested_filename}")
    waiting.value.save_as(file)
    one.close()
    return shown, file


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def dedup(folders: tuple[Path, Path, Path], out: Path, verdicts: Path | None) -> Path:
    engine = Describing(FakeEngine())
    made = find_duplicates(folders[2], out, describing=engine, threshold=HIGH, form="jsonl", verdicts=verdicts)
    assert made.page is not None
    return made.page


def find(folders: tuple[Path, Path, Path], out: Path, verdicts: Path | None) -> Path:
    made = find_copies(*folders[:2], out, describing=Describing(FakeEngine()), threshold=HIGH, verdicts=verdicts)
    assert made.page is not None
    return made.page


def leaks(folders: tuple[Path, Path, Path], out: Path, verdicts: Path | None) -> Path:
    engine = Describing(FakeEngine())
    made = find_leaks(folders[1], [folders[0]], out, describing=engine, threshold=HIGH, form="jsonl", verdicts=verdicts)
    assert made.page is not None
    return made.page


TABLES: dict[Callable[..., Path], tuple[str, str, str]] = {
    dedup: ("pairs.jsonl", "id", "other_id"),
    find: ("matches.jsonl", "query_id", "reference_id"),
    leaks: ("pairs.jsonl", "id", "train_id"),
}
"""The table of pairs that each verb writes, and its two columns of ids."""


@pytest.mark.parametrize("verb", TABLES, ids=lambda verb: verb.__name__)
def test_what_is_judged_on_the_page_changes_the_next_run(tmp_path, browser, folders, verb):
    name, *columns = TABLES[verb]
    page = verb(folders, tmp_path / "out", None)
    assert len(read_page(page).pairs) == 3
    judged, file = judge(browser, page, "w", "r", "u")
    assert len(set(judged)) == 3
    file = file.rename(tmp_path / "verdicts.json")
    again = read_page(verb(folders, tmp_path / "out", file))
    assert {frozenset(pair) for pair in again.pairs} == {frozenset(pair) for pair in judged[1:]}
    begins = dict(zip(again.pairs, again.data["pairs"]["verdict"], strict=True))
    assert {frozenset(pair): word for pair, word in begins.items()} == {
        frozenset(judged[1]): "right",
        frozenset(judged[2]): "undecided",
    }
    table = {
        frozenset(row[column] for column in columns): row.get("verdict") for row in rows_of(tmp_path / "out" / name)
    }
    assert table == {frozenset(judged[1]): "right", frozenset(judged[2]): None}
    if verb is not find:
        gone = "remove.jsonl" if verb is dedup else "remove-train.jsonl"
        assert len(rows_of(tmp_path / "out" / gone)) == 2
        return
    sides = (read_descriptors(tmp_path / "out" / f"{side}.h5") for side in ("queries", "references"))
    found = search(*sides, k=1, threshold=HIGH, verdicts=file)
    assert dict(zip(zip(found.query_ids, found.reference_ids, strict=True), found.verdicts or (), strict=True)) == {
        judged[1]: "right",
        judged[2]: None,
    }


def test_a_template_is_proposed_shown_and_left_out(tmp_path, browser, photos):
    """Posts that share one frame, among photos of which one is the bare frame: with the engine inside the package."""
    posts, references = tmp_path / "posts", tmp_path / "references"
    for folder in (posts, references):
        folder.mkdir()
    frame = Image.open(photos[40]).convert("RGB").resize((480, 360))
    frame.save(references / "frame.jpg")
    for number, photo in enumerate(photos[:12]):
        shutil.copy(photo, references / f"photo-{number:02d}.jpg")
        post = frame.copy()
        post.paste(Image.open(photo).convert("RGB").resize((370, 260)), (90, 30))
        post.save(posts / f"post-{number:02d}.jpg")
    made = find_copies(posts, references, tmp_path / "out", threshold=0.15)
    assert made.hubs == 1
    assert made.suggestions is not None
    assert made.suggestions.read_text().splitlines()[1].startswith("frame,1")
    assert made.page is not None
    one = Visit(browser, made.page)
    assert one.page.locator("#stops li").count() == 1
    assert "frame" in one.text("#stops")
    one.until("document.querySelector('#stops img').naturalWidth > 0")
    one.page.click("#stops button")
    shown = int(one.text("#count").split()[0])
    assert 10 <= shown <= 12
    assert "frame" in one.chosen()
    one.close()
    again = find_copies(posts, references, tmp_path / "out", threshold=0.15, stop_list=made.suggestions)
    assert again.hubs == 0
    assert "frame" not in read_page(again.page or tmp_path).data["photos"]["id"]
    assert again.matched == 12
