"""The example scripts run on the demo's collection, and stay short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from isc_fast import read_descriptors, read_matches
from isc_fast.assets import demo_photos
from isc_fast.runs.demo import make_collection

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))
MOST_LINES = 40


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Path:
    """A fifth of the demo's photos, as `isc-fast demo` deals and edits them."""
    folder = tmp_path_factory.mktemp("collection")
    make_collection(folder, demo_photos()[:12])
    return folder


def run(script: str, folder: Path, *arguments: str | Path) -> str:
    """What an example prints; it runs in the folder, with torch out of reach."""
    folder.joinpath("torch.py").write_text("raise ImportError('the examples need no torch')\n")
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=120, cwd=folder, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_copies_are_found_between_two_folders(collection, tmp_path):
    printed = run("find_copies.py", tmp_path, collection / "queries", collection / "references")
    assert printed.startswith("54 queries, ")
    matches = read_matches(tmp_path / "matches.csv")
    right = [query for query, reference, _ in matches if query.rpartition("-")[0] == reference]
    assert len(set(right)) > 24  # of 36 copies
    assert (tmp_path / "matches.html").stat().st_size > 10_000


def test_duplicates_are_found_inside_a_folder(collection, tmp_path):
    *pairs, last = run("find_duplicates.py", tmp_path, collection / "queries", "0.6").splitlines()
    assert last == f"54 photos, {len(pairs)} pairs at 0.6 or above"
    names = [line.split()[1:] for line in pairs]
    same = [one.rpartition("-")[0] == other.rpartition("-")[0] for one, other in names]
    assert sum(same) > 12
    assert sum(same) / len(same) > 0.8
    assert all(one < other for one, other in names)


def test_subtracting_negatives_lowers_scores(collection, tmp_path):
    unrelated = tmp_path / "unrelated"
    unrelated.mkdir()
    for photo in demo_photos()[20:32]:
        (unrelated / photo.name).symlink_to(photo)
    printed = run("subtract_negatives.py", tmp_path, collection / "queries", collection / "references", unrelated)
    before, after = (float(word) for word in printed.replace(",", "").split() if word[0].isdigit())
    assert 0 < after < before < 1
    assert len(read_matches(tmp_path / "matches.csv")) == 54


def test_a_threshold_is_chosen_with_labels(collection, tmp_path):
    folders = (collection / "queries", collection / "references", collection / "ground_truth.csv")
    lines = run("choose_a_threshold.py", tmp_path, *folders).splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["protocol", "kit", "official", "per-query"]
    pairs, *_, threshold = lines[-1].replace(" or above", "").split()
    assert 24 < int(pairs) <= 54
    assert lines[1].split()[3].startswith(threshold)


def test_descriptors_of_another_network_are_searched(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 24)) * 5
    rows[7] = rows[3] + rng.normal(size=24) / 10
    np.save(tmp_path / "vectors.npy", rows)
    (tmp_path / "ids.txt").write_text("".join(f"photo-{row}\n" for row in range(30)))
    lines = run("other_networks.py", tmp_path, "vectors.npy", "ids.txt").splitlines()
    assert len(lines) == 10
    assert {tuple(sorted(line.split()[1:])) for line in lines[:2]} == {("photo-3", "photo-7")}
    for name in ("vectors.h5", "kit.h5"):
        found = read_descriptors(tmp_path / name)
        assert list(found.ids) == [f"photo-{row}" for row in range(30)]
        np.testing.assert_allclose(found.vectors, rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_is_short_and_listed(script):
    assert len((EXAMPLES / script).read_text("utf-8").splitlines()) <= MOST_LINES
    assert f"({script})" in (EXAMPLES / "README.md").read_text("utf-8")
    assert f'run("{script}"' in Path(__file__).read_text("utf-8"), "an example that no test runs"


def test_there_are_five():
    assert len(SCRIPTS) == 5
