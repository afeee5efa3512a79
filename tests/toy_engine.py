"""A kind of engine that isc-fast does not have. It takes this file, and one row of the table in the tests that use it.

A ``.toy`` file is JSON. It holds a specification and the seed of a random projection.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from fakes import FakeEngine

from isc_fast.engines.kind import Described, EngineKind, LoadOptions
from isc_fast.engines.protocol import Engine
from isc_fast.engines.spec import EngineSpec
from isc_fast.errors import EngineError
from isc_fast.files.reading import file_sha256
from isc_fast.machine.trial_run import Trial


def write_toy(path: Path, seed: int = 0) -> Path:
    spec = FakeEngine(seed=seed).spec
    path.write_text(json.dumps({"seed": seed, "spec": json.loads(spec.to_json())}))
    return path


def _describe(path: Path) -> Described:
    try:
        content = json.loads(path.read_text())
        spec = EngineSpec.from_json(json.dumps(content["spec"]))
        return Described(path, file_sha256(path), spec, {"toy": {"seed": int(content["seed"])}})
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{path} is not a toy, or it is damaged; make another") from error


def _load(path: Path, options: LoadOptions) -> Engine:
    if options.device != "cpu":
        raise EngineError(f"{path} is a toy and runs on the processor only; use the device cpu")
    found = _describe(path)
    engine = FakeEngine(seed=found.facts["toy"]["seed"])
    engine.path, engine.id, engine.device = path, found.id, "toy"
    return engine


def try_toy() -> str:
    rows = FakeEngine().run(np.ones((1, 32, 32, 3), np.uint8))
    return f"toy 1.0, {'a row' if len(rows) == 1 else 'nothing'} described"


TOY = EngineKind(
    suffix=".toy",
    describe=_describe,
    load=_load,
    default_device="cpu",
    precisions=("fp32",),
    default_precision="fp32",
    takes_gpu_pixels=False,
    tunable=False,
    trials=(Trial("engines", "toy", try_toy, "make a toy"),),
)
