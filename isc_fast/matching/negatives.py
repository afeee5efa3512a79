"""Normalisation by negatives: images known to match nothing say which directions mean little.

Three choices: none; negative embedding subtraction (NES), which the submitted network was made for; and score
normalisation, which leaves the references as they are. Source of NES: Yokoo, "Contrastive Learning with Large Memory
Bank and Negative Embedding Subtraction for Accurate Copy Detection", 2021; of score normalisation: Pizzi et al., "A
Self-Supervised Descriptor for Image Copy Detection", 2022, section 4.3.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..descriptors.store import Descriptors, derived_meta, kept_ids, write_blocks
from ..errors import InputError, MismatchError
from ..machine.cores import available_cores
from .exact import Floats, Ints
from .cpu_searcher import CPU, knn, rows_at_once

_ROWS = 16_384  # searched for at a time, 16 MB at 256 dimensions: once through the negatives for so many
_STEP = 2048  # summed at a time: at 256 dimensions two arrays of 2 MB, which stay in a core's cache

SMOOTHING_K = 10
SMOOTHING_POWER = 3
NES_K = 10
NES_BETA = 0.35
NES_ITERATIONS = 1
SCORE_K = 3
SCORE_BETA = 1.0


def _to_unit(rows: Floats) -> None:
    """Give rows the length 1, in place."""
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))


def _add_up(table: Any, indices: Ints, weights: Floats | None, out: Floats) -> None:
    """``out ← Σ_j weights[:, j] · table[indices[:, j]]`` without the ``(rows, k, d)`` array of a plain gather.

    The table is an array, or a data set on disk, of which only the rows that are needed are read.
    """
    near = np.ascontiguousarray(indices.T)
    if not isinstance(table, np.ndarray) or table.dtype != np.float32:
        wanted, places = np.unique(near, return_inverse=True)
        table, near = np.asarray(table[wanted], np.float32), places.reshape(near.shape)
    rows = np.empty_like(out)
    out[:] = 0
    for j, one in enumerate(near):
        np.take(table, one, axis=0, out=rows, mode="clip")  # with "raise", numpy fills a copy of `rows` first
        if weights is not None:
            rows *= weights[:, j : j + 1]
        out += rows


def _in_steps(work: Callable[..., None], dim: int, *columns: Any) -> Floats:
    """What ``work(out, *columns)`` writes into ``out``, a few rows at a time and on every core.

    numpy lets go of Python's lock where it matters. Subtracting the mean of 10 negatives from 200,000 rows took 0.21 s
    so, and 0.53 s in steps of 8192 on one core, which no longer fit into its cache.
    """
    made = np.empty((len(columns[0]), dim), np.float32)

    def step(start: int) -> None:
        part = slice(start, start + _STEP)
        work(made[part], *(column[part] for column in columns))

    with ThreadPoolExecutor(available_cores()) as threads:
        list(threads.map(step, range(0, len(made), _STEP)))
    return made


def _stack(blocks: Iterable[Floats], count: int, dim: int) -> Floats:
    rows = np.empty((count, dim), np.float32)
    start = 0
    for block in blocks:
        rows[start : start + len(block)] = block
        start += len(block)
    return rows


def _check(*, beta: float = 0.0, **counts: int) -> None:
    for name, number in counts.items():
        if number < 1:
            raise InputError(f"{name} must be at least 1, not {number}")
    if not np.isfinite(beta):
        raise InputError(f"beta must be a number, not {beta}")


def _nearest(rows: Floats, negatives: Descriptors, k: int, device: str) -> tuple[Floats, Ints]:
    """Scores and indices of the k nearest negatives of each row."""
    return knn(rows, negatives.blocks(rows_at_once(device, negatives.dim, _ROWS)[1]), k, device=device)


def _smooth_meta(negatives: Descriptors, k: int, power: int) -> dict[str, Any]:
    _check(k=k, power=power)
    if negatives.meta.get("smoothing"):
        raise InputError("these negatives are smoothed already; smoothing is done once")
    if negatives.meta.get("normalization"):
        raise InputError("negatives must be plain descriptors, and these are normalised already")
    if not len(negatives):
        raise InputError("there are no negatives")
    return derived_meta(negatives, smoothing={"k": k, "power": power, "source": negatives.content_id()})


def smooth_blocks(
    negatives: Descriptors, *, k: int = SMOOTHING_K, power: int = SMOOTHING_POWER, device: str = CPU
) -> Iterator[Floats]:
    """The smoothed negatives in blocks ``float32 (m, d)``; see `smooth_negatives`. Memory holds one of them."""

    def smooth(out: Floats, indices: Ints, weights: Floats) -> None:
        _add_up(negatives.vectors, indices, weights, out)
        _to_unit(out)

    for rows in negatives.blocks(rows_at_once(device, negatives.dim, _ROWS)[0]):
        scores, indices = _nearest(rows, negatives, k, device)
        yield _in_steps(smooth, negatives.dim, indices, scores**power)


def smooth_negatives(
    negatives: Descriptors, *, k: int = SMOOTHING_K, power: int = SMOOTHING_POWER, device: str = CPU
) -> Descriptors:
    """Replace each negative by the mean of its own neighbourhood: ``t ← norm(Σ_{i≤k} sim_i^power · t_i)``.

    Done once for a network and a set of negatives; keep the result in a file. The input stays as it is.

    Args:
        negatives: descriptors of images that match nothing, ``(n, d)`` rows of unit length: the training images.
        k: neighbours, the negative itself among them.
        power: of the similarity that weighs them.
        device: that searches; see `isc_fast.search`.

    Raises:
        InputError: a number is out of range, or these negatives are smoothed or normalised already.
        EngineError: there is no such device, or faiss does not work on it.
    """
    meta = _smooth_meta(negatives, k, power)
    smoothed = _stack(smooth_blocks(negatives, k=k, power=power, device=device), len(negatives), negatives.dim)
    return Descriptors(smoothed, kept_ids(negatives.ids), meta)


def smooth_to_file(
    negatives: Descriptors,
    output: str | os.PathLike[str],
    *,
    k: int = SMOOTHING_K,
    power: int = SMOOTHING_POWER,
    device: str = CPU,
) -> None:
    """Smooth negatives into a file, block by block, so that they need not fit into memory; see `smooth_negatives`.

    Args:
        negatives: may be open on disk (`isc_fast.open_descriptors`).
        output: of the descriptor file.
        k, power, device: see `smooth_negatives`.

    Raises:
        InputError: a number is out of range, or these negatives are smoothed or normalised already.
        EngineError: there is no such device, or faiss does not work on it.
        OutputError: the file cannot be written.
    """
    meta = _smooth_meta(negatives, k, power)
    blocks = smooth_blocks(negatives, k=k, power=power, device=device)
    write_blocks(output, blocks, ids=negatives.ids, dim=negatives.dim, meta=meta)


def nes_blocks(
    blocks: Iterable[Floats],
    negatives: Descriptors,
    *,
    k: int = NES_K,
    beta: float = NES_BETA,
    iterations: int = NES_ITERATIONS,
    device: str = CPU,
) -> Iterator[Floats]:
    """Negative embedding subtraction of blocks ``float32 (m, d)``: ``x ← norm(x − beta · mean of x's k negatives)``.

    The inputs stay as they are; memory holds one block, and one of the negatives ``(n, d)`` if they are on disk.
    """
    _check(k=k, iterations=iterations, beta=beta)

    def subtract(out: Floats, rows: Floats, indices: Ints) -> None:
        _add_up(negatives.vectors, indices, None, out)
        out /= np.float32(indices.shape[1])
        out *= np.float32(beta)
        np.subtract(rows, out, out=out)
        _to_unit(out)

    at_once = rows_at_once(device, negatives.dim, _ROWS)[0]
    for block in blocks:
        for start in range(0, len(block), at_once):
            rows = block[start : start + at_once]
            for _ in range(iterations):
                rows = _in_steps(subtract, negatives.dim, rows, _nearest(rows, negatives, k, device)[1])
            yield rows


def score_blocks(
    blocks: Iterable[Floats],
    negatives: Descriptors | None,
    *,
    k: int = SCORE_K,
    beta: float = SCORE_BETA,
    device: str = CPU,
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
            scores, _ = _nearest(block, negatives, k, device)
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
    device: str = CPU,
) -> Descriptors:
    """Negative embedding subtraction, on queries and references alike: ``x ← norm(x − beta · mean of k negatives)``.

    Args:
        descriptors: ``(n, d)`` rows of unit length; they stay as they are.
        negatives: from `smooth_negatives` (or plain, for the method without smoothing).
        k: nearest negatives of each descriptor.
        beta: how much of their mean is subtracted.
        iterations: how often.
        device: that searches; see `isc_fast.search`.

    Raises:
        MismatchError: the negatives come from another engine.
        InputError: already normalised, or a number is out of range.
        EngineError: there is no such device, or faiss does not work on it.
    """
    check_negatives(descriptors, negatives)
    blocks = descriptors.blocks(rows_at_once(device, descriptors.dim, _ROWS)[0])
    made = nes_blocks(blocks, negatives, k=k, beta=beta, iterations=iterations, device=device)
    vectors = _stack(made, len(descriptors), descriptors.dim)
    meta = derived_meta(descriptors, normalization=nes_meta(negatives, k=k, beta=beta, iterations=iterations))
    return Descriptors(vectors, kept_ids(descriptors.ids), meta, descriptors.failures)


def normalize_scores(
    queries: Descriptors,
    references: Descriptors,
    negatives: Descriptors,
    *,
    k: int = SCORE_K,
    beta: float = SCORE_BETA,
    device: str = CPU,
) -> tuple[Descriptors, Descriptors]:
    """Score normalisation: ``s(q, r) = q·r − beta · mean of q's k highest scores among the negatives``.

    Args:
        queries, references, negatives: ``(n, d)`` rows of unit length; negatives plain, not smoothed.
        k: highest scores of each query that are averaged.
        beta: weight of their mean.
        device: that searches; see `isc_fast.search`.

    Returns:
        queries and references with d + 1 dimensions, to be searched by inner product.

    Raises:
        MismatchError: the negatives come from another engine.
        InputError: already normalised, or a number is out of range.
        EngineError: there is no such device, or faiss does not work on it.
    """
    check_negatives(queries, negatives)
    check_negatives(references, negatives)
    _refuse_smoothed(negatives)
    made = []
    for side, against in ((queries, negatives), (references, None)):
        blocks = side.blocks(rows_at_once(device, side.dim, _ROWS)[0])
        vectors = _stack(score_blocks(blocks, against, k=k, beta=beta, device=device), len(side), side.dim + 1)
        meta = derived_meta(side, normalization=score_meta(against, k=k, beta=beta))
        made.append(Descriptors(vectors, kept_ids(side.ids), meta, side.failures))
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
    device: str = CPU,
) -> None:
    """Normalise into a file, block by block, so that neither side of the work has to fit into memory.

    Args:
        descriptors: may be open on disk (`isc_fast.open_descriptors`).
        negatives: smoothed for ``"nes"``; plain for the queries of ``"score"``, None for its references. May be open on
            disk too; then they are read once for every 16,384 descriptors, on GPUs for every 65,536.
        output: of the descriptor file.
        method: ``"nes"`` or ``"score"``.
        k, beta, iterations: by default those of the method.
        device: that searches; see `isc_fast.search`.

    Raises:
        MismatchError: the negatives come from another engine.
        InputError: already normalised, no negatives for NES, or a number is out of range.
        EngineError: there is no such device, or faiss does not work on it.
        OutputError: the file cannot be written.
    """
    if method not in METHODS:
        raise InputError(f"there is no method {method!r}; choose one of {', '.join(METHODS)}")
    if negatives is not None:
        check_negatives(descriptors, negatives)
    given = descriptors.blocks(rows_at_once(device, descriptors.dim, _ROWS)[0])
    if method == "nes":
        if negatives is None:
            raise InputError("negative embedding subtraction needs negatives")
        k, beta = NES_K if k is None else k, NES_BETA if beta is None else beta
        blocks = nes_blocks(given, negatives, k=k, beta=beta, iterations=iterations, device=device)
        stamp, dim = nes_meta(negatives, k=k, beta=beta, iterations=iterations), descriptors.dim
    else:
        if descriptors.meta.get("normalization"):
            raise InputError("these descriptors are normalised already; start from the extracted ones")
        if negatives is not None:
            _refuse_smoothed(negatives)
        k, beta = SCORE_K if k is None else k, SCORE_BETA if beta is None else beta
        blocks = score_blocks(given, negatives, k=k, beta=beta, device=device)
        stamp, dim = score_meta(negatives, k=k, beta=beta), descriptors.dim + 1
    write_blocks(
        Path(output),
        blocks,
        ids=descriptors.ids,
        dim=dim,
        meta=derived_meta(descriptors, normalization=stamp),
        failures=descriptors.failures,
    )
