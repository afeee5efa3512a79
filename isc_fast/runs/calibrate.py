"""Calibrating: what scores mean for a user's own photos, without labels."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from ..assets import DEMO_ENGINE
from ..decoders.opening import ImageProblem
from ..descriptors.provenance import Provenance
from ..descriptors.store import Descriptors
from ..engines.base import Engine, load_engine
from ..errors import InputError
from ..evaluation.calibration import FEWEST, SHARE, Calibration, Expected, Task, check_share
from ..evaluation.calibration_file import write_calibration
from ..evaluation.copies import SEED, Trial, describe_copies, open_shrunk
from ..extraction.runners.base import Facts
from ..files.atomic import try_to_write
from ..items import Item
from ..matching.normalizing.methods import SCORE
from ..matching.normalizing.score_normalization import normalize_scores
from ..matching.normalizing.subtraction import subtract_negatives
from ..progress import ProgressCallback
from ..sources.base import Source, opener
from ..sources.choice import Choice
from ..sources.listing import Inputs, as_source
from .sides.against import Against
from .sides.foresight import none_yet

PHOTOS = 400
FEW = 100
"""Of fewer photos, what is stated is too high: with 18, the interval held in 72 to 93 of 100 draws; with 180, in 95 and more."""
COPIES = 5
PRECISIONS = (0.9, 0.99, 0.999)
_STRANGERS = 0.2
_FEWEST_STRANGERS = 4
_DECODER = "pillow"


@dataclass(frozen=True)
class Calibrated:
    """What `calibrate` found.

    Attributes:
        path: the file.
        calibration: what it holds.
        task: what the thresholds hold for.
        words: the same in words.
        at: what is expected at the threshold of each precision; those that no threshold has are missing.
        unread: how many of the drawn photos could not be read; others were taken in their place.
    """

    path: Path
    calibration: Calibration
    task: Task
    words: str
    at: Mapping[float, Expected] = field(default_factory=dict)
    unread: int = 0

    @property
    def engine_name(self) -> str:
        """The engine's name."""
        engine = Provenance.read(self.calibration.meta).engine
        return (engine.name if engine else None) or "the engine"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        by_precision = {
            f"{precision:g}": {
                "threshold": found.threshold,
                "precision": found.precision,
                "interval": [found.lowest, found.highest],
                "recall": found.recall,
                "false_pairs": found.false_pairs,
                "recall_by_edit": self.calibration.recall_by_kind(found.threshold),
            }
            for precision, found in self.at.items()
        }
        return {
            "calibration": str(self.path),
            "photos": self.calibration.photos,
            "strangers": self.calibration.strangers,
            "left_out": self.calibration.left_out,
            "unread": self.unread,
            "copies": len(self.calibration.true),
            "pairs": self.task.pairs,
            "expected_copies": self.task.copies,
            "thresholds": by_precision,
        }


def calibrate(
    photos: Inputs | Source,
    output: str | os.PathLike[str],
    *,
    engine: Engine | str | os.PathLike[str] = DEMO_ENGINE,
    negatives: str | os.PathLike[str] | None = None,
    method: str | None = None,
    sample: int = PHOTOS,
    copies: int = COPIES,
    share: float = SHARE,
    references: int | None = None,
    seed: int = SEED,
    ids: str = "auto",
    choice: Choice | None = None,
    engine_options: Mapping[str, Any] | None = None,
    progress: ProgressCallback | None = None,
) -> Calibrated:
    """Find out what scores mean for a collection, from edited copies of some of its photos.

    Args:
        photos: as `isc_fast.extract` takes them.
        output: the file, which `isc_fast.evaluation.calibration_file.read_calibration` reads.
        engine: a loaded engine, or the path of one.
        negatives, method: by which descriptors are normalised before anything is compared, the copies as queries and the photos
            as references; see `isc_fast.find_copies`.
        sample: so many photos are drawn at most. A fifth of them are strangers: they lend what an edit puts beside a photo, and
            are compared with nothing, so that their copies have no original to find.
        copies: that are made of each.
        share: of the photos (or queries) that are expected to be copies.
        references: how many photos each photo will be compared with; by default with all others of the collection.
        seed: another one draws other photos, and makes other copies.
        ids, choice: see `isc_fast.list_images`.
        engine_options: see `isc_fast.extract`.
        progress: called with photos done, in all, and unread.

    Raises:
        InputError: there are too few photos, many are copies of each other, or a number is out of range.
        IscFastError: see `isc_fast.list_images`, `isc_fast.load_engine` and `isc_fast.subtract_negatives`.
    """
    for name, number, least in (("sample", sample, FEWEST + _FEWEST_STRANGERS), ("copies", copies, 1)):
        if number < least:
            raise InputError(f"{name} must be at least {least}, not {number}")
    if copies > 20:
        raise InputError(f"copies must be at most 20, the number of edits, not {copies}")
    check_share(share)
    if references is not None and references < 1:
        raise InputError(f"references must be at least 1, not {references}")
    try_to_write(output)
    against = Against.of(negatives, method)
    source = as_source(photos, ids, choice)
    found = source.list().found
    count = len(found)
    with contextlib.ExitStack() as stack:
        opened = None if against is None else stack.enter_context(against.opened())
        network = load_engine(engine, **(engine_options or {})) if isinstance(engine, (str, os.PathLike)) else engine
        none = none_yet(Facts.of(network), _DECODER)
        meta = dict(none.meta)
        if against is not None and opened is not None:  # before photos are described
            against.check_fit(opened, [none])
        drawn = _Drawn(source, found, sample, seed)
        names = drawn.names
        strangers = max(_FEWEST_STRANGERS, round(_STRANGERS * len(names)))
        if len(names) - strangers < FEWEST:
            raise InputError(
                f"{len(names)} photos can be read, which are too few to calibrate with; expected at least "
                f"{FEWEST + _FEWEST_STRANGERS}, better {PHOTOS}"
            )

        def done(number: int) -> None:
            if progress:
                progress(number, len(names), drawn.unread)

        done(0)
        trial = describe_copies(network, names, drawn.open, strangers=strangers, copies=copies, seed=seed, done=done)
        made = trial
        if against is not None and opened is not None:
            made, meta = _normalized(trial, meta, opened, against.method)
            trial = trial if against.method == SCORE else made
    calibration = Calibration.of(made, meta, trial)
    task = Task.within(count, share) if references is None else Task.between(count, references, share)
    compared = f"{count} photos compared with each other" if references is None else f"{count} with {references} photos"
    at = {}
    for precision in PRECISIONS:
        with contextlib.suppress(InputError):
            at[precision] = calibration.expected(calibration.threshold(precision, task), task)
    write_calibration(output, calibration)
    return Calibrated(Path(output), calibration, task, compared, at, drawn.unread)


class _Drawn:
    """Photos that were drawn and can be read."""

    def __init__(self, source: Source, found: Sequence[Item], sample: int, seed: int) -> None:
        self._open = opener(source)
        self.unread = 0
        order = Random(seed).sample(range(len(found)), len(found)) if len(found) < 100_000 else None
        rows = iter(order) if order is not None else _random_rows(len(found), seed)
        self._items = list[Item]()
        for row in rows:
            item = found[row]
            try:
                open_shrunk(self._open(item))
            except ImageProblem:
                self.unread += 1
            else:
                self._items.append(item)
            if len(self._items) == sample or self.unread > sample:
                break

    @property
    def names(self) -> list[str]:
        """The ids of the photos."""
        return [item.id for item in self._items]

    def open(self, number: int) -> Image.Image:
        """Photo k, shrunk.

        Raises:
            InputError: it is another one by now.
        """
        try:
            return open_shrunk(self._open(self._items[number]))
        except ImageProblem as error:
            raise InputError(f"the photo {self._items[number].id} cannot be read any more: {error}") from error


def _random_rows(count: int, seed: int) -> Iterator[int]:
    """Rows of a large collection in a random order, each once."""
    random, seen = Random(seed), set[int]()
    while len(seen) < count:
        row = random.randrange(count)
        if row not in seen:
            seen.add(row)
            yield row


def _normalized(
    trial: Trial, meta: dict[str, Any], negatives: Descriptors, method: str
) -> tuple[Trial, dict[str, Any]]:
    """The trial as queries and references of that method, and the meta of the queries."""
    plain = [
        Descriptors(rows, [f"{name} {number}" for number in range(len(rows))], meta)
        for name, rows in (("copy", trial.copies), ("photo", trial.photos))
    ]
    if method == SCORE:
        sides = normalize_scores(plain[0], plain[1], negatives)
    else:
        sides = subtract_negatives(plain[0], negatives), subtract_negatives(plain[1], negatives)
    copies, photos = (np.asarray(side.vectors) for side in sides)
    return replace(trial, photos=photos, copies=copies), dict(sides[0].meta)
