"""Info knows every file that a verb writes: the real outputs of the verbs are walked, and each has its row."""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEngine
from PIL import Image
from without_extras import run_python

from isc_fast import extract
from isc_fast.assets import DEMO_ENGINE, DEMO_NEGATIVES
from isc_fast.cli.main import main
from isc_fast.descriptors.store import Descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.errors import FormatError, InputError
from isc_fast.extraction import plan
from isc_fast.runs.copies.dedup import find_duplicates
from isc_fast.runs.copies.find import find_copies
from isc_fast.runs.file_kinds.base import Glance
from isc_fast.runs.file_kinds.table import KINDS, describe_file
from isc_fast.runs.sides.describing import Describing

pytest.importorskip("faiss")
pytest.importorskip("pyarrow")
pytest.importorskip("cv2")
pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[3]
MET: set[str] = set()
"""Kinds that a test of this file has seen."""


class Interrupted(FakeEngine):
    """Ends the run with its second batch."""

    def run(self, pixels):
        if self.calls:
            raise KeyboardInterrupt
        return super().run(pixels)


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


def check(root: Path, expected: dict[str, str]) -> None:
    """See that info knows everything below a folder, and takes it for what it is.

    Args:
        root: a folder that verbs wrote to. Folders of photos are looked at, but not each photo in them.
        expected: a kind for each pattern of paths below it, the first that fits; a path that fits none is a new output.
    """
    unknown, wrong = [], []
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        kind = next((kind for pattern, kind in expected.items() if fnmatch.fnmatchcase(name, pattern)), None)
        if kind == "":
            continue
        if kind is None:
            unknown.append(name)
            continue
        found = describe_file(path)
        assert found.next
        json.dumps(found.to_dict())
        MET.add(found.kind)
        if found.kind != kind:
            wrong.append((name, found.kind, kind))
    assert not unknown, "say here and in isc_fast/runs/file_kinds what these new outputs are"
    assert not wrong


@pytest.fixture(scope="module")
def sides(tmp_path_factory, photos) -> tuple[Path, Path]:
    """Eight originals, and as many queries, of which three are copies."""
    root = tmp_path_factory.mktemp("sides")
    for name in ("queries", "references"):
        (root / name).mkdir()
    for number, photo in enumerate(photos[:8]):
        shutil.copy(photo, root / "references")
        with Image.open(photos[number if number < 3 else 20 + number]) as image:
            image.convert("RGB").save(root / "queries" / f"copy-{number}.jpg", quality=40)
    rows = [f"copy-{number},{photos[number].stem if number < 3 else ''}" for number in range(8)]
    (root / "truth.csv").write_text("\n".join(["query_id,reference_id", *rows]) + "\n")
    return root / "queries", root / "references"


@pytest.fixture(scope="module")
def both(tmp_path_factory, sides) -> Path:
    """All photos of both sides in one folder, so that three of them have a copy there."""
    folder = tmp_path_factory.mktemp("both")
    for side in sides:
        for photo in side.iterdir():
            shutil.copy(photo, folder)
    return folder


def test_dedup_in_every_format(tmp_path, both):
    out, links = tmp_path / "out", tmp_path / "links"
    # Of the four formats, lists of photos are CSV and JSON lines, and tables of paths are Parquet.
    keeps = {"csv": "list of photos", "json": "list of ids", "jsonl": "list of photos", "parquet": "archive of photos"}
    for form, keep in keeps.items():
        more = ("--link-to", links, "--exact") if form == "csv" else ()
        run("dedup", both, "-o", out, "--format", form, "--nemo", "--threshold", 0.5, *more)
        check(
            tmp_path,
            {
                "links/*": "",
                "links": "folders of groups",
                "out": "dedup run",
                "out/photos.h5": "descriptors",
                "out/pairs.*": "pairs of one collection",
                "out/groups.*": "groups",
                "out/keep.*": keep,
                "out/remove.*": "removal list",
                "out/remove-nemo": "removal list for NeMo Curator",
                "out/remove-nemo/part.0.parquet": "list of ids",
                "out/dedup.html": "page",
                "out/dedup.json": "record of dedup",
            },
        )
        told = describe_file(out).facts
        assert (told["photos"], told["removed"]) == (16, 3)
        assert len(told["engine_id"]) == 64
        assert describe_file(out / f"remove.{form}").facts["rows"] == 3
        assert describe_file(out / "dedup.html").facts["pairs"] == 3
        if form == "csv":
            made = describe_file(out / "pairs.csv").to_dict()
            assert made["kind"] == describe_file(out / "pairs.csv").kind
            assert sum(made["kinds_of_rows"].values()) in (0, made["rows"])


def test_find_and_what_follows(tmp_path, sides):
    """Find in two ways, align, evaluate, verdicts, report."""
    queries, references = sides
    verdicts = tmp_path / "verdicts.json"
    said = {"query_id": "copy-0", "reference_id": "x", "verdict": "wrong"}
    verdicts.write_text(json.dumps({"format": "isc-fast verdicts", "version": 1, "verdicts": [said]}))
    (tmp_path / "verdicts.csv").write_text("query_id,reference_id,verdict,score,set\ncopy-0,x,right,0.5,\n")
    run("find", queries, "--in", references, "-o", tmp_path / "find", "--align")
    run("find", queries, "--in", references, "-o", tmp_path / "lines", "--verdicts", verdicts)
    found, truth = tmp_path / "find", sides[0].parent / "truth.csv"
    shutil.copy(truth, tmp_path)
    run("search", found / "queries.h5", found / "references.h5", "-o", tmp_path / "all.parquet")
    run("search", found / "queries.h5", found / "references.h5", "-o", f"{tmp_path}/tasks/", "--shard-size", 5)
    both = ("--queries", queries, "--references", references)
    drawn = ("--evidence", tmp_path / "evidence.jsonl", "--pictures", tmp_path / "drawn")
    run("align", tmp_path / "all.parquet", *both, "-o", tmp_path / "aligned.jsonl", *drawn)
    run("report", tmp_path / "aligned.jsonl", *both, "-o", tmp_path / "report.html", *drawn[:2])
    run("evaluate", found / "matches.csv", truth, "--plot", tmp_path / "curve.svg")
    run("evaluate", found / "matches.csv", truth, "--plot", tmp_path / "curve.png")
    lines = (tmp_path / "all.txt", tmp_path / "bare.csv")
    lines[0].write_text("query_id,reference_id,score\na,b,0.5\n")
    lines[1].write_text("a,b,0.5\n")
    check(
        tmp_path,
        {
            "verdicts.*": "verdicts",
            "truth.csv": "ground truth",
            "find": "find run",
            "lines": "find run",
            "*/find.json": "record of find",
            "*/matches.html": "page",
            "report.html": "page",
            "tasks": "comparison in tasks",
            "tasks/search.json": "record of a search in tasks",
            "tasks/begun.json": "plan of a comparison in tasks",
            "tasks/*/plan.json": "plan of a comparison in tasks",
            "tasks/*.pairs": "pairs of a task",
            "tasks/matches.csv": "matches",
            "tasks/*": "folder of a plan",
            "*.h5": "descriptors",
            "*matches.*": "matches",
            "all.*": "matches",
            "bare.csv": "matches",
            "aligned.jsonl": "matches",
            "evidence.jsonl": "evidence",
            "drawn": "pictures of evidence",
            "drawn/*.png": "photo",
            "curve.svg": "drawing",
            "curve.png": "drawing",
        },
    )
    told = describe_file(tmp_path / "report.html").facts
    assert told["aligned"] == describe_file(tmp_path / "evidence.jsonl").facts["pairs"] == 3
    assert describe_file(tmp_path / "all.parquet").facts["pairs"] == 64
    assert describe_file(tmp_path / "tasks").facts["pairs"] == 64


def test_leaks(tmp_path, sides):
    out = tmp_path / "out"
    run("leaks", "--train", sides[1], "--eval", sides[0], "-o", out, "--nemo")
    check(
        tmp_path,
        {
            "out": "leaks run",
            "out/*.h5": "descriptors",
            "out/leaks.csv": "leaks",
            "out/pairs.csv": "pairs between two sets",
            "out/remove-train.csv": "removal list of a training set",
            "out/remove-queries.csv": "removal list of an evaluation set",
            "out/remove-nemo": "removal list for NeMo Curator",
            "out/remove-nemo/part.0.parquet": "list of ids",
            "out/leaks.html": "page",
            "out/leaks.json": "record of leaks",
        },
    )
    assert describe_file(out / "remove-train.csv").facts["reason"] == {"evaluation": 3}


def test_extract_and_what_follows(tmp_path, sides, capsys):
    """Whole files, parts, unfinished work, ledgers, other tools' formats, an index, negatives, a calibration."""
    photos = tmp_path / "photos"
    shutil.copytree(sides[1], photos)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    engine = ("--engine", "demo", "--batch-size", 2, "--shard-size", 2)
    run("extract", photos, "--engine", "demo", "-o", tmp_path / "whole.h5")
    run("extract", photos, *engine, "-o", f"{tmp_path}/half/", "--shard-index", 0, "--num-shards", 2)
    with pytest.raises(KeyboardInterrupt):
        extract(photos, Interrupted(), tmp_path / "half.h5", batch_size=2, shard_size=2)
    run("extract", photos, *engine, "-o", f"{tmp_path}/parts/")
    capsys.readouterr()
    run("info", tmp_path / "whole.h5", "--failures")
    (tmp_path / "ledger.jsonl").write_text(capsys.readouterr().out)
    (tmp_path / "ledger.txt").write_text((tmp_path / "ledger.jsonl").read_text() * 2)
    for dialect, name in (("kit", "kit.h5"), ("npy", "array.npy"), ("clip-retrieval", "clip")):
        run("convert", tmp_path / "whole.h5", "--to", dialect, "-o", tmp_path / name)
    sets = [f"{side}={tmp_path / 'whole.h5'}" for side in ("query", "reference", "train")]
    run("convert", *sets, "--to", "reference", "-o", tmp_path / "theirs.h5")
    run("negatives", tmp_path / "whole.h5", "-o", tmp_path / "negatives.h5", "-k", 2)
    run("negatives", tmp_path / "whole.h5", "-o", f"{tmp_path}/smooth/", "-k", 2)
    run("index", "build", tmp_path / "whole.h5", "-o", tmp_path / "index")
    (tmp_path / "stop.txt").write_text(f"{next(sides[1].iterdir()).stem}\n")
    run("index", "remove", tmp_path / "index", "--ids", tmp_path / "stop.txt")
    drawing = ("--plot", tmp_path / "calibration.svg")
    few = ("--sample", 24, "--copies", 1)
    run("calibrate", DEMO_ENGINE.parent / "photos", "-o", tmp_path / "calibration.json", *few, *drawing)
    (tmp_path / "photos.txt").write_text("photos/a.jpg\nphotos/b.jpg\n")
    (tmp_path / "photos.csv").write_text("id,path\na,photos/a.jpg\n")
    (tmp_path / "names.csv").write_text("id,new_id\na,b\n")
    (tmp_path / "suggestions.csv").write_text("id,matches,share\na,12,0.5\n")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(next(photos.glob("*.jpg")), "a.jpg")
    check(
        tmp_path,
        {
            "photos": "folder of photos",
            "photos/*": "photo",
            "half.h5.parts": "unfinished extraction",
            "half.h5.parts/plan.sqlite": "plan of an extraction",
            "half.h5.parts/lock": "lock",
            "half.h5.parts/*.h5": "descriptors",
            "half": "unfinished result in parts",
            "half/begun-new.json": "begun extraction",
            "half/*/plan.sqlite": "plan of an extraction",
            "half/*.h5": "descriptors",
            "half/*": "folder of a plan",
            "parts": "descriptors",
            "parts/manifest.json": "descriptors",
            "parts/*/plan.sqlite": "plan of an extraction",
            "parts/*.h5": "descriptors",
            "parts/*": "folder of a plan",
            "smooth": "descriptors",
            "smooth/manifest.json": "descriptors",
            "smooth/begun.json": "plan of a comparison in tasks",
            "smooth/*/plan.json": "plan of a comparison in tasks",
            "smooth/*.h5": "descriptors",
            "smooth/*": "folder of a plan",
            "clip": "descriptors",
            "clip/*": "part of a clip-retrieval folder",
            "index": "index",
            "index/index.json": "manifest of an index",
            "index/*/rows.h5": "descriptors",
            "index/*/*": "part of an index",
            "index/*": "segment of an index",
            "array.npy": "descriptors",
            "train_feats.npy": "descriptors",
            "array.txt": "ids of an array",
            "calibration.json": "calibration",
            "calibration.svg": "drawing",
            "ledger.*": "ledger",
            "stop.txt": "list of ids",
            "photos.txt": "list of photos",
            "photos.csv": "list of photos",
            "photos.zip": "archive of photos",
            "names.csv": "new names",
            "suggestions.csv": "stop list suggestions",
            "*.h5": "descriptors",
        },
    )
    told = describe_file(tmp_path / "whole.h5")
    assert (told.facts["count"], len(told.ledgers["failures"])) == (8, 1)
    assert describe_file(tmp_path / "half").facts["parts_done"] in (2, 3)
    assert describe_file(tmp_path / "photos").facts["photos"] == 9
    assert describe_file(tmp_path / "calibration.json").facts["engine_id"] == told.facts["engine_id"]
    assert describe_file(photos / "broken.jpg").facts["readable"] is False
    assert describe_file(next(photos.glob("[!b]*.jpg"))).facts["width"] > 100


@pytest.mark.slow
def test_demo_and_challenge(tmp_path, photos):
    run("demo", "-o", tmp_path / "demo")
    data = tmp_path / "disc"
    for name, some in (("query_images", photos[:3]), ("reference_images", photos[:5]), ("train_images", photos[5:20])):
        (data / name).mkdir(parents=True)
        for photo in some:
            shutil.copy(photo, data / name)
    rows = [f"{photo.stem},{photo.stem}" for photo in photos[:3]]
    (data / "public_ground_truth.csv").write_text("\n".join(["query_id,reference_id", *rows]) + "\n")
    run("challenge", data, "--engine", "demo", "-o", tmp_path / "run")
    check(
        tmp_path,
        {
            "demo": "demo",
            "demo/queries/*": "",
            "demo/references/*": "",
            "demo/*.h5": "descriptors",
            "demo/queries": "folder of photos",
            "demo/references": "folder of photos",
            "demo/index.html": "page",
            "disc": "data of the challenge",
            "disc/*/*": "",
            "disc/*_images": "folder of photos",
            "*ground_truth.csv": "ground truth",
            "*matches.csv": "matches",
            "run/labelled.csv": "matches",
            "run": "challenge run",
            "run/steps.json": "record of a challenge",
            "*/evaluation.json": "evaluation",
            "*.h5": "descriptors",
        },
    )
    assert describe_file(tmp_path / "demo" / "evaluation.json").facts["micro_ap"]["with_nes kit"] > 0.9


@pytest.mark.slow
def test_distill(tmp_path, photos, one_thread):
    pytest.importorskip("torch")
    from helpers_training import ARCH, backbone_file

    from isc_fast.training.distillation import distill
    from isc_fast.training.options import RunOptions

    data = tmp_path / "photos"
    data.mkdir()
    for number, photo in enumerate(photos[:40]):
        Image.open(photo).convert("RGB").resize((120, 90)).save(data / f"{number:02d}.jpg", quality=90)
    settings = ["batch_size=8", "hard_views=1", "head_start=random", "learning_rate=1e-3"]
    distill(
        "demo", data, tmp_path / "small.onnx", start=backbone_file(tmp_path / "backbone.pth"), arch=ARCH, size=64,
        epochs=1, settings=settings, options=RunOptions(device="cpu", workers=0, log_every=1), min_cosine=-1.0,
        min_neighbours=0.0,
    )  # fmt: skip
    assert main(["tune", "--engine", str(tmp_path / "small.onnx"), "--seconds", "1"]) == 0
    check(
        tmp_path,
        {
            "photos/*": "",
            "photos": "folder of photos",
            "backbone.pth": "checkpoint",
            "small.onnx": "engine",
            "small.onnx.tune.json": "tuned setting",
            "small.training": "training",
            "small.training/stage.json": "record of a stage",
            "small.training/log.csv": "training log",
            "small.training/resume.pt": "training state",
            "small.training/*.pth.tar": "checkpoint",
            "small.training/*.h5": "descriptors",
        },
    )
    assert describe_file(tmp_path / "backbone.pth").facts["tensors"] > 10


OTHERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "v107.NVIDIA-H100-9.0-trt11.4.0.cache": ("timing cache of TensorRT", lambda path: path.write_bytes(b"\1\0\2")),
    "v107.onnx.trt-cache": ("timing cache", lambda path: path.mkdir()),
    "v107.plan.json": (
        "sidecar of a TensorRT plan",
        lambda path: path.write_text('{"isc_fast_plan": {"gpu": "H100"}}'),
    ),
    "isc_ft_v107.pth.tar.sha256": ("digest", lambda path: path.write_text(f"{'0' * 64}  isc_ft_v107.pth.tar\n")),
    "skipped.jsonl": ("skipped images", lambda path: path.write_text('{"path": "a.jpg", "reason": "cut off"}\n')),
    "evaluation.jsonl": (
        "training evaluation",
        lambda path: path.write_text('{"epoch": 0, "net": "net", "micro_ap": 0.5}\n'),
    ),
    "weights.safetensors": (
        "checkpoint",
        lambda path: path.write_bytes((len(text := b'{"a": {"dtype": "F32"}}')).to_bytes(8, "little") + text),
    ),
}
"""What needs a GPU, a download or hours: name, kind, and what writes the beginning of such a file."""


@pytest.mark.parametrize("name", OTHERS)
def test_what_this_machine_does_not_write(tmp_path, name):
    kind, write = OTHERS[name]
    write(tmp_path / name)
    found = describe_file(tmp_path / name)
    assert found.kind == kind
    MET.add(kind)


def test_every_row_stands_in_the_documents():
    page = (ROOT / "docs/files.md").read_text("utf-8")
    for kind in KINDS:
        assert f"| {kind.name} | {kind.what} |" in page, kind.name
    names = [kind.name for kind in KINDS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.csv", b"colour,size\nred,3\n", "begins with the columns colour, size; expected a file that isc-fast"),
        ("x", b"\x00\x01\x02", "begins with b'"),
        ("x", b"", "begins with b''"),
        ("x.json", b'{"a": 1}', "cannot tell what"),
        ("x.json", b"[" * 100_000, "cannot tell what"),
        ("x.jsonl", b'{"query_id": 1', "cannot tell what"),
        ("m.jsonl", b'{"query_id": "a", "reference_id": "b", "score": "x"}\n', "line 1: 'x' is not a number"),
        ("x.html", b"<!doctype html><p>hello", "cannot tell what"),
        ("x.html", b"<!doctype html><meta content=\"default-src 'none'; script-src 'sha256-\">", "a page without its data"),
        ("x.parquet", b"PAR1 and no more", "expected a Parquet file"),
        ("x.safetensors", b"\xff" * 20, "is damaged"),
        ("x.pth", b"PK\x03\x04 cut", "is damaged"),
        ("x.sqlite", b"SQLite format 3\0 cut", "is damaged"),
    ],
)  # fmt: skip
def test_what_is_not_known_or_damaged_is_one_line(tmp_path, capsys, name, content, words):
    (tmp_path / name).write_bytes(content)
    assert main(["info", str(tmp_path / name)]) == 1
    out, err = capsys.readouterr()
    assert words in err
    assert (out, err.count("\n")) == ("", 1)


def test_what_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"there is no .*gone\.csv; expected a file or folder"):
        describe_file(tmp_path / "gone.csv")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FormatError, match="a pipe or a device"):
        describe_file(tmp_path / "pipe")


def test_no_runtime_is_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(3, dtype=np.float32))
    (tmp_path / "a.txt").write_text("a\nb\nc\n")
    data = ROOT / "isc_fast/data"
    files = ["demo", str(data / "demo-negatives.h5"), str(data / "photos"), *map(str, tmp_path.iterdir())]
    code = f"from isc_fast.runs.file_kinds.table import describe_file\nfor file in {files}: describe_file(file)"
    loaded = {name.split(".")[0] for name in run_python(f"{code}\nimport sys; print(*sys.modules)").split()}
    assert not {"onnxruntime", "openvino", "torch", "faiss", "tensorrt"} & loaded


def test_a_table_is_looked_at_by_its_beginning(tmp_path):
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"query_id": "q" * 100_000, "reference_id": "r", "score": 1}) + "\n")
    assert Glance(long).columns == ("query_id", "reference_id", "score")
    assert describe_file(long).kind == "matches"
    assert Glance(tmp_path).columns == ()


def test_what_an_interrupted_run_left(tmp_path, photos, monkeypatch):
    """The folder of dedup, find or leaks that was ended while it described."""
    sides = tmp_path / "some"
    sides.mkdir()
    for photo in photos[:24]:
        shutil.copy(photo, sides)
    monkeypatch.setattr(plan, "SHARD_ROWS", 8)
    engine = Describing(Interrupted(), batch_size=8)
    with pytest.raises(KeyboardInterrupt):
        find_copies(sides, sides, tmp_path / "out", describing=engine, threshold=0.5)
    found = describe_file(tmp_path / "out")
    assert (found.kind, found.facts["verbs"], found.facts["described"]) == ("unfinished run", ["find"], [])
    assert found.facts["unfinished"] == {"queries.h5.parts": {"images": 24, "parts": 3, "parts_done": 1}}
    assert found.next == "run the same command again, and it goes on"
    (tmp_path / "out" / "queries.h5.parts" / "plan.sqlite").unlink()
    assert describe_file(tmp_path / "out").facts["unfinished"] == {}
    MET.add("unfinished run")
    (tmp_path / "out" / "holiday.jpg").write_bytes(photos[0].read_bytes())
    assert describe_file(tmp_path / "out").kind != "unfinished run"


def test_a_run_that_was_killed_while_it_wrote_its_lists(tmp_path, photos, monkeypatch):
    """The record says then that files may be written, and nothing more."""
    out = tmp_path / "out"
    monkeypatch.setattr("isc_fast.runs.copies.dedup.write_everything", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        find_duplicates([str(photo) for photo in photos[:4]], out, describing=Describing(FakeEngine()), threshold=0.5)
    (out / "pairs.csv").write_text("id,other_id,score,kind\n")
    found = describe_file(out)
    assert (found.kind, found.facts["verbs"]) == ("unfinished run", ["dedup"])
    monkeypatch.undo()
    find_duplicates([str(photo) for photo in photos[:4]], out, describing=Describing(FakeEngine()), threshold=0.5)
    assert describe_file(out).kind == "dedup run"


@pytest.mark.parametrize(
    ("command", "begins"),
    [
        (
            ["negatives", "{rows}", "-k", "2"],
            "they are smoothed negatives: isc-fast find QUERIES --in REFERENCES --negatives",
        ),
        (
            ["normalize", "{rows}", "--method", "score", "--role", "reference"],
            "they are references: isc-fast search QUERIES.h5",
        ),
        (
            ["normalize", "{rows}", "--method", "score", "--role", "query", "--negatives", "{negatives}"],
            "isc-fast search {made}",
        ),
        (
            ["normalize", "{rows}", "--negatives", "{negatives}"],
            "isc-fast search {made} REFERENCES.h5 -o matches.csv, with ref",
        ),
    ],
)
def test_the_next_step_depends_on_what_descriptors_are(tmp_path, command, begins):
    """A hint that its own verb refuses is none."""
    rows = np.eye(16, dtype=np.float32)
    places = {name: tmp_path / f"{name}.h5" for name in ("rows", "negatives", "made")}
    for name in ("rows", "negatives"):
        write_descriptors(places[name], Descriptors(rows, [f"{name}{row}" for row in range(16)], {"engine_id": "e"}))
    run(*(word.format(**places) for word in command), "-o", places["made"])
    found = describe_file(places["made"]).next
    assert found.startswith(begins.format(**places))
    if found.startswith("they are smoothed"):  # the command as it is printed, with the words in capitals filled in
        words = found.partition(": ")[2].partition(";")[0].split()
        filled = {"QUERIES": places["rows"], "REFERENCES": places["rows"], "S": 0.5, "OUTPUT/": tmp_path / "out"}
        run(*(filled.get(word, word) for word in words[1:]))


def test_a_fact_in_a_file_is_no_advice(tmp_path):
    """What a file says of itself is not said in isc-fast's name."""
    meta = {"engine_id": "e", "next": "run this", "path": "/etc/passwd", "kind_of_rows": "x"}
    write_descriptors(tmp_path / "a.h5", Descriptors(np.eye(4, dtype=np.float32), list("abcd"), meta))
    found = describe_file(tmp_path / "a.h5")
    assert (found.path, found.facts["kind_of_rows"]) == (str(tmp_path / "a.h5"), "x")
    assert "run this" not in found.next


def test_a_folder_called_pairs_is_no_run(tmp_path, photos):
    (tmp_path / "pairs").mkdir()
    for photo in photos[:3]:
        shutil.copy(photo, tmp_path / "pairs")
    assert describe_file(tmp_path).kind == "folder of photos"


def test_the_next_step_of_a_calibration_names_its_negatives(tmp_path):
    few = ("--sample", 24, "--copies", 1)
    photos = DEMO_ENGINE.parent / "photos"
    run("calibrate", photos, "-o", tmp_path / "c.json", *few, "--negatives", DEMO_NEGATIVES)
    told = describe_file(tmp_path / "c.json")
    assert told.facts["method"] == "nes"
    assert told.next.startswith("isc-fast find QUERIES --in REFERENCES --negatives FILE --method nes --calibration")
