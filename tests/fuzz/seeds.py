"""What the readers of `readers.py` are fuzzed with: files by the real writers, so that a change of a format changes them too."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import shutil
import sqlite3
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
from helpers_containers import write_tar, write_zip
from protobuf import block

from isc_fast.descriptors.formats.clip_retrieval import write_clip_retrieval
from isc_fast.descriptors.formats.kit import write_kit
from isc_fast.descriptors.formats.submission import write_submission
from isc_fast.descriptors.manifest import MANIFEST as PARTS_MANIFEST
from isc_fast.descriptors.provenance import PlanFacts as PartPlanFacts
from isc_fast.descriptors.provenance import Provenance
from isc_fast.descriptors.store import Descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.engines.aoti_file import MadeFor, write_package
from isc_fast.engines.spec import METADATA_KEY, EngineSpec
from isc_fast.engines.trt.sidecar import PlanFacts, network_name, sidecar_text
from isc_fast.engines.tuning import Setting, save_setting
from isc_fast.evaluation.calibration import Calibration
from isc_fast.evaluation.calibration_file import write_calibration
from isc_fast.evaluation.copies import Trial
from isc_fast.extraction.finishing import manifest_of
from isc_fast.extraction.output_folder import Begun, OutputFolder, begun_name
from isc_fast.extraction.parts import PartsFolder
from isc_fast.extraction.plan import Plan
from isc_fast.extraction.plan_folder import PlanFolder
from isc_fast.files.homes import home_of
from isc_fast.files.rows import write_rows
from isc_fast.files.sums import read_sums
from isc_fast.items import NOTED, Failure, Item
from isc_fast.matching.index.changes import build_index, remove_from_index
from isc_fast.matching.index.layout import MANIFEST
from isc_fast.matching.lists.matches import Matches, write_matches
from isc_fast.networks.digests import keep_digest
from isc_fast.review.alignment import Alignment
from isc_fast.review.pairs import Pair, ReviewPage
from isc_fast.review.placement import EvidenceRow, write_evidence
from isc_fast.review.writing import write_page

# --- descriptors ---

SIDES = ("a", "b/ö", "c\udcff")


def rows(ids: tuple[str, ...] = SIDES) -> Descriptors:
    vectors = np.eye(len(ids), 4, dtype=np.float32)
    meta = {"engine_id": "e" * 64, "engine": {"name": "n"}, "plan": {"id": "p", "batch_size": 1, "shard_size": 1}}
    return Descriptors(vectors, ids, meta, [Failure("x", "x.jpg", "read", "gone")], [Failure("a", "a", NOTED, "black")])


def made(write: Callable[[Path], object], name: str = "made.h5") -> Callable[[Path], Iterator[bytes]]:
    def seeds(folder: Path) -> Iterator[bytes]:
        write(folder / name)
        yield (folder / name).read_bytes()

    return seeds


def without_sums(path: Path) -> None:
    """A file as version 0.2 wrote it."""
    write_descriptors(path, rows())
    with open(path, "rb") as stream:
        sums = read_sums(stream.fileno(), "seed")
    assert sums is not None
    content = bytearray(path.read_bytes()[: sums.length])
    content[40:48] = sums.length.to_bytes(8, "little")
    path.write_bytes(content)
    with h5py.File(path, "r+") as changed:
        del changed.attrs["checksums"]


def strangers(folder: Path) -> Iterator[bytes]:
    for number, write in enumerate((without_sums, submission, lambda path: write_kit(path, rows(("a", "b"))))):
        write(folder / f"{number}.h5")
        yield (folder / f"{number}.h5").read_bytes()


def submission(path: Path) -> None:
    write_submission(path, rows(("a", "b")), rows(("c", "d")), rows(("e", "f")))


def facts(_folder: Path) -> Iterator[bytes]:
    yield json.dumps({**rows().meta, "version": 1, "normalization": {"method": "nes", "k": 3}}).encode()
    yield b'{"version": 1, "engine_id": null, "smoothing": {"k": 1}, "plan_id": "x", "shard": 2}'


def clip_folder(folder: Path) -> None:
    write_clip_retrieval(folder, rows(("a", "b", "c")))


def clip(name: str) -> Callable[[Path], Iterator[bytes]]:
    def seeds(folder: Path) -> Iterator[bytes]:
        clip_folder(folder)
        yield (folder / name).read_bytes()

    return seeds


# --- matches, lists ---

PAIRS = Matches(("q1", "q2"), ("r1", "ö"), np.array([0.5, -1e-7], np.float32))


def matches(name: str) -> Callable[[Path], Iterator[bytes]]:
    return made(lambda path: write_matches(path, PAIRS), name)


def parquet_matches(folder: Path) -> Iterator[bytes]:
    for views in (None, ["upright", "mirrored"]):
        write_matches(folder / "m.parquet", Matches(["q1", "ü"], ["r1", "r2"], np.array([0.5, -1], np.float32), views))
        yield (folder / "m.parquet").read_bytes()


def id_lists(form: str) -> Callable[[Path], Iterator[bytes]]:
    def made(folder: Path) -> Iterator[bytes]:
        columns = {"id": str, "score": float, "new_id": str}
        yield write_rows(folder, "i", form, columns, [("a", 0.5, "b, c"), ("ü", None, 'd"e')]).read_bytes()

    return made


def truths(_folder: Path) -> Iterator[bytes]:
    yield b"query_id,reference_id\nq1,r1\nq2,\n"
    yield b"q1,r1\r\nq2,r2\r\n"


def lists(_folder: Path) -> Iterator[bytes]:
    yield b"a.jpg\nb/c.png\n"
    yield b"id\ta.jpg\nother\t\xff.jpg\n"
    yield b"a.jpg\0b\nc.jpg\0"
    yield "\ufeffä.jpg\r\n\r\n".encode()


# --- the folder of an unfinished extraction ---


def small_plan() -> Plan:
    items = [Item("a", "/a.jpg"), Item("b\udcff", "/b.jpg"), Item("c", "/c.jpg")]
    return Plan(("photos", "limit=None"), items, "e" * 64, "pillow", 1, 2)


def old_plan(path: Path) -> None:
    """A plan as version 0.2 wrote it: a table without checksums."""
    plan = small_plan()
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


def json_plans(_folder: Path) -> Iterator[bytes]:
    plan = small_plan()
    pieces = list(plan.pieces())
    yield "\n".join((pieces[0], *pieces[1:-1], pieces[-1])).encode()


def part(folder: Path) -> Iterator[bytes]:
    parts, plan = PartsFolder(folder / "out.h5"), small_plan()
    parts.folder.mkdir()
    parts.write_part(plan.id, plan.shard(0), np.eye(2, 4, dtype=np.float32), [])
    yield parts.part(0).read_bytes()


def in_parts(folder: Path) -> None:
    """The two parts of a plan, with their manifest."""
    plan = small_plan()
    parts = PlanFolder(home_of(folder), plan.id)
    parts.begin(plan)
    for index in range(plan.shard_count):
        rows = np.eye(len(plan.shard(index).items), 4, dtype=np.float32)
        parts.write_part(plan.id, plan.shard(index), rows, [])
    facts = PartPlanFacts(plan.id, plan.batch_size, plan.shard_size)
    meta = Provenance.of_extraction(plan.engine_id, SPEC.to_dict(), plan.decoder, facts).write()
    manifest_of(parts, plan, plan.shard_count, 4, meta).write(folder)


def parts_manifests(folder: Path) -> Iterator[bytes]:
    in_parts(folder)
    yield (folder / PARTS_MANIFEST).read_bytes()


def begun(folder: Path) -> Iterator[bytes]:
    out = OutputFolder(folder / "out")
    out.claim("new", Begun(small_plan().id))
    out.claim("a" * 16, Begun(small_plan().id, "b" * 64))
    for after in ("new", "a" * 16):
        yield (folder / "out" / begun_name(after)).read_bytes()


# --- engines ---

SPEC = EngineSpec("n", "a", 8, 8, 4, 1.0, parity={"cosine": 1.0}, tools={"onnx": "1"})
DIGEST = "0" * 64


def onnx(_folder: Path) -> Iterator[bytes]:
    """A model of one node and one tensor, by onnx.proto3."""
    entry = block(14, block(1, METADATA_KEY.encode()) + block(2, SPEC.to_json().encode()))
    node = block(1, block(1, b"x") + block(2, b"y") + block(4, b"Relu") + block(5, block(6, b"")))
    yield b"\x08\x0a" + block(7, node + block(5, block(9, bytes(16)))) + entry


def specs(_folder: Path) -> Iterator[bytes]:
    yield SPEC.to_json().encode()
    yield dataclasses.replace(SPEC, augmentation="scales+mirror", fp32_layers=("a",)).to_json().encode()


def sidecars(_folder: Path) -> Iterator[bytes]:
    facts = PlanFacts(
        *("tensorrt", "10", "H100", "9.0", (1, 4, 6), False, False), network_name(DIGEST), DIGEST, DIGEST, DIGEST
    )
    yield sidecar_text(dataclasses.replace(SPEC, runtime="tensorrt"), facts).encode()


def packages(folder: Path) -> Iterator[bytes]:
    with zipfile.ZipFile(folder / "compiled.pt2", "w") as package:
        package.writestr("archive/data", b"code")
    made_for = MadeFor("cpu", "2.9", "x86_64", ("avx2",), "", "", "", 4)
    write_package(folder / "compiled.pt2", SPEC, made_for, folder / "a.pt2")
    yield (folder / "a.pt2").read_bytes()


def tunings(folder: Path) -> Iterator[bytes]:
    yield save_setting(folder / "a.onnx", "e", Setting("onnxruntime", 1, 1, 1, 1), 2.0).read_bytes()


def calibrations(folder: Path) -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    photos = rng.standard_normal((22, 8)).astype(np.float32)
    photos /= np.linalg.norm(photos, axis=1, keepdims=True)
    originals = np.repeat(np.arange(26), 2)
    strangers = rng.standard_normal((4, 8)).astype(np.float32)
    copies = np.concatenate([photos, strangers])[originals] + 0.1 * rng.standard_normal((52, 8)).astype(np.float32)
    copies /= np.linalg.norm(copies, axis=1, keepdims=True)
    write_calibration(folder / "c.json", Calibration.of(Trial(photos, copies, originals, ["crop", "text"] * 26), {}))
    yield (folder / "c.json").read_bytes()


def digests(folder: Path) -> Iterator[bytes]:
    keep_digest(folder / "a.pth", hashlib.sha256(b"").hexdigest())
    yield (folder / "a.pth.sha256").read_bytes()


# --- weights ---


def checkpoints(folder: Path) -> Iterator[bytes]:
    import torch

    from isc_fast.networks.checkpoint import save_checkpoint

    net = torch.nn.Linear(2, 3)
    save_checkpoint(folder / "a.pth", net, arch="a", input_size=8, epoch=1, args={"gem_p": 1.0, "names": ["x"]})
    yield (folder / "a.pth").read_bytes()


def old_checkpoints(_folder: Path) -> Iterator[bytes]:
    """As torch wrote them before it wrote zip files."""
    import torch

    content = {"arch": "a", "state_dict": {"w": torch.arange(3.0)}, "args": {"input_size": 8}, "epoch": 1}
    made = io.BytesIO()
    torch.save(content, made, _use_new_zipfile_serialization=False)
    yield made.getvalue()


def logs(_folder: Path) -> Iterator[bytes]:
    """Two rows, the last of which was being written when the run ended."""
    from isc_fast.training.loop.journal import LogRow

    names = [field.name for field in dataclasses.fields(LogRow)]
    yield (",".join(names) + "\n" + ",".join("0" for _ in names) + "\n1,2").encode()


# --- archives ---

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003010100c9fe92ef"
    "0000000049454e44ae426082"
)
PHOTOS = {"a.png": PNG, "b/" + "long" * 40 + ".png": PNG, "./c.png": b"no picture", "ö.jpg": b"", "readme.txt": b"text"}


def tars(folder: Path) -> Iterator[bytes]:
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        write_tar(folder / "a.tar", PHOTOS, form)
        yield (folder / "a.tar").read_bytes()
    with tarfile.open(folder / "links.tar", "w", format=tarfile.USTAR_FORMAT, pax_headers={"comment": "shared"}) as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.REGTYPE):
            about = tarfile.TarInfo(f"{kind.decode()}.png")
            about.type, about.linkname = kind, "0.png"
            tar.addfile(about, io.BytesIO())
    yield (folder / "links.tar").read_bytes()


def zips(folder: Path) -> Iterator[bytes]:
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


# --- index ---


def manifests(folder: Path) -> Iterator[bytes]:
    build_index(rows(), folder / "index")
    remove_from_index(folder / "index", ["a"])
    yield (folder / "index" / MANIFEST).read_bytes()


def index_beside(folder: Path) -> None:
    shutil.copytree(folder / "seeds" / "index", folder / "index", dirs_exist_ok=True)


def tables(_folder: Path) -> Iterator[bytes]:
    """What says by its columns what it is, in every form of text."""
    yield b"group,id,size,weakest_link,kept_id,score,kind\n1,a,2,0.5,,,\n1,b,2,0.5,a,0.5,file\n"
    yield b'[\n{"evaluation": "e", "id": "a", "train_id": "b", "score": 0.5},\n{"evaluation": "e"}\n]\n'
    yield b'{"id": "a", "path": "a.jpg", "stage": "decode", "reason": "cut"}\n' * 2
    yield b'query_id,reference_id,verdict,score,set\n"a,b",c,right,0.5,\n'
    yield b"a,b,0.5\nc,d,0.25\n"
    yield b"a.jpg\nb\tc.png\n"


def documents(_folder: Path) -> Iterator[bytes]:
    """Objects in JSON that say by their names what they are."""
    yield b'{"kit": {"micro_ap": 0.5, "threshold_at_p90": null}}'
    yield b'{"stage": {"name": "v83"}, "start": "a", "samples": 3, "negatives": 0}'
    yield b'{"isc_fast_plan": {"gpu": "H100"}}'
    said = b'[{"query_id": "a", "reference_id": "b", "verdict": "wrong"}]'
    yield b'{"format": "isc-fast verdicts", "version": 1, "verdicts": ' + said + b"}"


def pages(folder: Path) -> Iterator[bytes]:
    write_page(folder / "p.html", ReviewPage("<a>", "", [Pair("a", "b", 0.5, note="x"), Pair("a", "c", 0.4)]), {}, {})
    yield (folder / "p.html").read_bytes()


def evidence(folder: Path) -> Iterator[bytes]:
    points = np.array([[0.2, 0.2], [0.8, 0.3], [0.5, 0.9]])
    found = Alignment(np.array([[0.5, 0, 0.1], [0.1, 0.5, 0], [0.1, 0, 1.0]]), 9, True, points, points)
    write_evidence(folder / "e.jsonl", [EvidenceRow("a", "b", 0.5, found), EvidenceRow("\udcff", "c", 0.25, found)])
    yield (folder / "e.jsonl").read_bytes()
