from __future__ import annotations

import numpy as np
import pytest

from isc_fast.errors import OutputError
from isc_fast.files import repeats
from isc_fast.files.repeats import repeated_rows


class Same(str):
    """Texts of one hash, as two of ten million may be."""

    def __hash__(self):
        return 7


class Hashed:
    """A value whose hash is given, so that it falls into a part that is known."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __hash__(self):
        return self.value


@pytest.fixture(params=["one part", "many parts"])
def parts(request, monkeypatch):
    """Also as if there were many more values than fit into memory."""
    if request.param == "many parts":
        monkeypatch.setattr(repeats, "_PART", 2)
        monkeypatch.setattr(repeats, "_BLOCK", 3)


@pytest.mark.parametrize(
    ("texts", "rows"),
    [
        ([], []),
        (["a"], []),
        (["a", "b", "c"], []),
        (["a", "b", "a"], [0, 2]),
        (["x", "a", "b", "b", "a", "y", "b"], [1, 2, 3, 4, 6]),
        (["", ""], [0, 1]),
        ([Same("a"), "b", Same("c")], [0, 2]),
    ],
)
@pytest.mark.usefixtures("parts")
def test_rows_of_texts_that_may_be_repeated(texts, rows):
    assert repeated_rows(iter(texts)).tolist() == rows


@pytest.mark.usefixtures("parts")
def test_hashes_of_all_kinds_are_told_apart():
    edges = [0, 1, -2, 2**62 - 1, -(2**62), 2**60, -(2**60), 2**61 - 2]
    assert repeated_rows(map(Hashed, edges)).tolist() == []
    assert repeated_rows(map(Hashed, [*edges, *edges])).tolist() == list(range(16))


@pytest.mark.usefixtures("parts")
def test_repeated_rows_are_those_that_numpy_finds():
    random = np.random.default_rng(0)
    for high in (10, 100, 1000):
        values = random.integers(0, high, 200)
        expected = np.flatnonzero(
            np.unique(values, return_counts=True)[1][np.unique(values, return_inverse=True)[1]] > 1
        )
        assert repeated_rows(map(str, values.tolist())).tolist() == expected.tolist()


@pytest.mark.usefixtures("parts")
def test_temporary_files_lie_where_they_are_asked_for(tmp_path):
    """In memory while there are few; else in a folder, where none is left."""
    few = repeats._PART > 2
    texts = [str(number) for number in range(100)]
    for folder in (tmp_path, tmp_path / "gone"):
        if few or folder == tmp_path:
            assert repeated_rows(texts, folder).tolist() == []
        else:
            with pytest.raises(OutputError, match=r"^comparing very many ids needs temporary files.*\(No such file"):
                repeated_rows(texts, folder)
    assert list(tmp_path.iterdir()) == []
