"""The whole inference run of the Image Similarity Challenge, on a folder that is laid out like its data set, DISC21."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..decoders.base import AUTO
from ..decoders.views import ONLY_WHOLE, WHOLE, view_names
from ..descriptors.formats.submission import write_submission
from ..descriptors.store import open_descriptors
from ..descriptors.view_rows import whole_of
from ..engines.base import Engine
from ..errors import InputError, MismatchError
from ..evaluation.metrics import KIT_CAP, PER_QUERY_CAP, Evaluation, Scores, evaluate
from ..extraction.job import Request
from ..extraction.pipeline import extract_with
from ..extraction.runners.choose import choose_runner
from ..files.atomic import make_folder, write_text
from ..files.lazy import Texts
from ..files.own_folder import refuse_others
from ..matching.lists.matches import Truth, read_matches, read_truth, write_matches
from ..matching.normalizing.methods import SCORE, method_of
from ..matching.searchers.cpu_searcher import CPU
from ..matching.searchers.searcher import Searcher, open_searcher
from ..matching.two_sides import search
from ..progress import ProgressCallback
from ..sources.disc21 import TRUTH_HINTS, find_sets, find_truth
from ..sources.listing import Listing, list_images
from .challenge_files import NAMES, RECORD, Steps, Track, Work, normalize, score, smooth
from .checks.validate import check_matches, check_submission

_DESCRIPTOR_ROW = (
    "descriptor: the descriptor track, scored on the best 10 × labelled queries of all pairs; the rows above score the matching "
    "track's file"
)
_BY_SCORE = (
    "normalised: negatives are subtracted from the descriptor track's vectors, and the matching track's scores are lowered by "
    "what each query scores among them (--method nes: minus squared distances of those vectors)"
)
_TRACK_PROTOCOL = "official"


@dataclass(frozen=True)
class PhaseResult:
    """The result for one set of queries.

    Attributes:
        submission: file for the descriptor track.
        matches: file for the matching track.
        problems: what breaks the challenge's rules, one line for each problem.
        evaluation: the figures of the matching track, or None if there is no ground truth for these images.
        descriptor_track: the figures of the descriptor track, or None likewise. It is scored on the pairs that a search of the
            labelled queries finds, 10 × as many as there are such queries. The matching track's file holds the 10 best of
            each query; so the two differ where many references look like one query.
        note: a limit of the figures that the reader must know, if there is one.
    """

    submission: Path
    matches: Path
    problems: list[str]
    evaluation: Evaluation | None
    descriptor_track: Scores | None = None
    note: str | None = None


@dataclass(frozen=True)
class ChallengeResult:
    """What `run_challenge` did.

    Attributes:
        folder: folder of the results.
        counts: number of descriptors of each set, by the set's name.
        failures: number of images of each set that have no descriptor.
        normalized: whether negatives were subtracted.
        method: by which the matching track's file is normalised, ``"score"`` or ``"nes"``; None where there are no negatives.
        phases: the result of each set of queries, by its letter. Without references it is empty.
    """

    folder: Path
    counts: dict[str, int]
    failures: dict[str, int]
    normalized: bool
    phases: dict[str, PhaseResult] = field(default_factory=dict)
    method: str | None = None

    @property
    def problems(self) -> list[str]:
        """List everything that breaks the challenge's rules."""
        return [problem for phase in self.phases.values() for problem in phase.problems]

    def __str__(self) -> str:
        lines = []
        for name, count in self.counts.items():
            lines.append(f"{name:<13} {count} descriptors, {self.failures[name]} images failed")
        for phase in self.phases.values():
            lines += ["", f"descriptor track: {phase.submission}", f"matching track:   {phase.matches}"]
            if not self.normalized:
                lines.append("without normalisation: there are no training images to take negatives from")
            if self.method == SCORE:
                lines.append(_BY_SCORE)
            if phase.evaluation and phase.descriptor_track:
                rows = {**phase.evaluation.by_protocol, "descriptor": phase.descriptor_track}
                lines += [str(Evaluation(rows)), _DESCRIPTOR_ROW]
            if phase.note:
                lines.append(phase.note)
            lines += [f"breaks the rules: {problem}" for problem in phase.problems] or [
                "both keep the challenge's rules"
            ]
        return "\n".join(lines)


def _read_subset(path: str | os.PathLike[str]) -> set[str]:
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read the reference subset {os.fspath(path)}: {error}; expected one id a line"
        ) from error
    return {os.path.splitext(os.path.basename(line.strip()))[0] for line in lines if line.strip()}


def run_challenge(
    root: str | os.PathLike[str],
    engine: Engine | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    sets: str | None = None,
    limit: int | None = None,
    reference_subset: str | os.PathLike[str] | None = None,
    ground_truth: str | os.PathLike[str] | None = None,
    method: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    decoder: str = AUTO,
    search_device: str | Searcher = CPU,
    overwrite: bool = False,
    retry_failed: bool = False,
    views: str = WHOLE,
    devices: str | Sequence[str] | None = None,
    engine_options: Mapping[str, Any] | None = None,
    progress: Callable[[str], ProgressCallback] | None = None,
) -> ChallengeResult:
    """Describe, normalise, search, validate and evaluate a data set that is laid out like DISC21. Every step resumes.

    The run writes into ``output``: the descriptors of each set, ``negatives.h5``, and for each set of queries
    ``submission*.h5`` (descriptor track), ``matches*.csv`` (matching track) and, with ground truth, ``labelled*.csv`` (the pairs
    that the descriptor track is scored on) and ``evaluation*.json``. Files of phase 2 have the suffix ``_phase2``.

    Args:
        root: folder in a layout of DISC21, see `isc_fast.sources.disc21.FOLDERS`, with any of the sets and perhaps ground
            truth (``*truth*.csv``).
        engine: a loaded engine, or the path of one.
        output: folder of the results.
        sets: letters of the sets to use: q (queries), p (phase-2 queries), r (references), t (training images). By
            default the run uses all that exist.
        limit: for a dry run, the number of images to use from each set.
        reference_subset: text file with one reference id a line; the run uses only these references.
        ground_truth: ground-truth CSV. Give it if the names of the files in ``root`` do not tell which one to use.
        method: how the training images, as negatives, normalise the matching track's scores: ``"score"``, the default, see
            `isc_fast.normalize_scores`; or ``"nes"``, as in the reference solution: minus the squared distance of the descriptor
            track's vectors. These always have negatives subtracted: score normalisation makes no vectors of 256 numbers.
        batch_size, workers, decoder: see `isc_fast.extract`.
        search_device: device that searches for negatives and for matches; see ``device`` of `isc_fast.search`.
        overwrite: replace descriptors that were made by another engine or from other images.
        views: of each query, words of `isc_fast.decoders.views.WORDS`, such as ``"10"``. The matching track's file has the best
            view of each pair. The descriptor track allows one descriptor of a query: it gets that of the whole photo.
        retry_failed, devices, engine_options: see `isc_fast.extract`.
        progress: takes the name of a step and returns the callback for it.

    Raises:
        InputError: ``root`` does not have the layout, an option does not fit it, or a method was given and there are no training
            images.
        IscFastError: any error of a step.
    """
    base, folder = Path(root), Path(output)
    seen = view_names(views)
    if not base.is_dir():
        raise InputError(f"there is no folder {base}; expected the layout of DISC21")
    folders = find_sets(base, sets)
    if method is not None:
        method_of(method, None, None, 1)
        if "t" not in folders:
            raise InputError(
                f"the method {method!r} needs training images, which are the negatives, and there are none among the sets; leave "
                "out --method (in Python method)"
            )
    searcher = open_searcher(search_device)  # comes first, so that a wrong device fails before any image is described
    truths = {letter: find_truth(base, letter, ground_truth) for letter in TRUTH_HINTS if letter in folders}
    runner = choose_runner(engine, devices, engine_options, workers)  # one runner serves all sets
    _ = runner.facts  # loads the engine, so that an engine that cannot be loaded fails before anything is written
    make_folder(folder)
    refuse_others(folder, RECORD, rf"(?:{'|'.join(NAMES.values())})\.h5", "challenge")
    steps = Steps(folder)
    ids: dict[str, Texts] = {}
    stamps: dict[str, str] = {}
    counts: dict[str, int] = {}
    failures: dict[str, int] = {}

    for letter, where in folders.items():
        name = NAMES[letter]
        subset = reference_subset if letter == "r" else None
        items = list_images(where, ids="stem", limit=limit if subset is None else None).found
        if subset is not None:
            wanted = _read_subset(subset)
            items = [item for item in items if item.id in wanted]
            if len(items) != len(wanted):
                raise InputError(
                    f"{len(wanted) - len(items)} of the {len(wanted)} ids in {os.fspath(subset)} are not in {where[0]}"
                )
            items = items[:limit]
        report = progress(name) if progress else None
        describe = partial(extract_with, runner, Listing(items), folder / f"{name}.h5", progress=report)
        shown = seen if letter in TRUTH_HINTS else ONLY_WHOLE  # of queries
        request = Request(batch_size=batch_size, decoder=decoder, retry_failed=retry_failed, views=shown)
        try:
            made = describe(request)
        except MismatchError:
            if not overwrite:
                raise
            made = describe(replace(request, overwrite=True))
        ids[letter] = Texts(item.id for item in items)
        counts[name], failures[name] = made.count, len(made.failures)
        with open_descriptors(made.path) as descriptors:
            failed = [failure.id for failure in descriptors.failures]
            stamps[letter] = (
                f"{descriptors.provenance.engine_id} {descriptors.content_id()} {_digest([*descriptors.ids, '', *failed])}"
            )

    work = Work(steps, folder, searcher)
    search_sides = [letter for letter in ("q", "p", "r") if letter in folders]
    subtracted, of_scores = dict[str, str](), dict[str, str]()
    scored = vectors = Track(stamps)
    chosen = (method or SCORE) if "t" in folders else None
    if chosen is not None:
        smoothed = smooth(work, stamps["t"])
        for letter in search_sides:
            subtracted[letter] = normalize(work, NAMES[letter], [stamps[letter], smoothed])
        scored = vectors = Track(subtracted, "-normalized")
    if chosen == SCORE:
        for letter in search_sides:
            of_scores[letter] = score(work, letter, stamps)
        scored = Track(of_scores, "-scored", "ip")
    result = ChallengeResult(folder, counts, failures, chosen is not None, method=chosen)
    for letter in truths:
        if "r" in folders:
            result.phases[letter] = _phase(work, letter, (vectors, scored), (ids[letter], ids["r"]), truths[letter])
    return result


def _digest(ids: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()


def _phase(
    work: Work,
    letter: str,
    tracks: tuple[Track, Track],
    ids: tuple[Sequence[str], Sequence[str]],
    truth_file: Path | None,
) -> PhaseResult:
    """Make the two files of a set of queries, check them and evaluate them.

    Args:
        work, letter: see there.
        tracks: what the descriptor track and the matching track are made of.
        ids: of the queries and of the references.
        truth_file: None where there is none.
    """
    steps, folder, searcher = work.steps, work.folder, work.searcher
    phase = NAMES[letter].removeprefix("query")
    submission, csv = folder / f"submission{phase}.h5", folder / f"matches{phase}.csv"
    vectors, scored = tracks
    made_from = vectors.stamps_of(letter)
    query_file, reference_file = vectors.files(folder, letter)

    def hand_in() -> None:
        with open_descriptors(query_file) as queries, open_descriptors(reference_file) as references:
            write_submission(submission, whole_of(queries), references)

    def match() -> None:
        one, other = scored.files(folder, letter)
        with open_descriptors(one) as queries, open_descriptors(other) as references:
            found = search(
                queries, references, k=PER_QUERY_CAP, max_pairs=KIT_CAP, metric=scored.metric, device=searcher
            )
        write_matches(csv, found)

    steps.do(submission, made_from, hand_in)
    steps.do(csv, scored.stamps_of(letter), match)
    query_ids, reference_ids = ids
    problems = check_submission(submission, query_ids=query_ids, reference_ids=reference_ids)
    problems += check_matches(csv, query_ids=query_ids, reference_ids=reference_ids)
    evaluation, descriptor_track, note = None, None, None
    if truth_file is not None:
        whole = read_truth(truth_file)
        truth = _among(whole, set(query_ids), set(reference_ids))
        if truth.pairs:
            evaluation = evaluate(read_matches(csv), truth)
            labelled = folder / f"labelled{phase}.csv"

            def match_labelled() -> None:
                with open_descriptors(query_file) as queries, open_descriptors(reference_file) as references:
                    found = search(whole_of(queries), references, labelled=truth, metric="l2", device=searcher)
                    write_matches(labelled, found)

            steps.do(labelled, [made_from, _digest(sorted(truth.queries))], match_labelled)
            descriptor_track = evaluate(read_matches(labelled), truth, protocols=[_TRACK_PROTOCOL])[_TRACK_PROTOCOL]
            report = {
                "ground_truth": str(truth_file),
                "protocols": evaluation.to_dict(),
                "descriptor_track": asdict(descriptor_track),
            }
            write_text(folder / f"evaluation{phase}.json", json.dumps(report, indent=2) + "\n")
        if len(truth.pairs) < len(whole.pairs):
            note = (
                f"only {len(truth.pairs)} of the {len(whole.pairs)} true pairs in {truth_file.name} are among the images of "
                "this run, so its figures cannot be compared with published ones"
            )
    return PhaseResult(submission, csv, problems, evaluation, descriptor_track, note)


def _among(truth: Truth, query_ids: set[str], reference_ids: set[str]) -> Truth:
    """Return the part of the ground truth that is about these images."""
    pairs = {
        (query, reference) for query, reference in truth.pairs if query in query_ids and reference in reference_ids
    }
    return Truth(truth.queries & query_ids, frozenset(pairs))
