"""From an fp32 engine to one in bf16 or int8: what is published, what it claims, and what is left when it is refused."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from helpers_graphs import first_blocks, residual, save

from isc_fast.assets import DEMO_ENGINE
from isc_fast.cli.main import main
from isc_fast.decoders.preprocessing import Preprocessing
from isc_fast.decoders.rules import load_input
from isc_fast.engines.base import file_sha256, load_engine
from isc_fast.errors import EngineError, InputError, OutputError, ParityError
from isc_fast.evaluation.edits.held_out import HELD_OUT_EDITS
from isc_fast.export import export_engine, loop
from isc_fast.export.photos import split_photos
from isc_fast.export.precision import gate, reduce, workshop
from isc_fast.export.precision.gate import make_benchmark
from isc_fast.export.precision.reduce import reduce_engine
from isc_fast.export.request import Request
from isc_fast.export.targets import onnx_reduced
from isc_fast.export.targets.onnx_reduced import ReducedOptions
from isc_fast.machine import cores

PHOTOS = 18
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'timm', 'onnxscript', 'torchvision'): raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Block())
from isc_fast.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def needs(precision):
    if precision.endswith("bf16"):
        pytest.importorskip("openvino")
        if not cores.has_bf16():
            pytest.skip("this processor does not compute in bf16")


@pytest.fixture(scope="module")
def few(photos, tmp_path_factory):
    """The smallest useful number of photos, and small, so that their edits take little time."""
    folder = tmp_path_factory.mktemp("few")
    for photo in photos[:PHOTOS]:
        image = Image.open(photo).convert("RGB")
        image.thumbnail((256, 256))
        image.save(folder / f"{photo.stem}.png")
    return folder


@pytest.fixture(scope="module")
def paths(few):
    return sorted(few.iterdir())


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A trained network in fp32: the first 21 of the 48 layers of the demo's, because each is measured."""
    return first_blocks(tmp_path_factory.mktemp("source") / "short.onnx")


@pytest.fixture(scope="module", params=["int8", "bf16", "int8-bf16"])
def made(request, few, source, tmp_path_factory):
    """(engine file, the report of the command as JSON, precision): exported by the command, torch out of reach."""
    precision = request.param
    needs(precision)
    folder = tmp_path_factory.mktemp(precision)
    shutil.copy(source, folder / "short.onnx")
    arguments = [
        "export",
        "--ckpt",
        "short.onnx",
        "--precision",
        precision,
        "--photos",
        str(few),
        "-o",
        "x.onnx",
        "--json",
    ]
    done = subprocess.run(
        [sys.executable, "-c", BLOCK, *arguments], capture_output=True, text=True, timeout=500, cwd=folder, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert sorted(os.listdir(folder)) == ["short.onnx", "x.onnx"]
    return folder / "x.onnx", json.loads(done.stdout), precision


# --- what is published


@pytest.mark.slow
def test_the_published_engine_says_what_it_is(made, source):
    path, report, precision = made
    engine, exact = load_engine(path), load_engine(source)
    spec = engine.spec
    assert spec.precision == precision
    assert spec.runtime == ("openvino" if importlib.util.find_spec("openvino") else "onnxruntime")
    same = ("name", "arch", "height", "width", "dim", "gem_p", "preprocessing", "checkpoint_sha256", "parity")
    assert all(getattr(spec, field) == getattr(exact.spec, field) for field in same)
    assert spec.weights_as == "fp32"
    assert bool(spec.fp32_layers) == (precision != "int8")
    assert spec.tools[spec.runtime]
    assert spec.tools["torch"] == exact.spec.tools["torch"]
    assert report["size_bytes"] == path.stat().st_size
    assert {key: report[key] for key in ("precision", "accuracy")} == {
        "precision": precision,
        "accuracy": spec.accuracy,
    }
    onnx.checker.check_model(onnx.load(path), full_check=True)
    graph = onnx.load(path).graph
    kinds = [node.op_type for node in graph.node]
    assert ("QuantizeLinear" in kinds) == (precision != "bf16")
    names = {node.name for node in graph.node}
    assert set(spec.fp32_layers) <= names
    for private in (b"/tmp", str(Path(__file__).parents[2]).encode(), b"few"):
        assert private not in path.read_bytes()


@pytest.mark.slow
def test_shares_of_the_arithmetic_are_those_of_the_file(made, source):
    path, _, precision = made
    accuracy = load_engine(path).spec.accuracy
    shares = [accuracy[f"{kind}_share"] for kind in ("fp32", "bf16", "int8")]
    assert sum(shares) == pytest.approx(1)
    assert accuracy["int8_share"] > 0.05 if "int8" in precision else accuracy["int8_share"] == 0
    assert accuracy["bf16_share"] > 0.05 if "bf16" in precision else accuracy["bf16_share"] == 0
    from isc_fast.export.precision.layers import find_layers, load_graph

    work = {layer.name: layer.operations for layer in find_layers(load_graph(source))}
    graph = onnx.load(path).graph
    int8 = {node.output[0] for node in graph.node if node.op_type == "Conv" and node.input[0].endswith(".seen")}
    kept = set(load_engine(path).spec.fp32_layers)
    total = sum(work.values())
    assert accuracy["int8_share"] == pytest.approx(sum(work[name] for name in int8) / total)
    if precision != "int8":
        assert accuracy["fp32_share"] == pytest.approx(sum(work[name] for name in set(work) & kept) / total)
        assert not int8 & kept


def micro_ap(scores, originals):
    """From the definition: predictions by falling score, wrong ones first among equals."""
    rows = [(-score, reference == original) for row, original in zip(scores, originals, strict=True)
            for reference, score in enumerate(row)]  # fmt: skip
    found, right, total = 0.0, 0, int((originals >= 0).sum())
    for place, (_, correct) in enumerate(sorted(rows), 1):
        right += correct
        found += correct * right / place
    return found / total


@pytest.mark.slow
def test_the_figures_are_those_of_the_two_engines_and_within_the_bounds(made, source, paths):
    """All anew from the files: calibration photos and others apart, edits, cosines, best matches, µAP."""
    path, _, _ = made
    engine, exact = load_engine(path), load_engine(source, runtime="onnxruntime")
    told = engine.spec.accuracy
    held_out = paths[1::2]
    benchmark = make_benchmark(held_out, Preprocessing(224, 224))
    q, r, q2, r2 = (
        np.concatenate([which.run(images[i : i + 5]) for i in range(0, len(images), 5)]).astype(np.float64)
        for which in (exact, engine)
        for images in (benchmark.queries, benchmark.references)
    )
    cosines = np.r_[(q * q2).sum(1), (r * r2).sum(1)]
    known = benchmark.originals >= 0
    assert told["queries"] == len(q) == 9 * len(HELD_OUT_EDITS)
    assert told["references"] == len(r) == 7
    assert told["copies"] == known.sum() == 7 * len(HELD_OUT_EDITS)
    assert told["calibration_photos"] == 9
    assert told["fp32_engine"] == file_sha256(source)
    for name, value in (
        ("cosine_min", cosines.min()),
        ("cosine_p01", np.quantile(cosines, 0.01)),
        ("cosine_p50", np.median(cosines)),
        ("cosine_mean", cosines.mean()),
    ):
        assert told[name] == pytest.approx(value, abs=2e-6), name
    same = np.argmax(q @ r.T, 1) == np.argmax(q2 @ r2.T, 1)
    assert told["top1_agreement"] == pytest.approx(same[known].mean())
    assert told["micro_ap_fp32"] == pytest.approx(micro_ap(q @ r.T, benchmark.originals), abs=1e-4)
    assert told["micro_ap"] == pytest.approx(micro_ap(q2 @ r2.T, benchmark.originals), abs=1e-4)
    # The bounds, in figures of their own.
    assert np.quantile(cosines, 0.01) >= 0.999 - 2e-6
    assert same[known].mean() >= 0.995
    assert told["micro_ap"] >= told["micro_ap_fp32"] - 0.001
    assert np.abs(np.linalg.norm(q2, axis=1) - 1).max() < 1e-4
    assert np.abs(q - q2).max() > 1e-3  # it is no copy of the fp32 engine
    # And on photos that took no part in it at all.
    fresh = np.stack(
        [load_input(str(photo), 224, 224) for photo in DEMO_ENGINE.parent.joinpath("photos").glob("*.jpg")][30:]
    )
    cosine = (exact.run(fresh).astype(np.float64) * engine.run(fresh)).sum(1)
    assert np.median(cosine) > 0.998


@pytest.mark.slow
def test_bits_do_not_depend_on_the_load(made, photos):
    """The same file opened again and again, by any number of threads."""
    path, _, _ = made
    pixels = np.stack([load_input(str(photo), 224, 224) for photo in photos[:3]])
    assert len({load_engine(path, threads=threads).run(pixels).tobytes() for threads in (1, 2, 2, 2, 2)}) == 1


@pytest.mark.slow
def test_the_report_says_it_in_words(made, capsys):
    path, report, precision = made
    assert main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"precision          {precision}" in out
    from isc_fast.export import ExportReport

    text = str(ExportReport(path, load_engine(path).spec, report["size_bytes"], 1.0))
    assert f"{precision}: " in text
    assert "% of the arithmetic in " in text
    assert "180 copies by 20 edits of photos that calibration never saw" in text
    assert f"1st percentile {report['accuracy']['cosine_p01']:.5f}" in text
    assert "edited copies against" in text
    assert max(len(line) for line in text.replace(str(path), "").splitlines()) < 110


# --- on a small network, in seconds


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return save(residual(), tmp_path_factory.mktemp("small") / "small.onnx", parity={"photos": 1})


@pytest.fixture
def lenient(monkeypatch):
    """A network with random weights bears little: bounds that it passes."""
    monkeypatch.setattr(gate, "MIN_COSINE_P01", 0.5)
    monkeypatch.setattr(gate, "MIN_TOP1_AGREEMENT", 0.5)
    monkeypatch.setattr(gate, "MAX_MICRO_AP_LOSS", 0.5)


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where temporary folders go, to see what is left of them."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize("precision", ["int8", "bf16", "int8-bf16"])
def test_the_same_photos_give_the_same_file(small, paths, tmp_path, scratch, lenient, precision):
    needs(precision)
    lines = []
    for name in ("a.onnx", "b.onnx"):
        report = export_engine(small, tmp_path / name, precision=precision, photos=paths, name="mine", log=lines.append)
        assert report.path == tmp_path / name
        assert (report.spec.name, report.spec.precision) == ("mine", precision)
        assert load_engine(tmp_path / name).spec == report.spec
    digests = {hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("a.onnx", "b.onnx")}
    assert len(digests) == 1
    assert sorted(os.listdir(tmp_path)) == ["a.onnx", "b.onnx", "scratch"]
    assert os.listdir(scratch) == []
    assert any(line.startswith("held-out copies: cosine") for line in lines)


def test_a_residual_network_in_int8_by_openvino_leaves_out_what_that_computes_wrongly(
    small, paths, tmp_path, scratch, lenient
):
    pytest.importorskip("openvino")
    report = export_engine(small, tmp_path / "x.onnx", precision="int8", runtime="openvino", photos=paths)
    assert (report.spec.precision, report.spec.runtime) == ("int8", "openvino")
    assert load_engine(report.path).device == "OpenVINO CPU"
    names = {node.name for node in onnx.load(report.path).graph.node}
    assert "conv9_q" not in names
    assert {"conv4_q", "conv6_q"} <= names


def test_a_gate_that_cannot_be_passed(small, paths, tmp_path, scratch, monkeypatch):
    monkeypatch.setattr(gate, "MIN_COSINE_P01", 1.1)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ParityError) as caught:
        export_engine(small, out / "x.onnx", precision="int8", photos=paths)
    said = str(caught.value)
    for part in (
        "does not bear int8",
        "at the 1st percentile, expected at least 1.1",
        "worst edits: ",
        "--photos FOLDER",
    ):
        assert part in said
    assert "\n" not in said
    assert os.listdir(out) == os.listdir(scratch) == []
    (out / "x.onnx").write_text("older")
    with pytest.raises(ParityError):
        export_engine(small, out / "x.onnx", precision="int8", photos=paths)
    assert os.listdir(out) == ["x.onnx"]
    assert (out / "x.onnx").read_text() == "older"


def test_each_attempt_has_less_to_lose(small, paths, tmp_path, monkeypatch):
    """The same choice again would only cost time."""
    monkeypatch.setattr(gate, "MIN_COSINE_P01", 1.1)
    tried = []
    honest = workshop.choose_measured

    def choose(*arguments):
        found = honest(*arguments)
        tried.append(found)
        return found

    monkeypatch.setattr(workshop, "choose_measured", choose)
    with pytest.raises(ParityError):
        export_engine(small, tmp_path / "x.onnx", precision="int8", photos=paths)
    assert 1 < len(tried) <= 6
    losses = [lost for choice, lost in tried if choice]
    assert all(later < earlier for earlier, later in itertools.pairwise(losses))


def test_for_a_benchmark_the_first_choice_is_written_whatever_it_loses(small, paths, tmp_path, monkeypatch):
    monkeypatch.setattr(gate, "MIN_COSINE_P01", 1.1)
    split = split_photos(paths)
    target = tmp_path / "x.onnx"
    request = Request(small, target, "int8", options=ReducedOptions("onnxruntime"))
    spec = reduce_engine(request, split, enforce=False)
    assert load_engine(target).spec == spec
    assert spec.accuracy["cosine_p01"] < 1.1


def test_no_layer_at_all(small, paths, tmp_path, scratch, monkeypatch):
    monkeypatch.setattr(loop, "LOSS_BUDGET", -1.0)
    with pytest.raises(ParityError, match=r"no layer of .*small\.onnx bears int8 within the bounds.*keep it in fp32"):
        export_engine(small, tmp_path / "x.onnx", precision="int8", photos=paths)
    assert os.listdir(tmp_path) == ["scratch"]
    assert os.listdir(scratch) == []


def test_an_engine_that_changes_when_it_is_stamped_is_not_published(
    small, paths, tmp_path, scratch, lenient, monkeypatch
):
    honest = reduce.Workshop.build

    def build(self, lowered, path, **changes):
        if changes:
            lowered = dict(list(lowered.items())[1:])
        return honest(self, lowered, path, **changes)

    monkeypatch.setattr(reduce.Workshop, "build", build)
    with pytest.raises(ParityError, match="changed when its figures were written into it; nothing was published"):
        export_engine(small, tmp_path / "x.onnx", precision="int8", photos=paths)
    assert os.listdir(tmp_path) == ["scratch"]


def test_descriptors_that_are_no_numbers_are_refused(small, paths, tmp_path, monkeypatch):
    honest = gate.describe_all

    def describe(engine, pixels):
        rows = honest(engine, pixels)
        if engine.spec.precision != "fp32" and len(pixels) > 100:
            rows[17, 3] = np.nan
        return rows

    monkeypatch.setattr(gate, "describe_all", describe)
    with pytest.raises(ParityError, match="rows that are not of unit length"):
        export_engine(small, tmp_path / "x.onnx", precision="int8", photos=paths)
    assert os.listdir(tmp_path) == []


# --- refusals


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, EngineError, r"small\.onnx is .* an engine; give a checkpoint, or .* another --precision: bf16, int8"),
        (
            {"precision": "bf16", "runtime": "onnxruntime"},
            EngineError,
            "does not compute in bf16 .* leave out --runtime",
        ),
        ({"precision": "int8-bf16", "runtime": "onnxruntime"}, EngineError, "does not compute in bf16 on a processor"),
        ({"precision": "int8", "runtime": "tensorflow"}, EngineError, "no runtime 'tensorflow'; choose one of"),
        ({"runtime": "openvino"}, EngineError, "an fp32 engine is run by any"),
        ({"precision": "int4"}, EngineError, "no precision 'int4'; choose one of fp32"),
        ({"precision": "int8", "weights_as": "fp16"}, EngineError, "in fp32 engines only; leave out"),
        ({"precision": "int8", "size": 64}, EngineError, "its size and pooling are in it and cannot be changed"),
        ({"precision": "int8", "gem_p": 3.0}, EngineError, "its size and pooling are in it and cannot be changed"),
        ({"precision": "int8", "photos": 15}, InputError, "15 photos are too few .* at least 16.*--photos FOLDER"),
        ({"precision": "int8", "photos": 0}, InputError, "no photos"),
        ({"precision": "int8", "target": "no/x.onnx"}, OutputError, "does not exist"),
        ({"precision": "int8", "ckpt": "absent.onnx"}, EngineError, "there is no engine .*absent.*; make one"),
        ({"precision": "int8", "ckpt": "notes.onnx"}, EngineError, "not an ONNX file, or it is damaged"),
    ],
)
def test_requests_that_cannot_be_met(small, paths, tmp_path, scratch, options, error, words):
    (tmp_path / "notes.onnx").write_text("just notes")
    options = dict(options)
    ckpt = tmp_path / options.pop("ckpt") if "ckpt" in options else small
    photos = paths[: options.pop("photos", 16)]
    began = time.monotonic()
    with pytest.raises(error, match=words):
        export_engine(ckpt, tmp_path / options.pop("target", "x.onnx"), photos=photos, **options)
    assert time.monotonic() - began < 10
    assert sorted(os.listdir(tmp_path)) == ["notes.onnx", "scratch"]
    assert os.listdir(scratch) == []


@pytest.mark.parametrize("precision", ["bf16", "int8", "int8-bf16"])
def test_an_engine_is_reduced_once(paths, tmp_path, precision):
    runtime = "onnxruntime" if precision == "int8" else "openvino"
    needs(precision)
    path = save(residual(), tmp_path / "low.onnx", precision=precision, runtime=runtime)
    with pytest.raises(EngineError, match=rf"low\.onnx is in {precision} already; start from the fp32 engine"):
        export_engine(path, tmp_path / "x.onnx", precision="int8", photos=paths)


def test_where_openvino_is_not_installed_int8_is_for_onnx_runtime(small, paths, tmp_path, lenient, monkeypatch):
    monkeypatch.setattr(onnx_reduced, "find_spec", lambda name: None)
    said = []
    made = export_engine(small, tmp_path / "x.onnx", precision="int8", photos=paths, log=said.append)
    assert made.spec.runtime == load_engine(tmp_path / "x.onnx").spec.runtime == "onnxruntime"
    assert sum("pip install 'isc-fast[cpu,openvino]'" in line for line in said) == 1


def test_what_cannot_be_made_is_said_before_anything_is_done(tmp_path, paths, monkeypatch):
    """Not after minutes of exporting a checkpoint to fp32: of the checkpoint only the first bytes are looked at."""
    absent = tmp_path / "absent.pth"
    with zipfile.ZipFile(absent, "w") as file:
        file.writestr("absent/data.pkl", b"")
    with pytest.raises(EngineError, match="does not compute in bf16"):
        export_engine(absent, tmp_path / "x.onnx", precision="bf16", runtime="onnxruntime", photos=paths)
    monkeypatch.setattr(cores, "_CPUINFO", tmp_path / "nothing")
    with pytest.raises(EngineError, match=r"has no bf16 instructions.*--precision int8, or on another machine"):
        export_engine(absent, tmp_path / "x.onnx", precision="bf16", photos=paths)
    with pytest.raises(InputError, match="too few"):
        export_engine(absent, tmp_path / "x.onnx", precision="int8", photos=paths[:3])
    request = Request(absent, tmp_path / "x.onnx", "fp32", options=ReducedOptions("onnxruntime"))
    with pytest.raises(EngineError, match="an engine for the processor is reduced to one of bf16, int8, int8-bf16"):
        reduce_engine(request, split_photos(paths))


def test_a_bad_photo_is_named(small, paths, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_text("no image")
    for place in (2, 3):  # among those for calibration, and among the others
        photos = [*paths[:place], bad, *paths[place + 1 :]]
        with pytest.raises(InputError, match=r"bad\.jpg cannot be used"):
            export_engine(small, tmp_path / "x.onnx", precision="int8", photos=photos)
    assert os.listdir(tmp_path) == ["bad.jpg"]


@pytest.mark.slow
def test_a_killed_export_leaves_nothing_under_the_engines_name(few, source, tmp_path):
    """SIGKILL while layers are measured; an older engine stays as it was."""
    shutil.copy(source, tmp_path / "short.onnx")
    older = (tmp_path / "short.onnx").read_bytes()
    (tmp_path / "old.onnx").write_bytes(older)
    for name in ("x.onnx", "old.onnx"):
        command = [sys.executable, "-m", "isc_fast", "export", "--ckpt", "short.onnx", "--precision", "int8"]
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        process = subprocess.Popen(
            [*command, "--photos", str(few), "-o", name],
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=environment,
        )
        assert process.stderr is not None
        for line in process.stderr:
            if "measuring which layers bear int8" in line:
                break
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=30) == -signal.SIGKILL
        process.stderr.close()
    assert not (tmp_path / "x.onnx").exists()
    assert (tmp_path / "old.onnx").read_bytes() == older
    left = sorted(name for name in os.listdir(tmp_path) if not name.startswith((".", "isc-fast-")))
    assert left == ["old.onnx", "short.onnx"]
