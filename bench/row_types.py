"""What it costs to store descriptors as float16: bytes, cosine, best matches and µAP, with a trained network.

    python bench/row_types.py                       the trained network inside the package, its photos
    python bench/row_types.py --engine v107.onnx --photos FOLDER      an engine of yours, on photos of yours
    python bench/row_types.py --smoke               takes a minute with few photos

The descriptors are those of the exporter's accuracy gate (`isc_fast.export.precision.gate`): every held-out photo, and a copy of
it by each held-out edit. They are written to a file in each type, read again and searched; scores are float32 in every row. The
largest error of a score is that of all pairs of a query and a reference. The last line is JSON.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from harness import finish
from trained import open_trained, trained_parser

from isc_fast.descriptors.provenance import ROW_TYPES
from isc_fast.descriptors.store import Descriptors, load_descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.export.precision.gate import Vectors, compare


def through_a_file(rows: Vectors, file: Path, dtype: str) -> tuple[Vectors, float]:
    """The rows as a file of that type gives them back, and the bytes that one row takes in it."""
    sizes = []
    for some in (rows[:0], rows):
        write_descriptors(file, Descriptors(some, [str(row) for row in range(len(some))]), dtype=dtype)  # type: ignore[arg-type]
        sizes.append(file.stat().st_size)
    return load_descriptors(file).vectors, (sizes[1] - sizes[0]) / len(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    given = trained_parser(__doc__, "few photos").parse_args(arguments)
    trained = open_trained(given)
    queries, references = trained.expected
    exact = queries.astype(np.float64) @ references.T.astype(np.float64)
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        for dtype in ROW_TYPES:
            (q, row_bytes), (r, _) = (through_a_file(side, Path(scratch, "a.h5"), dtype) for side in trained.expected)
            row = compare(trained.benchmark, trained.expected, (q, r))
            row["score_error_max"] = float(np.abs(q.astype(np.float64) @ r.T.astype(np.float64) - exact).max())
            row["row_bytes"] = row_bytes
            rows[dtype] = row
    first = rows[ROW_TYPES[0]]
    print(f"{first['queries']} queries by {first['edits']} edits against {first['references']} references\n")
    print("rows        bytes a row   lowest cosine   largest error of a score   best match kept       µAP     ΔµAP")
    for dtype, row in rows.items():
        print(
            f"{dtype:<12}{row['row_bytes']:>11.0f}   {row['cosine_min']:>13.8f}   {row['score_error_max']:>24.1e}   "
            f"{row['top1_agreement']:>14.2%}   {row['micro_ap']:>8.4f}   {row['micro_ap'] - row['micro_ap_fp32']:>+.4f}"
        )
    half = rows["float16"]
    facts = {"cosine_min": half["cosine_min"], "ratio_to_best_reference": half["row_bytes"] / first["row_bytes"]}
    finish(
        {"bench": "row_types", "engine": trained.exact.spec.name, **facts, "best_reference": "float32", "rows": rows}
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
