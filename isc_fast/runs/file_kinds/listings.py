"""Tables: lists of pairs, of photos and of ids, and what training writes down. Their columns say what they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from ...descriptors.id_lists import read_ids, read_new_names
from ...descriptors.provenance import Provenance
from ...evaluation.calibration_file import KIND, read_calibration
from ...matching.lists.match_rows import HEADER
from ...matching.lists.matches import TRUTH_HEADER, read_matches, read_truth
from ...matching.lists.verdicts import FORMAT, read_verdicts
from ...review.placement import read_evidence
from ...sources.folders import is_image_name
from ...sources.records import PATH_COLUMNS, RECORD_SUFFIXES, read_records
from .base import Facts, FileKind, Glance

_TRUTH = tuple(TRUTH_HEADER.split(","))
_MATCHES = tuple(HEADER.split(","))
_MOST_VALUES = 20


def _has(*columns: str, only: bool = False) -> Callable[[Glance], bool]:
    """Whether a table has these columns; with ``only``, and no others."""
    wanted = set(columns)
    return lambda seen: wanted == set(seen.columns) if only else bool(seen.columns) and wanted <= set(seen.columns)


def _rows(seen: Glance) -> Facts:
    return {"rows": seen.count(), "columns": list(seen.columns)}


def _column_counts(name: str, key: str = "") -> Callable[[Glance], Facts]:
    """How many rows there are, and in a CSV or JSON lines how many of them with each value of a column.

    The counts stand under the column's name, or under ``key``: ``kind`` is the kind of the file itself.
    """

    def facts(seen: Glance) -> Facts:
        found = _rows(seen)
        if seen.suffix in RECORD_SUFFIXES:
            values = Counter(row.get(name) for _, row in read_records(str(seen.path)))
            found |= {key or name: {str(value): count for value, count in values.most_common(_MOST_VALUES) if value}}
        return found

    return facts


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_verdicts(seen: Glance) -> bool:
    """Matches may have a column of this name too, but no CSV of matches has."""
    said = seen.form == "csv" and _has("query_id", "reference_id", "verdict")(seen)
    return said or seen.document.get("format") == FORMAT


def _is_matches(seen: Glance) -> bool:
    """With the header, or without one as the challenge's files may be."""
    named = set(_MATCHES) <= set(seen.columns)
    return named or (seen.form == "csv" and len(seen.columns) == len(_MATCHES) and _is_number(seen.columns[-1]))


def _matches(seen: Glance) -> Facts:
    matches = read_matches(seen.path)
    facts: Facts = {"pairs": len(matches), "queries": len(set(matches.query_ids))}
    facts["references"] = len(set(matches.reference_ids))
    if len(matches):
        facts["scores"] = [float(str(matches.scores.min())), float(str(matches.scores.max()))]
    if matches.views is not None:
        facts["views"] = dict(Counter(matches.views).most_common())
    return facts


def _truth(seen: Glance) -> Facts:
    truth = read_truth(seen.path)
    return {"queries": len(truth.queries), "pairs": len(truth.pairs)}


def _verdicts(seen: Glance) -> Facts:
    found = read_verdicts(seen.path)
    sets = sorted({name for name, _, _ in found.words} - {""})
    words = dict(Counter(found.words.values()).most_common())
    return {"pairs": len(found), "verdicts": words, **({"sets": sets} if sets else {})}


def _evidence(seen: Glance) -> Facts:
    return {"pairs": len(read_evidence(seen.path))}


def _calibration(seen: Glance) -> Facts:
    found = read_calibration(seen.path)
    counts: dict[str, Any] = {"photos": found.photos, "copies": len(found.true), "unrelated_pairs": found.pairs}
    facts = {**counts, "edits": len(set(found.kinds)), "dim": found.dim, "engine_id": found.meta.get("engine_id")}
    normalised = Provenance.read(found.meta).normalization
    if normalised is None:
        return facts
    after = (
        f"isc-fast find QUERIES --in REFERENCES --negatives FILE --method {normalised.method} --calibration {{path}} --precision "
        "0.99 -o OUTPUT/, with the negatives that it was measured with"
    )
    return {**facts, "method": normalised.method, "next": after}


def _ids(seen: Glance) -> Facts:
    return {"ids": len(read_ids(seen.path))}


def _is_text(seen: Glance) -> bool:
    return seen.form == "csv" and seen.suffix != ".csv"


def _names_photos(seen: Glance) -> bool:
    """Whether a table has a column of paths, or the beginning of a text is one path a line."""
    if _is_text(seen):
        some = [line.rpartition("\t")[2] for line in list(seen.lines())[:20]]
        return bool(some) and all(is_image_name(name) for name in some)
    return seen.suffix in RECORD_SUFFIXES and bool(set(PATH_COLUMNS) & set(seen.columns))


def _photo_list(seen: Glance) -> Facts:
    if not _is_text(seen):
        return _rows(seen)
    with open(seen.path, "rb") as stream:
        return {"rows": sum(1 for line in stream if line.strip())}


def _is_id_list(seen: Glance) -> bool:
    return _is_text(seen) or "id" in seen.columns


_REMOVE = "isc-fast remove DESCRIPTORS.h5 --ids {path} -o SMALLER.h5 takes them out"
_REVIEW = "isc-fast report {path} --queries PHOTOS --references PHOTOS -o page.html shows them"

TABLES = (
    FileKind(
        "evidence",
        "where copies lie in their originals, a row for each pair whose pixels agree, of isc-fast align --evidence",
        "isc-fast report MATCHES --evidence {path} --queries PHOTOS --references PHOTOS -o page.html lays them over each other",
        _has("query_id", "reference_id", "inliers", "homography"),
        _evidence,
    ),
    FileKind(
        "unfinished alignment",
        "what an interrupted isc-fast align, or --align of find, dedup or leaks, has seen in pixels, an object for each query",
        "run the same command again: it goes on with the queries that are left, and removes this file",
        lambda seen: _has("format", "of", only=True)(seen) and seen.form == "jsonl",
        _rows,
    ),
    FileKind(
        "verdicts",
        "what somebody said of pairs on a page",
        "give it to the next run: --verdicts {path} of dedup, find, leaks, search and report; isc-fast evaluate MATCHES {path}",
        _is_verdicts,
        _verdicts,
    ),
    FileKind(
        "calibration",
        "what scores mean for one's own photos and one engine, of isc-fast calibrate",
        "isc-fast dedup, find, leaks or search … --calibration {path} --precision 0.99",
        lambda seen: seen.document.get("kind") == KIND,
        _calibration,
    ),
    FileKind(
        "matches",
        "pairs of a query and a reference with their scores, of isc-fast search, find, align or challenge",
        _REVIEW + "; isc-fast evaluate {path} GROUND_TRUTH.csv scores them",
        _is_matches,
        _matches,
    ),
    FileKind(
        "ground truth",
        "which query was copied from which reference; a query without one matches nothing",
        "isc-fast evaluate MATCHES {path}",
        _has(*_TRUTH, only=True),
        _truth,
    ),
    FileKind(
        "pairs of one collection",
        "the photos of a collection that match each other, of isc-fast dedup",
        "look at dedup.html beside it; remove.csv beside it has what could go",
        _has("id", "other_id", "score", "kind"),
        _column_counts("kind", "kinds_of_rows"),
    ),
    FileKind(
        "groups",
        "the photos of a collection that hang together by pairs, of isc-fast dedup",
        "look at dedup.html beside it; isc-fast dedup … --link-to FOLDER makes a folder of links for each group",
        _has("group", "id", "size", "weakest_link"),
        _rows,
    ),
    FileKind(
        "removal list",
        "the photos that could go from a collection, each with the one that stays, of isc-fast dedup",
        _REMOVE,
        _has("id", "kept_id", "score", "kind", "bytes"),
        _column_counts("kind", "kinds_of_rows"),
    ),
    FileKind(
        "leaks",
        "how many photos of each evaluation set are in the training set, of isc-fast leaks",
        "look at leaks.html beside it",
        _has("evaluation", "photos", "leaked", "share"),
        _rows,
    ),
    FileKind(
        "pairs between two sets",
        "the photos of evaluation sets that match photos of the training set, of isc-fast leaks",
        "look at leaks.html beside it; the lists remove-… beside it have what could go from either side",
        _has("evaluation", "id", "train_id", "score"),
        _column_counts("evaluation"),
    ),
    FileKind(
        "removal list of a training set",
        "the photos that should leave a training set, and why, of isc-fast leaks",
        _REMOVE,
        _has("id", "reason", "other", "other_id"),
        _column_counts("reason"),
    ),
    FileKind(
        "removal list of an evaluation set",
        "the photos of an evaluation set that are in the training set, of isc-fast leaks",
        _REMOVE,
        _has("id", "train_id", "score"),
        _rows,
    ),
    FileKind(
        "stop list suggestions",
        "photos that match many others which have little in common, of isc-fast dedup, find and leaks",
        "look at them, take out the rows of those that should stay, and give it to the next run: --stop-list {path}",
        _has("id", "matches", "share"),
        _rows,
    ),
    FileKind(
        "new names",
        "ids, each with the one that takes its place",
        "isc-fast rename DESCRIPTORS.h5 --ids {path} -o RENAMED.h5",
        _has("id", "new_id"),
        lambda seen: {"ids": len(read_new_names(seen.path))},
    ),
    FileKind(
        "ledger",
        "images without a descriptor or with one that says little, and why, of isc-fast info --failures or --notes",
        "mend these photos, and run the same isc-fast extract with --retry-failed",
        _has("id", "path", "stage", "reason"),
        _column_counts("stage"),
    ),
    FileKind(
        "skipped images",
        "images that training could not read, and why",
        "mend these photos before the next stage",
        _has("path", "reason", only=True),
        _rows,
    ),
    FileKind(
        "training log",
        "losses, distances and rates of a training, a row for every few steps",
        "the same isc-fast train or distill goes on where it ends",
        _has("epoch", "step", "learning_rate", "loss"),
        _rows,
    ),
    FileKind(
        "training evaluation",
        "figures of a network on held-out pairs, a row for each epoch",
        "take the checkpoint of the best epoch: isc-fast export --ckpt CHECKPOINT -o ENGINE.onnx",
        _has("epoch", "micro_ap"),
        _rows,
    ),
    FileKind(
        "digest",
        "the SHA-256 of the file beside it, as sha256sum writes it",
        "sha256sum -c {path}",
        lambda seen: seen.suffix == ".sha256" and _is_text(seen),
        lambda seen: {"sha256": seen.line.split()[0], "of": seen.name.removesuffix(".sha256")},
    ),
    FileKind(
        "ids of an array",
        "the ids of the rows of the .npy file beside it, one a line",
        "isc-fast info NAME.npy, and every verb that takes descriptors, reads both",
        lambda seen: seen.suffix == ".txt" and _is_text(seen) and seen.path.with_suffix(".npy").is_file(),
        _ids,
    ),
)
"""In the order in which they are tried: what has more columns stands before what has some of them."""

LISTS = (
    FileKind(
        "list of photos",
        "paths of photos, perhaps with ids; keep.csv of isc-fast dedup is one",
        "isc-fast extract {path} --engine ENGINE -o DESCRIPTORS.h5 describes them",
        _names_photos,
        _photo_list,
    ),
    FileKind(
        "list of ids",
        "ids of photos, as keep and remove-nemo/ of isc-fast dedup have them",
        _REMOVE + "; --stop-list {path} of dedup, find, leaks and search leaves them out",
        _is_id_list,
        _ids,
    ),
)
"""What is told by a single column, or is text without one: tried last."""
