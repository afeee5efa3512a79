"""The notebook runs offline, cell after cell, and prints what is stored in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from notebook import cells_of, run_cell
from shown import agree

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOK = EXAMPLES / "first_look.ipynb"
MOST_CELLS = 15


def printed(outputs: list) -> list[str]:
    return [line.rstrip("\n") for output in outputs if "text" in output for line in output["text"]]


@pytest.mark.slow
def test_the_cells_print_and_show_what_is_stored(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    pictures = 0
    for number, cell in enumerate(cells_of(NOTEBOOK)):
        outputs = run_cell("".join(cell["source"]), namespace)
        assert agree(printed(cell["outputs"]), printed(outputs)), f"cell {number} prints {printed(outputs)}"
        shown, made = ([one["data"] for one in several if "data" in one] for several in (cell["outputs"], outputs))
        assert len(shown) == len(made), f"cell {number}"
        pictures += len(made)
    assert pictures == 3
    assert (tmp_path / "copies.html").stat().st_size > 100_000


def test_the_notebook_is_short_small_and_listed():
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    assert notebook["nbformat"] == 4
    assert len(notebook["cells"]) <= MOST_CELLS
    assert NOTEBOOK.stat().st_size < 300_000
    assert f"({NOTEBOOK.name})" in (EXAMPLES / "README.md").read_text("utf-8")
    assert str(Path.home()) not in NOTEBOOK.read_text("utf-8"), "a path of this machine"


def test_a_cell_gives_what_it_prints_and_the_picture_it_ends_with():
    namespace: dict = {}
    assert run_cell("x = 3\nprint(x)", namespace)[0]["text"] == ["3\n"]
    assert run_cell("x + 1", namespace) == []
    (shown,) = run_cell("from PIL import Image\nImage.new('RGB', (2, 2))", namespace)
    assert set(shown["data"]) == {"image/jpeg", "text/plain"}
    with pytest.raises(NameError):
        run_cell("y", namespace)
