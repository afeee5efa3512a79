"""The accuracy gate of engines in a lower precision: it measures them on edited copies of photos that calibration never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from ...decoders.preprocessing import Preprocessing
from ...decoders.rules import fit
from ...engines.base import Engine
from ...errors import InputError
from ...evaluation.copies import describe_all
from ...evaluation.edits.held_out import HELD_OUT_EDITS
from ...evaluation.metrics import PER_QUERY_CAP, evaluate
from ...matching.lists.matches import Matches, Truth
from ..photos import Photos, open_to_edit
from ..targets.base import Verdict
from ..telling import Say

MIN_COSINE_P01 = 0.999
MIN_TOP1_AGREEMENT = 0.995
MAX_MICRO_AP_LOSS = 0.001
LOSS_BUDGET = (1 - MIN_COSINE_P01) / 2.5
"""Mean loss that a choice of layers may cost; at the 1st percentile the loss is two to six times as much."""
MEASURED_PHOTOS = 16
"""Losses are measured on so many of the calibration photos."""
ATTEMPTS = 6
"""So many choices of layers are taken to the gate; then the precision is given up."""

SEED = 2021
_STRANGERS = 0.25  # share of the photos whose copies match nothing
_MOST_PHOTOS = 100
_LONGEST_SIDE = 1024  # photos are shrunk to this before they are edited
_PROTOCOL = "per-query"
_NEXT = 0.75  # the share of what a failed attempt lost that the next one may lose

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Benchmark:
    """The images that the gate measures with, as input of a network.

    Attributes:
        references, queries: ``uint8 (n, h, w, 3)``.
        originals: for each query the row of its reference; −1 where there is none.
        kinds: for each query the name of its edit.
    """

    references: npt.NDArray[np.uint8]
    queries: npt.NDArray[np.uint8]
    originals: npt.NDArray[np.int64]
    kinds: Sequence[str]


def make_benchmark(photos: Sequence[Path], preprocessing: Preprocessing) -> Benchmark:
    """Make the references, and for every photo one copy by each edit of `HELD_OUT_EDITS`.

    The same photos give the same pixels. A quarter of the photos are no references, so copies of them match nothing.

    Raises:
        InputError: a photo cannot be decoded, or there are fewer than eight.
    """
    photos = list(photos)[:_MOST_PHOTOS]
    if len(photos) < 8:
        raise InputError(f"{len(photos)} photos are too few to measure the engine; expected at least 8, better 30")
    Random(SEED).shuffle(photos)
    images = [open_to_edit(photo, _LONGEST_SIDE) for photo in photos]
    known = len(images) - round(len(images) * _STRANGERS)

    queries, originals, kinds = [], [], []
    for number, (photo, image) in enumerate(zip(photos, images, strict=True)):
        for kind, edit in HELD_OUT_EDITS.items():
            random = Random(f"{SEED} {photo.name} {kind}")
            others = random.sample(images[:number] + images[number + 1 :], 3)
            queries.append(fit(edit(image, others, random), preprocessing))
            originals.append(number if number < known else -1)
            kinds.append(kind)
    references = np.stack([fit(image, preprocessing) for image in images[:known]])
    return Benchmark(references, np.stack(queries), np.array(originals), kinds)


def describe_benchmark(engine: Engine, benchmark: Benchmark) -> tuple[Vectors, Vectors]:
    """Describe the queries and the references, for `compare`."""
    return describe_all(engine, benchmark.queries), describe_all(engine, benchmark.references)


def mean_loss(found: Vectors, expected: Vectors) -> float:
    """1 − mean cosine of unit rows; a cosine that is NaN counts as −1."""
    cosines = (found.astype(np.float64) * expected).sum(axis=1)
    return float(1 - np.nan_to_num(cosines, nan=-1.0).mean())


def next_budget(budget: float, lost: float) -> float:
    """The budget of the next attempt after one that lost ``lost`` and did not pass: it is lower, so that the choice changes."""
    return _NEXT * min(budget, lost)


def in_words(accuracy: dict[str, Any]) -> str:
    """The two figures that say most, in one line for a user who waits."""
    return (
        f"held-out copies: cosine {accuracy['cosine_p01']:.5f} at the 1st percentile, "
        f"best match kept for {accuracy['top1_agreement']:.2%}"
    )


def _micro_ap(queries: Vectors, references: Vectors, originals: npt.NDArray[np.int64]) -> float:
    scores = queries @ references.T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :PER_QUERY_CAP]
    k = order.shape[1]
    matches = Matches(
        [f"q{row}" for row in range(len(queries)) for _ in range(k)],
        [f"r{column}" for column in order.ravel()],
        np.take_along_axis(scores, order, 1).ravel(),
    )
    pairs = frozenset((f"q{row}", f"r{column}") for row, column in enumerate(originals) if column >= 0)
    truth = Truth(frozenset(f"q{row}" for row in range(len(queries))), pairs)
    return evaluate(matches, truth, protocols=[_PROTOCOL])[_PROTOCOL].micro_ap


def compare(benchmark: Benchmark, exact: tuple[Vectors, Vectors], found: tuple[Vectors, Vectors]) -> dict[str, Any]:
    """Measure what a lower precision changed.

    Args:
        benchmark: the gate's images.
        exact: the fp32 engine's descriptors of the queries and of the references.
        found: those of the other engine.

    Returns:
        Numbers, strings and lists only, because they travel in the engine's specification.
    """
    q, r = exact
    # A descriptor with a NaN or an infinity becomes a row of zeros, which fails for its length.
    q2, r2 = (np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, 0) for rows in found)
    cosines = (np.concatenate([q, r]).astype(np.float64) * np.concatenate([q2, r2])).sum(axis=1)
    copies = benchmark.originals >= 0
    agree = (q @ r.T).argmax(axis=1) == (q2 @ r2.T).argmax(axis=1)
    before, after = (_micro_ap(a, b, benchmark.originals) for a, b in ((q, r), (q2, r2)))
    by_kind = {
        kind: float(cosines[: len(q)][[k == kind for k in benchmark.kinds]].mean())
        for kind in dict.fromkeys(benchmark.kinds)
    }
    worst = sorted(by_kind, key=by_kind.__getitem__)[:3]
    return {
        "queries": len(q),
        "edits": len(by_kind),
        "copies": int(copies.sum()),
        "references": len(r),
        "cosine_min": float(cosines.min()),
        "cosine_p01": float(np.quantile(cosines, 0.01)),
        "cosine_p50": float(np.quantile(cosines, 0.5)),
        "cosine_mean": float(cosines.mean()),
        "top1_agreement": float(agree[copies].mean()),
        "top1_agreement_of_strangers": float(agree[~copies].mean()) if (~copies).any() else None,
        "micro_ap_fp32": before,
        "micro_ap": after,
        "worst_edits": [f"{kind} {by_kind[kind]:.6f}" for kind in worst],
        "unit_length_deviation": float(
            np.abs(np.linalg.norm(np.concatenate([q2, r2]).astype(np.float64), axis=1) - 1).max()
        ),
    }


def objections(accuracy: dict[str, Any]) -> list[str]:
    """Say why an engine with these figures is not published; the list is empty where it passes."""
    found = []
    if not accuracy["cosine_p01"] >= MIN_COSINE_P01:
        found.append(f"cosine {accuracy['cosine_p01']:.5f} at the 1st percentile, expected at least {MIN_COSINE_P01}")
    if not accuracy["top1_agreement"] >= MIN_TOP1_AGREEMENT:
        found.append(
            f"best match of {accuracy['top1_agreement']:.2%} of copies unchanged, expected at least {MIN_TOP1_AGREEMENT:.1%}"
        )
    if not accuracy["micro_ap"] >= accuracy["micro_ap_fp32"] - MAX_MICRO_AP_LOSS:
        lost = accuracy["micro_ap_fp32"] - accuracy["micro_ap"]
        found.append(f"µAP {lost:.4f} lower, expected at most {MAX_MICRO_AP_LOSS}")
    if not accuracy["unit_length_deviation"] < 1e-4:
        found.append("rows that are not of unit length")
    return found


class AccuracyGate:
    """Measures engines in a lower precision against the fp32 engine that they come from.

    Args:
        exact: the fp32 engine.
        photos: the held-out ones are edited and described.
        say: gets a line for each thing that begins, and the two figures that say most of each engine.
    """

    def __init__(self, exact: Engine, photos: Photos, say: Say) -> None:
        say("describing edited copies of the held-out photos in fp32")
        self._facts = {"calibration_photos": len(photos.calibration), "fp32_engine": exact.id}
        self._say = say
        self.benchmark = make_benchmark(photos.held_out, exact.spec.input)
        self._expected = describe_benchmark(exact, self.benchmark)

    def measure(self, engine: Engine, shares: Mapping[str, float]) -> Verdict:
        """What the engine's precision changed, and why it is not published if that is too much.

        Args:
            engine: opened from its file.
            shares: of the arithmetic in each precision; they stand beside the figures.
        """
        accuracy = compare(self.benchmark, self._expected, describe_benchmark(engine, self.benchmark))
        self._say(in_words(accuracy))
        return Verdict({"accuracy": {**accuracy, **shares, **self._facts}}, objections(accuracy))
