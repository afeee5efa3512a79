"""The accuracy that lower precisions cost a trained network, how much of it `isc-fast export` keeps, and the speed.

    python bench/precision.py                       the trained network inside the package, its photos
    python bench/precision.py --engine v107.onnx --photos FOLDER      an fp32 engine of yours, on photos of yours
    python bench/precision.py --smoke               takes a minute with few photos

Each row is an engine. It is measured as `isc_fast.export.precision.gate` measures an engine before publishing it: with edited
copies of photos that calibration never saw, against the fp32 engine. "Plain" rows round every convolution to the nearest
values, as a runtime does when it is asked to. The other rows are what `isc-fast export --precision` makes: it rounds weights
with care, corrects biases, and measures which layers lose most and keeps them in fp32. The reference of the rates is the fp32
engine in ONNX Runtime.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import engine_rates, finish
from networks import lowered_engine
from trained import open_trained, trained_parser

from isc_fast.engines.base import Engine, open_with
from isc_fast.errors import ParityError
from isc_fast.export.precision.gate import compare, describe_benchmark, objections
from isc_fast.export.precision.reduce import reduce_engine
from isc_fast.export.request import Request
from isc_fast.export.targets.onnx_reduced import ReducedOptions
from isc_fast.machine.cores import has_bf16


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    given = trained_parser(__doc__, "few photos, one round, int8 alone").parse_args(arguments)
    trained = open_trained(given)
    exact, photos, benchmark, expected = trained.exact, trained.photos, trained.benchmark, trained.expected
    openvino = importlib.util.find_spec("openvino") is not None

    runtime = "openvino" if openvino else "onnxruntime"
    plans: list[tuple[str, str, str, bool]] = [("int8", runtime, "int8", True)]
    if not given.smoke:
        plans.insert(0, ("int8, plain", runtime, "int8", False))
        if openvino and has_bf16():
            plans += [
                ("bf16, plain", "openvino", "bf16", False),
                ("bf16", "openvino", "bf16", True),
                ("int8-bf16, plain", "openvino", "int8-bf16", False),
                ("int8-bf16", "openvino", "int8-bf16", True),
            ]
    engines: dict[str, Engine] = {"fp32": exact}
    accuracy: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, runtime, precision, careful) in enumerate(plans):
            made = Path(scratch, f"{number}.onnx")
            say = lambda line, name=name: print(f"{name}: {line}", file=sys.stderr)  # noqa: E731
            if careful:
                try:
                    options = ReducedOptions(runtime)
                    reduce_engine(Request(given.engine, made, precision, options=options, say=say), photos)
                except ParityError as error:
                    say(str(error))
                    continue
            else:
                share = {"int8": (1.0, 0.0), "bf16": (0.0, 1.0), "int8-bf16": (1.0, 0.0)}[precision]
                lowered_engine(given.engine, made, precision, *share, runtime)
            engine = open_with(made, runtime)
            engines[name] = engine
            accuracy[name] = compare(benchmark, expected, describe_benchmark(engine, benchmark))
            if careful:
                accuracy[name] |= {key: engine.spec.accuracy[key] for key in ("int8_share", "bf16_share")}

        pixels = benchmark.queries[: given.images]
        rates = engine_rates(engines, pixels, given.rounds)

    print(f"{exact.spec.name} ({exact.spec.arch}, {exact.spec.height} px): {len(benchmark.queries)} copies by "
          f"{len(set(benchmark.kinds))} edits, {len(benchmark.references)} references")  # fmt: skip
    head = ("int8", "bf16", "worst", "1st perc.", "mean", "best kept", "µAP change", "gate", "ratio")
    print(f"{'':<18}" + "".join(f"{text:>11}" for text in head))
    rows: dict[str, Any] = {}
    for name, figures in accuracy.items():
        ratio = rates[name]["images_per_s"] / rates["fp32"]["images_per_s"]
        passed = not objections(figures)
        rows[name] = {**figures, **rates[name], "ratio": ratio, "passes": passed}
        cells = [
            *("–" if key not in figures else f"{figures[key]:.0%}" for key in ("int8_share", "bf16_share")),
            *(f"{figures[key]:.5f}" for key in ("cosine_min", "cosine_p01", "cosine_mean")),
            f"{figures['top1_agreement']:.2%}",
            f"{figures['micro_ap'] - figures['micro_ap_fp32']:+.4f}",
            "passes" if passed else "fails",
            f"{ratio:.2f}",
        ]
        print(f"{name:<18}" + "".join(f"{cell:>11}" for cell in cells))
    published = {name: row for name, row in rows.items() if row["passes"]}
    best = max(published, key=lambda name: published[name]["ratio"]) if published else None
    finish(
        {
            "bench": "precision",
            "engine": {"name": exact.spec.name, "sha256": exact.id},
            "rows": rows,
            "best_reference": "onnxruntime fp32",
            "best": best,
            "ratio_to_best_reference": published[best]["ratio"] if best else float(np.nan),
            "cosine_min": published[best]["cosine_min"] if best else 0.0,
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
