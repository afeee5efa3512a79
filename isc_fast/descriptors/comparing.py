"""Whether two sets of descriptors may be compared, and why not.

Every caller asks here: the search, normalisation by negatives, the writer of a submission, and the command line, which prints
what a user should know.

| the two sets | answer |
|---|---|
| made by one engine file, normalised alike | yes |
| a side does not say which engine made it (foreign files) | yes, with a note |
| made by two engine files of one network, in one precision | yes, with a note |
| decoded by decoders whose pixels differ | yes, with a note |
| made in two precisions of one network | yes, with a warning that names the measured cosine |
| a side was put together from rows of two precisions | yes, with a warning |
| one made by a student of the other's engine (`isc-fast distill`) | yes, with a warning that names the measured cosine |
| made by two other networks, or normalised differently, or smoothed, or of different dimensions | no |

A side may hold several views of each photo: a search takes the best of them. A set that is compared with itself and an index hold
whole photos, and sets that are to be one hold the same views.

Two engines are the same network if both name the same checkpoint and agree in everything else that decides what they
compute (`EngineFacts.network`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..decoders.base import EXACT
from ..decoders.views import in_words
from .provenance import EngineFacts, Normalization, Provenance
from .same_network import figures_in_words, network_difference
from .store import Descriptors
from .teaching import student_of
from .verdict import Grade, Remark, Verdict


@dataclass(frozen=True)
class _Pair:
    """Two sets, what they are called, and the words of two refusals; ``left`` and ``right`` are their records."""

    names: tuple[str, str]
    sets: tuple[Descriptors, Descriptors]
    different_engines: str
    different_dimensions: str

    @property
    def left(self) -> Provenance:
        return self.sets[0].provenance

    @property
    def right(self) -> Provenance:
        return self.sets[1].provenance


_Rule = Callable[[_Pair], Remark | None]


def _no(words: str) -> Remark:
    return Remark(Grade.NO, words)


def _dimensions(pair: _Pair) -> Remark | None:
    left, right = (side.dim for side in pair.sets)
    if left == right:
        return None
    return _no(pair.different_dimensions.format(left, right))


def _no_negatives(pair: _Pair) -> Remark | None:
    for name, side in zip(pair.names, pair.sets, strict=True):
        if side.provenance.smoothing:
            return _no(f"the {name} are smoothed negatives, not descriptors of photos; use the extracted ones")
    return None


def _engines(pair: _Pair) -> Remark | None:
    found = _same_network(pair)
    return _taught(pair) or found if found and found.grade is Grade.NO else found


def _taught(pair: _Pair) -> Remark | None:
    """A warning where one side was made by a student of the other side's engine."""
    sides = [
        (name, record.engine_id, record.engine or EngineFacts())
        for name, record in zip(pair.names, (pair.left, pair.right), strict=True)
    ]
    for (one, _, student), (other, engine_id, teacher) in (sides, sides[::-1]):
        record = student_of(student, engine_id, teacher)
        if record:
            return Remark(
                Grade.WARNING,
                f"{one} were made by {student.name}, which learned from {record.name}, the engine of the {other}, so their "
                f"scores are not exact: {record.in_words()}; extract both with one engine",
            )
    return None


def _same_network(pair: _Pair) -> Remark | None:
    ids = [record.engine_id for record in (pair.left, pair.right)]
    if not (pair.left.stamped and pair.right.stamped) or ids == [None, None]:
        return Remark(
            Grade.NOTE,
            "not both sides say which engine made them, so nobody has checked that they belong together",
        )
    if ids[0] == ids[1]:
        return None
    engines = [record.engine or EngineFacts() for record in (pair.left, pair.right)]
    difference = network_difference(*engines)
    if difference:
        words = pair.different_engines.format(*(str(id_)[:12] for id_ in ids))
        return _no(f"{words}; extract both with one engine: {difference}")
    arithmetics = [engine.arithmetic for engine in engines]
    figures = figures_in_words(engines)
    one, other = pair.names
    if arithmetics[0] != arithmetics[1]:
        return Remark(
            Grade.WARNING,
            f"{one} were made in {arithmetics[0]} and {other} in {arithmetics[1]} by the same network ({engines[0].name}), so "
            f"their scores are not exact: {figures or 'nobody has measured by how much'}; extract both with one engine",
        )
    files = ", ".join(
        f"{str(id_)[:12]} for {engine.runtime or 'onnxruntime'}" for id_, engine in zip(ids, engines, strict=True)
    )
    return Remark(
        Grade.NOTE,
        f"{one} and {other} were made by two engine files of the same network and precision ({engines[0].name}, "
        f"{arithmetics[0]}: {files}); {figures or 'their scores may differ in the last digits'}",
    )


def _normalisations(pair: _Pair) -> Remark | None:
    if not (pair.left.stamped and pair.right.stamped):
        return None
    left, right = pair.left.normalization, pair.right.normalization
    if left and right and left.by_score and right.by_score:
        alike = (left.role, right.role) == ("query", "reference")
    else:
        alike = left == right
    if alike:
        return None
    one, other = pair.names
    return _no(
        f"{one} are normalised by {_stamp(left)} and {other} by {_stamp(right)}; normalise both with the same "
        "negatives, or neither"
    )


def _stamp(normalization: Normalization | None) -> str:
    return str(normalization) if normalization else "nothing"


def _decoders(pair: _Pair) -> Remark | None:
    left, right = (record.decoder or EXACT[0] for record in (pair.left, pair.right))
    if left == right or {left, right} <= set(EXACT):
        return None
    one, other = pair.names
    return Remark(
        Grade.NOTE,
        f"{one} were decoded by {left} and {other} by {right}, whose pixels differ a little, and so do scores; extract both "
        "with one --decoder",
    )


def _judge(pair: _Pair, rules: Sequence[_Rule]) -> Verdict:
    remarks: list[Remark] = []
    for rule in rules:
        remark = rule(pair)
        if remark:
            remarks.append(remark)
            if remark.grade is Grade.NO:
                break
    return Verdict(tuple(remarks))


def compare(queries: Descriptors, references: Descriptors) -> Verdict:
    """Whether queries may be searched for among references.

    Raises:
        FormatError: a side describes itself in a way that this version cannot read.
    """
    pair = _Pair(
        ("queries", "references"),
        (queries, references),
        different_engines="queries and references were made by different engines ({} and {})",
        different_dimensions="queries have {} dimensions and references {}; extract both with one engine",
    )
    return _judge(pair, (_dimensions, _no_negatives, _decoders, _engines, _merged, _normalisations))


def compare_in_itself(descriptors: Descriptors) -> Verdict:
    """Whether the rows of one set may be compared with each other.

    Raises:
        FormatError: the set describes itself in a way that this version cannot read.
    """
    pair = _Pair(
        ("descriptors", "descriptors"), (descriptors, descriptors), different_engines="", different_dimensions=""
    )
    return _judge(pair, (_no_negatives, _merged, _no_sides, _no_views))


def _no_views(pair: _Pair) -> Remark | None:
    views = pair.sets[0].views
    if len(views) == 1:
        return None
    return _no(
        f"{pair.names[0]} hold {len(views)} views of each photo (--views {in_words(views)}), and whole photos are compared here; "
        "extract them without --views"
    )


def _merged(pair: _Pair) -> Remark | None:
    for name, side in zip(pair.names, pair.sets, strict=True):
        arithmetics = side.provenance.arithmetics
        if len(arithmetics) > 1:
            return Remark(
                Grade.WARNING,
                f"the {name} were put together from rows made in {' and '.join(arithmetics)} by the same network, so their "
                "scores are not exact; extract all of them with one engine",
            )
    return None


def compare_to_merge(sets: Sequence[Descriptors], names: Sequence[str] = ()) -> Verdict:
    """Whether the rows of several sets may stand in one file.

    Args:
        sets: at least one.
        names: what they are called in the remarks.

    Raises:
        FormatError: a set describes itself in a way that this version cannot read.
    """
    called = list(names) or [f"the rows of set {number}" for number in range(1, len(sets) + 1)]
    remarks: dict[Remark, None] = {}
    for name, other in zip(called[1:], sets[1:], strict=True):
        pair = _Pair(
            (called[0], name),
            (sets[0], other),
            different_engines="their engines are {} and {}",
            different_dimensions=f"{called[0]} has {{}} dimensions and {name} {{}}",
        )
        remarks |= dict.fromkeys(_judge(pair, (_dimensions, _same_views, _made_alike, _decoders)).remarks)
    return Verdict(tuple(sorted(remarks, key=lambda remark: remark.grade)))


def _same_views(pair: _Pair) -> Remark | None:
    left, right = (side.views for side in pair.sets)
    if left == right:
        return None
    one, other = pair.names
    return _no(
        f"{one} hold the views {in_words(left)!r} of each photo and {other} {in_words(right)!r}; extract both with the same "
        "--views"
    )


def _made_alike(pair: _Pair) -> Remark | None:
    left, right = pair.left.belonging, pair.right.belonging
    if left == right:
        return None
    if left.normalization != right.normalization:
        shown = [str(side.normalization or "nothing") for side in (left, right)]
        return _apart(f"{pair.names[0]} are normalised by {shown[0]} and {pair.names[1]} normalised by {shown[1]}")
    if left.smoothing != right.smoothing:
        shown = [str(side.smoothing or "descriptors of photos") for side in (left, right)]
        return _apart(f"{pair.names[0]} are {shown[0]} and {pair.names[1]} are {shown[1]}")
    if left.engine_id is None or right.engine_id is None:
        return _apart("not all of them say which engine made them")
    found = _same_network(pair)  # a file that holds rows of a student beside rows of its teacher could not say so later
    return _apart(found.words) if found and found.grade is Grade.NO else found


def _apart(why: str) -> Remark:
    return _no(f"these sets were made by different engines or normalised differently ({why}); keep them apart")


def _no_sides(pair: _Pair) -> Remark | None:
    normalized = pair.left.normalization
    if normalized is None or not normalized.by_score:
        return None
    return _no(
        f"the descriptors are normalised by scores as a {normalized.role}, so they are one side of two and cannot be compared "
        "with each other; use the extracted ones, or normalise these with --method nes"
    )


def compare_with_negatives(descriptors: Descriptors, negatives: Descriptors) -> Verdict:
    """Whether descriptors may be normalised with these negatives, which may be smoothed.

    Raises:
        FormatError: a side describes itself in a way that this version cannot read.
    """
    pair = _Pair(
        ("descriptors", "negatives"),
        (descriptors, negatives),
        different_engines="the negatives were made by another engine ({1}) than the descriptors ({0})",
        different_dimensions="descriptors have {} dimensions and the negatives have {}; extract both with one engine",
    )
    return _judge(pair, (_engines, _dimensions))


def compare_with_index(added: Descriptors, index: Descriptors) -> Verdict:
    """Whether descriptors may become rows of an index, which holds rows of one engine and one normalisation.

    Raises:
        FormatError: a side describes itself in a way that this version cannot read.
    """
    pair = _Pair(
        ("the new rows", "those of the index"),
        (added, index),
        different_engines="the new rows were made by another engine ({}) than those of the index ({})",
        different_dimensions="the new rows have {} dimensions and those of the index {}; extract both with one engine",
    )
    rules = (_dimensions, _no_views, _no_negatives, _no_sides, _decoders, _engines, _normalisations, _one_kind)
    return _judge(pair, rules)


def compare_with_calibration(descriptors: Descriptors, calibration: Descriptors) -> Verdict:
    """Whether a calibration says something about scores of these descriptors.

    Args:
        descriptors: that are compared with each other, or one side of two.
        calibration: no rows, but the record of those that it was measured with.

    Raises:
        FormatError: a side describes itself in a way that this version cannot read.
    """
    pair = _Pair(
        ("the descriptors", "those of the calibration"),
        (descriptors, calibration),
        different_engines="the calibration was made with another engine ({1}) than the descriptors ({0})",
        different_dimensions="the descriptors have {} dimensions and those of the calibration {}",
    )
    return _judge(pair, (_no_negatives, _decoders, _engines, _calibrated_alike, _dimensions))


def _calibrated_alike(pair: _Pair) -> Remark | None:
    """A calibration by scores was measured with queries: it holds for such queries, and for references, of any negatives."""
    left, right = pair.left.normalization, pair.right.normalization
    if left and right and left.by_score and right.by_score and (left.role == "reference" or left == right):
        return None
    return _normalisations(pair)


def _one_kind(pair: _Pair) -> Remark | None:
    left, right = (json.dumps(record.belonging.write(), sort_keys=True) for record in (pair.left, pair.right))
    if left == right:  # as files say it, where a tuple is a list
        return None
    return _no(
        "the new rows and those of the index were not made by one engine file; extract them with the engine of the index, or "
        "build an index of their own"
    )
