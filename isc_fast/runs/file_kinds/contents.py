"""Files that are told by their bytes or by their names: engines, checkpoints, pages, plans, photos, and descriptors last."""

from __future__ import annotations

import html
import os
import re
import zipfile
from pathlib import Path
from typing import Any

from ...descriptors.formats.table import find_format, read_descriptors
from ...descriptors.hdf5 import DAMAGE, dataset, open_hdf5
from ...descriptors.manifest import MANIFEST, parts_home, read_manifest
from ...descriptors.provenance import Provenance
from ...descriptors.store import open_descriptors
from ...engines.base import CHECKPOINT_SUFFIXES, describe_engine, names_engine
from ...errors import FormatError, InputError
from ...extraction.json_plan import read_json_plan
from ...extraction.plan import Plan
from ...files.reading import one_line, parse_json
from ...files.sums import content_bytes
from ...matching.index.layout import has_manifest
from ...review.drawing import WRITER
from ...sources.choice import Choice
from ...sources.folders import is_image_name
from ...sources.listing import KINDS, list_images
from ...sources.sniffing import is_image_content
from ...sources.table_columns import image_column
from ..sides.photo_facts import read_facts
from .base import Facts, FileKind, Glance
from .folders import SEGMENT

_ZIP, _SQLITE, _HDF5, _NPY = b"PK\x03\x04", b"SQLite format 3\0", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY"
_PNG = b"\x89PNG\r\n\x1a\n"
_PICKLES = tuple(bytes((128, protocol)) for protocol in (2, 3, 4, 5))
_DATA = re.compile(rb'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
_TITLE = re.compile(rb"<title>(.*?)</title>", re.DOTALL)
_POLICY = b"default-src 'none'; script-src 'sha256-"
_PAIR_BYTES = 12
_HEADER_BYTES = 1 << 27


def _engine(seen: Glance) -> Facts:
    found = describe_engine(seen.path)
    return {"path": str(found.path), "id": found.id, **found.spec.to_dict(), **found.facts}


def _members(seen: Glance) -> list[str]:
    try:
        with zipfile.ZipFile(seen.path) as archive:
            return archive.namelist()
    except Exception as error:  # a damaged directory can raise nearly any error
        raise FormatError(f"{seen.path} is damaged ({one_line(error)}); copy it again from a sound copy") from error


def _is_checkpoint(seen: Glance) -> bool:
    if seen.head.startswith(_ZIP):
        return seen.suffix in CHECKPOINT_SUFFIXES and any(name.endswith("data.pkl") for name in _members(seen))
    return seen.suffix in CHECKPOINT_SUFFIXES and (seen.head.startswith(_PICKLES) or seen.suffix == ".safetensors")


def _checkpoint(seen: Glance) -> Facts:
    """What is seen without torch: nothing in the file is run, or unpickled."""
    facts: Facts = {"bytes": seen.path.stat().st_size}
    if seen.suffix == ".safetensors":
        return {**facts, "form": "safetensors", **_safetensors(seen)}
    if not seen.head.startswith(_ZIP):
        return {**facts, "form": "torch.save before torch 1.6"}
    names = _members(seen)
    form = "TorchScript" if any("/code/" in name for name in names) else "torch.save"
    return {**facts, "form": form, "tensors": sum("/data/" in name and not name.endswith("/") for name in names)}


def _safetensors(seen: Glance) -> Facts:
    length = int.from_bytes(seen.head[:8], "little")
    try:
        with open(seen.path, "rb") as stream:
            header = parse_json(stream.read(8 + min(length, _HEADER_BYTES))[8:])
        return {"tensors": len(header.keys() - {"__metadata__"})}
    except (OSError, ValueError, AttributeError) as error:
        raise FormatError(f"{seen.path} is damaged ({one_line(error)}); copy it again from a sound copy") from error


def _is_page(seen: Glance) -> bool:
    return seen.text[:15].lower() == "<!doctype html>" and _POLICY in seen.head


def _page(seen: Glance) -> Facts:
    content = seen.path.read_bytes()
    try:
        title, data = _TITLE.search(content), parse_json(_DATA.search(content)[1])  # type: ignore[index]
        pairs = data["pairs"]
        facts: Facts = {
            "title": html.unescape(title[1].decode("utf-8")) if title else "",
            "pairs": len(pairs["score"]),
            "photos": len(data["photos"]["id"]),
            "groups": len(data["groups"]),
            "aligned": sum(one is not None for one in pairs.get("homography") or ()),
            "verdicts": sum(one is not None for one in pairs.get("verdict") or ()),
            "scores": [min(pairs["score"]), max(pairs["score"])] if pairs["score"] else [],
        }
    except (TypeError, ValueError, KeyError) as error:
        raise FormatError(
            f"{seen.path} is a page without its data, perhaps of isc-fast 0.2; write it again: isc-fast report"
        ) from error
    return {name: value for name, value in facts.items() if value not in (0, [])}


def _is_drawing(seen: Glance) -> bool:
    """An SVG of matplotlib, as older drawings are too, or a PNG that says what made it."""
    if seen.text.startswith("<"):
        return "<svg" in seen.text and any(f"<dc:title>{name}" in seen.text for name in (WRITER, "Matplotlib"))
    return seen.head.startswith(_PNG) and f"Software\0{WRITER}".encode() in seen.head


def _plan(seen: Glance) -> Facts:
    plan = read_json_plan(seen.path) if seen.document else Plan.read(seen.path)
    facts: Facts = {"images": len(plan.items), "parts": plan.shard_count, "engine_id": plan.engine_id, "id": plan.id}
    return {**facts, "decoder": plan.decoder, "inputs": list(plan.inputs), "views": list(plan.views)}


def _photo(seen: Glance) -> Facts:
    (facts,) = read_facts([str(seen.path)], [str(seen.path)], headers=True)
    if not facts.width:
        return {"bytes": facts.bytes, "readable": False}
    return {"bytes": facts.bytes, "width": facts.width, "height": facts.height}


def _packs_photos(seen: Glance) -> bool:
    if seen.is_folder or not any(kind.packs and kind.takes(str(seen.path)) for kind in KINDS):
        return False
    if seen.form != "parquet":
        return True
    try:
        return bool(image_column(seen.parquet[0], Choice(), str(seen.path)))
    except InputError:
        return False


def _photos(seen: Glance) -> Facts:
    found = list_images(str(seen.path))
    return {"photos": len(found.found), **({"left_out": dict(found.ignored_suffixes)} if found.ignored else {})}


def _is_descriptors(seen: Glance) -> bool:
    if seen.is_folder or seen.name == MANIFEST:
        return parts_home(seen.path) is not None or (seen.is_folder and bool(_CLIP & set(seen.names)))
    return seen.head.startswith((_HDF5, _NPY)) or seen.suffix in (".h5", ".hdf5", ".npy")


def _descriptors(seen: Glance) -> Facts:
    found_format = find_format(seen.path)
    if found_format.name == "isc-fast":
        with open_descriptors(seen.path) as found:
            home = parts_home(seen.path)
            facts: Facts = {} if home is None else {"parts": len(read_manifest(home).parts)}
            facts |= {"count": len(found), "dim": found.dim}
            facts |= {"failures": list(found.failures), "notes": list(found.notes)}
            facts |= {name: value for name, value in found.meta.items() if name not in ("next", "path")}
            return facts | _next_of(found.provenance)
    about: Facts = {"dialect": found_format.name}
    if found_format.is_folder or not seen.head.startswith(_HDF5):
        read = read_descriptors(seen.path)
        return {**about, "count": len(read), "dim": read.dim}
    with open_hdf5(seen.path) as raw:
        return {**about, **{name: _shape(raw, name) for name in sorted(raw)}}


def _next_of(record: Provenance) -> Facts:
    """What to do with descriptors that are not searched as they are."""
    normalised = record.normalization
    if record.smoothing:
        after = (
            "they are smoothed negatives: isc-fast find QUERIES --in REFERENCES --negatives {path} --threshold S -o OUTPUT/; "
            "isc-fast normalize DESCRIPTORS.h5 --negatives {path} -o NORMALIZED.h5; isc-fast verify {path} checks them"
        )
    elif normalised and normalised.role == "reference":
        after = (
            "they are references: isc-fast search QUERIES.h5 {path} -o matches.csv, with queries of isc-fast normalize --method "
            "score --role query; isc-fast verify {path} checks them"
        )
    elif normalised:
        how = "--method score --role reference" if normalised.by_score else "the same --negatives"
        after = (
            f"isc-fast search {{path}} REFERENCES.h5 -o matches.csv, with references of isc-fast normalize {how}; isc-fast "
            "verify {path} checks it"
        )
    else:
        return {}
    return {"next": after}


def _shape(file: Any, name: str) -> str:
    """What there is to say of an entry of a foreign file."""
    try:
        data = dataset(file, name)
        return f"{data.dtype} {data.shape}"
    except DAMAGE as error:
        return str(error)


_CLIP = {"img_emb", "metadata"}


def _is_part_of_clip(seen: Glance) -> bool:
    """One of the two folders of clip-retrieval, or a file in one."""
    folder = Path(os.path.abspath(seen.path))
    folder = folder if seen.is_folder else folder.parent
    return folder.name in _CLIP and all((folder.parent / name).is_dir() for name in _CLIP)


def _is_segment_file(seen: Glance) -> bool:
    folder = Path(os.path.abspath(seen.path)).parent
    return bool(SEGMENT.fullmatch(folder.name)) and has_manifest(folder.parent) and seen.suffix in (".bin", ".faiss")


ENGINE = FileKind(
    "engine",
    "a network that describes photos, of isc-fast export or distill",
    "isc-fast extract PHOTOS --engine {path} -o DESCRIPTORS.h5; isc-fast tune --engine {path} makes it faster here",
    lambda seen: names_engine(seen.path),
    _engine,
)
DESCRIPTORS = FileKind(
    "descriptors",
    "numbers that describe photos, a row for each, of isc-fast extract, normalize, negatives or convert, or of other tools",
    "isc-fast search {path} REFERENCES.h5 -o matches.csv; isc-fast verify {path} checks it",
    _is_descriptors,
    _descriptors,
)

CONTENTS = (
    FileKind(
        "training state",
        "what an interrupted training needs to go on",
        "the same isc-fast train or distill goes on; isc-fast export takes the checkpoints beside it",
        lambda seen: seen.name == "resume.pt",
        _checkpoint,
    ),
    FileKind(
        "checkpoint",
        "weights of a network, of isc-fast train or distill, or published",
        "isc-fast export --ckpt {path} -o ENGINE.onnx makes an engine of it",
        _is_checkpoint,
        _checkpoint,
    ),
    FileKind(
        "page",
        "pairs of photos to look at and to judge, in one file, of isc-fast report, dedup, find, leaks or demo",
        "open it in a browser; save the verdicts there, and give them to the next run: --verdicts verdicts.json",
        _is_page,
        _page,
    ),
    FileKind(
        "plan of an extraction",
        "the photos that an extraction describes, in order, and with what",
        "run the same isc-fast extract again; isc-fast verify checks the parts beside it",
        lambda seen: seen.head.startswith(_SQLITE) or {"items", "engine_id"} <= seen.document.keys(),
        _plan,
    ),
    FileKind(
        "pairs of a task",
        "what one task of a comparison found, as rows of both sides and scores",
        "run the same command again: it computes the tasks that are missing",
        lambda seen: seen.suffix == ".pairs",
        lambda seen: {"pairs": content_bytes(seen.path.stat().st_size) // _PAIR_BYTES},
    ),
    FileKind(
        "part of an index",
        "where rows of an index are, which of them are gone, or its inverted lists",
        "keep it: isc-fast verify INDEX/ checks it against the manifest",
        _is_segment_file,
        lambda seen: {"bytes": seen.path.stat().st_size},
    ),
    FileKind(
        "part of a clip-retrieval folder",
        "some rows of descriptors as clip-retrieval keeps them, or their ids",
        "isc-fast info and every verb that takes descriptors read the folder that holds img_emb/ and metadata/",
        _is_part_of_clip,
        lambda seen: {"files": list(seen.names)} if seen.is_folder else {"bytes": seen.path.stat().st_size},
    ),
    FileKind(
        "lock",
        "an empty file that keeps a second run from writing beside it",
        "leave it: the run that goes on takes it, and removes it at the end",
        lambda seen: not seen.is_folder and seen.name == "lock" and not seen.head,
        lambda _seen: {},
    ),
    FileKind(
        "timing cache of TensorRT",
        "measured times of kernels on one GPU, of isc-fast export --timing-cache",
        "give it to the next export of a .plan: --timing-cache",
        lambda seen: seen.suffix == ".cache" and not seen.is_folder,
        lambda seen: {"bytes": seen.path.stat().st_size},
    ),
    FileKind(
        "drawing",
        "precision and recall, scores, or what a calibration states, of --plot",
        "open it in a browser or put it into a document",
        _is_drawing,
        lambda seen: {"bytes": seen.path.stat().st_size},
    ),
    FileKind(
        "photo",
        "a picture; pictures of isc-fast align are PNG too",
        "isc-fast index query INDEX/ {path}; isc-fast find {path} --in REFERENCES/ -o OUTPUT/",
        lambda seen: not seen.is_folder and (is_image_name(seen.name) or is_image_content(str(seen.path))),
        _photo,
    ),
)
ARCHIVE = FileKind(
    "archive of photos",
    "photos inside one file, or a table of their paths: tar, zip, Parquet or Arrow",
    "isc-fast extract {path} --engine ENGINE -o DESCRIPTORS.h5 describes them",
    _packs_photos,
    _photos,
)
PHOTOS = FileKind(
    "folder of photos",
    "photos, also in folders below it",
    "isc-fast dedup {path} -o OUTPUT/ finds the copies among them; isc-fast extract {path} --engine ENGINE -o DESCRIPTORS.h5 "
    "describes them",
    lambda seen: seen.is_folder,
    _photos,
)
