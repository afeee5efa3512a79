"""Folders that verbs write or take."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ...descriptors.manifest import is_unfinished, parts_home
from ...descriptors.store import open_descriptors
from ...errors import IscFastError
from ...extraction.output_folder import read_begun
from ...extraction.parts import PARTS
from ...extraction.plan_folder import PlanFolder
from ...files.homes import home_of
from ...files.own_folder import left_by_run
from ...files.reading import parse_json
from ...matching.index.layout import has_manifest
from ...sources.disc21 import find_sets
from ..copies.dedup_files import NEMO
from ..copies.names import NAMES
from ..tasks.task_folder import BEGUN as TASKS_BEGUN
from ..tasks.task_folder import PLAN
from .base import Facts, FileKind, Glance
from .folder_facts import describe_index, describe_parts

SEGMENT = re.compile(r"segment-[0-9a-f]{16}")
_GROUP = re.compile(r"\d{4}-of-\d+-photos")
_DRAWN = re.compile(r"\d{4}\.png")
_PLAN_ID = re.compile(r"[0-9a-f]{64}")
_NOT_OF_RESULT = ("written", "files", "page", "matches", "stop_list_suggestions")


def _document(path: Path) -> Mapping[str, Any]:
    """A small JSON object; empty where there is none."""
    try:
        found = parse_json(path.read_text("utf-8", "surrogateescape"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def run_facts(folder: Path, record: Mapping[str, Any]) -> Facts:
    """What a run of dedup, find or leaks found, by its record, and of which engine the descriptors beside it are."""
    facts = _of_record(record)
    engines = set()
    for file in sorted(folder.glob("*.h5")):
        try:
            with open_descriptors(file) as found:
                engines.add(found.provenance.engine_id)
        except IscFastError:
            continue
    facts |= {"engine_id": engines.pop()} if len(engines) == 1 else {}
    return {**facts, "written": facts.pop("written")}


def _of_record(record: Mapping[str, Any]) -> Facts:
    facts = {name: value for name, value in record.items() if name not in _NOT_OF_RESULT and value is not None}
    return {**facts, "written": record.get("written", [])}


def _facts_of_record(record: Mapping[str, Any], _seen: Glance) -> Facts:
    return _of_record(record)


def _begun_by(seen: Glance) -> list[str]:
    """The verbs that may have begun to fill a folder, and have not ended."""
    for verb, own in NAMES.items():
        if own.record in seen.names and _is_only_begun(_document(seen.path / own.record)):
            return [verb]
    return [verb for verb, own in NAMES.items() if all(map(left_by_run(own.begun).fullmatch, seen.names))]


def _is_begun(seen: Glance) -> bool:
    """Whether there are descriptors or parts of them, and something else that only a run leaves: a folder of descriptors, or one
    that is called ``pairs``, may be anybody's.
    """
    described = [name for name in seen.names if name.endswith((".h5", f".h5{PARTS}"))]
    records = [own.record for own in NAMES.values() if own.record in seen.names]
    more = [name for name in seen.names if not name.endswith(".h5")]
    return seen.is_folder and bool((described or records) and more and _begun_by(seen))


def _begun(seen: Glance) -> Facts:
    done: Facts = {}
    for name in seen.names:
        if name.endswith(f".h5{PARTS}"):
            with suppress(IscFastError):  # it was killed before it had a plan
                facts = describe_parts(seen.path / name)
                done[name] = {key: facts[key] for key in ("images", "parts", "parts_done")}
    described = [name for name in seen.names if name.endswith(".h5")]
    return {"verbs": _begun_by(seen), "described": described, "unfinished": done}


def _holds_run(verb: str) -> Callable[[Glance], bool]:
    record = NAMES[verb].record

    def holds(seen: Glance) -> bool:
        found = _document(seen.path / record) if record in seen.names else {}
        return "written" in found and not _is_only_begun(found)

    return holds


def _is_only_begun(record: Mapping[str, Any]) -> bool:
    """Whether a record says only that files may be written from here on; see `isc_fast.files.own_folder.OwnFolder.clear`."""
    return record.keys() == {"written"} and not record["written"]


def _run(verb: str) -> Callable[[Glance], Facts]:
    return lambda seen: run_facts(seen.path, _document(seen.path / NAMES[verb].record))


def _unfinished(seen: Glance) -> Facts:
    begun = read_begun(seen.path)
    if begun is None:
        return {}
    parts = PlanFolder(home_of(seen.path), begun.plan)
    plan = parts.found_plan()
    known = {} if plan is None else {"images": len(plan.items), "parts": plan.shard_count, "engine_id": plan.engine_id}
    return {"plan_id": begun.plan, **known, "parts_done": parts.there()}


def _tasks(seen: Glance) -> Facts:
    plan_id = str(_document(seen.path / TASKS_BEGUN).get("plan", ""))
    folder = seen.path / (plan_id if _PLAN_ID.fullmatch(plan_id) else "")
    done = sum(name.endswith((".pairs", ".h5")) for name in Glance(folder).names)
    record = {name: value for name, value in _document(seen.path / "search.json").items() if name != "asked"}
    return {"plan_id": plan_id, "tasks_done": done, **record, "plan": dict(_document(folder / PLAN))}


def _training(seen: Glance) -> Facts:
    checkpoints = [name for name in seen.names if name.endswith(".pth.tar")]
    record = _document(seen.path / "stage.json")
    stage = record.get("stage")
    facts: Facts = {"stage": stage.get("name") if isinstance(stage, dict) else None, "samples": record.get("samples")}
    return {**facts, "checkpoints": checkpoints, "resumes": "resume.pt" in seen.names}


def _is_challenge_data(seen: Glance) -> bool:
    """A folder ``train`` alone is that of many a data set."""
    try:
        return bool(seen.names) and {"q", "r"} <= find_sets(seen.path, None).keys()
    except IscFastError:
        return False


def _holds_only(pattern: re.Pattern[str]) -> Callable[[Glance], bool]:
    return lambda seen: bool(seen.names) and all(pattern.fullmatch(name) for name in seen.names)


def _is_nemo(seen: Glance) -> bool:
    return bool(seen.names) and all(re.fullmatch(r"part\.\d+\.parquet", name) for name in seen.names)


def _nemo(seen: Glance) -> Facts:
    return {"ids": sum(Glance(seen.path / name).count() for name in seen.names)}


FOLDERS = (
    FileKind(
        "index",
        "descriptors in lists, which are asked one photo at a time, of isc-fast index",
        "isc-fast index query {path} PHOTO; isc-fast index add {path} MORE.h5",
        lambda seen: seen.is_folder and has_manifest(seen.path),
        lambda seen: describe_index(seen.path),
    ),
    FileKind(
        "unfinished extraction",
        "what an interrupted isc-fast extract needs to go on: its plan, and one file for each finished shard",
        "run the same isc-fast extract again; isc-fast verify {path} checks what is there",
        lambda seen: seen.is_folder and seen.name.endswith(PARTS),
        lambda seen: describe_parts(seen.path),
    ),
    FileKind(
        "unfinished result in parts",
        "what several jobs of isc-fast extract have done so far in a folder that keeps its parts",
        "run the same isc-fast extract again: when all parts are there, it writes manifest.json",
        lambda seen: seen.is_folder and parts_home(seen.path) is None and is_unfinished(seen.path),
        _unfinished,
    ),
    FileKind(
        "unfinished run",
        "what an interrupted isc-fast dedup, find or leaks has done so far: descriptors, or parts of them, and pairs",
        "run the same command again, and it goes on",
        _is_begun,
        _begun,
    ),
    FileKind(
        "dedup run",
        "the copies in one collection: descriptors, lists and a page, of isc-fast dedup",
        "look at dedup.html in it, which is there for photos; remove.csv in it has what could go",
        _holds_run("dedup"),
        _run("dedup"),
    ),
    FileKind(
        "find run",
        "what was copied from what: descriptors, matches and a page, of isc-fast find",
        "look at matches.html in it, which is there for photos",
        _holds_run("find"),
        _run("find"),
    ),
    FileKind(
        "leaks run",
        "the photos of evaluation sets that are in a training set: descriptors, lists and a page, of isc-fast leaks",
        "look at leaks.html in it, which is there for photos; remove-train.csv in it has what could go",
        _holds_run("leaks"),
        _run("leaks"),
    ),
    FileKind(
        "challenge run",
        "descriptors, submissions, matches and figures, of isc-fast challenge",
        "the same isc-fast challenge goes on; isc-fast info {path}/evaluation.json has the figures",
        lambda seen: "steps.json" in seen.names and any(name.startswith("submission") for name in seen.names),
        lambda seen: {"steps": list(_document(seen.path / "steps.json"))},
    ),
    FileKind(
        "demo",
        "edited copies of the package's photos, what was found of them, and a page, of isc-fast demo",
        "look at index.html in it",
        lambda seen: {"index.html", "evaluation.json", "ground_truth.csv", "queries"} <= set(seen.names),
        lambda seen: {"files": list(seen.names)},
    ),
    FileKind(
        "comparison in tasks",
        "a search, normalisation or smoothing that is cut into tasks, which several jobs share",
        "run the same command again: it computes the tasks that are missing",
        lambda seen: TASKS_BEGUN in seen.names and parts_home(seen.path) is None,
        _tasks,
    ),
    FileKind(
        "folder of a plan",
        "the parts of one extraction, or the tasks of one comparison, whose plan lies among them",
        "keep it while the folder around it is used; isc-fast info and verify take that one",
        lambda seen: seen.is_folder and bool(_PLAN_ID.fullmatch(seen.name)),
        lambda seen: {"plan_id": seen.name, "parts": sum(name.endswith((".h5", ".pairs")) for name in seen.names)},
    ),
    FileKind(
        "segment of an index",
        "some rows of an index, with what finds them",
        "keep it: isc-fast verify INDEX/ checks it against the manifest",
        lambda seen: seen.is_folder and bool(SEGMENT.fullmatch(seen.name)),
        lambda seen: {"files": list(seen.names)},
    ),
    FileKind(
        "training",
        "checkpoints, the state to resume from and logs, of isc-fast train or distill",
        "the same command goes on; isc-fast export --ckpt CHECKPOINT -o ENGINE.onnx makes an engine of what it made",
        lambda seen: "stage.json" in seen.names or {"log.csv", "resume.pt"} <= set(seen.names),
        _training,
    ),
    FileKind(
        "removal list for NeMo Curator",
        f"the ids that could go, as NeMo Curator takes them: {NEMO}/ of isc-fast dedup and leaks",
        "isc-fast remove DESCRIPTORS.h5 --ids {path} -o SMALLER.h5 takes them out",
        _is_nemo,
        _nemo,
    ),
    FileKind(
        "folders of groups",
        "a folder of links for each group of photos, the one that stays first, of isc-fast dedup --link-to",
        "look at it with any program that shows photos; removing it removes links, and no photo",
        _holds_only(_GROUP),
        lambda seen: {"groups": len(seen.names)},
    ),
    FileKind(
        "pictures of evidence",
        "a picture of each aligned pair, best first, of isc-fast align --pictures",
        "look at them with any program that shows pictures",
        _holds_only(_DRAWN),
        lambda seen: {"pictures": len(seen.names)},
    ),
    FileKind(
        "timing cache",
        "what ONNX Runtime's TensorRT built for an engine, which lies beside it",
        "it may be removed, and is then built anew in minutes",
        lambda seen: seen.is_folder and seen.name.endswith(".trt-cache"),
        lambda seen: {"builds": len(seen.names)},
    ),
    FileKind(
        "data of the challenge",
        "photos laid out like DISC21: a folder for each set",
        "isc-fast challenge {path} --engine ENGINE -o OUTPUT/; isc-fast train --schedule v107 --data {path} -o RUNS/",
        _is_challenge_data,
        lambda seen: {"sets": {key: list(map(str, one)) for key, one in find_sets(seen.path, None).items()}},
    ),
)
"""Of folders of descriptors and of photos, `isc_fast.runs.file_kinds.contents` has the rows."""


def run_in_bucket(address: str) -> FileKind | None:
    """What dedup, find or leaks wrote under an address; None where there is no record of theirs, or descriptors in parts.

    Raises:
        StoreError: the bucket cannot be reached.
    """
    if parts_home(address) is not None:
        return None
    home = home_of(address)
    for verb, names in NAMES.items():
        if home.size(names.record) is None:
            continue
        record = _document(home.file(names.record))
        [kind] = [one for one in FOLDERS if one.name == f"{verb} run"]
        return replace(kind, facts=partial(_facts_of_record, record)) if "written" in record else None
    return None
