"""The demo makes edited copies of real photos, finds them again, and writes a page that shows which of them were found.

It deals the photos that ship with the package into three piles: originals, whose edited copies are queries with a
match; other references, which nobody copies; and strangers, whose edited copies are queries without a match.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from ..assets import DEMO_ENGINE, DEMO_NEGATIVES, demo_photos
from ..decoders.rules import load_rgb
from ..descriptors.store import Descriptors, load_descriptors
from ..engines.base import load_engine
from ..errors import OutputError
from ..evaluation.edits.demo import EDITS
from ..evaluation.metrics import Evaluation, curve_of, evaluate
from ..extraction.pipeline import Extraction, extract
from ..files.atomic import make_folder, replacing, write_text
from ..matching.lists.matches import TRUTH_HEADER, Matches, Truth, read_truth, write_matches
from ..matching.normalizing.subtraction import subtract_negatives
from ..matching.two_sides import search
from ..progress import ProgressCallback
from ..review.page import figures_of
from ..review.pairs import Pair, ReviewPage, Table
from ..review.writing import write_page
from ..sources.listing import as_source
from .pixels.align import check_aligning, with_placements

SEED = 2021
_ORIGINALS, _OTHERS = 0.5, 0.25  # shares of the photos; the rest are strangers
_TITLES = {"without_normalization": "without normalisation", "with_nes": "with negative embedding subtraction"}
_TRUTH = "ground_truth.csv"
_RESULTS = ("matches.csv", "evaluation.json", "index.html", "references.h5", "queries.h5")
_PROTOCOL = "per-query"  # of the page's figures; what is printed has all of them


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
        OutputError: a file cannot be written, or the folder holds somebody's photos or results.
    """
    originals, others, strangers = _deal(photos)
    rows = [TRUTH_HEADER]
    for group in (originals, strangers):
        for photo in group:
            rows += [f"{photo.stem}-{name},{photo.stem if group is originals else ''}" for name in EDITS]
    truth = "\n".join(rows) + "\n"
    _refuse_others(folder, {photo.name for photo in [*originals, *others]}, truth)
    references, queries = make_folder(folder / "references"), make_folder(folder / "queries")
    for photo in [*originals, *others]:
        with replacing(references / photo.name) as temporary:
            temporary.write_bytes(photo.read_bytes())
    for group in (originals, strangers):
        for i, photo in enumerate(group):
            image, other = load_rgb(str(photo)), load_rgb(str(strangers[(i + 1) % len(strangers)]))
            for name, edit in EDITS.items():
                copy = edit(image, other, Random(f"{SEED} {photo.name} {name}"))
                with replacing(queries / f"{photo.stem}-{name}.jpg") as temporary:
                    copy.save(temporary, "JPEG", quality=85)
    write_text(folder / _TRUTH, truth)  # the last one, so that it says that all is there


def _refuse_others(folder: Path, references: Collection[str], truth: str) -> None:
    """Refuse a folder whose photos or results are somebody's: with another ground truth, or photos that are not the demo's."""
    of_demo = {"references": references, "queries": [f"{row.partition(',')[0]}.jpg" for row in truth.splitlines()]}
    found: list[str] = []
    try:
        known = (folder / _TRUTH).read_text("utf-8") == truth
        found += [] if known else [_TRUTH]
    except FileNotFoundError:
        found += [name for name in _RESULTS if (folder / name).exists()]
    except (OSError, ValueError):
        found.append(_TRUTH)
    for name, photos in of_demo.items():
        if (folder / name).is_dir():
            others = sorted(set(os.listdir(folder / name)) - set(photos))
            found += [f"{name}/{each}" for each in others if not each.startswith(".")]
    if found:
        raise OutputError(
            f"{folder} holds {found[0]!r}, which is not the demo's, and isc-fast demo writes only to a folder of its own: give a "
            "new or an empty one"
        )


def _edit_of(query: str) -> str:
    return query.rpartition("-")[2]


def run_demo(
    output: str | os.PathLike[str] = "demo-out",
    *,
    engine: str | os.PathLike[str] = DEMO_ENGINE,
    align: bool = False,
    progress: Callable[[str], ProgressCallback] | None = None,
) -> DemoResult:
    """Make edited copies of the package's photos, find them again, and write a page that shows what was found.

    Args:
        output: folder for the images, descriptors, matches, figures and ``index.html``.
        engine: by default the engine inside the package. Normalisation needs negatives that the same engine made. The
            package has them only for its own engine, so that the demo does not normalise with another one.
        align: look at the pairs of the page in their pixels too, so that it lays each copy over its original; see
            `isc_fast.align_matches`. It takes a minute or two.
        progress: takes the name of a step and returns the callback for it.

    Raises:
        OutputError: the folder cannot be written, or holds somebody's photos or results.
        EngineError, MissingExtraError: the engine cannot be loaded.
    """
    if align:
        check_aligning()
    folder = make_folder(output)
    loaded = load_engine(engine)
    make_collection(folder, demo_photos())
    truth = read_truth(folder / _TRUTH)

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
    best = _best_of_each(matches)
    counts = _count(best, truth, (rest[0] if rest else plain)[_PROTOCOL].threshold_at_p90)
    file = folder / "index.html"
    page = _page(matches, best, truth, counts, plain, rest[0] if rest else None, len(queries))
    if align:
        sides = as_source(folder / "queries"), as_source(folder / "references")
        page = replace(page, pairs=with_placements(page.pairs, *sides, progress("align") if progress else None))
    write_page(
        file,
        page,
        {id_: str(folder / "queries" / f"{id_}.jpg") for id_ in queries.ids},
        {id_: str(folder / "references" / f"{id_}.jpg") for id_ in references.ids},
    )
    return DemoResult(
        page=file,
        plain=plain,
        normalized=rest[0] if rest else None,
        found={name: tally.found for name, tally in counts.items()},
        copies=len(truth.pairs) // len(EDITS),
        false_alarms=sum(tally.alarms for tally in counts.values()),
        references=len(references),
        queries=len(queries),
        threshold=(rest[0] if rest else plain)[_PROTOCOL].threshold_at_p90,
        images_per_s=(first.computed + second.computed) / max(first.seconds + second.seconds, 1e-9),
    )


def _best_of_each(matches: Matches) -> dict[str, tuple[str, float]]:
    """Return the best reference of each query, and its score."""
    best: dict[str, tuple[str, float]] = {}
    for query, reference, score in matches:
        if query not in best or score > best[query][1]:
            best[query] = (reference, score)
    return best


@dataclass
class _Tally:
    """What became of the queries of one edit.

    Attributes:
        found: copies whose best match is their original, at the threshold or above.
        low: copies whose best match is their original, below the threshold.
        other: copies whose best match is another photo.
        alarms: queries whose best match is wrong, at the threshold or above; a copy can be both this and ``other``.
    """

    found: int = 0
    low: int = 0
    other: int = 0
    alarms: int = 0


def _count(best: dict[str, tuple[str, float]], truth: Truth, threshold: float | None) -> dict[str, _Tally]:
    limit = float("inf") if threshold is None else threshold
    original = dict(truth.pairs)
    counts = {name: _Tally() for name in EDITS}
    for query, (reference, score) in best.items():
        tally, right = counts[_edit_of(query)], original.get(query) == reference
        tally.found += right and score >= limit
        tally.low += right and score < limit
        tally.other += query in original and not right
        tally.alarms += not right and score >= limit
    return counts


def _note(query: str, reference: str, original: dict[str, str]) -> str | None:
    if query in original:
        return None if original[query] == reference else "another photo came first"
    return "its original is not among the references"


def _page(
    matches: Matches,
    best: dict[str, tuple[str, float]],
    truth: Truth,
    counts: dict[str, _Tally],
    plain: Evaluation,
    normalized: Evaluation | None,
    queries: int,
) -> ReviewPage:
    """The page: the best match of every query, the table of what was found of each edit, and the curve of all matches."""
    original = dict(truth.pairs)
    scores = (normalized or plain)[_PROTOCOL]
    pairs = [
        Pair(
            query,
            reference,
            score,
            edit=_edit_of(query),
            truth=original.get(query) == reference,
            note=_note(query, reference, original),
        )
        for query, (reference, score) in sorted(best.items(), key=lambda entry: -entry[1][1])
    ]
    total = _Tally(*(sum(getattr(one, name) for one in counts.values()) for name in vars(_Tally())))
    rows = [*counts.items(), ("all", total)]
    figures = figures_of(scores)
    if normalized is not None:
        figures.insert(1, ("µAP without negatives", f"{plain[_PROTOCOL].micro_ap:.3f}"))
    return ReviewPage(
        title="Edited copies found in real photos",
        lead=f"{queries} queries, edited by machine from photos that ship with isc-fast, were searched among "
        f"{len(set(matches.reference_ids))} references. Each is shown beside its best match.",
        pairs=pairs,
        threshold=scores.threshold_at_p90,
        figures=figures,
        table=Table(
            ("Edit", "Copies", "Found", "Score too low", "Another photo first", "False alarms"),
            [(name, *map(str, (t.found + t.low + t.other, t.found, t.low, t.other, t.alarms))) for name, t in rows],
            [*(" ".join((EDITS[name].__doc__ or "").split()) for name in counts), ""],
        ),
        curve=curve_of(matches, truth, _PROTOCOL),
    )
