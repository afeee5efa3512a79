"""Small JSON files: records of runs, plans, and what lies beside an engine."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ...descriptors.manifest import BEGUN
from ...matching.index.layout import MANIFEST
from .base import Facts, FileKind, Glance
from .folder_facts import describe_index
from .folders import run_facts

_OF_TASKS = re.compile(r"plan(-[0-9a-f]{16})?\.json|begun\.json")


def _plain(values: Mapping[str, Any], *names: str) -> Facts:
    """Of these values, those that are there."""
    return {name: values[name] for name in names if name in values}


def _record(verb: str) -> Callable[[Glance], bool]:
    return lambda seen: seen.name == f"{verb}.json" and isinstance(seen.document.get("written"), list)


def _figures(values: Any, depth: int = 3) -> Facts:
    """The figures in the document of an evaluation, by protocol; none in any other document."""
    if not isinstance(values, dict) or not depth:
        return {}
    if "micro_ap" in values:
        return {"": values["micro_ap"]}
    return {
        " ".join(filter(None, (name, inner))): value
        for name, one in values.items()
        for inner, value in _figures(one, depth - 1).items()
    }


def _tuning(seen: Glance) -> Facts:
    setting = seen.document["setting"]
    return {**_plain(seen.document, "engine_id", "processor", "cores", "images_per_s"), "setting": setting}


def _sidecar(seen: Glance) -> Facts:
    facts = seen.document["isc_fast_plan"]
    return {"of": seen.name.removesuffix(".json"), **(facts if isinstance(facts, dict) else {})}


def _stage(seen: Glance) -> Facts:
    stage = seen.document.get("stage")
    name = stage.get("name") if isinstance(stage, dict) else None
    return {"stage": name, **_plain(seen.document, "start", "samples", "negatives", "images_sha256")}


def _is_task_record(seen: Glance) -> bool:
    return seen.name == "search.json" and {"matches", "tasks"} <= seen.document.keys()


def _is_task_plan(seen: Glance) -> bool:
    return bool(_OF_TASKS.fullmatch(seen.name)) and bool(seen.document) and "items" not in seen.document


DOCUMENTS = (
    *(
        FileKind(
            f"record of {verb}",
            f"what isc-fast {verb} found and wrote; while it lies in the folder, the next run may replace these files",
            f"look at {page} beside it",
            _record(verb),
            lambda seen: run_facts(seen.path.parent, seen.document),
        )
        for verb, page in (("dedup", "dedup.html"), ("find", "matches.html"), ("leaks", "leaks.html"))
    ),
    FileKind(
        "record of a search in tasks",
        "what isc-fast search wrote, once all its tasks were done",
        "isc-fast report MATCHES --queries PHOTOS --references PHOTOS -o page.html shows the matches beside it",
        _is_task_record,
        lambda seen: _plain(seen.document, "matches", "pairs", "tasks", "views", "verdicts"),
    ),
    FileKind(
        "plan of a comparison in tasks",
        "what a search, normalisation or smoothing in tasks compares, and how it is cut",
        "the same command goes on with the tasks that are missing",
        _is_task_plan,
        lambda seen: dict(seen.document),
    ),
    FileKind(
        "begun extraction",
        "the name of the plan that the first job of an extraction began",
        "run the same isc-fast extract again: when all parts are there, it writes manifest.json",
        lambda seen: bool(BEGUN.fullmatch(seen.name)) and bool(seen.document),
        lambda seen: dict(seen.document),
    ),
    FileKind(
        "manifest of an index",
        "which files make up the index in its folder, and what it promises",
        "isc-fast index query FOLDER PHOTO asks it; isc-fast verify FOLDER checks it",
        lambda seen: seen.name == MANIFEST and "segments" in seen.document,
        lambda seen: describe_index(seen.path.parent),
    ),
    FileKind(
        "tuned setting",
        "how the engine beside it runs fastest on such a machine, of isc-fast tune; load_engine takes it by itself",
        "isc-fast tune --engine ENGINE measures again",
        lambda seen: seen.name.endswith(".tune.json") and isinstance(seen.document.get("setting"), dict),
        _tuning,
    ),
    FileKind(
        "sidecar of a TensorRT plan",
        "what the .plan beside it is, and what it was built with",
        "keep it beside its .plan; isc-fast info NAME.plan reads both",
        lambda seen: "isc_fast_plan" in seen.document,
        _sidecar,
    ),
    FileKind(
        "record of a stage",
        "the stage of a training with its data and options, of isc-fast train or distill",
        "the same isc-fast train or distill goes on; isc-fast export --ckpt CHECKPOINT -o ENGINE.onnx takes what it made",
        lambda seen: {"stage", "samples"} <= seen.document.keys(),
        _stage,
    ),
    FileKind(
        "evaluation",
        "figures of matches against a ground truth, of isc-fast evaluate --json, demo or challenge",
        "isc-fast evaluate MATCHES GROUND_TRUTH.csv --plot curve.svg draws them",
        lambda seen: bool(_figures(seen.document)),
        lambda seen: {"micro_ap": _figures(seen.document), **_plain(seen.document, "ground_truth")},
    ),
    FileKind(
        "record of a challenge",
        "what each result of isc-fast challenge was made from, so that a step with the same inputs is left out",
        "the same isc-fast challenge goes on where it was",
        lambda seen: seen.name == "steps.json" and bool(seen.document),
        lambda seen: {"steps": list(seen.document)},
    ),
)
