"""The network alone, pixels → descriptors: runtimes, precisions and each step of graph work, beside the reference way.

    python bench/engine.py                 the network of v107 (random weights) at 512 × 512
    python bench/engine.py --ckpt v107.pth the published weights
    python bench/engine.py --plot rates.svg  draws the rates beside their ceilings
    python bench/engine.py --smoke         takes seconds with a small network and shows only that it runs

The reference way is torch in eager mode in fp32, at its best batch. The ceiling of a row is the processor's peak in the
row's precision, divided by the cost of one image. The peak is measured in the same run, by products of square matrices with
torch on all cores. The cost is two operations for each multiplication of every convolution. For a mix of precisions, the
times of the shares are added.

The rows in lower precisions exist twice: for the share of the arithmetic that passed the accuracy gate on a trained network
(`networks.ACCEPTED`), and for all of the arithmetic. The cosine in each row compares descriptors with torch's. Without --ckpt
the weights are random, and such a network describes all photos nearly alike: judge accuracy by `precision.py`.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from checkpoints import random_checkpoint
from harness import finish, interleaved
from networks import ACCEPTED, lowered_engine
from plots import add_plot, plot_ceilings
from torch_way import Pixels, TorchWay

from isc_fast.assets import demo_photos
from isc_fast.decoders.preprocessing import Preprocessing
from isc_fast.engines.base import open_with
from isc_fast.errors import require
from isc_fast.export import export_engine
from isc_fast.export.photos import load_photos
from isc_fast.export.precision.layers import find_layers, load_graph, surroundings
from isc_fast.export.precision.precision_graph import with_fixed_batch
from isc_fast.export.targets.fold import fold_norms
from isc_fast.export.verify import describe
from isc_fast.machine.cores import available_cores, has_bf16
from isc_fast.networks.checkpoint import build_network, load_checkpoint
from isc_fast.review.drawing import check_plot

Run = Callable[[Pixels], npt.NDArray[np.float32]]


def matrix_peaks(side: int, rounds: int) -> dict[str, float]:
    """Measure the best rate of square matrix products on all cores, in operations per second, for each precision."""
    a32 = torch.randn(side, side)
    a16, a8 = a32.bfloat16(), (a32 * 20).to(torch.int8)
    ways: dict[str, Callable[[], Any]] = {"fp32": lambda: a32 @ a32, "bf16": lambda: a16 @ a16}
    if hasattr(torch, "_int_mm"):
        ways["int8"] = lambda: torch._int_mm(a8, a8)
    found = {}
    for name, product in ways.items():
        if name == "bf16" and not has_bf16():
            continue
        seconds = []
        for _ in range(rounds + 1):
            began = time.perf_counter()
            product()
            seconds.append(time.perf_counter() - began)
        found[name] = 2 * side**3 / min(seconds[1:])
    return found


def session_way(model: Any, *, optimized: bool = True) -> Run:
    """Return a function that runs a graph by ONNX Runtime."""
    onnxruntime = require("onnxruntime", "cpu")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {name: pixels})[0]


def without_normalization(path: Path) -> Any:
    """Return the graph without the subtraction and the product that normalise pixels.

    Its rate shows the most that folding the two into the first convolution could gain.
    """
    model = load_graph(path)
    before_first = set(surroundings(model, find_layers(model)))
    source: dict[str, str] = {}
    kept = []
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = source.get(name, name)
        if node.op_type in ("Sub", "Mul") and node.name in before_first and len(source) < 2:
            source[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    model.graph.ClearField("node")
    model.graph.node.extend(copies)
    return model


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", help="checkpoint; by default random weights")
    parser.add_argument("--arch", default="tf_efficientnetv2_m", help="backbone of the random network")
    parser.add_argument("--size", type=int, default=512, help="side of the random network's input in pixels")
    parser.add_argument("--images", type=int, default=4, help="images that each way describes in each turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="a small network, few images, one round")
    add_plot(parser)
    given = parser.parse_args(arguments)
    if given.plot:
        check_plot(given.plot)
    side = 1536
    if given.smoke:
        given.arch, given.size, given.images, given.rounds, side = "test_resnet", 64, 4, 1, 256
    torch.set_num_threads(available_cores())
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        checkpoint = Path(given.ckpt) if given.ckpt else work / "random.pth"
        if not given.ckpt:
            random_checkpoint(checkpoint, given.arch, given.size)
        loaded = load_checkpoint(checkpoint)
        size = loaded.input_size or given.size
        fp32 = export_engine(checkpoint, work / "fp32.onnx", size=size, photos=demo_photos()[:4]).path
        net = build_network(loaded)
        pixels = load_photos(demo_photos()[: given.images], Preprocessing(size, size))
        folded = fold_norms(net, pixels[:2])
        layers = find_layers(load_graph(fp32))
        operations = sum(layer.operations for layer in layers)

        # name → (function that runs it, images in one call, shares of the arithmetic by precision)
        ways: dict[str, tuple[Run, int, dict[str, float]]] = {}
        all_fp32 = {"fp32": 1.0}
        for batch in dict.fromkeys((1, given.images)):
            ways[f"reference: torch eager, batch {batch}"] = TorchWay(net).run, batch, all_fp32
        ways["torch, channels_last"] = TorchWay(build_network(loaded), channels_last=True).run, 1, all_fp32
        ways["torch, channels_last, BN folded"] = TorchWay(folded, channels_last=True).run, 1, all_fp32
        if has_bf16():
            ways["torch, channels_last, bf16 autocast"] = (
                TorchWay(build_network(loaded), channels_last=True, autocast=torch.bfloat16).run,
                given.images,
                {"bf16": 1.0},
            )
        plain = onnx.load(fp32)
        ways["onnxruntime, its optimisations off"] = session_way(plain, optimized=False), 1, all_fp32
        ways["onnxruntime fp32"] = open_with(fp32, "onnxruntime").run, 1, all_fp32
        ways["onnxruntime fp32, fixed batch"] = session_way(with_fixed_batch(plain, 1)), 1, all_fp32
        ways["onnxruntime fp32, no normalisation"] = session_way(without_normalization(fp32)), 1, all_fp32
        lower = {"onnxruntime int8": ("int8", 1.0, 0.0, "onnxruntime")}
        if importlib.util.find_spec("openvino") is not None:
            ways["openvino fp32"] = open_with(fp32, "openvino").run, given.images, all_fp32
            lower["openvino int8"] = ("int8", 1.0, 0.0, "openvino")
            if has_bf16():
                lower["openvino bf16"] = ("bf16", 0.0, 1.0, "openvino")
                lower["openvino bf16, as accepted"] = ("bf16", *ACCEPTED["bf16"], "openvino")
                lower["openvino int8, bf16 around it"] = ("int8-bf16", 1.0, 0.0, "openvino")
                lower["openvino int8-bf16, as accepted"] = ("int8-bf16", *ACCEPTED["int8-bf16"], "openvino")
        for number, (name, (precision, int8, bf16, runtime)) in enumerate(lower.items()):
            made = work / f"{number}.onnx"
            lowered_engine(fp32, made, precision, int8, bf16, runtime)
            shares = {"int8": int8, "bf16": bf16, "fp32": 1 - int8 - bf16}
            ways[name] = open_with(made, runtime).run, given.images, shares

        expected = describe(net, pixels)
        cosines = {}
        for name, (run, batch, _) in ways.items():
            found = np.concatenate([run(pixels[start : start + batch]) for start in range(0, len(pixels), batch)])
            cosines[name] = (found.astype(np.float64) * expected).sum(axis=1)

        def turn(run: Run, batch: int) -> Callable[[], int]:
            def once() -> int:
                for start in range(0, len(pixels), batch):
                    run(pixels[start : start + batch])
                return len(pixels)

            return once

        peaks = matrix_peaks(side, 5)
        rates = interleaved({name: turn(run, batch) for name, (run, batch, _) in ways.items()}, given.rounds)
        again = matrix_peaks(side, 5)
        peaks = {name: max(peaks[name], again[name]) for name in peaks}

    best = max((name for name in rates if name.startswith("reference")), key=lambda name: rates[name]["images_per_s"])
    print(f"{loaded.arch} at {size} × {size}: {operations / 1e9:.1f} GFLOP in {len(layers)} convolutions; peaks "
          + ", ".join(f"{name} {peak / 1e9:.0f} GFLOP/s" for name, peak in peaks.items()))  # fmt: skip
    print(f"{'':<38}{'images/s':>9}{'spread':>16}{'ratio':>7}{'ceiling':>9}{'cosine, worst':>15}")
    rows = {}
    for name, rate in rates.items():
        shares = {precision: share for precision, share in ways[name][2].items() if share}
        seconds = sum(
            share * operations / peaks[precision] for precision, share in shares.items() if precision in peaks
        )
        of_ceiling = rate["images_per_s"] * seconds if shares.keys() <= peaks.keys() else None
        rows[name] = {
            **rate,
            "batch": ways[name][1],
            "ratio": rate["images_per_s"] / rates[best]["images_per_s"],
            "share_of_ceiling": of_ceiling,
            "shares_of_arithmetic": shares,
            "cosine_min": float(cosines[name].min()),
            "cosine_mean": float(cosines[name].mean()),
        }
        row = rows[name]
        spread = f"{rate['min']:.2f}–{rate['max']:.2f}"
        ceiling = "–" if of_ceiling is None else f"{of_ceiling:.0%}"
        print(
            f"{name:<38}{rate['images_per_s']:>9.2f}{spread:>16}{row['ratio']:>7.2f}{ceiling:>9}{row['cosine_min']:>15.7f}"
        )
    if given.plot:
        plot_ceilings(
            given.plot,
            rows,
            f"{loaded.arch} at {size} × {size}, {operations / 1e9:.1f} GFLOP an image, {available_cores()} cores",
        )
    own = max(("onnxruntime fp32", "openvino fp32"), key=lambda name: rows.get(name, {}).get("ratio", 0.0))
    finish(
        {
            "bench": "engine",
            "network": {"arch": loaded.arch, "size": size, "weights": given.ckpt or "random"},
            "gflop_per_image": operations / 1e9,
            "peaks_gflop_per_s": {name: peak / 1e9 for name, peak in peaks.items()},
            "rounds": given.rounds,
            "rows": rows,
            "best_reference": best,
            "best_fp32": own,
            "ratio_to_best_reference": rows[own]["ratio"],
            "cosine_min": rows[own]["cosine_min"],
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
