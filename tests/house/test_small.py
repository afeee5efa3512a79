"""The small modules: cores, progress, presets, spec, edits, errors."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import os
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
from images import noise
from PIL import Image

from isc_fast import progress as progress_module
from isc_fast.engines.spec import PREPROCESSING, SPEC_VERSION, EngineSpec
from isc_fast.errors import EngineError, IscFastError, MissingExtraError, require
from isc_fast.evaluation.edits.demo import EDITS
from isc_fast.machine.cores import available_cores
from isc_fast.networks.presets import PRESETS, Preset, preset_in_name
from isc_fast.progress import ProgressPrinter, duration

# --- cores ---


@pytest.mark.parametrize(
    ("files", "affinity", "expected"),
    [
        ({}, 8, 8),
        ({"cpu.max": "max 100000\n"}, 8, 8),
        ({"cpu.max": "200000 100000\n"}, 8, 2),
        ({"cpu.max": "150000 100000"}, 8, 2),
        ({"cpu.max": "10000 100000"}, 8, 1),
        ({"cpu.max": "1600000 100000"}, 8, 8),
        ({"cpu.max": "400000 100000"}, 1, 1),
        ({"cpu.max": ""}, 8, 8),
        ({"cpu.max": "nonsense 3"}, 8, 8),
        ({"cpu.max": "100000 0"}, 8, 8),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8, 8),
        ({"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8, 3),
        ({"cpu/cpu.cfs_quota_us": "250000"}, 8, 8),
        ({"cpu/cpu.cfs_quota_us": "0", "cpu/cpu.cfs_period_us": "100000"}, 8, 8),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "0"}, 8, 8),
        ({"cpu.max": "300000 100000", "cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 8, 3),
    ],
)
def test_cores_are_those_of_the_mask_and_of_the_quota(tmp_path, monkeypatch, files, affinity, expected):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert available_cores(tmp_path) == expected


def test_cores_without_a_mask(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_cores(tmp_path) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores(tmp_path / "gone") == 1


# --- progress ---


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    @property
    def screen(self) -> list[str]:
        """The lines that would be seen."""
        return [line.rpartition("\r\x1b[K")[2] for line in self.getvalue().split("\n")]


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """``clock[0]`` is the time."""
    now = [1000.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return now


def steps(printer: ProgressPrinter, clock: list[float], *calls: tuple[float, int, int, int]) -> None:
    for at, done, total, failed in calls:
        clock[0] = 1000 + at
        printer(done, total, failed)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (59.4, "0:59"),
        (59.6, "1:00"),
        (75, "1:15"),
        (3599.9, "1:00:00"),
        (3700, "1:01:40"),
        (360_000, "100:00:00"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_a_terminal_shows_one_line_that_is_redrawn(clock):
    out = Terminal()
    printer = ProgressPrinter("extract", out)
    steps(printer, clock, (0, 0, 100, 0))
    assert out.getvalue() == ""
    steps(printer, clock, (0.05, 1, 100, 0))
    assert out.getvalue() == ""  # too early
    steps(printer, clock, (2, 20, 100, 0))
    assert out.screen == ["extract: 20/100 20%, 10.0 images/s, 0:08 left"]
    steps(printer, clock, (2.05, 21, 100, 0), (4, 50, 100, 3))
    assert out.screen == ["extract: 50/100 50%, 12.5 images/s, 0:04 left, 3 failed"]
    steps(printer, clock, (4.01, 100, 100, 3))
    assert out.screen == ["extract: 100/100 100%, 24.9 images/s, 3 failed", ""]
    printer.close()
    assert out.screen[-2:] == ["extract: 100/100 100%, 24.9 images/s, 3 failed", ""]


NOTEBOOK = """
import time, isc_fast
printer = isc_fast.ProgressPrinter("a long label")
for done, total in ((0, 20), (1, 20), (10, 20)):
    printer(done, total, 0)
    time.sleep(0.15)
printer._label = "a"
printer(20, 20, 0)
print("after", flush=True)
"""


def test_a_notebook_shows_one_line_that_is_redrawn():
    """In a real kernel of Jupyter, whose streams are no terminals."""
    manager = pytest.importorskip("jupyter_client.manager", reason="ipykernel is not installed")
    pytest.importorskip("ipykernel")
    kernel, client = manager.start_new_kernel(kernel_name="python3")
    texts = {"stderr": "", "stdout": ""}
    try:

        def hear(message):
            if message["msg_type"] == "stream":
                texts[message["content"]["name"]] += message["content"]["text"]

        reply = client.execute_interactive(NOTEBOOK, output_hook=hear, timeout=120)
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    assert reply["content"]["status"] == "ok"
    assert "\x1b" not in texts["stderr"], "a notebook shows it as it is"
    *before, last = texts["stderr"].removesuffix("\n").split("\r")
    assert [text.split(",")[0] for text in before] == ["", "a long label: 1/20 5%", "a long label: 10/20 50%"]
    assert last.startswith("a: 20/20 100%, ")
    assert len(last) >= len(before[-1]), "nothing of the longer line is left"
    assert texts["stderr"].endswith("\n")
    assert texts["stdout"] == "after\n"


def test_close_ends_an_open_line_once(clock):
    out = Terminal()
    printer = ProgressPrinter("extract", out)
    printer.close()
    assert out.getvalue() == ""
    steps(printer, clock, (0, 0, 100, 0), (1, 10, 100, 0))
    printer.close()
    printer.close()
    assert out.screen == ["extract: 10/100 10%, 10.0 images/s, 0:09 left", ""]


def test_a_log_gets_whole_lines_now_and_then(clock):
    out = io.StringIO()
    printer = ProgressPrinter("extract", out, unit="pairs")
    steps(printer, clock, *((second, second, 60, 0) for second in range(61)))
    printer.close()
    assert out.getvalue().splitlines() == [
        "extract: 15/60 25%, 1.0 pairs/s, 0:45 left",
        "extract: 30/60 50%, 1.0 pairs/s, 0:30 left",
        "extract: 45/60 75%, 1.0 pairs/s, 0:15 left",
        "extract: 60/60 100%, 1.0 pairs/s",
    ]


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_resuming_counts_only_what_this_run_does(clock, stream):
    out = stream()
    printer = ProgressPrinter("extract", out)
    steps(printer, clock, (0, 80, 100, 0), (20, 90, 100, 0))
    assert out.getvalue().replace("\r\x1b[K", "").splitlines() == [
        "extract: resuming, 80 of 100 images are done",
        "extract: 90/100 90%, 0.5 images/s, 0:20 left",
    ]


def test_a_number_that_nobody_knows_is_not_shown(clock):
    out = io.StringIO()
    steps(ProgressPrinter("a", out), clock, (0, 0, -1, 0), (20, 40, -1, 1))
    assert out.getvalue() == "a: 40 images, 2.0 images/s, 1 failed\n"


def test_nothing_to_do_and_no_time_passed(clock):
    out = io.StringIO()
    steps(ProgressPrinter("a", out), clock, (0, 7, 7, 0))
    steps(ProgressPrinter("b", out), clock, (0, 0, 0, 0), (0, 0, 0, 0))
    assert out.getvalue().splitlines() == ["a: resuming, 7 of 7 images are done", "b: 0/0 0%, 0.0 images/s"]
    steps(ProgressPrinter("c", out), clock, (0, 0, 3, 0), (0, 3, 3, 3))  # no division by zero
    assert "c: 3/3 100%" in out.getvalue()
    steps(ProgressPrinter("d", out), clock, (0, 0, 3, 0), (20, 0, 3, 0))
    assert out.getvalue().endswith("d: 0/3 0%, 0.0 images/s\n")


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_a_stream_that_is_gone_does_not_end_the_run(clock, kind, monkeypatch):
    closed, broken = kind(), kind()
    closed.close()
    closed.isatty = lambda: True
    monkeypatch.setattr(broken, "write", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    for out in (closed, broken):
        printer = ProgressPrinter("extract", out)
        steps(printer, clock, (0, 1, 9, 0), (100, 2, 9, 0), (200, 9, 9, 0))
        printer.close()


def test_progress_goes_to_standard_error(capsys, clock):
    steps(ProgressPrinter("extract"), clock, (0, 0, 2, 0), (1, 2, 2, 0))
    assert capsys.readouterr() == ("", "extract: 2/2 100%, 2.0 images/s\n")


# --- presets ---


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("isc_ft_v107.pth.tar", "v107"),
        ("isc_selfsup_v98.pth.tar", "v98"),
        ("v83", "v83"),
        ("V107.onnx", "v107"),
        ("model-v207-fp16.onnx", "v207"),
        ("v107.v107.onnx", "v107"),
        ("isc_v86epoch9", "v86"),
        ("v107_from_v98.pth", None),
        ("v1070.pth", None),
        ("v10.pth", None),
        ("dev107.pth", None),
        ("2v107.pth", None),
        ("v１０７.pth", None),
        ("checkpoint.pth", None),
        ("", None),
    ],
)
def test_preset_in_name(name, expected):
    found = preset_in_name(name)
    assert (found and found.name) == expected


def test_presets_are_what_the_authors_published():
    assert {name: (preset.size, preset.gem_p, preset.dim) for name, preset in PRESETS.items()} == {
        "v83": (256, 1.0, 256),
        "v86": (384, 1.0, 256),
        "v98": (512, 1.0, 256),
        "v107": (512, 1.0, 256),
        "v198": (512, 1.0, 256),
        "v207": (512, 1.0, 256),
    }
    for name, preset in PRESETS.items():
        assert preset_in_name(name) is preset
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["v83"].size = 1  # type: ignore[misc]
    assert Preset("x", 1, "y") == Preset("x", 1, "y")


# --- spec ---

SPEC = EngineSpec("v107", "resnet18", 512, 384, 256, 1.0, parity={"max": 1e-6}, tools={"onnx": "1.19"})


def test_a_spec_survives_json():
    text = SPEC.to_json()
    assert EngineSpec.from_json(text) == SPEC
    assert "\n" not in text
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert json.loads(text)["preprocessing"] == PREPROCESSING


def test_a_spec_may_lack_what_has_a_default_and_hold_what_is_not_known():
    values = json.loads(SPEC.to_json())
    for name in ("parity", "tools", "precision", "weights_as", "preprocessing", "checkpoint_sha256"):
        del values[name]
    assert EngineSpec.from_json(json.dumps(values | {"of the future": 1})) == dataclasses.replace(
        SPEC, parity={}, tools={}
    )


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '"v107"', "{}", "3", SPEC.to_json()[:-1]])
def test_a_damaged_spec_is_refused(text):
    with pytest.raises(EngineError, match="specification is damaged; export the engine again"):
        EngineSpec.from_json(text)


@pytest.mark.parametrize("name", ["name", "arch", "height", "width", "dim", "gem_p"])
def test_a_spec_that_lacks_a_field_is_refused(name):
    values = json.loads(SPEC.to_json())
    del values[name]
    with pytest.raises(EngineError, match=f"incomplete .*'{name}'.*; export the engine again"):
        EngineSpec.from_json(json.dumps(values))


@pytest.mark.parametrize("name", ["height", "width", "dim"])
@pytest.mark.parametrize("value", [0, -1, "512", None, 2.5])
def test_a_spec_of_no_size_is_refused(name, value):
    with pytest.raises(EngineError, match=f"damaged \\({name} is .*; export the engine again"):
        EngineSpec.from_json(json.dumps(json.loads(SPEC.to_json()) | {name: value}))


@pytest.mark.parametrize("version", [SPEC_VERSION + 1, 0, "1", None])
def test_a_spec_of_another_version_is_refused(version):
    with pytest.raises(EngineError, match=f"version {version} and this isc-fast reads version {SPEC_VERSION}"):
        EngineSpec.from_json(json.dumps(json.loads(SPEC.to_json()) | {"version": version}))


# --- edits ---


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("size", [(8, 8), (1, 1), (64, 48), (12, 600), (600, 12), (1, 1500), (1500, 1)])
def test_an_edit_makes_another_picture_and_leaves_its_inputs(name, size):
    photo, other = Image.fromarray(noise(*size)), Image.fromarray(noise(31, 17, seed=1))
    before = photo.tobytes(), other.tobytes()
    for seed in range(4):
        made = EDITS[name](photo, other, Random(seed))
        assert made.mode == "RGB"
        assert min(made.size) >= 1
        if min(size) > 1:
            assert (made.size, made.tobytes()) != (photo.size, before[0])
        again = EDITS[name](photo, other, Random(seed))
        assert (again.size, again.tobytes()) == (made.size, made.tobytes())
    assert (photo.tobytes(), other.tobytes()) == before


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_depends_on_its_seed_and_stays_recognisable(name, photos):
    photo, other = (Image.open(path).convert("RGB").resize((160, 120)) for path in photos[:2])
    made = [EDITS[name](photo, other, Random(seed)) for seed in range(6)]
    assert len({image.tobytes() for image in made}) >= 4
    for image in made:
        assert np.asarray(image).std() > 5  # not one flat colour


# --- errors ---


def test_require_gives_the_module():
    assert require("json", "cpu") is json
    assert require("os.path", "cpu") is os.path


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (None, r"this needs isc_test_extra, which is not installed; run: pip install 'isc-fast\[gpu\]'"),
        (
            "raise ImportError('libx.so: no such file')",
            r"isc_test_extra is installed but does not import \(libx.so: no such",
        ),
        (
            "raise OSError('libcudart.so.13: cannot open')",
            r"isc_test_extra is installed but does not import \(libcudart",
        ),
        ("import isc_test_dependency", r"this needs isc_test_dependency, which is not installed; .*isc-fast\[gpu\]'"),
    ],
)
def test_require_says_what_to_install(tmp_path, monkeypatch, body, message):
    if body is not None:
        (tmp_path / "isc_test_extra.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match=message) as raised:
        require("isc_test_extra", "gpu")
    assert isinstance(raised.value, IscFastError)
    assert "pip install" in str(raised.value)
    assert "isc_test_extra" not in sys.modules


def test_require_of_a_part_names_the_whole():
    with pytest.raises(MissingExtraError, match="this needs isc_test_extra, which is not installed"):
        require("isc_test_extra.deep.part", "cpu")
    assert list(itertools.islice(Path(__file__).parent.glob("isc_test_extra*"), 1)) == []
