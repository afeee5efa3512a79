"""A folder that is given in the place of descriptors, or of an index, is told by what is in it, with the next command."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from isc_fast.descriptors.comparing import compare_to_merge
from isc_fast.descriptors.formats.table import open_any
from isc_fast.descriptors.provenance import Smoothing
from isc_fast.descriptors.store import Descriptors
from isc_fast.errors import FormatError
from isc_fast.matching.index.opened import OpenIndex


def as_descriptors(path: Path) -> str:
    with pytest.raises(FormatError) as caught, open_any(path):
        pass
    return str(caught.value)


def as_index(path: Path) -> str:
    with pytest.raises(FormatError) as caught:
        OpenIndex(path)
    return str(caught.value)


def test_a_folder_of_photos(tmp_path, photos):
    folder = tmp_path / "my photos"
    (folder / "2024").mkdir(parents=True)
    shutil.copy(photos[0], folder / "2024")
    extract = f"isc-fast extract '{folder}' --engine ENGINE -o 'my photos.h5'"
    assert as_descriptors(folder).endswith(f"it is a folder of photos, describe it first: {extract}")
    assert as_index(folder).endswith(
        f"describe it and make one: {extract}, then isc-fast index build 'my photos.h5' -o index/"
    )


def test_a_folder_of_a_run(tmp_path):
    for name in ("queries.h5", "references.h5", "find.json"):
        (tmp_path / name).touch()
    expected = f"it holds queries.h5, references.h5: give one of them, such as {tmp_path}/queries.h5"
    assert as_descriptors(tmp_path).endswith(expected)
    assert as_index(tmp_path).endswith(f"isc-fast index build {tmp_path}/references.h5 -o index/")


def test_another_folder_and_none(tmp_path):
    (tmp_path / "a.jpg").write_text("no photo")
    assert as_descriptors(tmp_path).endswith(f"isc-fast info {tmp_path} says what it is")
    assert as_index(tmp_path).endswith("make one, in a new folder: isc-fast index build REFERENCES.h5 -o index/")
    nowhere = tmp_path / "nowhere"
    assert as_index(nowhere).endswith(f"make one: isc-fast index build REFERENCES.h5 -o {nowhere}")
    assert as_index(tmp_path / "a.jpg").startswith(
        f"{tmp_path}/a.jpg is a file, and an index is a folder; if it holds "
    )


def test_negatives_beside_descriptors_are_said_in_words():
    rows = np.eye(2, dtype=np.float32)
    plain, smooth = Descriptors(rows, ["a", "b"], {"engine_id": "e"}), Descriptors(rows, ["c", "d"], {"engine_id": "e"})
    smooth = Descriptors(rows, ["c", "d"], plain.provenance.smoothed(Smoothing(10, 3, "825fbc54ab7400")).write())
    (remark,) = compare_to_merge([plain, smooth], ["r.h5", "n.h5"]).remarks
    expected = "r.h5 are descriptors of photos and n.h5 are negatives (k=10, power=3, of the descriptors 825fbc54ab74)"
    assert expected in remark.words
