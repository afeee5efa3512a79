"""The methods of normalisation by name, as the command line gives them, and normalising from file to file."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal

from ...descriptors.provenance import check_row_type
from ...descriptors.store import Descriptors
from ...errors import InputError
from ..searchers.cpu_searcher import CPU
from ..searchers.searcher import Searcher, open_searcher
from .normalization import Method, write_normalized
from .score_normalization import SCORE_BETA, SCORE_K, ScoreNormalization
from .subtraction import NES_BETA, NES_ITERATIONS, NES_K, NegativeSubtraction

NES, SCORE = "nes", "score"

METHODS: dict[str, Callable[[int | None, float | None, int], Method]] = {
    NES: lambda k, beta, iterations: NegativeSubtraction(
        NES_K if k is None else k, NES_BETA if beta is None else beta, iterations
    ),
    SCORE: lambda k, beta, _: ScoreNormalization(SCORE_K if k is None else k, SCORE_BETA if beta is None else beta),
}


def method_of(method: str, k: int | None, beta: float | None, iterations: int) -> Method:
    """The method of that name with its numbers.

    Raises:
        InputError: there is none, or a number is out of range.
    """
    if method not in METHODS:
        raise InputError(f"there is no method {method!r}; choose one of {', '.join(METHODS)}")
    return METHODS[method](k, beta, iterations)


def normalize_to_file(
    descriptors: Descriptors,
    negatives: Descriptors | None,
    output: str | os.PathLike[str],
    *,
    method: str = NES,
    k: int | None = None,
    beta: float | None = None,
    iterations: int = NES_ITERATIONS,
    device: str | Searcher = CPU,
    dtype: Literal["float32", "float16"] | None = None,
) -> None:
    """Normalise into a file, block by block, so that neither the descriptors nor the negatives need to fit into memory.

    Args:
        descriptors: may be open on disk (`isc_fast.open_descriptors`).
        negatives: smoothed for ``"nes"``; plain for the queries of ``"score"``, None for its references. They may be open on
            disk too. Then they are read once for every 16,384 descriptors, or on GPUs for every 65,536.
        output: the descriptor file to write.
        method: ``"nes"`` or ``"score"``.
        k, beta, iterations: see `subtract_negatives` and `normalize_scores`, whose defaults they have.
        device: what searches; see `isc_fast.search`.
        dtype: the type in which the file holds the rows, see `isc_fast.write_descriptors`; by default float32.

    Raises:
        MismatchError: the negatives come from another engine.
        InputError: the descriptors are normalised already, NES has no negatives, or a number is out of range.
        EngineError: there is no such device, or faiss does not work on it.
        OutputError: the file cannot be written.
    """
    check_row_type(dtype)
    chosen = method_of(method, k, beta, iterations)
    chosen.check(descriptors, negatives)
    write_normalized(descriptors, negatives, output, chosen, open_searcher(device), dtype)
