"""Exact search for the best 10 on a GPU: faiss, `isc_fast.search` and torch, beside the measured rate of products.

    python bench/gpu_search.py           10,000 queries, 1,000,000 references, 256 dimensions
    python bench/gpu_search.py --smoke   takes seconds; runs on the processor where there is no GPU

``images_per_s`` is queries per second. The reference way is torch: products of blocks in fp32, and its topk. Its references are
on the GPU before the clock starts, and so is an index of faiss. ``from_host`` is the rate with the copy of both sides to the
GPU. `isc_fast.search` is measured that way, because a user gives it arrays in the host's memory. The ceiling is the matrix peak
in the row's precision. Double precision decides what counts as exact, for some of the queries.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # otherwise the threads of one library spin while another one works

import numpy as np
from gpu import BENCH, REFERENCE, Settings, cosines, rate_of, run_bench
from gpu_engines import CEILINGS, ROWS, peaks_of
from gpu_engines import steps as preparation
from rows import Array, Found, by_torch, same_ids
from steps import NotHere, Result, Row, Step

SCRIPT = str(BENCH / "gpu_search.py")
_NEEDS = (CEILINGS, ROWS)


def steps() -> list[Step]:
    """Return the rows, each with the steps that it needs."""
    return [
        Step(f"search/{REFERENCE}", SCRIPT, 45, order=8, needs=_NEEDS),
        Step("search/torch fp16", SCRIPT, 45, order=8, needs=_NEEDS),
        Step("search/faiss", SCRIPT, 60, order=8, needs=_NEEDS),
        Step("search/isc_fast", SCRIPT, 60, order=8, needs=_NEEDS),
    ]


def measure(
    settings: Settings, precision: str, search: Callable[[], Found], from_host: Callable[[], Found] | None = None
) -> Result:
    """Measure the rate of a search, whether it finds the right references, and its share of the ceiling."""
    scores, indices = (np.load(settings.folder / f"{name}.npy") for name in ("scores", "indices"))
    found_scores, found = search()
    checked = len(indices)
    rates = rate_of(search, settings.queries, settings)
    operations = 2.0 * settings.references * settings.dim
    result: Result = {
        **rates,
        "precision": precision,
        "gflop_per_s": rates["images_per_s"] * operations / 1e9,
        "share_of_ceiling": rates["images_per_s"] * operations / peaks_of(settings)[precision],
        "same_ids": same_ids(found[:checked], indices),
        "largest_score_difference": float(np.abs(found_scores[:checked] - scores).max()),
        "cosine_min": cosines(found_scores[:checked], scores)["cosine_min"],  # compares the scores of each query's best
    }
    if from_host:
        result["from_host"] = rate_of(from_host, settings.queries, settings)
    return result


def rows_of(settings: Settings) -> tuple[Array, Array]:
    """Return the queries and the references."""
    xq, xb = (np.load(settings.folder / f"{name}.npy") for name in ("queries", "references"))
    return xq, xb


def _torch(half: bool) -> Row:
    def row(settings: Settings) -> Result:
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        dtype = torch.float16 if half else torch.float32

        def put(rows: Array) -> torch.Tensor:
            return torch.from_numpy(rows).to(settings.device).to(dtype)

        xq, xb = rows_of(settings)
        queries, references = put(xq), put(xb)
        return measure(
            settings,
            "fp16" if half else "fp32",
            lambda: by_torch(queries, references, settings.k),
            lambda: by_torch(put(xq), put(xb), settings.k),
        )

    return row


def _gpu_faiss() -> Any:
    """Return the module faiss.

    Raises:
        NotHere: it was built without GPU support.
    """
    import faiss

    if not hasattr(faiss, "StandardGpuResources"):
        raise NotHere(f"faiss {faiss.__version__} is built without GPU support; run: pip install faiss-gpu-cuvs")
    return faiss


def _faiss(settings: Settings) -> Result:
    xq, xb = rows_of(settings)
    if settings.device == "cpu":
        import faiss

        flat = faiss.IndexFlatIP(settings.dim)
        flat.add(xb)
        return {"faiss": faiss.__version__, **measure(settings, "fp32", lambda: flat.search(xq, settings.k))}
    faiss = _gpu_faiss()
    if faiss.get_num_gpus() < 1:  # without a GPU, faiss would end the process
        raise RuntimeError(f"faiss {faiss.__version__} sees no GPU")
    resources = faiss.StandardGpuResources()
    index = faiss.GpuIndexFlatIP(resources, settings.dim)
    index.add(xb)

    def from_host() -> Found:
        found: Found = faiss.knn_gpu(resources, xq, xb, settings.k, metric=faiss.METRIC_INNER_PRODUCT)
        return found

    return {
        "faiss": faiss.__version__,
        **measure(settings, "fp32", lambda: index.search(xq, settings.k), from_host),
    }


def _isc_fast(settings: Settings) -> Result:
    """Search from arrays with ids to matches with ids, as a user calls `isc_fast.search`."""
    import isc_fast

    if settings.device != "cpu":
        _gpu_faiss()  # isc_fast.search uses it on a GPU
    options: dict[str, Any] = {}
    if "device" in inspect.signature(isc_fast.search).parameters:
        options = {"device": settings.device}
    elif settings.device != "cpu":
        raise NotHere("isc_fast.search of this version has no parameter device: it searches on the processor")
    xq, xb = rows_of(settings)
    queries, references = (isc_fast.Descriptors(rows, [f"{row:012d}" for row in range(len(rows))]) for rows in (xq, xb))

    def search() -> Found:
        matches = isc_fast.search(queries, references, k=settings.k, **options)
        rows = np.array([int(id_) for id_ in matches.reference_ids])
        return matches.scores.reshape(len(xq), -1), rows.reshape(len(xq), -1)

    return measure(settings, "fp32", search)


_ROWS: dict[str, Row] = {
    REFERENCE: _torch(half=False),
    "torch fp16": _torch(half=True),
    "faiss": _faiss,
    "isc_fast": _isc_fast,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    return run_bench("search", __doc__, [*preparation(), *steps()], _ROWS, arguments)


if __name__ == "__main__":
    sys.exit(main())
