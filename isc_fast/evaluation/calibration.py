"""What a score means for somebody's own photos: how many pairs above it are right, found without labels.

Copies that are made of some photos show how high true pairs score; the same copies beside all other photos show how high
unrelated pairs do. Both together with a collection's size give the precision at a score. Of unrelated pairs, the share that
reaches a score is counted as far as there are enough; beyond that it is taken to fall exponentially, as the highest of them do.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..descriptors.comparing import compare_with_calibration
from ..descriptors.store import Descriptors
from ..descriptors.verdict import Grade, Verdict
from ..errors import InputError, MismatchError
from ..items import Ints
from .copies import Trial
from .tails import TAIL, Floats, shares_above

SHARE = 0.01
"""One photo in a hundred is taken to be a copy, where the user says nothing."""
DRAWS = 400
INTERVAL = 0.95
_SEED = 2021


def check_precision(precision: float) -> None:
    """See that a precision can be wanted.

    Raises:
        InputError: it is not between 0 and 1.
    """
    if not 0 < precision < 1:
        raise InputError(f"a precision must lie between 0 and 1, not {precision:g}")


def check_share(share: float) -> None:
    """See that a share of photos can be copies.

    Raises:
        InputError: it is not above 0, or more than 1.
    """
    if not 0 < share <= 1:
        raise InputError(f"share must lie above 0 and be at most 1, not {share:g}")


@dataclass(frozen=True)
class Expected:
    """What is expected at a threshold.

    Attributes:
        threshold: the score.
        precision, lowest, highest: the share of right pairs, and its 95 % interval.
        recall: the share of the copies that are found, in the mean over the kinds of edit.
        false_pairs: how many wrong pairs are expected.
    """

    threshold: float
    precision: float
    lowest: float
    highest: float
    recall: float
    false_pairs: float


@dataclass(frozen=True)
class Task:
    """What is to be compared.

    Attributes:
        pairs: so many pairs are compared.
        copies: so many of them are expected to be true.
    """

    pairs: float
    copies: float

    @classmethod
    def within(cls, photos: int, share: float = SHARE) -> Task:
        """A collection that is compared with itself."""
        return cls(max(1.0, photos * (photos - 1) / 2), max(share * photos, 1e-9))

    @classmethod
    def between(cls, queries: int, references: int, share: float = SHARE) -> Task:
        """Queries that are compared with references."""
        return cls(max(1.0, float(queries) * references), max(share * queries, 1e-9))


@dataclass(frozen=True)
class Calibration:
    """The scores of true and of unrelated pairs.

    Attributes:
        meta: how the descriptors were made, as a file of them says it; see `isc_fast.descriptors.provenance`.
        dim: of the descriptors.
        photos: how many photos the copies were compared with.
        kinds: the edit of each copy ``(m,)``.
        true: the score of each copy with its original ``float64 (m,)``.
        true_of: the number of each copy's photo ``(m,)``.
        pairs: how many unrelated pairs there were.
        tail: the scores of the highest of them, falling ``float64 (t,)``.
        tail_of: the number of the photo or stranger whose copy stands in each ``(t,)``.
        tail_with: the number of the photo in each ``(t,)``.
        copies_of: how many copies of each photo, and behind the photos of each stranger, were compared ``(p,)``.
        left_out: how many photos were left out because another one is as like them as copies are.
    """

    meta: Mapping[str, Any]
    dim: int
    photos: int
    kinds: Sequence[str]
    true: Floats
    true_of: Ints
    pairs: int
    tail: Floats
    tail_of: Ints
    tail_with: Ints
    copies_of: Ints
    left_out: int = 0

    @property
    def strangers(self) -> int:
        """How many more photos gave copies, whose originals are compared with nothing: all their pairs are unrelated."""
        return len(self.copies_of) - self.photos

    @property
    def strange_copies(self) -> int:
        """How many copies of strangers were compared."""
        return int(self.copies_of[self.photos :].sum())

    @classmethod
    def of(cls, trial: Trial, meta: Mapping[str, Any], plain: Trial | None = None) -> Calibration:
        """Measure a trial, after photos that are copies of each other were left out.

        Args:
            trial: what is measured.
            meta: how its descriptors were made; of the copies, where these are normalised otherwise than the photos.
            plain: the same photos and copies in descriptors that may be compared with each other, which tell what is a copy of
                what; by default those of ``trial``.

        Raises:
            InputError: the engine gives numbers that are not finite, or hardly any photo is left.
        """
        if not (np.isfinite(trial.photos).all() and np.isfinite(trial.copies).all()):
            raise InputError(
                "the engine gives descriptors that are not finite; isc-fast verify names what is wrong with it"
            )
        scores = (trial.copies @ trial.photos.T).astype(np.float64)
        alone = _alone(plain or trial)
        if alone[: len(trial.photos)].sum() < FEWEST:
            raise InputError(
                f"of {len(alone)} photos, {int((~alone).sum())} are as like another one as edited copies are, and fewer than "
                f"{FEWEST} are left; give photos of more kinds"
            )
        photos = np.flatnonzero(alone[: len(trial.photos)])
        rows = np.flatnonzero(alone[trial.originals])
        number = np.cumsum(alone) - 1
        scores, originals = scores[rows][:, photos], number[trial.originals[rows]]
        is_true = originals[:, None] == np.arange(len(photos))
        places = np.flatnonzero(~is_true.ravel())
        false = scores.ravel()[places]
        kept = min(TAIL, len(false) - 1)
        highest = np.argpartition(-false, kept)[:kept]
        highest = highest[np.argsort(-false[highest], kind="stable")]
        true_rows, _ = np.nonzero(is_true)
        return cls(
            meta,
            int(trial.photos.shape[1]),
            len(photos),
            [trial.kinds[rows[row]] for row in true_rows],
            scores[is_true],
            originals[true_rows],
            len(false),
            false[highest],
            originals[places[highest] // len(photos)],
            places[highest] % len(photos),
            np.bincount(originals, minlength=int(alone.sum())),
            int((~alone).sum()),
        )

    def recall(self, threshold: float) -> float:
        """The share of the copies that reach a threshold, in the mean over the kinds of edit."""
        return float(np.mean(list(self.recall_by_kind(threshold).values())))

    def recall_by_kind(self, threshold: float) -> dict[str, float]:
        """The share of the copies of each kind that reach a threshold."""
        return {kind: float((self.true[rows] >= threshold).mean()) for kind, rows in self._rows_of.items()}

    def false_share(self, threshold: float) -> float:
        """The share of unrelated pairs that reach a threshold."""
        return float(self._false_shares(np.array([threshold]), np.ones(len(self.copies_of)))[0])

    def _false_shares(self, thresholds: Floats, weights: Floats) -> Floats:
        """The same at several thresholds, each photo counted so many times."""
        of_tail = weights[self.tail_of] * weights[self.tail_with]
        copies, photos = (weights * self.copies_of).sum() / self.copies_of.sum(), weights[: self.photos].mean()
        pairs = self.pairs * float(copies * photos)
        return shares_above(self.tail, of_tail, pairs, thresholds)

    @cached_property
    def _draws(self) -> Floats:
        """How often each photo is drawn, in each draw of as many ``(DRAWS, p)``. A pair counts as often as both its photos."""
        rng = np.random.default_rng(_SEED)
        count = len(self.copies_of)
        return rng.multinomial(count, np.full(count, 1 / count), size=DRAWS).astype(np.float64)

    @cached_property
    def _rows_of(self) -> dict[str, Ints]:
        """The rows of the copies of each kind. An interval asks for them some hundred times."""
        kinds = np.array(self.kinds)
        return {kind: np.flatnonzero(kinds == kind) for kind in dict.fromkeys(self.kinds)}

    def _recalls(self, thresholds: Floats, weights: Floats) -> Floats:
        found = []
        for mine in self._rows_of.values():
            weight = weights[self.true_of[mine]]
            if not weight.sum():
                continue
            reached = self.true[mine][:, None] >= thresholds[None]
            found.append((weight[:, None] * reached).sum(axis=0) / weight.sum())
        made: Floats = np.mean(found, axis=0) if found else np.zeros(len(thresholds))
        return made

    def expected(self, threshold: float, task: Task) -> Expected:
        """What is expected at a threshold, with its interval over draws of the photos."""
        at = np.array([threshold])
        ones = np.ones(len(self.copies_of))
        right, wrong = task.copies * self._recalls(at, ones)[0], task.pairs * self._false_shares(at, ones)[0]
        drawn = [
            _precision(task.copies * self._recalls(at, draw)[0], task.pairs * self._false_shares(at, draw)[0])
            for draw in self._draws
        ]
        low, high = np.quantile(drawn, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
        return Expected(
            threshold, _precision(right, wrong), float(low), float(high), float(right / task.copies), float(wrong)
        )

    def threshold(self, precision: float, task: Task) -> float:
        """The lowest score, in hundredths, from which on so many of the pairs are right.

        Raises:
            InputError: the precision is not between 0 and 1, or no score has it.
        """
        check_precision(precision)
        scores = np.arange(0, 100) / 100
        ones = np.ones(len(self.copies_of))
        right = task.copies * self._recalls(scores, ones)
        wrong = task.pairs * self._false_shares(scores, ones)
        reached = (right > 0) & (right >= precision * (right + wrong))
        if not reached.any():
            raise InputError(
                f"no threshold gives a precision of {precision:g} among {task.pairs:.3g} pairs with {task.copies:.3g} "
                f"copies: the most is {(right / np.maximum(right + wrong, 1e-300)).max():.3g}"
            )
        last = int(np.flatnonzero(reached)[-1])
        below = np.flatnonzero(~reached[:last])  # a lower score, at which it is reached by chance, is none
        return float(scores[below[-1] + 1 if len(below) else 0])

    def probabilities(self, scores: npt.NDArray[np.floating[Any]], task: Task) -> Floats:
        """For each score, the share of pairs with about this score that are right; it never falls as scores rise.

        Args:
            scores: ``(n,)``.
            task: what was compared.
        """
        grid = np.arange(-100, 102) / 100
        ones = np.ones(len(self.copies_of))
        width = 3  # hundredths on either side
        low, high = np.maximum(0, np.arange(len(grid)) - width), np.minimum(len(grid) - 1, np.arange(len(grid)) + width)
        right = task.copies * self._recalls(grid, ones)
        wrong = task.pairs * self._false_shares(grid, ones)
        near_right, near_wrong = right[low] - right[high], wrong[low] - wrong[high]
        local = np.where(near_right + near_wrong > 0, near_right / np.maximum(near_right + near_wrong, 1e-300), np.nan)
        local = np.maximum.accumulate(np.nan_to_num(local, nan=0.0))
        made: Floats = np.interp(scores, grid, local)
        return made

    def check(self, descriptors: Descriptors, name: str | os.PathLike[str] = "the calibration") -> Verdict:
        """See that it holds for what is compared.

        Raises:
            MismatchError: it does not.
        """
        mine = Descriptors(np.empty((0, self.dim), np.float32), [], self.meta)
        found = compare_with_calibration(descriptors, mine)
        for remark in found.remarks:
            if remark.grade is Grade.NO:
                raise MismatchError(f"{os.fspath(name)}: {remark.words}; isc-fast calibrate makes one for them")
        return found


FEWEST = 16
"""Photos that a calibration needs at least."""


def _alone(trial: Trial) -> npt.NDArray[np.bool_]:
    """Which photos, and behind them which strangers, are no copies of others, as far as scores tell.

    Of two photos that are as alike as a copy and its original typically are, the first stays. A stranger stays unless its own
    copies are as like one photo as that.
    """
    scores, between = (rows @ trial.photos.T for rows in (trial.copies, trial.photos))
    typical = float(np.median(scores[trial.is_true].astype(np.float64)))
    alone = np.ones(int(trial.originals.max()) + 1, bool)
    known = len(trial.photos)
    for row in range(1, known):
        alone[row] = not (between[row, :row][alone[:row]] >= typical).any()
    for stranger in range(known, len(alone)):
        mine = scores[trial.originals == stranger]
        alone[stranger] = bool(len(mine)) and not (np.median(mine, axis=0) >= typical).any()
    return alone


def _precision(right: float, wrong: float) -> float:
    return float(right / (right + wrong)) if right + wrong > 0 else math.nan


def only_kinds(calibration: Calibration, kinds: Sequence[str]) -> Calibration:
    """The same calibration with the copies of some edits alone, which are those that a user expects.

    Raises:
        InputError: there is no such kind.
    """
    known = list(dict.fromkeys(calibration.kinds))
    wrong = [kind for kind in kinds if kind not in known]
    if wrong:
        raise InputError(f"there is no edit {wrong[0]!r}; choose from {', '.join(known)}")
    mine = np.isin(np.array(calibration.kinds), list(kinds))
    return replace(
        calibration,
        kinds=[kind for kind, one in zip(calibration.kinds, mine, strict=True) if one],
        true=calibration.true[mine],
        true_of=calibration.true_of[mine],
    )
