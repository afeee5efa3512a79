"""Every reader of a file that may come from anywhere, as a function of bytes: what `fuzz.py` and `test_fuzz.py` run.

A reader reads a file, or refuses it with an `IscFastError` of one line. Everything else is a fault: another error, a crash, a
process that takes too long. `seeds.py` makes what they begin with.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import seeds

from isc_fast.descriptors.comparing import compare
from isc_fast.descriptors.formats.array import write_array
from isc_fast.descriptors.formats.base import contents_of, write_npy
from isc_fast.descriptors.formats.table import open_any, read_descriptors
from isc_fast.descriptors.hdf5 import create_hdf5
from isc_fast.descriptors.id_lists import read_new_names
from isc_fast.descriptors.manifest import MANIFEST as PARTS_MANIFEST
from isc_fast.descriptors.manifest import parts_home
from isc_fast.descriptors.store import Descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.engines.aoti_file import read_package
from isc_fast.engines.header import parse_spec, read_spec
from isc_fast.engines.trt.sidecar import read_sidecar
from isc_fast.engines.tuning import saved_setting
from isc_fast.errors import IscFastError
from isc_fast.evaluation.calibration import Task
from isc_fast.evaluation.calibration_file import read_calibration
from isc_fast.extraction.json_plan import read_json_plan
from isc_fast.extraction.output_folder import read_begun
from isc_fast.extraction.parts import PartsFolder
from isc_fast.extraction.plan import Plan
from isc_fast.items import Problem
from isc_fast.matching.index import layout
from isc_fast.matching.index.layout import read_manifest
from isc_fast.matching.index.opened import OpenIndex
from isc_fast.matching.lists.matches import read_matches, read_truth
from isc_fast.networks.digests import kept_digest
from isc_fast.networks.torch_files import damage_of
from isc_fast.review.placement import read_evidence
from isc_fast.runs.checks.verification import verify_file
from isc_fast.runs.file_kinds.table import describe_file
from isc_fast.sources.listing import list_images, open_item

SLOW_S = 5.0
"""Processor time above which a reader hangs."""


@dataclass(frozen=True)
class Reader:
    """One row of the table.

    Attributes:
        file: the name that the bytes get, in a folder of their own.
        seeds: files that the reader reads, each made in an empty folder.
        read: reads the file.
        beside: makes what must lie beside the file.
        needs: a package that may be missing.
    """

    file: str
    seeds: Callable[[Path], Iterator[bytes]]
    read: Callable[[Path], object]
    beside: Callable[[Path], object] = lambda _folder: None
    needs: str = "numpy"

    @property
    def is_installed(self) -> bool:
        """Whether what the reader needs is there."""
        try:
            return importlib.util.find_spec(self.needs) is not None
        except ValueError:  # `--fast` puts it out of reach
            return False

    def attempt(self, folder: Path, data: bytes) -> bool:
        """Read bytes; returns whether they were read, and not refused.

        Raises:
            AssertionError: the refusal is no line of text, or the reader took too long.
            Exception: any other fault.
        """
        path, began = folder / self.file, time.process_time()
        path.write_bytes(data)
        try:
            self.read(path)
            refusal = None
        except IscFastError as error:
            refusal = str(error)
        took = time.process_time() - began
        assert took < SLOW_S, f"took {took:.1f} s of processor time"
        assert refusal is None or (refusal.strip() and "\n" not in refusal), f"no line: {refusal!r}"
        return refusal is None


def _read_all(path: Path) -> None:
    """All that the verbs do with descriptors: read, verify, hold against others, go through in blocks."""
    which = "query" if "query" in contents_of(path).names else None
    found = read_descriptors(path, which=which)
    compare(found, found)
    if which is None:
        verify_file(path)
    with open_any(path, which=which) as opened:
        list(opened.blocks(2))


def _read_facts(path: Path) -> None:
    """The JSON of a descriptor file."""
    text = path.read_bytes().replace(b"\0", b"")
    made, text_type = path.with_name("made.h5"), h5py.string_dtype()
    with create_hdf5(made, with_sums=True) as writer:
        writer.file.attrs["isc_fast"] = np.bytes_(text or b" ")
        writer.file["vectors"] = seeds.rows().vectors
        writer.file.create_dataset("ids", data=["a", "b", "c"], dtype=text_type)
        for name in ("id", "path", "stage", "reason"):
            writer.file.create_dataset(f"failures/{name}", data=["x"], dtype=text_type)
    _read_all(made)


def _read_array(path: Path) -> None:
    read_descriptors(path.with_name("a.npy"))


def _read_folder(path: Path) -> None:
    read_descriptors(path.parents[1])


def _read_list(path: Path) -> None:
    """A list, and the plan of its images."""
    plan = Plan(("list",), list_images(path).items, "e" * 64, "pillow", 2, 4)
    plan.write(path.with_name("plan.sqlite"))
    found = Plan.read(path.with_name("plan.sqlite"))
    assert found.id == plan.id
    assert list(found.items) == list(plan.items)


def _read_plan(path: Path) -> None:
    """All that resuming does with a plan."""
    parts = PartsFolder(path.parent.with_suffix(""))
    found = parts.found_plan()
    assert found is not None
    list(found.items[:1000])
    dataclasses.replace(found).id  # noqa: B018
    for index in range(min(found.shard_count, 10)):
        found.rows(index)
    if found.shard_count < 100:
        parts.missing(found)
    found.difference(seeds.small_plan())
    verify_file(path.parent)


def _read_part(path: Path) -> None:
    parts, plan = PartsFolder(path.parent.with_suffix("")), seeds.small_plan()
    parts.missing(plan, and_failed=True)


def _read_parts_manifest(path: Path) -> None:
    """All that a verb does with the folder."""
    try:
        with open_any(path) as found:
            found.vectors[:2], list(found.ids[:100]), list(found.failures[:100]), found.stamps[:2]
    finally:
        if parts_home(path) is not None:
            verify_file(path)


def _read_spec_text(path: Path) -> None:
    spec = parse_spec(path.read_bytes().decode("utf-8", "replace"), path)
    json.dumps(spec.to_dict())


def _read_calibration(path: Path) -> None:
    found, task = read_calibration(path), Task.within(100)
    found.expected(0.5, task)
    found.threshold(0.05, task)


def _read_checkpoint(path: Path) -> None:
    from isc_fast.networks.checkpoint import load_checkpoint

    damage_of(path)
    load_checkpoint(path)


def _read_log(path: Path) -> None:
    from isc_fast.training.loop.journal import read_log

    read_log(path)


def _read_archive(path: Path) -> None:
    """List it, and open each photo: the bytes, or the problem because of which there are none."""
    for item in list_images(path).items:
        photo = open_item(item)
        while callable(photo):
            photo = photo()
        assert isinstance(photo, (bytes, Problem)), f"{item} is {photo!r}"
        if isinstance(photo, Problem):
            assert photo.reason.splitlines() == [photo.reason], f"no line: {photo.reason!r}"


def _read_manifest(path: Path) -> None:
    """The manifest, which its own digest protects; and, with a digest that is right again, the index that it describes."""
    with contextlib.suppress(IscFastError):
        read_manifest(path.parent)
    with contextlib.suppress(ValueError):
        body = json.loads(path.read_bytes(), parse_constant=str)
        if isinstance(body, dict):
            body.pop("sha256", None)
            path.write_text(json.dumps({**body, "sha256": layout._sha256(body)}))
    index = OpenIndex(path.parent)
    index.query(Descriptors(np.eye(2, 4, dtype=np.float32), ["q", "r"]), k=2, threshold=None)
    index.close()


READERS: dict[str, Reader] = {
    "isc-fast": Reader("a.h5", seeds.made(lambda path: write_descriptors(path, seeds.rows())), _read_all),
    "hdf5 of others": Reader("a.h5", seeds.strangers, _read_all),
    "facts": Reader("facts.json", seeds.facts, _read_facts),
    "npy": Reader("a.npy", seeds.made(lambda path: write_npy(path, seeds.rows().vectors), "a.npy"), _read_array,
                  lambda folder: (folder / "a.txt").write_bytes(b"a\nb\nc\n")),
    "npy ids": Reader("a.txt", lambda _folder: iter([b"a\nb\nc\n", b"a\r\nb\r\nc"]), _read_array,
                      lambda folder: write_array(folder / "a.npy", seeds.rows())),
    "clip-retrieval npy": Reader("img_emb/img_emb_0000.npy", seeds.clip("img_emb/img_emb_0000.npy"), _read_folder,
                                 seeds.clip_folder, "pyarrow"),
    "clip-retrieval parquet": Reader("metadata/metadata_0000.parquet", seeds.clip("metadata/metadata_0000.parquet"),
                                     _read_folder, seeds.clip_folder, "pyarrow"),
    "matches csv": Reader("m.csv", seeds.matches("m.csv"), read_matches),
    "matches jsonl": Reader("m.jsonl", seeds.matches("m.jsonl"), read_matches),
    "matches parquet": Reader("m.parquet", seeds.parquet_matches, read_matches, needs="pyarrow"),
    "ids csv": Reader("i.csv", seeds.id_lists("csv"), read_new_names),
    "ids json": Reader("i.json", seeds.id_lists("json"), read_new_names),
    "ids jsonl": Reader("i.jsonl", seeds.id_lists("jsonl"), read_new_names),
    "ids parquet": Reader("i.parquet", seeds.id_lists("parquet"), read_new_names, needs="pyarrow"),
    "ids text": Reader("i.txt", lambda _folder: iter([b"a\tb\nc\td\n", "\ufeffä\tö\r\n".encode()]), read_new_names),
    "truth": Reader("t.csv", seeds.truths, read_truth),
    "tar": Reader("a.tar", seeds.tars, _read_archive),
    "zip": Reader("a.zip", seeds.zips, _read_archive),
    "index manifest": Reader("index/index.json", seeds.manifests, _read_manifest, seeds.index_beside, "faiss"),
    "list": Reader("list.txt", seeds.lists, _read_list),
    "plan": Reader("out.parts/plan.sqlite", seeds.made(lambda path: seeds.small_plan().write(path), "plan.sqlite"), _read_plan),
    "plan of 0.2": Reader("out.parts/plan.sqlite", seeds.made(seeds.old_plan, "plan.sqlite"), _read_plan),
    "plan of 0.1": Reader("plan.json", seeds.json_plans, lambda path: list(read_json_plan(path).items)),
    "part": Reader("out.parts/part-000000.h5", seeds.part, _read_part),
    "manifest of parts": Reader(PARTS_MANIFEST, seeds.parts_manifests, _read_parts_manifest, seeds.in_parts),
    "begun parts": Reader("begun-new.json", seeds.begun, lambda path: read_begun(path.parent)),
    "onnx": Reader("a.onnx", seeds.onnx, read_spec),
    "specification": Reader("spec.json", seeds.specs, _read_spec_text),
    "sidecar": Reader("a.plan.json", seeds.sidecars, lambda path: read_sidecar(path.with_suffix(""))),
    "pt2": Reader("a.pt2", seeds.packages, read_package),
    "tuning": Reader("a.onnx.tune.json", seeds.tunings, lambda path: saved_setting(path.with_name("a.onnx"), "e")),
    "calibration": Reader("c.json", seeds.calibrations, _read_calibration),
    "evidence": Reader("e.jsonl", seeds.evidence, read_evidence),
    "info of a table": Reader("t", seeds.tables, describe_file),
    "info of a document": Reader("d.json", seeds.documents, describe_file),
    "info of a page": Reader("p.html", seeds.pages, describe_file),
    "info of a checkpoint": Reader("a.pth", seeds.checkpoints, describe_file, needs="torch"),
    "info of an extraction": Reader(
        "out.parts/plan.sqlite", seeds.made(lambda path: seeds.small_plan().write(path), "plan.sqlite"), describe_file),
    "digest": Reader("a.pth.sha256", seeds.digests, lambda path: kept_digest(path.with_suffix(""))),
    "checkpoint": Reader("a.pth", seeds.checkpoints, _read_checkpoint, needs="torch"),
    "checkpoint of old": Reader("a.pth", seeds.old_checkpoints, _read_checkpoint, needs="torch"),
    "training log": Reader("log.csv", seeds.logs, _read_log, needs="torch"),
}  # fmt: skip


def make_ready(reader: Reader, folder: Path) -> list[bytes]:
    """Make the folder in which a reader reads, and return its seeds."""
    made = folder / "seeds"
    made.mkdir(parents=True)
    seeds = list(reader.seeds(made))
    reader.beside(folder)
    (folder / reader.file).parent.mkdir(parents=True, exist_ok=True)
    for seed in seeds:  # what libraries load at their first use counts for no input
        (folder / reader.file).write_bytes(seed)
        reader.read(folder / reader.file)
    return seeds
