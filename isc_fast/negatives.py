"""Normalisation by negatives: images known to match nothing say which directions mean little.

Three choices: none; negative embedding subtraction (NES), which the submitted network was made for; and score
normalisation, which leaves the references as they are. Source of NES: Yokoo, "Contrastive Learning with Large Memory
Bank and Negative Embedding Subtraction for Accurate Copy Detection", 2021; of score normalisation: Pizzi et al., "A
Self-Supervised Descriptor for Image Copy Detection", 2022, section 4.3.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError, MismatchError
from .knn import Floats, Ints, knn
from .store import Descriptors, derived_meta, in_memory, write_blocks

_ROWS = 8192  # of a block; 8 MB at 256 dimensions

SMOOTHING_K = 10
SMOOTHING_POWER = 3
NES_K = 10
NES_BETA = 0.35
NES_ITERATIONS = 1
SCORE_K = 3
SCORE_BETA = 1.0


def _unit(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = rows / np.maximum(lengths, np.float32(1e-12))
    return unit


def _weighted_sum(table: Floats, indices: Ints, weights: Floats | None) -> Floats:
    """``Σ_j weights[:, j] · table[indices[:, j]]`` without the ``(rows, k, d)`` array of a plain gather."""
    total = np.zeros((len(indices), table.shape[1]), np.float32)
    for j in range(indices.shape[1]):
        rows = table[indices[:, j]]
        total += rows if weights is None else rows * weights[:, j : j + 1]
    return total


def _check(*, beta: float = 0.0, **counts: int) -> None:
    for name, number in counts.items():
        if number < 1:
            raise InputError(f"{name} must be at least 1, not {number}")
    if not np.isfinite(beta):
        raise InputError(f"beta must be a number, not {beta}")


def smooth_negatives(negatives: Descriptors, *, k: int = SMOOTHING_K, power: int = SMOOTHING_POWER) -> Descriptors:
    """Replace each negative by the mean of its own neighbourhood: ``t ← norm(Σ_{i≤k} sim_i^power · t_i)``.

    Done once for a network and a set of negatives; keep the result in a file. The input stays as it is.

    Args:
        negatives: descriptors of images that match nothing, ``(n, d)`` rows of unit length: the training images.
        k: neighbours, the negative itself among them.
        power: of the similarity that weighs them.

    Raises:
        InputError: a number is out of range, or these negatives are smoothed or normalised already.
    """
    _check(k=k, power=power)
    if negatives.meta.get("smoothing"):
        raise InputError("these negatives are smoothed already; smoothing is done once")
    if negatives.meta.get("normalization"):
        raise InputError("negatives must be plain descriptors, and these are normalised already")
    if not len(negatives):
        raise InputError("there are no negatives")
    table = in_memory(negatives).vectors
    smoothed = np.empty_like(table)
    for start in range(0, len(table), _ROWS):
        scores, indices = knn(table[start : start + _ROWS], [table], k)
        smoothed[start : start + _ROWS] = _unit(_weighted_sum(table, indices, scores**power))
    meta = derived_meta(negatives, smoothing={"k": k, "power": power, "source": negatives.content_id()})
    return Descriptors(smoothed, negatives.ids, meta)


def nes_blocks(
    blocks: Iterable[Floats],
    negatives: Floats,
    *,
    k: int = NES_K,
    beta: float = NES_BETA,
    iterations: int = NES_ITERATIONS,
) -> Iterator[Floats]:
    """Negative embedding subtraction of blocks ``float32 (m, d)``: ``x ← norm(x − beta · mean of x's k negatives)``.

    The inputs stay as they are; memory holds one block beside the negatives ``float32 (n, d)``.
    """
    _check(k=k, iterations=iterations, beta=beta)
    for block in blocks:
        for start in range(0, len(block), _ROWS):
            rows = block[start : start + _ROWS]
            for _ in range(iterations):
                _, indices = knn(rows, [negatives], k)
                mean = _weighted_sum(negatives, indices, None) / np.float32(indices.shape[1])
                rows = _unit(rows - np.float32(beta) * mean)
            yield rows


def score_blocks(
    blocks: Iterable[Floats], negatives: Floats | None, *, k: int = SCORE_K, beta: float = SCORE_BETA
) -> Iterator[Floats]:
    """Score normalisation in one more dimension, so that an inner product gives the normalised score.

    A query becomes ``[q, −beta · mean score of its k nearest negatives]``, a reference (``negatives`` None)
    ``[r, 1]``. Blocks ``float32 (m, d)`` in, ``(m, d + 1)`` out; search them by inner product only.
    """
    _check(k=k, beta=beta)
    for block in blocks:
        if negatives is None:
            extra = np.ones((len(block), 1), np.float32)
        else:
            scores, _ = knn(block, [negatives], k)
            extra = np.float32(-beta) * scores.mean(axis=1, keepdims=True)
        yield np.concatenate([block, extra], axis=1)


def check_negatives(descriptors: Descriptors, negatives: Descriptors) -> None:
    """Refuse to normalise with negatives that do not belong to these descriptors.

    Raises:
        MismatchError: another engine made them, or their dimensions differ.
        InputError: either is normalised already, or there are no negatives.
    """
    done = descriptors.meta.get("normalization")
    if done:
        raise InputError(f"these descriptors are normalised already ({done['method']}); start from the extracted ones")
    if not len(negatives):
        raise InputError("there are no negatives")
    if negatives.meta.get("normalization"):
        raise InputError("negatives must be plain or smoothed descriptors, and these are normalised already")
    engines = descriptors.meta.get("engine_id"), negatives.meta.get("engine_id")
    if all(engines) and engines[0] != engines[1]:
        raise MismatchError(
            f"the negatives were made by another engine ({str(engines[1])[:12]}) than the descriptors "
            f"({str(engines[0])[:12]}); extract both with one engine"
        )
    if descriptors.dim != negatives.dim:
        raise MismatchError(f"descriptors have {descriptors.dim} dimensions and the negatives have {negatives.dim}")


def _refuse_smoothed(negatives: Descriptors) -> None:
    if negatives.meta.get("smoothing"):
        raise InputError("these negatives are smoothed; score normalisation takes plain descriptors")


def nes_meta(
    negatives: Descriptors, *, k: int = NES_K, beta: float = NES_BETA, iterations: int = NES_ITERATIONS
) -> dict[str, Any]:
    """What is stamped into a file normalised by NES: two files may be searched together if theirs are equal."""
    return {
        "method": "nes",
        "k": k,
        "beta": beta,
        "iterations": iterations,
        "smoothing": negatives.meta.get("smoothing"),
        "negatives": negatives.content_id(),
    }


def score_meta(negatives: Descriptors | None, *, k: int = SCORE_K, beta: float = SCORE_BETA) -> dict[str, Any]:
    """What is stamped into a file normalised by scores; references (no negatives) depend on none of the numbers."""
    if negatives is None:
        return {"method": "score", "role": "reference"}
    return {"method": "score", "role": "query", "k": k, "beta": beta, "negatives": negatives.content_id()}


def subtract_negatives(
    descriptors: Descriptors,
    negatives: Descriptors,
    *,
    k: int = NES_K,
    beta: float = NES_BETA,
    iterations: int = NES_ITERATIONS,
) -> Descriptors:
    """Negative embedding subtraction, on queries and references alike: ``x ← norm(x − beta · mean of k negatives)``.

    Args:
        descriptors: ``(n, d)`` rows of unit length; they stay as they are.
        negatives: from `smooth_negatives` (or plain, for the method without smoothing).
        k: nearest negatives of each descriptor.
        beta: how much of their mean is subtracted.
        iterations: how often.

    Raises:
        MismatchError: the negatives come from another engine.
        InputError: already normalised, or a number is out of range.
    """
    check_negatives(descriptors, negatives)
    table = in_memory(negatives).vectors
    rows = list(nes_blocks(descriptors.blocks(), table, k=k, beta=beta, iterations=iterations))
    vectors = np.concatenate(rows) if rows else np.empty((0, descriptors.dim), np.float32)
    meta = derived_meta(descriptors, normalization=nes_meta(negatives, k=k, beta=beta, iterations=iterations))
    return Descriptors(vectors, descriptors.ids, meta, descriptors.failures)


def normalize_scores(
    queries: Descriptors,
    references: Descriptors,
    negatives: Descriptors,
    *,
    k: int = SCORE_K,
    beta: float = SCORE_BETA,
) -> tuple[Descriptors, Descriptors]:
    """Score normalisation: ``s(q, r) = q·r − beta · mean of q's k highest scores among the negatives``.

    Args:
        queries, references, negatives: ``(n, d)`` rows of unit length; negatives plain, not smoothed.
        k: highest scores of each query that are averaged.
        beta: weight of their mean.

    Returns:
        queries and references with d + 1 dimensions, to be searched by inner product.

    Raises:
        MismatchError: the negatives come from another engine.
        InputError: already normalised, or a number is out of range.
    """
    check_negatives(queries, negatives)
    check_negatives(references, negatives)
    _refuse_smoothed(negatives)
    table = in_memory(negatives).vectors
    made = []
    for side, against in ((queries, table), (references, None)):
        rows = list(score_blocks(side.blocks(), against, k=k, beta=beta))
        vectors = np.concatenate(rows) if rows else np.empty((0, side.dim + 1), np.float32)
        stamp = score_meta(None if against is None else negatives, k=k, beta=beta)
        made.append(Descriptors(vectors, side.ids, derived_meta(side, normalization=stamp), side.failures))
    return made[0], made[1]


METHODS = ("nes", "score")


def normalize_to_file(
    descriptors: Descriptors,
    negatives: Descriptors | None,
    output: str | os.PathLike[str],
    *,
    method: str = "nes",
    k: int | None = None,
    beta: float | None = None,
    iterations: int = NES_ITERATIONS,
) -> None:
    """Normalise into a file, block by block, so that neither side of the work has to fit into memory.

    Args:
        descriptors: may be open on disk (`isc_fast.open_descriptors`).
        negatives: smoothed for ``"nes"``; plain for the queries of ``"score"``, None for its references.
        output: of the descriptor file.
        method: ``"nes"`` or ``"score"``.
        k, beta, iterations: by default those of the method.

    Raises:
        MismatchError: the negatives come from another engine.
        InputError: already normalised, no negatives for NES, or a number is out of range.
        OutputError: the file cannot be written.
    """
    if method not in METHODS:
        raise InputError(f"there is no method {method!r}; choose one of {', '.join(METHODS)}")
    if negatives is not None:
        check_negatives(descriptors, negatives)
    table = None if negatives is None else in_memory(negatives).vectors
    if method == "nes":
        if negatives is None or table is None:
            raise InputError("negative embedding subtraction needs negatives")
        k, beta = NES_K if k is None else k, NES_BETA if beta is None else beta
        blocks = nes_blocks(descriptors.blocks(), table, k=k, beta=beta, iterations=iterations)
        stamp, dim = nes_meta(negatives, k=k, beta=beta, iterations=iterations), descriptors.dim
    else:
        if descriptors.meta.get("normalization"):
            raise InputError("these descriptors are normalised already; start from the extracted ones")
        if negatives is not None:
            _refuse_smoothed(negatives)
        k, beta = SCORE_K if k is None else k, SCORE_BETA if beta is None else beta
        blocks = score_blocks(descriptors.blocks(), table, k=k, beta=beta)
        stamp, dim = score_meta(negatives, k=k, beta=beta), descriptors.dim + 1
    write_blocks(
        Path(output),
        blocks,
        ids=descriptors.ids,
        dim=dim,
        meta=derived_meta(descriptors, normalization=stamp),
        failures=descriptors.failures,
    )
