"""Exact neighbours by faiss on the processor: used where the first pass in bytes does not apply."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import numpy as np

from ...errors import require
from ...machine.cores import available_cores
from .arrays import Floats, Ints, Pairs
from .exact import Block, Metric, Proposer, Queries


def load_faiss() -> ModuleType:
    """Load faiss, and let it use every core.

    Raises:
        MissingExtraError: faiss is not installed.
    """
    faiss = require("faiss", "cpu")
    faiss.omp_set_num_threads(available_cores())
    return faiss


def proposer_by(faiss: ModuleType, metric: Metric, widest: int) -> Proposer:
    """Let faiss propose neighbours, at most so many of each query."""
    kind = faiss.METRIC_INNER_PRODUCT if metric == "ip" else faiss.METRIC_L2

    def propose(xq: Floats, part: Floats, k: int) -> tuple[Floats, Ints]:
        scores, indices = faiss.knn(xq, part, k, kind)
        return scores if metric == "ip" else -scores, indices

    return Proposer(propose, widest)


def in_range(
    faiss: ModuleType, queries: Queries, block: Block, lowest: np.float32, threads: ThreadPoolExecutor
) -> Pairs:
    """Every pair of a block that reaches the lowest score, proposed by faiss' range search.

    Raises:
        InputError: a score does not fit into float32.
    """
    xq, ip = queries.rows, queries.metric == "ip"
    search = faiss.range_search_inner_product if ip else faiss.range_search_L2sqr
    # faiss gives what is strictly better than the radius, by scores that are a little off.
    reach = float(lowest) - float(queries.apart(block.longest).max())
    radius = float(np.nextafter(np.float32(reach if ip else -reach), np.float32(-np.inf if ip else np.inf)))
    result = faiss.RangeSearchResult(len(xq))
    search(faiss.swig_ptr(xq), faiss.swig_ptr(block.rows), xq.shape[1], len(xq), len(block), radius, result)
    limits = faiss.rev_swig_ptr(result.lims, len(xq) + 1).astype(np.int64)
    columns = faiss.rev_swig_ptr(result.labels, int(limits[-1])).astype(np.int64)
    rows = np.repeat(np.arange(len(xq)), np.diff(limits))
    scores = queries.scores(rows, block.rows, columns, threads)
    keep = scores >= lowest
    return block.numbered((rows[keep], columns[keep], scores[keep]))
