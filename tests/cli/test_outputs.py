"""No output takes the place of an input, or of a file that its verb does not write: a table of verbs, outputs and inputs."""

from __future__ import annotations

import argparse
import functools
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from isc_fast.assets import DEMO_ENGINE, demo_photos
from isc_fast.cli.file_flags import FILES, FOLDER
from isc_fast.cli.main import VERBS, main, make_parser
from isc_fast.descriptors.store import Descriptors, open_descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.engines.base import engine_file
from isc_fast.errors import OutputError
from isc_fast.runs.file_kinds.outputs import refuse_inputs

PLAIN = frozenset(
    (
        "device teacher_device search_device include exclude image_column id_column views reference_views workers ray search_ray "
        "search_workers memory set stage schedule name arch preprocess batch sets"
    ).split()
)
"""Flags whose value is no file."""


def actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The flags of a verb, with those of its actions."""
    found: list[argparse.Action] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [inner for choice in action.choices.values() for inner in actions(choice)]
        else:
            found.append(action)
    return found


@functools.cache
def parsers() -> dict[str, argparse.ArgumentParser]:
    (found,) = [one for one in make_parser()._actions if isinstance(one, argparse._SubParsersAction)]
    return found.choices


def test_the_table_has_every_flag_that_names_a_file():
    """A new flag is in the table, or above among those that name none."""
    for verb, parser in parsers().items():
        files = FILES.get(verb)
        known = {*PLAIN} | ({*files.writes, *files.reads, *files.edits} if files else set())
        free = {
            action.dest
            for action in actions(parser)
            if action.nargs != 0 and action.choices is None and action.type not in (int, float)
        }
        if files is None:
            assert "output" not in free, verb
        else:
            assert free <= known, (verb, free - known)
            assert {*files.writes, *files.reads, *files.edits} <= {action.dest for action in actions(parser)}, verb
    assert {*FILES} <= {*VERBS}


def command(verb: str, **paths: object) -> list[str]:
    """A command line of a verb with these files; every other file that it needs is given a name where nothing is."""
    parser = parsers()[verb]
    words, behind = [verb], list[str]()
    if verb == "index":
        parser = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices["build"]
        words.append("build")
    for action in parser._actions:
        path = paths.get(action.dest)
        if not action.option_strings:
            behind.append(str(path or "missing"))
        elif path is not None or action.required:
            words += [action.option_strings[-1], str(path or "missing")]
    words += ["--stage", "stage1"] if verb == "train" else []
    return [*words, *(["--", *behind] if behind else [])]


READ = [
    (verb, output, name)
    for verb, files in FILES.items()
    for output in files.writes
    for name in files.reads
    if name in {action.dest for action in actions(parsers()[verb])} and not (verb == "index" and name != "descriptors")
]


@pytest.mark.parametrize(("verb", "output", "name"), READ)
def test_no_output_takes_the_place_of_an_input(verb, output, name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = Path("given")
    if FILES[verb].writes[output] == FOLDER:
        given.mkdir()
        given = given / "precious"
    given.write_text("text")
    place = Path("given")
    assert main(command(verb, **{"output": "elsewhere", output: place, name: place})) == 1
    error = capsys.readouterr().err
    assert "cannot write given: the same command reads it, and it would be lost; give another name: " in error
    assert error.count("\n") == 1
    assert os.listdir() == ["given"]
    assert given.read_text() == "text"


def test_one_file_has_many_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("refs.h5").write_text("text")
    os.symlink("refs.h5", "link.h5")
    os.link("refs.h5", "hard.h5")
    Path("inner").mkdir()
    for name in ("refs.h5", "link.h5", "hard.h5", tmp_path / "refs.h5", "inner/../refs.h5"):
        with pytest.raises(OutputError, match="reads it"):
            refuse_inputs(name, ["no-such-file", "s3://bucket/refs.h5", "refs.h5"])
    shutil.copy("refs.h5", "copy.h5")
    for name in ("copy.h5", "new.h5", "inner"):
        refuse_inputs(name, ["refs.h5", "inner/refs.h5", "-"])


def test_a_result_in_parts_and_an_index_are_one_thing(tmp_path, capsys):
    rows = Descriptors(np.eye(8, 256, dtype=np.float32), [f"p{row}" for row in range(8)])
    write_descriptors(tmp_path / "all.h5", rows)
    parts = tmp_path / "parts"
    assert main(["negatives", str(tmp_path / "all.h5"), "-k", "2", "-o", f"{parts}/"]) == 0
    capsys.readouterr()
    (part,) = parts.rglob("*.h5")
    before = part.read_bytes()
    for output in (part, parts / "new.h5"):
        assert main(["negatives", str(parts), "-o", str(output)]) == 1
        assert f"it lies in {parts}, which the same command reads" in capsys.readouterr().err
    assert part.read_bytes() == before
    assert not (parts / "new.h5").exists()


def test_a_run_does_not_replace_a_list_that_it_reads(tmp_path, capsys):
    """What an earlier run wrote to the folder is removed by the next, so an edited list of it would be lost."""
    out = tmp_path / "out"
    out.mkdir()
    suggested = out / "stop_list_suggestions.csv"
    suggested.write_text("id,matches,share\nlogo,12,1.0\n")
    (out / "dedup.json").write_text('{"written": ["stop_list_suggestions.csv"]}')
    assert main(["dedup", str(tmp_path), "-o", str(out), "--stop-list", str(suggested)]) == 1
    assert "give a copy of it that lies elsewhere" in capsys.readouterr().err
    assert suggested.exists()


def test_two_outputs_have_two_names(tmp_path, capsys):
    both = str(tmp_path / "aligned.jsonl")
    assert main(["align", "m.csv", "--queries", "q", "--references", "r", "-o", both, "--evidence", both]) == 1
    assert "-o and --evidence both name" in capsys.readouterr().err


def test_merge_remove_and_rename_may_replace_what_they_edit(tmp_path, capsys):
    refs, ids, names = tmp_path / "refs.h5", tmp_path / "ids", tmp_path / "names"
    write_descriptors(refs, Descriptors(np.eye(3, 256, dtype=np.float32), ["a", "b", "c"]))
    ids.write_text("a\n")
    names.write_text("b\tB\n")
    assert main(["remove", str(refs), "--ids", str(ids), "-o", str(refs)]) == 0
    assert main(["rename", str(refs), "--ids", str(names), "-o", str(refs)]) == 0
    assert main(["merge", str(refs), "-o", str(refs)]) == 0
    with open_descriptors(refs) as found:
        assert list(found.ids) == ["B", "c"]
    assert main(["remove", str(refs), "--ids", str(ids), "-o", str(ids)]) == 1
    assert ids.read_text() == "a\n"


def test_what_a_format_writes_beside_its_file_is_looked_at_too(tmp_path, capsys):
    refs, notes = tmp_path / "refs.h5", tmp_path / "array.txt"
    write_descriptors(refs, Descriptors(np.eye(2, 256, dtype=np.float32), ["a", "b"]))
    notes.write_text("remember the milk\n")
    to_array = ["convert", str(refs), "--to", "npy", "-o", str(tmp_path / "array.npy")]
    assert main(to_array) == 1
    assert f"cannot write {notes}" in capsys.readouterr().err
    assert notes.read_text() == "remember the milk\n"
    notes.unlink()
    assert main(to_array) == 0
    assert main(to_array) == 0
    assert notes.read_text() == "a\nb\n"


@pytest.fixture(scope="module")
def strangers(tmp_path_factory) -> dict[str, Path]:
    """A file of each of some kinds, by the name of the kind."""
    folder = tmp_path_factory.mktemp("strangers")
    texts = {
        "ground truth": "query_id,reference_id\na,b\nc,\n",
        "verdicts": "query_id,reference_id,verdict\na,b,wrong\n",
        "matches": "query_id,reference_id,score\na,b,0.5\n",
        "list of ids": "remember the milk\n",
    }
    found = {kind: folder / kind for kind in (*texts, "photo", "descriptors", "engine")}
    for kind, text in texts.items():
        found[kind].write_text(text)
    shutil.copy(demo_photos()[0], found["photo"])
    rows = np.eye(2, 256, dtype=np.float32)
    write_descriptors(folder / "d.h5", Descriptors(rows, ["a", "b"]))
    (folder / "d.h5").rename(found["descriptors"])
    shutil.copy(DEMO_ENGINE, found["engine"])
    return found


SUFFIX = {
    "matches": ".csv",
    "drawing": ".svg",
    "engine": ".onnx",
    "page": ".html",
    "calibration": ".json",
    "evidence": ".jsonl",
}
WRITTEN = [(verb, output) for verb, files in FILES.items() for output, kinds in files.writes.items() if kinds != FOLDER]


@pytest.mark.parametrize(("verb", "output"), WRITTEN)
def test_no_output_takes_the_place_of_a_file_of_another_kind(verb, output, tmp_path, capsys, monkeypatch, strangers):
    """Under the name that the verb would write, and under one without a suffix, as users have them."""
    monkeypatch.chdir(tmp_path)
    kinds = FILES[verb].writes[output]
    for kind, file in strangers.items():
        if kind not in kinds:
            victim = Path(f"victim{SUFFIX.get(kinds[0], '.h5') if kind in ('photo', 'verdicts') else ''}")
            shutil.copyfile(file, victim)
            status = main(command(verb, **{"output": "elsewhere", output: victim}))
            error = capsys.readouterr().err
            assert status == 1
            assert f"cannot write {victim}: " in error, kind
            assert error.count("\n") == 1
            assert victim.read_bytes() == file.read_bytes()
            victim.unlink()


def test_a_folder_called_demo_is_not_the_engine_of_that_name(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()
    assert engine_file("demo") == DEMO_ENGINE
    assert main(["dedup", "missing", "--engine", "demo", "-o", "demo"]) == 1
    assert "there is no missing" in capsys.readouterr().err
