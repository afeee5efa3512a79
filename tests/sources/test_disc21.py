from __future__ import annotations

import pytest

from isc_fast.errors import InputError
from isc_fast.sources.disc21 import FOLDERS, find_sets, find_truth

REFERENCE = {"q": "query_images", "p": "query_images_phase2", "r": "reference_images", "t": "training_images"}
DOWNLOAD = {"q": "dev_queries", "p": "final_queries", "r": "references", "t": "train"}
KIT = {"q": "images/queries", "p": "images/final_queries", "r": "images/references", "t": "images/train"}


@pytest.mark.parametrize("layout", [REFERENCE, DOWNLOAD, KIT, REFERENCE | {"t": "train_images"}])
def test_every_layout_is_found(tmp_path, layout):
    for name in layout.values():
        (tmp_path / name).mkdir(parents=True)
    assert find_sets(tmp_path, None) == {letter: [tmp_path / name] for letter, name in layout.items()}
    assert find_sets(tmp_path, "rt") == {letter: [tmp_path / layout[letter]] for letter in "rt"}


def test_archives_that_were_unpacked_side_by_side_are_one_set(tmp_path):
    for name in ("references_0", "references_10", "references_2", "references_old", "dev_queries"):
        (tmp_path / name).mkdir()
    (tmp_path / "references_3").write_text("no folder")
    found = find_sets(tmp_path, None)
    assert [folder.name for folder in found["r"]] == ["references_0", "references_2", "references_10"]
    (tmp_path / "references").mkdir()
    assert find_sets(tmp_path, "r") == {"r": [tmp_path / "references"]}


def test_a_set_that_is_still_packed(tmp_path):
    for name in ("references_0.zip", "references_1.zip"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"none of the folders .*; unpack references_0.zip and the others there first"):
        find_sets(tmp_path, None)
    (tmp_path / "dev_queries").mkdir()
    with pytest.raises(InputError, match=r"set 'r' needs; unpack references_0.zip and the others there first"):
        find_sets(tmp_path, "qr")
    with pytest.raises(InputError, match=r"set 't' needs$"):
        find_sets(tmp_path, "t")


def test_no_name_stands_for_two_sets():
    names = [name for group in FOLDERS.values() for name in group]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("dev", "final"),
    [
        ("public_ground_truth.csv", "private_ground_truth.csv"),
        ("list_files/public_ground_truth.csv", "list_files/phase2_ground_truth.csv"),
        ("dev_queries_groundtruth.csv", "test_queries_groundtruth.csv"),
        ("dev_ground_truth.csv", "final_ground_truth.csv"),
    ],
)
def test_truth_is_found_by_its_name(tmp_path, dev, final):
    for name in (dev, final):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_truth(tmp_path, "q", None) == tmp_path / dev
    assert find_truth(tmp_path, "p", None) == tmp_path / final
    (tmp_path / dev).unlink()
    assert find_truth(tmp_path, "q", None) is None, "phase 2's truth is not the queries'"


def test_a_single_truth_of_any_name_is_the_queries(tmp_path):
    (tmp_path / "truth.csv").touch()
    assert find_truth(tmp_path, "q", None) == tmp_path / "truth.csv"
    assert find_truth(tmp_path, "p", None) is None
