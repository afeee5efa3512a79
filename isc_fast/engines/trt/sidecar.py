"""The sidecar: a JSON file beside a TensorRT plan that says what the plan is, ``v107.plan`` → ``v107.plan.json``.

The plan itself stays as TensorRT made it, so that TensorRT's own tools open it. The sidecar names its plan by SHA-256.
Reading the two needs neither a GPU nor TensorRT.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ...errors import EngineError
from ...files.reading import parse_json
from ..header import parse_spec
from ..spec import EngineSpec

_VERSION = 1
_KEY = "isc_fast_plan"

Batch = tuple[int, int, int]


@dataclass(frozen=True)
class PlanFacts:
    """What a plan was built with, and what it runs on.

    Attributes:
        flavour: the Python module that built it and runs it: ``"tensorrt"`` or ``"tensorrt_rtx"``.
        tensorrt: version of that module.
        gpu: name of the GPU it was built and verified on.
        capability: that GPU's compute capability, such as ``"9.0"``.
        batch: images in one execution: fewest, what it is tuned for, most.
        version_compatible: whether later versions of TensorRT run it too; such a plan holds program code.
        hardware_compatible: whether other GPUs, from Ampere on, run it too.
        network: what TensorRT calls the network in the plan; it names the engine that the plan was built from.
        plan_sha256: SHA-256 of the plan.
        source_sha256: SHA-256 of the fp32 ``.onnx`` engine that it was built from.
        graph_sha256: SHA-256 of the graph as TensorRT got it, in the plan's precision.
    """

    flavour: str
    tensorrt: str
    gpu: str
    capability: str
    batch: Batch
    version_compatible: bool
    hardware_compatible: bool
    network: str
    plan_sha256: str
    source_sha256: str
    graph_sha256: str


@dataclass(frozen=True)
class Plan:
    """A TensorRT plan and what its sidecar says of it.

    Attributes:
        path: the plan's file.
        content: its bytes.
        spec: the engine's specification.
        facts: what it was built with.
    """

    path: Path
    content: bytes
    spec: EngineSpec
    facts: PlanFacts


def network_name(source_sha256: str) -> str:
    """Return the name of the network in a plan, which ties the plan to the engine that it was built from."""
    return f"isc-fast {_VERSION} {source_sha256}"


def sidecar_path(plan: Path) -> Path:
    """Return where the sidecar of a plan stands."""
    return plan.with_name(plan.name + ".json")


def sidecar_text(spec: EngineSpec, facts: PlanFacts) -> str:
    """Return the content of a sidecar."""
    content = {_KEY: _VERSION, "plan": asdict(facts), "spec": json.loads(spec.to_json())}
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _again(plan: Path) -> str:
    return f"isc-fast export --ckpt CHECKPOINT -o {plan.name}"


def read_sidecar(plan: Path) -> tuple[EngineSpec, PlanFacts]:
    """Read the specification of a plan and the facts about it from its sidecar; the plan itself is not read.

    Raises:
        EngineError: the sidecar is missing, is not one, is damaged, or is newer than this isc-fast understands.
    """
    path = sidecar_path(plan)
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise EngineError(
            f"{plan} has no {path.name} beside it, which says what it is; copy that along, or build the plan again: "
            f"{_again(plan)}"
        ) from error
    except OSError as error:
        raise EngineError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise EngineError(f"{path} is not JSON; build the plan again: {_again(plan)}") from error
    try:
        content = parse_json(text)
    except ValueError as error:
        raise EngineError(f"{path} is damaged; build the plan again: {_again(plan)}") from error
    version = content.get(_KEY) if isinstance(content, dict) else None
    if version is None:
        raise EngineError(f"{path} was not written by isc-fast export; build the plan again: {_again(plan)}")
    if version != _VERSION:
        raise EngineError(
            f"{path} has version {version!r} and this isc-fast reads version {_VERSION}; build the plan again, or install "
            "the isc-fast that made it"
        )
    return parse_spec(json.dumps(content.get("spec")), path), _facts(content.get("plan"), path, plan)


def _facts(values: Any, path: Path, plan: Path) -> PlanFacts:
    kinds: dict[str, type] = {"batch": list, "version_compatible": bool, "hardware_compatible": bool}
    given = values if isinstance(values, dict) else {}
    for entry in fields(PlanFacts):
        if not isinstance(given.get(entry.name), kinds.get(entry.name, str)):
            raise EngineError(
                f"{path} is damaged ({entry.name} is {given.get(entry.name)!r:.60}); build the plan again: {_again(plan)}"
            )
    batch = given["batch"]
    if len(batch) != 3 or not all(type(number) is int for number in batch) or not 1 <= batch[0] <= batch[1] <= batch[2]:
        raise EngineError(f"{path} is damaged (batch is {batch!r:.60}); build the plan again: {_again(plan)}")
    return PlanFacts(**{**{entry.name: given[entry.name] for entry in fields(PlanFacts)}, "batch": tuple(batch)})


def read_plan(plan: Path) -> Plan:
    """Read a plan and its sidecar, and check that they belong together.

    Raises:
        EngineError: the sidecar cannot be used, or it belongs to another plan.
    """
    spec, facts = read_sidecar(plan)
    try:
        content = plan.read_bytes()
    except OSError as error:
        raise EngineError(f"cannot read {plan}: {error.strerror or error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != facts.plan_sha256:
        raise EngineError(
            f"{plan} is not the plan that {sidecar_path(plan).name} describes (SHA-256 {found[:16]}…, expected "
            f"{facts.plan_sha256[:16]}…), or it is damaged; copy both again, or build the plan again: {_again(plan)}"
        )
    return Plan(plan, content, spec, facts)
