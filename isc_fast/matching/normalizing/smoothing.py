"""Smoothing: each negative becomes the mean of its own neighbourhood, once for a network and a set of negatives.

Source: Yokoo, "Contrastive Learning with Large Memory Bank and Negative Embedding Subtraction for Accurate Copy Detection",
2021.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from ...descriptors.store import Descriptors
from ...descriptors.texts import kept_ids
from ...descriptors.view_rows import photo_blocks, row_blocks, rows_of
from ...descriptors.writing import write_blocks
from ..searchers.arrays import Floats, Ints
from ..searchers.cpu_searcher import CPU
from ..searchers.searcher import Searcher, open_searcher
from .normalization import check_numbers, nearest_negatives
from .row_sums import add_up, in_steps, stacked, to_unit
from .stamps import smooth_meta

SMOOTHING_K = 10
SMOOTHING_POWER = 3


@dataclass(frozen=True)
class NegativeSmoothing:
    """``t ← norm(Σ_{i≤k} sim_i^power · t_i)``; see `smooth_negatives`."""

    k: int = SMOOTHING_K
    power: int = SMOOTHING_POWER

    def __post_init__(self) -> None:
        check_numbers(k=self.k, power=self.power)

    def blocks(self, negatives: Descriptors, searcher: Searcher, some: Descriptors | None = None) -> Iterator[Floats]:
        """The smoothed negatives in blocks ``float32 (m, width)``; of some of their photos only, if these are given.

        Memory holds one block. Each view of a photo is a negative.
        """
        every = rows_of(negatives)

        def smooth(out: Floats, indices: Ints, weights: Floats) -> None:
            add_up(every.vectors, indices, weights, out)
            to_unit(out)

        def made() -> Iterator[Floats]:
            for rows in row_blocks(some or negatives, searcher.block_rows(negatives.dim).queries):
                scores, indices = nearest_negatives(rows, every, self.k, searcher)
                yield in_steps(smooth, negatives.dim, indices, scores**self.power)

        return photo_blocks(made(), len(negatives.views))


def smooth_negatives(
    negatives: Descriptors, *, k: int = SMOOTHING_K, power: int = SMOOTHING_POWER, device: str | Searcher = CPU
) -> Descriptors:
    """Replace each negative by the mean of its own neighbourhood: ``t ← norm(Σ_{i≤k} sim_i^power · t_i)``.

    This is done once for a network and a set of negatives; keep the result in a file. The input stays as it is.

    Args:
        negatives: descriptors of images that match nothing, such as the training images: ``(n, d)`` rows of unit length.
        k: neighbours, the negative itself among them.
        power: exponent of the similarity; the result is the weight of a neighbour.
        device: what searches; see `isc_fast.search`.

    Raises:
        InputError: a number is out of range, or these negatives are smoothed or normalised already.
        EngineError: there is no such device, or faiss does not work on it.
    """
    method = NegativeSmoothing(k, power)
    meta = smooth_meta(negatives, k, power)
    smoothed = stacked(method.blocks(negatives, open_searcher(device)), len(negatives), negatives.width)
    return Descriptors(smoothed, kept_ids(negatives.ids), meta)


def smooth_to_file(
    negatives: Descriptors,
    output: str | os.PathLike[str],
    *,
    k: int = SMOOTHING_K,
    power: int = SMOOTHING_POWER,
    device: str | Searcher = CPU,
) -> None:
    """Smooth negatives into a file, block by block, so that they need not fit into memory; see `smooth_negatives`.

    Args:
        negatives: may be open on disk (`isc_fast.open_descriptors`).
        output: the descriptor file to write.
        k, power, device: see `smooth_negatives`.

    Raises:
        InputError: a number is out of range, or these negatives are smoothed or normalised already.
        EngineError: there is no such device, or faiss does not work on it.
        OutputError: the file cannot be written.
    """
    method = NegativeSmoothing(k, power)
    meta = smooth_meta(negatives, k, power)
    blocks = method.blocks(negatives, open_searcher(device))
    write_blocks(output, blocks, ids=negatives.ids, dim=negatives.width, meta=meta)
