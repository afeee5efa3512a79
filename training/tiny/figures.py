"""Measures a copy detector on a held-out set, and shows the figures in tables.

The sets are those of `isc_fast.training.tiny.data_set` and `isc_fast.training.tiny.second_set`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...evaluation.edits.held_out import COUNTERPARTS, HELD_OUT_EDITS
from ...evaluation.metrics import evaluate
from ...matching.lists.matches import Matches, Truth
from .data_set import edits_in, kind_of, photo_of

PROTOCOL = "kit"
DRAWS = 500
SEED = 2021
NEW_KINDS = "one edit, new kinds"
SUBSETS: dict[str, Callable[[str], bool]] = {
    "all": lambda kind: True,
    "one edit": lambda kind: edits_in(kind) == 1,
    NEW_KINDS: lambda kind: kind in HELD_OUT_EDITS and kind not in COUNTERPARTS,
    "two edits": lambda kind: edits_in(kind) == 2,
    "three edits": lambda kind: edits_in(kind) == 3,
    "four edits": lambda kind: edits_in(kind) == 4,
}
"""The sets of queries by their kind of edit. "New" kinds are those of this package that have no counterpart in training. A
held-out set has some of these sets."""


@dataclass(frozen=True)
class Figures:
    """The figures of one set of queries.

    Attributes:
        micro_ap: µAP in the protocol `PROTOCOL`.
        interval: the interval that holds 95 % of the values of µAP over draws of photos.
        recall_at_p90: the recall at 90 % precision, or None if no precision of 90 % is reached.
        recall_at_1: the share of copies whose best match is their original.
    """

    micro_ap: float
    interval: tuple[float, float]
    recall_at_p90: float | None
    recall_at_1: float


@dataclass(frozen=True)
class Row:
    """The figures of one system by set of queries, and its recall@1 by kind of edit."""

    name: str
    subsets: Mapping[str, Figures]
    recall_at_1_by_kind: Mapping[str, float]


def restrict(matches: Matches, truth: Truth, wanted: Callable[[str], bool]) -> tuple[Matches, Truth]:
    """Keep the matches and the truth of the queries with a wanted kind of edit, strangers included."""
    rows = [row for row, query in enumerate(matches.query_ids) if wanted(kind_of(query))]
    kept = Matches([matches.query_ids[i] for i in rows], [matches.reference_ids[i] for i in rows], matches.scores[rows])
    pairs = frozenset(pair for pair in truth.pairs if wanted(kind_of(pair[0])))
    return kept, Truth(frozenset(query for query in truth.queries if wanted(kind_of(query))), pairs)


def _interval(matches: Matches, truth: Truth) -> tuple[float, float]:
    """Return the interval that holds 95 % of the values of µAP if photos are drawn again, with replacement.

    It shows how much the choice of the photos alone can change µAP. Copied photos and strangers are drawn separately. A photo
    that is drawn twice counts twice, with all its queries.
    """
    original = dict(truth.pairs)
    correct = np.array([original.get(query) == reference for query, reference, _ in matches], bool)
    order = np.lexsort((correct, -matches.scores))
    photos = sorted({photo_of(query) for query in truth.queries})
    number = {photo: i for i, photo in enumerate(photos)}
    owners = np.array([number[photo_of(query)] for query in matches.query_ids])[order]
    copies = np.bincount([number[photo_of(query)] for query in original], minlength=len(photos))
    correct = correct[order]
    random = np.random.default_rng(SEED)
    values = []
    for _ in range(DRAWS):
        times = np.zeros(len(photos), np.int64)
        for group in (np.flatnonzero(copies), np.flatnonzero(copies == 0)):
            np.add.at(times, random.choice(group, len(group)) if len(group) else group, 1)
        weight = times[owners]
        hits = weight * correct
        precision = np.cumsum(hits) / np.maximum(np.cumsum(weight), 1)
        values.append(float((hits * precision).sum() / (times * copies).sum()))
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def measure(name: str, matches: Matches, truth: Truth) -> Row:
    """Compute the figures of one system from its matches.

    Args:
        name: the name of the system in the tables.
        matches: its matches.
        truth: the ground truth.

    Raises:
        InputError: no query of the matches is in the ground truth.
    """
    subsets = {}
    for subset, wanted in SUBSETS.items():
        some, their_truth = restrict(matches, truth, wanted)
        if their_truth.pairs:
            found = evaluate(some, their_truth, protocols=[PROTOCOL])[PROTOCOL]
            at_1 = found.recall_at_rank[1]
            subsets[subset] = Figures(found.micro_ap, _interval(some, their_truth), found.recall_at_p90, at_1)
    by_kind = {}
    for kind in sorted({kind_of(query) for query, _ in truth.pairs}):
        some, their_truth = restrict(matches, truth, kind.__eq__)
        by_kind[kind] = evaluate(some, their_truth, protocols=[PROTOCOL])[PROTOCOL].recall_at_rank[1]
    return Row(name, subsets, by_kind)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def as_markdown(rows: Sequence[Row], data: Mapping[str, Any]) -> str:
    """Return two tables: µAP with its interval and R@P90 by set of queries, and recall@1 by kind of edit."""
    subsets = [name for name in SUBSETS if name in rows[0].subsets]
    lines = [
        f"{data['queries']} queries, {data['copies']} of them copies, against {data['references']} references; "
        f"{data['training_images']} images for negatives. µAP (95 % of draws of photos) and R@P90, protocol {PROTOCOL}.",
        "",
        "| system |" + "".join(f" µAP, {name} | R@P90 |" for name in subsets),
        "|---|" + "---|---|" * len(subsets),
    ]
    for row in rows:
        cells = [
            f" {s.micro_ap:.3f} ({s.interval[0]:.3f}–{s.interval[1]:.3f}) | {_number(s.recall_at_p90)} |"
            for s in (row.subsets[name] for name in subsets)
        ]
        lines.append(f"| {row.name} |" + "".join(cells))
    marked = COUNTERPARTS if NEW_KINDS in subsets else frozenset()
    lines += [
        "",
        "Recall@1 by kind of edit" + ("; * has a counterpart in training." if marked else "."),
        "",
        "| kind |" + "".join(f" {row.name} |" for row in rows),
        "|---|" + "---|" * len(rows),
    ]
    for kind in rows[0].recall_at_1_by_kind:
        mark = "*" if kind in marked else ""
        lines.append(f"| {kind}{mark} |" + "".join(f" {row.recall_at_1_by_kind[kind]:.2f} |" for row in rows))
    return "\n".join(lines) + "\n"
