"""JPEG files → descriptors, the reference way and ours, side by side in one run.

    python bench/pipeline.py                 the network of v107 (random weights) at 512 × 512
    python bench/pipeline.py --ckpt v107.pth the published weights
    python bench/pipeline.py --smoke         takes seconds with a small network and shows only that it runs

The reference way is the reference solution's extraction: a torch DataLoader whose processes decode with PIL, torchvision's
Resize, ToTensor and Normalize, and the network in torch's eager mode. It gets slower as the batch grows, so it is measured at
each given batch size, and the ratio is against its best. Ours is `isc_fast.extract` as a user calls it, including the listing,
part files and fsync. It runs in fp32 by ONNX Runtime. If the processor computes in bf16, it also runs by OpenVINO in bf16 and
in a mix of int8 and bf16, each for the share of the arithmetic that passed the accuracy gate on a trained network
(`networks.ACCEPTED`). All ways run the same weights on the same files. The accuracy beside the ratio is the cosine with the
reference's result. The matrix peak sets the machine's limit for this network: the network takes 95 % of the time on a
processor.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checkpoints import random_checkpoint
from harness import PHOTO_SIZE, finish, interleaved, make_photos
from networks import ACCEPTED, lowered_engine
from reference import reference_way

import isc_fast
from isc_fast.assets import demo_photos
from isc_fast.export import export_engine
from isc_fast.machine.cores import available_cores, has_bf16
from isc_fast.networks.checkpoint import build_network, load_checkpoint


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", help="checkpoint; by default random weights")
    parser.add_argument("--arch", default="tf_efficientnetv2_m", help="backbone of the random network")
    parser.add_argument("--size", type=int, default=512, help="side of the random network's input in pixels")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 32], help="batch sizes of the reference way")
    parser.add_argument("--smoke", action="store_true", help="a small network, few images, one round")
    given = parser.parse_args(arguments)
    photo_size = PHOTO_SIZE
    if given.smoke:
        given.arch, given.size, given.images, given.rounds, given.batches = "test_resnet", 64, 6, 1, [2]
        photo_size = (160, 120)
    torch.set_num_threads(available_cores())
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        paths = make_photos(work / "photos", given.images, photo_size)
        checkpoint = Path(given.ckpt) if given.ckpt else work / "random.pth"
        if not given.ckpt:
            random_checkpoint(checkpoint, given.arch, given.size)
        loaded = load_checkpoint(checkpoint)
        size = loaded.input_size or given.size
        report = export_engine(
            checkpoint, work / "engine.onnx", size=size, photos=demo_photos()[:4] if given.smoke else None
        )
        net, engine = build_network(loaded), isc_fast.load_engine(report.path)

        engines: dict[str, isc_fast.Engine] = {"fp32": engine}
        for precision, (int8, bf16) in ACCEPTED.items():
            if precision == "int8" or not has_bf16() or importlib.util.find_spec("openvino") is None:
                continue
            made = work / f"{precision}.onnx"
            lowered_engine(report.path, made, precision, int8, bf16, "openvino")
            engines[precision] = isc_fast.load_engine(made)
        results: dict[str, np.ndarray[Any, Any]] = {}

        def reference(batch: int) -> Callable[[], int]:
            def run() -> int:
                results["reference"] = reference_way(net, paths, size, batch)
                return len(paths)

            return run

        def ours(precision: str) -> Callable[[], int]:
            def run() -> int:
                shutil.rmtree(work / "out", ignore_errors=True)
                (work / "out").mkdir()
                made = isc_fast.extract(work / "photos", engines[precision], work / "out" / "out.h5")
                results[precision] = isc_fast.read_descriptors(made.path).vectors
                return made.computed

            return run

        ways = {f"reference, batch {batch}": reference(batch) for batch in given.batches}
        for precision, loaded_engine in engines.items():
            ways[f"isc-fast {precision}, batch {loaded_engine.default_batch_size}"] = ours(precision)
        for run in ways.values():
            run()  # warm-up
        rates = interleaved(ways, given.rounds)

    references = [name for name in rates if name.startswith("reference")]
    best = max(references, key=lambda name: rates[name]["images_per_s"])
    cosines = {name: (results["reference"] * found).sum(1) for name, found in results.items()}
    ratios = {}
    for name, rate in rates.items():
        ratios[name] = rate["images_per_s"] / rates[best]["images_per_s"]
        print(
            f"{name:<30} {rate['images_per_s']:8.2f} images/s   ({rate['min']:.2f} to {rate['max']:.2f})"
            f"   {ratios[name]:.2f} × the {best}"
        )
    for precision in engines:
        note = "" if precision == "fp32" or given.ckpt else "; random weights, so judge precision by bench/precision.py"
        found = cosines[precision]
        print(f"cosine of {precision} with the reference: worst {found.min():.7f}, mean {found.mean():.7f}{note}")
    network = {"arch": loaded.arch, "size": size, "weights": given.ckpt or "random"}
    finish(
        {
            "bench": "pipeline",
            "network": network,
            "images": len(paths),
            "rounds": given.rounds,
            "rates": rates,
            "ratio_to_best_reference": next(ratio for name, ratio in ratios.items() if "fp32" in name),
            "ratios": ratios,
            "best_reference": best,
            "cosine_min": float(cosines["fp32"].min()),
            "cosine_mean": float(cosines["fp32"].mean()),
            "cosine_min_by_precision": {name: float(cosines[name].min()) for name in engines},
            "shares_of_arithmetic": {name: ACCEPTED[name] for name in engines if name in ACCEPTED},
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
