from __future__ import annotations

import argparse
import csv
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from images import make_zoo
from pages import read_page

import isc_fast
import isc_fast.cli
from isc_fast.cli.main import VERBS, main, make_parser


def run(capsys, *arguments) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """References, queries and a truth, as the demo makes them, and their descriptors."""
    folder = tmp_path_factory.mktemp("collection")
    isc_fast.run_demo(folder)
    return folder


def test_every_verb_has_one_file_with_help_flags_and_a_handler(capsys):
    files = {file.stem for file in Path(isc_fast.cli.__path__[0]).glob("*.py") if not file.stem.endswith("flags")}
    files -= {"__init__", "main", "output", "process"}
    assert set(VERBS) == files
    (action,) = [a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    lines = {choice.dest: choice.help for choice in action._choices_actions}
    for name, verb in VERBS.items():
        assert verb.__name__ == f"isc_fast.cli.{name}"
        assert inspect.isfunction(verb.run)
        assert lines[name] == verb.HELP
        description = action.choices[name].description
        assert description is not None
        assert description[1:-1] == verb.HELP[1:]
    for verb in VERBS:
        with pytest.raises(SystemExit) as stop:
            main([verb, "--help"])
        assert stop.value.code == 0
        assert len(capsys.readouterr().out.splitlines()) > 4
    listed = make_parser().format_help()
    assert all(f"    {verb}" in listed for verb in VERBS)


def test_usage_mistakes_are_status_2(capsys):
    for arguments in ([], ["nothing"], ["extract"], ["search", "a", "b"], ["extract", "x", "--engine", "e"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_from_photos_to_figures(capsys, tmp_path, collection):
    """The verbs one after the other give what the library gives in one go."""
    run(capsys, "extract", collection / "queries", "--engine", "demo", "-o", tmp_path / "q.h5")
    status, out, err = run(capsys, "extract", collection / "references", "--engine", "demo", "-o", tmp_path / "r.h5")
    assert (status, out.split(",")[0]) == (0, f"{tmp_path / 'r.h5'}: 45 descriptors")
    assert "extract: 45/45 100%" in err
    negatives = isc_fast.errors.__file__.replace("errors.py", "data/demo-negatives.h5")
    for side in "qr":
        status, *_ = run(
            capsys, "normalize", tmp_path / f"{side}.h5", "--negatives", negatives, "-o", tmp_path / f"{side}n.h5"
        )
        assert status == 0
    status, out, _ = run(capsys, "search", tmp_path / "qn.h5", tmp_path / "rn.h5", "-o", tmp_path / "m.csv")
    assert out == f"{tmp_path / 'm.csv'}: 2700 pairs of 270 queries and 45 references\n"
    assert (tmp_path / "m.csv").read_bytes() == (collection / "matches.csv").read_bytes()
    status, out, _ = run(
        capsys, "search", tmp_path / "qn.h5", tmp_path / "rn.h5", "--labelled", collection / "ground_truth.csv", "-k", 10,
        "-o", tmp_path / "l.csv",
    )  # fmt: skip
    assert out == f"{tmp_path / 'l.csv'}: 2700 pairs of 270 queries and 45 references\n"
    status, out, _ = run(capsys, "evaluate", tmp_path / "m.csv", collection / "ground_truth.csv", "--json")
    assert json.loads(out) == json.loads((collection / "evaluation.json").read_text())["with_nes"]
    status, out, _ = run(capsys, "evaluate", tmp_path / "m.csv", collection / "ground_truth.csv", "--protocol", "kit")
    assert "180 true pairs, 270 labelled queries" in out
    assert "official" not in out
    status, out, _ = run(
        capsys, "report", tmp_path / "m.csv", "--queries", collection / "queries", "--references",
        collection / "references", "--truth", collection / "ground_truth.csv", "--max-rows", 5, "-o", tmp_path / "p.html",
    )  # fmt: skip
    assert out == f"{tmp_path / 'p.html'}: 5 pairs\n"
    assert len(read_page(tmp_path / "p.html").pairs) == 5
    status, _, err = run(
        capsys, "report", tmp_path / "m.csv", "--queries", collection / "references", "--references",
        collection / "references", "-o", tmp_path / "wrong.html",
    )  # fmt: skip
    assert (status, "no query of the matches is among the photos given" in err) == (1, True)


def test_score_normalisation(capsys, tmp_path, collection):
    train = tmp_path / "t.h5"
    run(capsys, "extract", collection / "references", "--engine", "demo", "-o", train)
    base = ["normalize", collection / "queries.h5", "--method", "score", "-o", tmp_path / "q.h5"]
    assert "--role" in run(capsys, *base)[2]
    assert "--negatives" in run(capsys, *base, "--role", "query")[2]
    assert run(capsys, *base, "--role", "query", "--negatives", train)[0] == 0
    assert run(capsys, "negatives", train, "-o", tmp_path / "smooth.h5")[0] == 0
    assert "takes plain" in run(capsys, *base, "--role", "query", "--negatives", tmp_path / "smooth.h5")[2]
    reference = ["normalize", collection / "references.h5", "--method", "score", "--role", "reference"]
    assert run(capsys, *reference, "-o", tmp_path / "r.h5")[0] == 0
    assert run(capsys, "search", tmp_path / "q.h5", tmp_path / "r.h5", "-o", tmp_path / "m.csv")[0] == 0
    status, _, err = run(capsys, "search", tmp_path / "q.h5", collection / "references.h5", "-o", tmp_path / "m.csv")
    assert (status, "257 dimensions and references 256" in err) == (1, True)
    status, _, err = run(
        capsys, "search", tmp_path / "q.h5", tmp_path / "r.h5", "--metric", "l2", "-o", tmp_path / "m.csv"
    )
    assert (status, "inner product" in err) == (1, True)


def test_normalised_against_plain_is_refused(capsys, tmp_path, collection):
    run(capsys, "negatives", collection / "references.h5", "-o", tmp_path / "n.h5")
    run(capsys, "normalize", collection / "queries.h5", "--negatives", tmp_path / "n.h5", "-o", tmp_path / "q.h5")
    status, _, err = run(capsys, "search", tmp_path / "q.h5", collection / "references.h5", "-o", tmp_path / "m.csv")
    assert status == 1
    assert err.startswith("error: queries are normalised by nes (k=10, beta=0.35, iterations=1, negatives ")
    assert err.count("\n") == 1
    assert not (tmp_path / "m.csv").exists()


def test_convert_there_and_back(capsys, tmp_path, collection):
    parts = [f"query={collection / 'queries.h5'}", f"reference={collection / 'references.h5'}"]
    status, out, _ = run(capsys, "convert", *parts, "--to", "submission", "-o", tmp_path / "s.h5")
    assert (status, out) == (0, f"{tmp_path / 's.h5'}: 270 query, 45 reference as submission\n")
    status, _, err = run(capsys, "convert", tmp_path / "s.h5", "-o", tmp_path / "back.h5")
    assert (status, "--set" in err) == (1, True)
    assert run(capsys, "convert", tmp_path / "s.h5", "--set", "query", "-o", tmp_path / "back.h5")[0] == 0
    _, out, _ = run(capsys, "info", tmp_path / "s.h5")
    assert "query              float32 (270, 256)" in out
    named = f"query={tmp_path / 's.h5'}"
    assert run(capsys, "convert", named, "-o", tmp_path / "named.h5")[0] == 0
    assert (tmp_path / "named.h5").read_bytes() == (tmp_path / "back.h5").read_bytes()
    back = isc_fast.read_descriptors(tmp_path / "back.h5")
    assert back.ids == sorted(isc_fast.read_descriptors(collection / "queries.h5").ids)
    assert run(capsys, "convert", tmp_path / "back.h5", "--to", "kit", "-o", tmp_path / "k.h5")[0] == 0
    assert isc_fast.read_descriptors(tmp_path / "k.h5").ids == back.ids
    status, _, err = run(capsys, "convert", tmp_path / "k.h5", "--to", "submission", "-o", tmp_path / "x.h5")
    assert "query=FILE reference=FILE" in err


def test_info(capsys, collection):
    _, out, _ = run(capsys, "info", "demo")
    assert "arch               tf_efficientnet_lite0" in out
    _, out, _ = run(capsys, "info", collection / "queries.h5", "--json")
    about = json.loads(out)
    assert (about["count"], about["dim"], about["normalization"]) == (270, 256, None)
    _, out, _ = run(capsys, "info", collection / "matches.csv")
    assert "pairs              2700" in out
    _, out, _ = run(capsys, "info", collection / "ground_truth.csv")
    assert "kind               ground truth" in out
    assert "next               isc-fast evaluate MATCHES" in out
    status, _, err = run(capsys, "info", "demo", "--failures")
    assert (status, "no ledger" in err) == (1, True)


def test_every_kind_of_bad_file_ends_in_the_ledger(capsys, tmp_path):
    zoo = make_zoo(tmp_path / "zoo")
    bad = {name.rstrip("/"): reason for name, reason in zoo.items() if reason is not None}
    status, out, err = run(capsys, "extract", tmp_path / "zoo", "--engine", "demo", "-o", tmp_path / "o.h5")
    assert status == 0
    assert f"{len(zoo) - len(bad)} descriptors, {len(bad)} images failed" in out
    assert "Traceback" not in err
    assert "Warning" not in err
    _, out, _ = run(capsys, "info", tmp_path / "o.h5", "--failures")
    ledger = {
        os.path.relpath(row["path"], tmp_path / "zoo"): row["reason"] for row in map(json.loads, out.splitlines())
    }
    assert set(ledger) == set(bad)
    for name, reason in bad.items():
        assert reason in ledger[name]
    assert run(capsys, "extract", tmp_path / "zoo", "--engine", "demo", "-o", tmp_path / "o.h5", "--strict")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            "extract nowhere --engine demo -o out.h5",
            "there is no nowhere; expected a list on standard input (-), a folder, an image, ",
        ),
        ("extract empty --engine demo -o out.h5", "found no image in empty (0 other files)"),
        ("extract photos --engine v107.pth -o out.h5", "run: isc-fast export --ckpt v107.pth -o v107.onnx"),
        ("extract photos --engine none.onnx -o out.h5", "make one: isc-fast export"),
        ("extract photos --engine notes.onnx -o out.h5", "is not an ONNX file"),
        ("extract photos --engine demo -o file/out.h5", "file"),
        ("extract photos --engine demo -o empty", "it is a folder"),
        ("extract photos --engine demo -o out.h5 --batch-size 0", "at least 1"),
        ("extract bad --engine demo -o out.h5", "none of the 1 images could be described"),
        ("extract photos --engine demo -o /proc/out.h5", "/proc"),
        ("extract photos --engine demo --device cuda -o out.h5", "CUDAExecutionProvider"),
        ("search none.h5 none.h5 -o m.csv", "there is no none.h5"),
        ("search notes.onnx notes.onnx -o m.csv", "not an HDF5 file"),
        ("evaluate notes.onnx notes.onnx", "expected matches"),
        ("negatives notes.onnx -o n.h5", "not an HDF5 file"),
        ("challenge empty --engine demo -o out", "none of the folders query_images"),
        ("challenge nowhere --engine demo -o out", "there is no folder nowhere"),
        ("extract photos --engine demo --threads 0 -o out.h5", "threads must be at least 1"),
        ("export --ckpt none.pth -o x.onnx", "none.pth does not exist"),
        ("export --ckpt notes.onnx -o x.onnx", "cannot be read as ONNX"),
        ("export --ckpt v107.pth -o x.trt", "writes .onnx, .pt2, .plan engines only"),
        ("export --ckpt notes.onnx --precision int8 -o x.onnx", "notes.onnx is not an ONNX file"),
        ("export --ckpt v107.pth --precision bf16 --runtime onnxruntime -o x.onnx", "leave out --runtime"),
        ("export --ckpt v107.pth --runtime openvino -o x.onnx", "an fp32 engine is run by any of"),
        ("extract photos --engine demo --runtime openvino --device cuda -o out.h5", "leave out the runtime"),
        ("tune --engine none.onnx", "there is no engine none.onnx; make one: isc-fast export"),
        ("tune --engine notes.onnx", "is not an ONNX file"),
        ("tune --engine demo", "the engine inside the package stays as it is"),
        ("demo -o file", "there is a file of that name"),
        ("report none.csv --queries photos --references photos -o r.html", "none.csv"),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path, monkeypatch, photos, arguments, words):
    if arguments.startswith("export"):
        pytest.importorskip("onnxscript")
        pytest.importorskip("timm")
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("bad").mkdir()
    Path("bad/x.jpg").write_text("no")
    Path("photos").mkdir()
    Path("photos/a.jpg").symlink_to(photos[0])
    Path("file").write_text("text")
    Path("notes.onnx").write_text("just notes")
    Path("v107.pth").write_bytes(b"PK\x03\x04 something")
    before = sorted(os.listdir())
    status, out, err = run(capsys, *arguments.split())
    assert (status, out) == (1, "")
    (line,) = [line for line in err.splitlines() if not line.startswith(("extract:", "reading "))]
    assert line.startswith("error: ")
    assert words in line
    assert sorted(os.listdir()) == before, "nothing is left behind"


def test_the_runtime_is_chosen_and_the_engine_stays_the_same(capsys, tmp_path, photos):
    """Descriptors by either belong together."""
    pytest.importorskip("openvino")
    (tmp_path / "in").mkdir()
    for photo in photos[:3]:
        (tmp_path / "in" / photo.name).symlink_to(photo)
    made = []
    for runtime in ("onnxruntime", "openvino"):
        output = tmp_path / f"{runtime}.h5"
        arguments = ["extract", tmp_path / "in", "--engine", "demo", "--runtime", runtime, "-o", output]
        assert run(capsys, *arguments)[0] == 0
        made.append(isc_fast.read_descriptors(output))
    assert made[0].meta["engine"] == made[1].meta["engine"]
    assert (made[0].vectors * made[1].vectors).sum(axis=1).min() > 0.99999
    assert (made[0].vectors != made[1].vectors).any()  # it was not the same runtime twice


def test_a_resume_with_another_engine_size_is_refused(capsys, tmp_path, photos):
    """An output made by another engine is named, not mixed."""
    from fakes import FakeEngine

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").symlink_to(photos[0])
    isc_fast.extract(tmp_path / "in", FakeEngine(), tmp_path / "o.h5")
    status, _, err = run(capsys, "extract", tmp_path / "in", "--engine", "demo", "-o", tmp_path / "o.h5")
    assert status == 1
    assert "was made by another engine (fake0" in err
    assert "--overwrite" in err


SLOW = """
import sys, time
from isc_fast.engines.ort import OrtEngine
run = OrtEngine.run
def slow(self, pixels):
    time.sleep(0.15)
    return run(self, pixels)
OrtEngine.run = slow
from isc_fast.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("sent", "repeat"), [(signal.SIGINT, 1), (signal.SIGTERM, 1)])
def test_ctrl_c_leaves_a_state_that_resumes(tmp_path, photos, capsys, sent, repeat):
    arguments = ["extract", str(photos[0].parent), "--engine", "demo", "-o", str(tmp_path / "o.h5")]
    arguments += ["--batch-size", "2", "--shard-size", "4"]
    process = subprocess.Popen([sys.executable, "-c", SLOW, *arguments], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("o.h5.parts/part-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(sent)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    kept = 4 * len(list(tmp_path.glob("o.h5.parts/part-*")))
    assert err.endswith(f"interrupted: {kept} of 60 photos are kept; run the same command again\n")
    assert "Traceback" not in err
    status, out, err = run(capsys, *arguments)
    assert status == 0
    assert "extract: resuming, " in err
    assert "60 descriptors" in out


def test_a_closed_pipe_is_no_traceback(tmp_path, collection):
    command = f"{sys.executable} -m isc_fast info {collection / 'queries.h5'} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr


def test_matches_name_the_photos(collection):
    with open(collection / "matches.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["reference_id"] for row in rows} <= {path.stem for path in (collection / "references").iterdir()}


def foreign(path: Path, rows: np.ndarray) -> Path:
    """A file of the evaluation kit, which does not say how it was made."""
    with h5py.File(path, "w") as file:
        file["vectors"] = rows
        file["image_names"] = np.array([f"r{row}".encode() for row in range(len(rows))])
    return path


def test_foreign_descriptors_of_another_length_are_refused_or_made_unit_length(tmp_path, capsys):
    rows = np.array([[1, 0], [0, 3]], np.float32)
    file, unit, out = foreign(tmp_path / "x.h5", rows), tmp_path / "unit.h5", tmp_path / "m.csv"
    status, _, err = run(capsys, "search", file, file, "-o", out)
    assert status == 1
    assert "the query descriptor 'r1' has length 3, not 1" in err
    assert run(capsys, "search", file, file, "--metric", "l2", "-o", out)[0] == 0
    assert run(capsys, "convert", file, "--unit-length", "-o", unit)[0] == 0
    assert run(capsys, "search", unit, unit, "-o", out)[0] == 0
    assert out.read_text().splitlines()[1:] == ["r0,r0,1.0", "r0,r1,0.0", "r1,r1,1.0", "r1,r0,0.0"]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("none/m.csv", "its folder does not exist"),
        ("m.json", "matches are written as CSV (.csv), as JSON lines (.jsonl) or as Parquet (.parquet), not as .json"),
        ("m.csv.gz", "not as .gz"),
        ("m.csv", "the id 'a,b' holds a comma"),
    ],
)
def test_an_output_is_tried_before_the_search(tmp_path, capsys, monkeypatch, output, words):
    def never(*_arguments, **_options):
        raise AssertionError("searched")

    monkeypatch.setattr("isc_fast.matching.two_sides.search", never)
    isc_fast.write_descriptors(tmp_path / "x.h5", isc_fast.Descriptors(np.eye(2, dtype=np.float32), ["a,b", "c"]))
    status, _, err = run(capsys, "search", tmp_path / "x.h5", tmp_path / "x.h5", "-o", tmp_path / output)
    assert status == 1
    assert words in err


def test_a_report_with_numbers_that_make_no_sense(tmp_path, capsys, photos):
    (tmp_path / "m.csv").write_text(f"query_id,reference_id,score\n{photos[0].stem},{photos[0].stem},0.5\n")
    common = ["report", tmp_path / "m.csv", "--queries", photos[0].parent, "--references", photos[0].parent]
    for flags, words in ((("--max-rows", -1), "at least 1 pair, not -1"), (("--threshold", "nan"), "is not a number")):
        status, _, err = run(capsys, *common, "-o", tmp_path / "m.html", *flags)
        assert (status, err.count("\n")) == (1, 1)
        assert words in err
    assert not (tmp_path / "m.html").exists()


def test_a_truth_with_ids_of_another_kind(tmp_path, capsys):
    (tmp_path / "m.csv").write_text("query_id,reference_id,score\nq,photos/a,0.5\n")
    (tmp_path / "t.csv").write_text("query_id,reference_id\nq,a\n")
    status, _, err = run(capsys, "evaluate", tmp_path / "m.csv", tmp_path / "t.csv")
    assert status == 1
    assert "no reference of the ground truth is in the matches: ids such as 'photos/a' against 'a'" in err
