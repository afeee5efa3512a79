"""Every benchmark runs in its smoke mode and ends in one line of JSON with the accuracy in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"
SHARED = ("harness.py", "networks.py")
LOWEST_COSINE = {
    "views.py": 0.9999,  # of pixels, not of descriptors: each edit rounds to whole grey levels
    "decode.py": 0.9995,  # pixels within one grey level
    "peers.py": 0.9995,  # descriptors of two decoders, as the next one
    "pipeline.py": 0.999,  # descriptors of two decoders
    "frontier.py": 0.998,  # of reduced precision, as the next one
    "precision.py": 0.998,  # of reduced precision; the gate asks 0.999 of the 1st percentile
}


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(path.name for path in BENCH.glob("*.py") if path.name not in SHARED))
def test_smoke(script):
    pytest.importorskip("torch")
    command = [sys.executable, str(BENCH / script), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["bench"] == script.removesuffix(".py")
    assert result["cosine_min"] > LOWEST_COSINE.get(script, 0.99999)
    assert result["ratio_to_best_reference"] > 0
    assert result["machine"]["cores"] >= 1
