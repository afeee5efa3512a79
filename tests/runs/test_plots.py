"""Drawings: they show what was counted, stand alone, and are the same bytes each time."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from isc_fast import Matches, Truth, evaluate
from isc_fast.cli.main import main
from isc_fast.errors import InputError, MissingExtraError, OutputError
from isc_fast.evaluation.metrics import curve_of
from isc_fast.review.plots import check_plot, plot_evaluation

pytest.importorskip("matplotlib")

MATCHES = Matches(["q1", "q1", "q2", "q3", "q3"], ["r1", "r2", "r2", "r3", "r9"], np.array([0.9, 0.3, 0.8, 0.5, 0.7]))
TRUTH = Truth(frozenset({"q1", "q2", "q3", "q4"}), frozenset({("q1", "r1"), ("q2", "r2"), ("q3", "r3"), ("q4", "r4")}))


def test_the_curve_has_the_figures_of_the_evaluation():
    curve = curve_of(MATCHES, TRUTH)
    assert curve.correct.tolist() == [True, True, False, True, False]
    assert curve.precision == pytest.approx([1, 1, 2 / 3, 3 / 4, 3 / 5])
    assert curve.recall == pytest.approx([1 / 4, 2 / 4, 2 / 4, 3 / 4, 3 / 4])
    steps = np.diff(np.r_[0, curve.recall])
    assert evaluate(MATCHES, TRUTH)["kit"].micro_ap == pytest.approx((steps * curve.precision).sum())
    with pytest.raises(InputError, match="there is no protocol 'other'"):
        curve_of(MATCHES, TRUTH, "other")


def test_a_picture_and_a_drawing(tmp_path):
    for name in ("a.svg", "b.svg", "c.png"):
        plot_evaluation(tmp_path / name, curve_of(MATCHES, TRUTH), "five predictions")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert ET.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    with Image.open(tmp_path / "c.png") as image:
        colours = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)
    assert image.size == (1350, 600)
    for colour in ((0x1D, 0x4E, 0xD8),):  # the curve
        assert (colours == colour).all(axis=1).any()
    assert sorted(os.listdir(tmp_path)) == ["a.svg", "b.svg", "c.png"]


def test_the_command_line_draws(tmp_path, capsys):
    (tmp_path / "m.csv").write_text("query_id,reference_id,score\nq1,r1,0.9\nq2,r9,0.4\n")
    (tmp_path / "t.csv").write_text("query_id,reference_id\nq1,r1\nq2,r2\n")
    given = [str(tmp_path / "m.csv"), str(tmp_path / "t.csv")]
    assert main(["evaluate", *given, "--plot", str(tmp_path / "p.svg")]) == 0
    assert "0.5000" in capsys.readouterr().out
    assert (tmp_path / "p.svg").stat().st_size > 10_000
    assert main(["evaluate", *given, "--plot", str(tmp_path / "p.pdf")]) == 1
    assert "p.pdf has to end in .svg or .png" in capsys.readouterr().err


def test_what_cannot_be_drawn_is_said_before_the_work(tmp_path, monkeypatch):
    with pytest.raises(OutputError, match="its folder does not exist"):
        check_plot(tmp_path / "none" / "p.svg")
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"isc-fast\[plot\]"):
        check_plot(tmp_path / "p.svg")


def test_nothing_is_left_at_home(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "temporary").mkdir()
    program = "import sys; from isc_fast.review.plots import check_plot; check_plot(sys.argv[1])"
    keep = {name: value for name, value in os.environ.items() if name not in ("MPLCONFIGDIR", "XDG_CACHE_HOME")}
    environment = {**keep, "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "temporary")}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "p.svg")], env=environment, check=True, timeout=120)
    assert os.listdir(tmp_path / "home") == os.listdir(tmp_path / "temporary") == []
