"""The demo makes edited copies of real photos, finds them again, and writes a page that shows which of them were found.

It deals the photos that ship with the package into three piles: originals, whose edited copies are queries with a
match; other references, which nobody copies; and strangers, whose edited copies are queries without a match.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from ..assets import DEMO_ENGINE, DEMO_NEGATIVES, demo_photos
from ..decoders.rules import load_rgb
from ..descriptors.store import Descriptors, load_descriptors
from ..engines.base import load_engine
from ..evaluation.edits.demo import EDITS
from ..evaluation.metrics import Evaluation, evaluate
from ..extraction.pipeline import Extraction, extract
from ..files.atomic import make_folder, replacing, write_text
from ..matching.matches import TRUTH_HEADER, Matches, Truth, read_truth, write_matches
from ..matching.subtraction import subtract_negatives
from ..matching.two_sides import search
from ..progress import ProgressCallback
from ..review.page import Section, write_page

SEED = 2021
_ORIGINALS, _OTHERS = 0.5, 0.25  # shares of the photos; the rest are strangers
_TITLES = {"without_normalization": "without normalisation", "with_nes": "with negative embedding subtraction"}
_PROTOCOL = "per-query"  # the page's sentences give the figures of this protocol; its table has all of them


@dataclass(frozen=True)
class DemoResult:
    """What the demo found.

    Attributes:
        page: the HTML file to look at.
        plain: the evaluation without normalisation.
        normalized: the evaluation with negative embedding subtraction, or None if the package has no negatives that
            this engine made.
        found: for each kind of edit, the number of copies whose best match is right and reaches the threshold.
        copies: the number of copies of each kind.
        false_alarms: the number of queries whose best match is wrong, yet scores at or above the threshold.
        references, queries: the number of images on each side.
        threshold: the score at which these queries reach a precision of 90 %, or None if they do not reach it.
        images_per_s: the rate of the extraction.
    """

    page: Path
    plain: Evaluation
    normalized: Evaluation | None
    found: dict[str, int]
    copies: int
    false_alarms: int
    references: int
    queries: int
    threshold: float | None
    images_per_s: float

    def __str__(self) -> str:
        lines = [
            f"{self.queries} queries against {self.references} references, {self.images_per_s:.0f} images/s",
            "",
            _TITLES["without_normalization"],
            str(self.plain),
            "",
        ]
        if self.normalized:
            lines += [_TITLES["with_nes"], str(self.normalized), ""]
        if self.threshold is not None:
            lines.append(f"copies found at the score {self.threshold:.3f} or above, {self.false_alarms} false alarms:")
            lines += [f"  {name:<11} {count:>3} of {self.copies}" for name, count in self.found.items()]
        lines += ["", f"Look at {self.page}"]
        return "\n".join(lines)


def _deal(photos: Sequence[Path]) -> tuple[list[Path], list[Path], list[Path]]:
    """Deal photos into originals, other references and strangers. The same photos give the same piles."""
    shuffled = list(photos)
    Random(SEED).shuffle(shuffled)
    first = round(len(shuffled) * _ORIGINALS)
    second = first + round(len(shuffled) * _OTHERS)
    return shuffled[:first], shuffled[first:second], shuffled[second:]


def make_collection(folder: Path, photos: Sequence[Path]) -> None:
    """Make ``references/``, ``queries/`` and ``ground_truth.csv`` in a folder. The same photos give the same files.

    Raises:
        OutputError: a file cannot be written.
    """
    originals, others, strangers = _deal(photos)
    references, queries = make_folder(folder / "references"), make_folder(folder / "queries")
    for photo in [*originals, *others]:
        with replacing(references / photo.name) as temporary:
            temporary.write_bytes(photo.read_bytes())
    rows = [TRUTH_HEADER]
    for group in (originals, strangers):
        for i, photo in enumerate(group):
            image, other = load_rgb(str(photo)), load_rgb(str(strangers[(i + 1) % len(strangers)]))
            for name, edit in EDITS.items():
                copy = edit(image, other, Random(f"{SEED} {photo.name} {name}"))
                query = f"{photo.stem}-{name}"
                with replacing(queries / f"{query}.jpg") as temporary:
                    copy.save(temporary, "JPEG", quality=85)
                rows.append(f"{query},{photo.stem if group is originals else ''}")
    write_text(folder / "ground_truth.csv", "\n".join(rows) + "\n")


def _edit_of(query: str) -> str:
    return query.rpartition("-")[2]


def run_demo(
    output: str | os.PathLike[str] = "demo-out",
    *,
    engine: str | os.PathLike[str] = DEMO_ENGINE,
    progress: Callable[[str], ProgressCallback] | None = None,
) -> DemoResult:
    """Make edited copies of the package's photos, find them again, and write a page that shows what was found.

    Args:
        output: folder for the images, descriptors, matches, figures and ``index.html``.
        engine: by default the engine inside the package. Normalisation needs negatives that the same engine made. The
            package has them only for its own engine, so that the demo does not normalise with another one.
        progress: takes the name of a step and returns the callback for it.

    Raises:
        OutputError: the folder cannot be written.
        EngineError, MissingExtraError: the engine cannot be loaded.
    """
    folder = make_folder(output)
    loaded = load_engine(engine)
    make_collection(folder, demo_photos())
    truth = read_truth(folder / "ground_truth.csv")

    def described(name: str) -> tuple[Descriptors, Extraction]:
        step = progress(name) if progress else None
        made = extract(folder / name, loaded, folder / f"{name}.h5", overwrite=True, progress=step)
        return load_descriptors(made.path), made

    (references, first), (queries, second) = described("references"), described("queries")
    matches = search(queries, references)
    evaluations = {"without_normalization": evaluate(matches, truth)}
    negatives = load_descriptors(DEMO_NEGATIVES)
    if negatives.provenance.engine_id == loaded.id:
        queries, references = subtract_negatives(queries, negatives), subtract_negatives(references, negatives)
        matches = search(queries, references)
        evaluations["with_nes"] = evaluate(matches, truth)
    write_matches(folder / "matches.csv", matches)
    figures = {name: evaluation.to_dict() for name, evaluation in evaluations.items()}
    write_text(folder / "evaluation.json", json.dumps(figures, indent=2) + "\n")

    plain, *rest = evaluations.values()
    threshold = (rest[0] if rest else plain)[_PROTOCOL].threshold_at_p90
    best = _best_of_each(matches)
    sections, found, false_alarms = _sections(best, truth, threshold)
    at = "" if threshold is None else f" at the threshold {threshold:.3f}, with {false_alarms} false alarms"
    page = folder / "index.html"
    write_page(
        page,
        title="isc-fast: edited copies found in real photos",
        lead=f"{len(queries)} queries, edited by machine from photos that ship with isc-fast, were searched among "
        f"{len(references)} references with the engine {loaded.spec.name}. {sum(found.values())} of {len(truth.pairs)} "
        f"copies were found{at}. Left: the query; right: the best reference and its score.",
        sections=sections,
        queries={id_: str(folder / "queries" / f"{id_}.jpg") for id_ in queries.ids},
        references={id_: str(folder / "references" / f"{id_}.jpg") for id_ in references.ids},
        evaluations={_TITLES[name]: evaluation for name, evaluation in evaluations.items()},
    )
    return DemoResult(
        page=page,
        plain=plain,
        normalized=rest[0] if rest else None,
        found=found,
        copies=len(truth.pairs) // len(EDITS),
        false_alarms=false_alarms,
        references=len(references),
        queries=len(queries),
        threshold=threshold,
        images_per_s=(first.computed + second.computed) / max(first.seconds + second.seconds, 1e-9),
    )


def _best_of_each(matches: Matches) -> dict[str, tuple[str, float]]:
    """Return the best reference of each query, and its score."""
    best: dict[str, tuple[str, float]] = {}
    for query, reference, score in matches:
        if query not in best or score > best[query][1]:
            best[query] = (reference, score)
    return best


def _sections(
    best: dict[str, tuple[str, float]], truth: Truth, threshold: float | None
) -> tuple[list[Section], dict[str, int], int]:
    """Return the sections of the page, the number of copies found of each kind, and the number of false alarms."""
    limit = float("inf") if threshold is None else threshold
    original = dict(truth.pairs)
    rows: dict[str, list[tuple[str, str | None, str, str]]] = {name: [] for name in EDITS}
    found = dict.fromkeys(EDITS, 0)
    alarms: list[tuple[str, str | None, str, str]] = []
    for query, (reference, score) in sorted(best.items(), key=lambda entry: -entry[1][1]):
        edit, right = _edit_of(query), original.get(query) == reference
        if score >= limit and right:
            found[edit] += 1
            rows[edit].append((query, reference, f"{score:.3f} found", "good"))
        elif query in original:
            caption = "right photo, score too low" if right else "another photo came first"
            rows[edit].append((query, reference, f"{score:.3f} missed: {caption}", "bad"))
        if score >= limit and not right:  # a copy can be both missed and a false alarm, if another photo came first
            alarms.append((query, reference, f"{score:.3f} wrong", "bad"))
    sections = [
        Section(f"{name}: {found[name]} of {len(rows[name])} found", EDITS[name].__doc__ or "", rows[name])
        for name in EDITS
    ]
    lead = "Queries whose best match is at or above the threshold, but is not their original."
    return [*sections, Section(f"False alarms: {len(alarms)}", lead, alarms)], found, len(alarms)
