"""The commands of the how-tos, the method and the quick start run, and print what the pages show."""

from __future__ import annotations

from pathlib import Path

import pytest
from shown import agree, commands_of, run_all

from isc_fast.cli.main import make_parser

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
HOW_TOS = sorted(f"howto/{path.name}" for path in (DOCS / "howto").glob("*.md"))
DEMO = "isc-fast demo -o demo-out"
BUCKET = "howto/bucket.md"
NEEDS = {"howto/find.md": "cv2", "method.md": "matplotlib", BUCKET: "obstore"}


@pytest.fixture(scope="module")
def demo_out(tmp_path_factory) -> Path:
    """What the quick start's first command makes; it prints what the page shows."""
    folder = tmp_path_factory.mktemp("quickstart")
    assert f"$(BIN)/{DEMO}" in (ROOT / "Makefile").read_text("utf-8")
    assert run_all((DOCS / "quickstart.md").read_text("utf-8"), folder, {"make demo": DEMO}) == 1
    return folder / "demo-out"


@pytest.mark.slow
def test_the_quick_start(demo_out):
    assert (demo_out / "index.html").stat().st_size > 100_000


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HOW_TOS, "method.md"])
def test_a_page(name, demo_out, tmp_path, request):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    if name == BUCKET:
        photos = request.getfixturevalue("bucket").beside("photos")
        for folder in ("references", "queries"):
            photos.put_folder(demo_out / folder, f"{folder}/")
    (tmp_path / "demo-out").symlink_to(demo_out)
    assert run_all((DOCS / name).read_text("utf-8"), tmp_path) > 2


@pytest.mark.parametrize("name", HOW_TOS)
def test_a_how_to_shows_commands_that_run_and_no_others(name):
    text = (DOCS / name).read_text("utf-8")
    assert text.count("```") == 2 * text.count("```console\n")
    assert f"`{DEMO}`" in " ".join(text.split()), "where the photos come from"
    verbs = {shown.command.split()[1] for shown in commands_of(text) if shown.command.startswith("isc-fast ")}
    (known,) = (action.choices for action in make_parser()._actions if action.dest == "verb")
    assert verbs
    assert verbs <= set(known)
    assert f"{name[:-3]}\n" in (DOCS / "index.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (["a 0.50 b"], ["a 0.5123 b"], True),
        (["a 0.50 b"], ["a 0.54 b"], False),
        (["a 12.0"], ["a 12.3"], True),
        (["24 pairs"], ["25 pairs"], False),
        (["x  …  z"], ["x y y z"], True),
        (["x", "…", "z"], ["x", "z"], True),
        (["x", "…", "z"], ["x", "y", "y", "z"], True),
        (["x", "…", "z"], ["x", "y"], False),
        (["x"], ["x", "y"], False),
        (["x", "…"], ["x", "y"], True),
        (["x", "y"], ["x"], False),
    ],
)
def test_what_is_shown_is_compared(shown, printed, same):
    assert agree(shown, printed) is same


def test_commands_are_taken_from_marked_blocks_alone():
    page = "```bash\nno\n```\n\n```console\n$ one \\\n    more\nout\n$ two\n```\ntext\n```console\n$ three\nx\n```\n"
    found = [(shown.command, shown.lines) for shown in commands_of(page)]
    assert found == [("one \\\n    more", ["out"]), ("two", []), ("three", ["x"])]


def test_a_command_that_fails_or_prints_something_else_is_told(tmp_path):
    with pytest.raises(AssertionError, match="a missing file"):
        run_all("```console\n$ echo a missing file >&2; false\n```\n", tmp_path)
    with pytest.raises(AssertionError, match="and it prints:\nsix"):
        run_all("```console\n$ echo six\nseven\n```\n", tmp_path)
