"""How much speed a processor gains from bf16 and int8, and how much accuracy that costs, for a trained network.

    python bench/frontier.py                        the trained network inside the package, its photos
    python bench/frontier.py --engine v107.onnx --photos FOLDER       an fp32 engine of yours, on photos of yours
    python bench/frontier.py --smoke                takes a minute with few photos, int8 alone

The first table lists the layers that lose most when each alone is in a lower precision. The second table lists engines that
may lose more and more. Each engine has the choice of layers that saves the most time for its loss. A row gives the shares of
the arithmetic, the time against fp32 by `isc_fast.export.precision.mixed.COST`, the measured rate against the same runtime's
fp32, and the result of the accuracy gate. An engine that the gate refuses is not published; its row shows what a faster
engine would cost.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness import engine_rates, finish
from trained import open_trained, trained_parser

from isc_fast.engines.base import Engine, open_with
from isc_fast.export.precision.gate import LOSS_BUDGET, compare, describe_benchmark, objections
from isc_fast.export.precision.mixed import COST
from isc_fast.export.precision.workshop import Workshop
from isc_fast.export.request import Request
from isc_fast.export.targets.onnx_reduced import ReducedOptions
from isc_fast.machine.cores import has_bf16

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 1000.0)
"""Budgets of loss, as factors of the budget with which the search for a published engine begins. The last one lowers every
layer that can be lowered."""
WORST = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    given = trained_parser(__doc__, "few photos, one round, int8 alone, three engines").parse_args(arguments)
    trained = open_trained(given)
    exact, photos, benchmark, expected = trained.exact, trained.photos, trained.benchmark, trained.expected
    factors = (0.005, 0.25, 1000.0) if given.smoke else FACTORS
    openvino = importlib.util.find_spec("openvino") is not None
    runtime = "openvino" if openvino else "onnxruntime"
    precision = "int8-bf16" if openvino and has_bf16() and not given.smoke else "int8"

    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr)  # noqa: E731
        request = Request(given.engine, work, precision, options=ReducedOptions(runtime), say=say)
        shop = Workshop(request, photos, work)
        operations = sum(layer.operations for layer in shop.layers.values())
        losses = shop.losses
        engines: dict[str, Engine] = {f"{runtime} fp32": open_with(Path(exact.path), runtime)}
        rows: dict[str, dict[str, Any]] = {}
        for factor in factors:
            lowered, parts, lost = shop.choose(factor * LOSS_BUDGET)
            name = f"{factor:g} × the budget"
            if not lowered:
                continue
            engines[name] = shop.build(lowered, work / f"{factor}.onnx")
            figures = compare(benchmark, expected, describe_benchmark(engines[name], benchmark))
            time = sum(COST[part.removesuffix("_share")] * share for part, share in parts.items())
            rows[name] = {**figures, **parts, "loss": lost, "time_by_cost": time, "passes": not objections(figures)}

        pixels = benchmark.queries[: given.images]
        rates = engine_rates(engines, pixels, given.rounds)

    print(f"{exact.spec.name} ({exact.spec.arch}, {exact.spec.height} px), by {runtime}: {len(shop.layers)} layers")
    worst: dict[str, list[dict[str, Any]]] = {}
    for to, table in losses.items():
        worst[to] = []
        print(f"\nlayers that lose most in {to}, of {sum(table.values()):.1e} in all")
        for name in sorted(table, key=lambda name: -table[name])[:WORST]:
            share = shop.layers[name].operations / operations
            worst[to].append({"layer": name, "loss": table[name], "share_of_arithmetic": share})
            print(f"  {table[name]:.1e}  {share:6.1%} of the arithmetic  {name}")
    head = ("fp32", "bf16", "int8", "loss", "1st perc.", "best kept", "gate", "time", "rate")
    print(f"\n{'':<18}" + "".join(f"{text:>11}" for text in head))
    fp32 = rates[f"{runtime} fp32"]["images_per_s"]
    for name, row in rows.items():
        row |= {**rates[name], "ratio": rates[name]["images_per_s"] / fp32}
        cells = [
            *(f"{row[f'{part}_share']:.0%}" for part in COST),
            f"{row['loss']:.1e}",
            f"{row['cosine_p01']:.5f}",
            f"{row['top1_agreement']:.2%}",
            "passes" if row["passes"] else "fails",
            f"{row['time_by_cost']:.2f}",
            f"{row['ratio']:.2f}",
        ]
        print(f"{name:<18}" + "".join(f"{cell:>11}" for cell in cells))
    passing = [row for row in rows.values() if row["passes"]]
    best = max(passing, key=lambda row: row["ratio"]) if passing else None
    finish(
        {
            "bench": "frontier",
            "engine": {"name": exact.spec.name, "sha256": exact.id},
            "runtime": runtime,
            "precision": precision,
            "worst_layers": worst,
            "rows": rows,
            "best_reference": f"{runtime} fp32",
            "ratio_to_best_reference": best["ratio"] if best else 0.0,
            "cosine_min": best["cosine_min"] if best else 0.0,
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
