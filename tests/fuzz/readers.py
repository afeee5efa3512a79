"""Every reader of a file that may come from anywhere, as a function of bytes: what `fuzz.py` and `test_fuzz.py` run.

A reader reads a file, or refuses it with an `IscFastError` of one line. Everything else is a fault: another error, a crash, a
process that takes too long. Seeds are made by the real writers, so a change of a format changes them too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.util
import io
import json
import shutil
import sqlite3
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from helpers_containers import write_tar, write_zip

from isc_fast.descriptors.comparing import compare
from isc_fast.descriptors.formats.array import write_array
from isc_fast.descriptors.formats.base import contents_of, write_npy
from isc_fast.descriptors.formats.clip_retrieval import write_clip_retrieval
from isc_fast.descriptors.formats.kit import write_kit
from isc_fast.descriptors.formats.submission import write_submission
from isc_fast.descriptors.formats.table import open_any, read_descriptors
from isc_fast.descriptors.hdf5 import create_hdf5
from isc_fast.descriptors.id_lists import read_new_names
from isc_fast.descriptors.manifest import MANIFEST as PARTS_MANIFEST
from isc_fast.descriptors.manifest import parts_home
from isc_fast.descriptors.provenance import PlanFacts as PartPlanFacts
from isc_fast.descriptors.provenance import Provenance
from isc_fast.descriptors.store import Descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.engines.aoti_file import MadeFor, read_package, write_package
from isc_fast.engines.header import parse_spec, read_spec
from isc_fast.engines.spec import METADATA_KEY, EngineSpec
from isc_fast.engines.trt.sidecar import PlanFacts, network_name, read_sidecar, sidecar_text
from isc_fast.engines.tuning import Setting, save_setting, saved_setting
from isc_fast.errors import IscFastError
from isc_fast.evaluation.calibration import Calibration, Task
from isc_fast.evaluation.copies import Trial
from isc_fast.extraction.finishing import manifest_of
from isc_fast.extraction.json_plan import read_json_plan
from isc_fast.extraction.output_folder import Begun, OutputFolder, begun_name, read_begun
from isc_fast.extraction.parts import PartsFolder
from isc_fast.extraction.plan import Plan
from isc_fast.extraction.plan_folder import PlanFolder
from isc_fast.files.homes import home_of
from isc_fast.files.rows import write_rows
from isc_fast.files.sums import read_sums
from isc_fast.items import NOTED, Failure, Item, Problem
from isc_fast.matching.index import layout
from isc_fast.matching.index.changes import build_index, remove_from_index
from isc_fast.matching.index.layout import MANIFEST, read_manifest
from isc_fast.matching.index.opened import OpenIndex
from isc_fast.matching.matches import Matches, read_matches, read_truth, write_matches
from isc_fast.networks.digests import keep_digest, kept_digest
from isc_fast.networks.torch_files import damage_of
from isc_fast.runs.verification import verify_file
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


# --- descriptors ---

SIDES = ("a", "b/ö", "c\udcff")


def _rows(ids: tuple[str, ...] = SIDES) -> Descriptors:
    vectors = np.eye(len(ids), 4, dtype=np.float32)
    meta = {"engine_id": "e" * 64, "engine": {"name": "n"}, "plan": {"id": "p", "batch_size": 1, "shard_size": 1}}
    return Descriptors(vectors, ids, meta, [Failure("x", "x.jpg", "read", "gone")], [Failure("a", "a", NOTED, "black")])


def _made(write: Callable[[Path], object], name: str = "made.h5") -> Callable[[Path], Iterator[bytes]]:
    def seeds(folder: Path) -> Iterator[bytes]:
        write(folder / name)
        yield (folder / name).read_bytes()

    return seeds


def _without_sums(path: Path) -> None:
    """A file as version 0.2 wrote it."""
    write_descriptors(path, _rows())
    with open(path, "rb") as stream:
        sums = read_sums(stream.fileno(), "seed")
    assert sums is not None
    content = bytearray(path.read_bytes()[: sums.length])
    content[40:48] = sums.length.to_bytes(8, "little")
    path.write_bytes(content)
    with h5py.File(path, "r+") as changed:
        del changed.attrs["checksums"]


def _strangers(folder: Path) -> Iterator[bytes]:
    for number, write in enumerate((_without_sums, _submission, lambda path: write_kit(path, _rows(("a", "b"))))):
        write(folder / f"{number}.h5")
        yield (folder / f"{number}.h5").read_bytes()


def _submission(path: Path) -> None:
    write_submission(path, _rows(("a", "b")), _rows(("c", "d")), _rows(("e", "f")))


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
        writer.file["vectors"] = _rows().vectors
        writer.file.create_dataset("ids", data=["a", "b", "c"], dtype=text_type)
        for name in ("id", "path", "stage", "reason"):
            writer.file.create_dataset(f"failures/{name}", data=["x"], dtype=text_type)
    _read_all(made)


def _facts(_folder: Path) -> Iterator[bytes]:
    yield json.dumps({**_rows().meta, "version": 1, "normalization": {"method": "nes", "k": 3}}).encode()
    yield b'{"version": 1, "engine_id": null, "smoothing": {"k": 1}, "plan_id": "x", "shard": 2}'


def _read_array(path: Path) -> None:
    read_descriptors(path.with_name("a.npy"))


def _read_folder(path: Path) -> None:
    read_descriptors(path.parents[1])


def _clip_folder(folder: Path) -> None:
    write_clip_retrieval(folder, _rows(("a", "b", "c")))


def _clip(name: str) -> Callable[[Path], Iterator[bytes]]:
    def seeds(folder: Path) -> Iterator[bytes]:
        _clip_folder(folder)
        yield (folder / name).read_bytes()

    return seeds


# --- matches, lists ---

PAIRS = Matches(("q1", "q2"), ("r1", "ö"), np.array([0.5, -1e-7], np.float32))


def _matches(name: str) -> Callable[[Path], Iterator[bytes]]:
    return _made(lambda path: write_matches(path, PAIRS), name)


def _parquet_matches(folder: Path) -> Iterator[bytes]:
    for views in (None, ["upright", "mirrored"]):
        write_matches(folder / "m.parquet", Matches(["q1", "ü"], ["r1", "r2"], np.array([0.5, -1], np.float32), views))
        yield (folder / "m.parquet").read_bytes()


def _id_lists(form: str) -> Callable[[Path], Iterator[bytes]]:
    def made(folder: Path) -> Iterator[bytes]:
        columns = {"id": str, "score": float, "new_id": str}
        yield write_rows(folder, "i", form, columns, [("a", 0.5, "b, c"), ("ü", None, 'd"e')]).read_bytes()

    return made


def _truths(_folder: Path) -> Iterator[bytes]:
    yield b"query_id,reference_id\nq1,r1\nq2,\n"
    yield b"q1,r1\r\nq2,r2\r\n"


def _lists(_folder: Path) -> Iterator[bytes]:
    yield b"a.jpg\nb/c.png\n"
    yield b"id\ta.jpg\nother\t\xff.jpg\n"
    yield b"a.jpg\0b\nc.jpg\0"
    yield "\ufeffä.jpg\r\n\r\n".encode()


def _read_list(path: Path) -> None:
    """A list, and the plan of its images."""
    plan = Plan(("list",), list_images(path).items, "e" * 64, "pillow", 2, 4)
    plan.write(path.with_name("plan.sqlite"))
    found = Plan.read(path.with_name("plan.sqlite"))
    assert found.id == plan.id
    assert list(found.items) == list(plan.items)


# --- the folder of an unfinished extraction ---


def _plan() -> Plan:
    items = [Item("a", "/a.jpg"), Item("b\udcff", "/b.jpg"), Item("c", "/c.jpg")]
    return Plan(("photos", "limit=None"), items, "e" * 64, "pillow", 1, 2)


def _old_plan(path: Path) -> None:
    """A plan as version 0.2 wrote it: a table without checksums."""
    plan = _plan()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE images (row INTEGER PRIMARY KEY, id BLOB NOT NULL, path BLOB NOT NULL)")
        db.execute("CREATE TABLE head (text TEXT NOT NULL)")
        rows = [(item.id.encode("utf-8", "surrogatepass"), item.path.encode()) for item in plan.items]
        db.executemany("INSERT INTO images (id, path) VALUES (?, ?)", rows)
        values = {"version": 1, "inputs": list(plan.inputs), "engine_id": plan.engine_id, "decoder": plan.decoder}
        db.execute(
            "INSERT INTO head VALUES (?)", (json.dumps({**values, "batch_size": 1, "shard_size": 2, "id": plan.id}),)
        )
    db.close()


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
    found.difference(_plan())
    verify_file(path.parent)


def _json_plans(_folder: Path) -> Iterator[bytes]:
    plan = _plan()
    pieces = list(plan.pieces())
    yield "\n".join((pieces[0], *pieces[1:-1], pieces[-1])).encode()


def _part(folder: Path) -> Iterator[bytes]:
    parts, plan = PartsFolder(folder / "out.h5"), _plan()
    parts.folder.mkdir()
    parts.write_part(plan.id, plan.shard(0), np.eye(2, 4, dtype=np.float32), [])
    yield parts.part(0).read_bytes()


def _read_part(path: Path) -> None:
    parts, plan = PartsFolder(path.parent.with_suffix("")), _plan()
    parts.missing(plan, and_failed=True)


def _in_parts(folder: Path) -> None:
    """The two parts of a plan, with their manifest."""
    plan = _plan()
    parts = PlanFolder(home_of(folder), plan.id)
    parts.begin(plan)
    for index in range(plan.shard_count):
        rows = np.eye(len(plan.shard(index).items), 4, dtype=np.float32)
        parts.write_part(plan.id, plan.shard(index), rows, [])
    facts = PartPlanFacts(plan.id, plan.batch_size, plan.shard_size)
    meta = Provenance.of_extraction(plan.engine_id, SPEC.to_dict(), plan.decoder, facts).write()
    manifest_of(parts, plan, plan.shard_count, 4, meta).write(folder)


def _parts_manifests(folder: Path) -> Iterator[bytes]:
    _in_parts(folder)
    yield (folder / PARTS_MANIFEST).read_bytes()


def _read_parts_manifest(path: Path) -> None:
    """All that a verb does with the folder."""
    try:
        with open_any(path) as found:
            found.vectors[:2], list(found.ids[:100]), list(found.failures[:100]), found.stamps[:2]
    finally:
        if parts_home(path) is not None:
            verify_file(path)


def _begun(folder: Path) -> Iterator[bytes]:
    out = OutputFolder(folder / "out")
    out.claim("new", Begun(_plan().id))
    out.claim("a" * 16, Begun(_plan().id, "b" * 64))
    for after in ("new", "a" * 16):
        yield (folder / "out" / begun_name(after)).read_bytes()


# --- engines ---

SPEC = EngineSpec("n", "a", 8, 8, 4, 1.0, parity={"cosine": 1.0}, tools={"onnx": "1"})
DIGEST = "0" * 64


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _block(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _onnx(_folder: Path) -> Iterator[bytes]:
    """A model of one node and one tensor, by onnx.proto3."""
    entry = _block(14, _block(1, METADATA_KEY.encode()) + _block(2, SPEC.to_json().encode()))
    node = _block(1, _block(1, b"x") + _block(2, b"y") + _block(4, b"Relu") + _block(5, _block(6, b"")))
    yield b"\x08\x0a" + _block(7, node + _block(5, _block(9, bytes(16)))) + entry


def _specs(_folder: Path) -> Iterator[bytes]:
    yield SPEC.to_json().encode()
    yield dataclasses.replace(SPEC, augmentation="scales+mirror", fp32_layers=("a",)).to_json().encode()


def _read_spec_text(path: Path) -> None:
    spec = parse_spec(path.read_bytes().decode("utf-8", "replace"), path)
    json.dumps(spec.to_dict())


def _sidecars(_folder: Path) -> Iterator[bytes]:
    facts = PlanFacts(
        *("tensorrt", "10", "H100", "9.0", (1, 4, 6), False, False), network_name(DIGEST), DIGEST, DIGEST, DIGEST
    )
    yield sidecar_text(dataclasses.replace(SPEC, runtime="tensorrt"), facts).encode()


def _packages(folder: Path) -> Iterator[bytes]:
    with zipfile.ZipFile(folder / "compiled.pt2", "w") as package:
        package.writestr("archive/data", b"code")
    made_for = MadeFor("cpu", "2.9", "x86_64", ("avx2",), "", "", "", 4)
    write_package(folder / "compiled.pt2", SPEC, made_for, folder / "a.pt2")
    yield (folder / "a.pt2").read_bytes()


def _tunings(folder: Path) -> Iterator[bytes]:
    yield save_setting(folder / "a.onnx", "e", Setting("onnxruntime", 1, 1, 1, 1), 2.0).read_bytes()


def _calibrations(folder: Path) -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    photos = rng.standard_normal((22, 8)).astype(np.float32)
    photos /= np.linalg.norm(photos, axis=1, keepdims=True)
    originals = np.repeat(np.arange(26), 2)
    strangers = rng.standard_normal((4, 8)).astype(np.float32)
    copies = np.concatenate([photos, strangers])[originals] + 0.1 * rng.standard_normal((52, 8)).astype(np.float32)
    copies /= np.linalg.norm(copies, axis=1, keepdims=True)
    Calibration.of(Trial(photos, copies, originals, ["crop", "text"] * 26), {}).write(folder / "c.json")
    yield (folder / "c.json").read_bytes()


def _read_calibration(path: Path) -> None:
    found, task = Calibration.read(path), Task.within(100)
    found.expected(0.5, task)
    found.threshold(0.05, task)


def _digests(folder: Path) -> Iterator[bytes]:
    keep_digest(folder / "a.pth", hashlib.sha256(b"").hexdigest())
    yield (folder / "a.pth.sha256").read_bytes()


# --- weights ---


def _checkpoints(folder: Path) -> Iterator[bytes]:
    import torch

    from isc_fast.networks.checkpoint import save_checkpoint

    net = torch.nn.Linear(2, 3)
    save_checkpoint(folder / "a.pth", net, arch="a", input_size=8, epoch=1, args={"gem_p": 1.0, "names": ["x"]})
    yield (folder / "a.pth").read_bytes()


def _read_checkpoint(path: Path) -> None:
    from isc_fast.networks.checkpoint import load_checkpoint

    damage_of(path)
    load_checkpoint(path)


def _old_checkpoints(_folder: Path) -> Iterator[bytes]:
    """As torch wrote them before it wrote zip files."""
    import torch

    content = {"arch": "a", "state_dict": {"w": torch.arange(3.0)}, "args": {"input_size": 8}, "epoch": 1}
    made = io.BytesIO()
    torch.save(content, made, _use_new_zipfile_serialization=False)
    yield made.getvalue()


def _logs(_folder: Path) -> Iterator[bytes]:
    """Two rows, the last of which was being written when the run ended."""
    from isc_fast.training.loop.journal import LogRow

    names = [field.name for field in dataclasses.fields(LogRow)]
    yield (",".join(names) + "\n" + ",".join("0" for _ in names) + "\n1,2").encode()


def _read_log(path: Path) -> None:
    from isc_fast.training.loop.journal import read_log

    read_log(path)


# --- archives ---

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003010100c9fe92ef"
    "0000000049454e44ae426082"
)
PHOTOS = {"a.png": PNG, "b/" + "long" * 40 + ".png": PNG, "./c.png": b"no picture", "ö.jpg": b"", "readme.txt": b"text"}


def _tars(folder: Path) -> Iterator[bytes]:
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        write_tar(folder / "a.tar", PHOTOS, form)
        yield (folder / "a.tar").read_bytes()
    with tarfile.open(folder / "links.tar", "w", format=tarfile.USTAR_FORMAT, pax_headers={"comment": "shared"}) as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.REGTYPE):
            about = tarfile.TarInfo(f"{kind.decode()}.png")
            about.type, about.linkname = kind, "0.png"
            tar.addfile(about, io.BytesIO())
    yield (folder / "links.tar").read_bytes()


def _zips(folder: Path) -> Iterator[bytes]:
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        write_zip(folder / "a.zip", PHOTOS, method)
        yield (folder / "a.zip").read_bytes()
    with zipfile.ZipFile(folder / "large.zip", "w") as archive, archive.open("a.png", "w", force_zip64=True) as member:
        member.write(PNG)
    plain = (folder / "large.zip").read_bytes()
    at = plain.index(b"PK\5\6")
    size, offset = struct.unpack_from("<2L", plain, at + 12)
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    yield (
        plain[:at] + record + locator + plain[at : at + 8] + b"\xff" * 12 + plain[at + 20 :]
    )  # as of an archive above 4 GB
    yield b"before the archive" + plain


def _read_archive(path: Path) -> None:
    """List it, and open each photo: the bytes, or the problem because of which there are none."""
    for item in list_images(path).items:
        photo = open_item(item)
        while callable(photo):
            photo = photo()
        assert isinstance(photo, (bytes, Problem)), f"{item} is {photo!r}"
        if isinstance(photo, Problem):
            assert photo.reason.splitlines() == [photo.reason], f"no line: {photo.reason!r}"


# --- index ---


def _manifests(folder: Path) -> Iterator[bytes]:
    build_index(_rows(), folder / "index")
    remove_from_index(folder / "index", ["a"])
    yield (folder / "index" / MANIFEST).read_bytes()


def _index_beside(folder: Path) -> None:
    shutil.copytree(folder / "seeds" / "index", folder / "index", dirs_exist_ok=True)


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
    "isc-fast": Reader("a.h5", _made(lambda path: write_descriptors(path, _rows())), _read_all),
    "hdf5 of others": Reader("a.h5", _strangers, _read_all),
    "facts": Reader("facts.json", _facts, _read_facts),
    "npy": Reader("a.npy", _made(lambda path: write_npy(path, _rows().vectors), "a.npy"), _read_array,
                  lambda folder: (folder / "a.txt").write_bytes(b"a\nb\nc\n")),
    "npy ids": Reader("a.txt", lambda _folder: iter([b"a\nb\nc\n", b"a\r\nb\r\nc"]), _read_array,
                      lambda folder: write_array(folder / "a.npy", _rows())),
    "clip-retrieval npy": Reader("img_emb/img_emb_0000.npy", _clip("img_emb/img_emb_0000.npy"), _read_folder,
                                 _clip_folder, "pyarrow"),
    "clip-retrieval parquet": Reader("metadata/metadata_0000.parquet", _clip("metadata/metadata_0000.parquet"),
                                     _read_folder, _clip_folder, "pyarrow"),
    "matches csv": Reader("m.csv", _matches("m.csv"), read_matches),
    "matches jsonl": Reader("m.jsonl", _matches("m.jsonl"), read_matches),
    "matches parquet": Reader("m.parquet", _parquet_matches, read_matches, needs="pyarrow"),
    "ids csv": Reader("i.csv", _id_lists("csv"), read_new_names),
    "ids json": Reader("i.json", _id_lists("json"), read_new_names),
    "ids jsonl": Reader("i.jsonl", _id_lists("jsonl"), read_new_names),
    "ids parquet": Reader("i.parquet", _id_lists("parquet"), read_new_names, needs="pyarrow"),
    "ids text": Reader("i.txt", lambda _folder: iter([b"a\tb\nc\td\n", "\ufeffä\tö\r\n".encode()]), read_new_names),
    "truth": Reader("t.csv", _truths, read_truth),
    "tar": Reader("a.tar", _tars, _read_archive),
    "zip": Reader("a.zip", _zips, _read_archive),
    "index manifest": Reader("index/index.json", _manifests, _read_manifest, _index_beside, "faiss"),
    "list": Reader("list.txt", _lists, _read_list),
    "plan": Reader("out.parts/plan.sqlite", _made(lambda path: _plan().write(path), "plan.sqlite"), _read_plan),
    "plan of 0.2": Reader("out.parts/plan.sqlite", _made(_old_plan, "plan.sqlite"), _read_plan),
    "plan of 0.1": Reader("plan.json", _json_plans, lambda path: list(read_json_plan(path).items)),
    "part": Reader("out.parts/part-000000.h5", _part, _read_part),
    "manifest of parts": Reader(PARTS_MANIFEST, _parts_manifests, _read_parts_manifest, _in_parts),
    "begun parts": Reader("begun-new.json", _begun, lambda path: read_begun(path.parent)),
    "onnx": Reader("a.onnx", _onnx, read_spec),
    "specification": Reader("spec.json", _specs, _read_spec_text),
    "sidecar": Reader("a.plan.json", _sidecars, lambda path: read_sidecar(path.with_suffix(""))),
    "pt2": Reader("a.pt2", _packages, read_package),
    "tuning": Reader("a.onnx.tune.json", _tunings, lambda path: saved_setting(path.with_name("a.onnx"), "e")),
    "calibration": Reader("c.json", _calibrations, _read_calibration),
    "digest": Reader("a.pth.sha256", _digests, lambda path: kept_digest(path.with_suffix(""))),
    "checkpoint": Reader("a.pth", _checkpoints, _read_checkpoint, needs="torch"),
    "checkpoint of old": Reader("a.pth", _old_checkpoints, _read_checkpoint, needs="torch"),
    "training log": Reader("log.csv", _logs, _read_log, needs="torch"),
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
