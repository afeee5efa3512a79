"""What the benchmarks on a GPU need before they measure: the machine's limits, a network, its engines, and photos.

    python bench/gpu_engines.py            builds everything for this GPU, and says how long each part took
    python bench/gpu_engines.py --smoke    does the same for a small network

The engines are made as `isc-fast export` makes them, and verified on some photos. They are an ``.onnx`` file; a TensorRT plan
in fp16, built by TensorRT or, if only that is installed, by TensorRT-RTX; and packages that torch compiled, in fp16 and bf16.
On a processor the package is in fp32 and there is no TensorRT plan.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gpu import BENCH, Settings, run_bench, see_gpu
from gpu_limits import bandwidth, exact_fp32, matrix_peaks, network_work
from harness import make_photos
from rows import by_numpy, make_rows
from steps import NotHere, Result, Row, Step

SCRIPT = str(BENCH / "gpu_engines.py")
CEILINGS, NETWORK, ONNX, PLAN, ROWS = (f"prepare/{name}" for name in ("ceilings", "network", "onnx", "plan", "rows"))
PT2, PT2_BF16 = "prepare/pt2", "prepare/pt2 bf16"
CHECKED_QUERIES = 200
_VERIFIED_PHOTOS = 8  # few are enough to export an engine for timing; its cosine is measured again on all photos
_RANDOM_COSINE = 0.5
"""The cosine that an engine in lower precision has to reach with random weights. It is low, because rounding changes the
descriptors of a random network far more than those of a trained one, and the engine is made for timing, with its cosine beside
the rate. With a checkpoint the exporter's own bounds hold."""


def steps() -> list[Step]:
    """Return the steps, each with the steps that it needs."""
    return [
        Step(CEILINGS, SCRIPT, 60, order=1),
        Step(NETWORK, SCRIPT, 120, order=1),
        Step(PT2, SCRIPT, 180, order=3, needs=(NETWORK,)),
        Step(ONNX, SCRIPT, 120, order=4, needs=(NETWORK,)),
        Step(PLAN, SCRIPT, 240, order=5, needs=(ONNX,)),
        Step(ROWS, SCRIPT, 90, order=8),
        Step(PT2_BF16, SCRIPT, 180, order=9, needs=(NETWORK,)),
    ]


def files_of(settings: Settings) -> list[str]:
    """Return the paths of the JPEG files. Those of the different photos come first."""
    return sorted(str(path) for path in (settings.folder / "photos").iterdir())


def _read(settings: Settings, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((settings.folder / f"{name}.json").read_text())
    return found


def limits_of(settings: Settings) -> dict[str, Any]:
    """Return the limits that `ceilings` measured, and the cost of an image that `network` found."""
    return {"limits": _read(settings, "ceilings"), "work": _read(settings, "network")}


def peaks_of(settings: Settings) -> dict[str, float]:
    """Return the matrix peaks by precision, in operations per second."""
    return dict(_read(settings, "ceilings")["peaks"])


def input_size(settings: Settings) -> int:
    """Return the side of the network's input in pixels."""
    return int(_read(settings, "network")["size"])


def checkpoint_of(settings: Settings) -> Path:
    """Return the path of the checkpoint that is measured."""
    return Path(settings.ckpt) if settings.ckpt else settings.folder / "random.pth"


def engine_of(settings: Settings, step: str) -> Path:
    """Return the path of the engine that a step of this file makes."""
    return settings.folder / {ONNX: "v107.onnx", PLAN: "v107.plan", PT2: "v107.pt2", PT2_BF16: "v107-bf16.pt2"}[step]


def machine(settings: Settings) -> Result:
    """Describe the GPU, its driver, and the libraries that matter."""
    from isc_fast.runs.checks.doctor import installed_versions

    gpu, why = see_gpu()
    found: Result = {"gpu": gpu, "why": why, "python": platform.python_version(), "versions": installed_versions()}
    if gpu:
        import torch

        cudnn: Any = torch.backends.cudnn
        card = torch.cuda.get_device_properties(0)
        found |= {
            "capability": "{}.{}".format(*torch.cuda.get_device_capability()),
            "memory_gib": round(card.total_memory / 2**30, 1),
            "multiprocessors": card.multi_processor_count,
            "cuda_of_torch": torch.version.cuda,
            "cudnn_of_torch": cudnn.version(),
        }
    if shutil.which("nvidia-smi"):
        asked = ("driver_version", "clocks.max.sm", "clocks.max.memory", "power.limit")
        command = ["nvidia-smi", f"--query-gpu={','.join(asked)}", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        lines = done.stdout.splitlines()
        if lines and not done.returncode:
            found |= dict(zip(asked, (value.strip() for value in lines[0].split(",")), strict=False))
    return found


def ceilings(settings: Settings) -> Result:
    """Measure the matrix peaks and the bandwidth."""
    found = {"peaks": matrix_peaks(settings), "bandwidth": bandwidth(settings)}
    (settings.folder / "ceilings.json").write_text(json.dumps(found))
    return {
        "peaks_tflop_per_s": {name: peak / 1e12 for name, peak in found["peaks"].items()},  # type: ignore[attr-defined]
        "bandwidth_gb_per_s": found["bandwidth"] / 1e9,  # type: ignore[operator]
    }


def network(settings: Settings) -> Result:
    """Make the checkpoint, the photos, their pixels by the preprocessing contract, and their descriptors in fp32.

    The other rows are compared with these descriptors.
    """
    from torch_way import TorchWay

    from isc_fast.decoders.preprocessing import Preprocessing
    from isc_fast.export.photos import load_photos
    from isc_fast.networks.checkpoint import build_network, load_checkpoint

    if not settings.ckpt:
        from checkpoints import random_checkpoint

        random_checkpoint(checkpoint_of(settings), settings.arch, settings.size, settings.device)
    loaded = load_checkpoint(checkpoint_of(settings))
    size = loaded.input_size or settings.size
    folder = settings.folder / "photos"
    made = make_photos(folder, settings.photos, (settings.photo_width, settings.photo_height))
    for number in range(settings.photos, settings.files):
        (folder / f"{number:05d}.jpg").hardlink_to(made[number % settings.photos])
    pixels = load_photos([Path(path) for path in made], Preprocessing(size, size))
    net = build_network(loaded)
    work = network_work(net, size)
    exact_fp32()
    way = TorchWay(net, device=settings.device)
    expected = np.concatenate([way.run(pixels[start : start + 4]) for start in range(0, len(pixels), 4)])
    np.save(settings.folder / "pixels.npy", pixels)
    np.save(settings.folder / "expected.npy", expected)
    (settings.folder / "network.json").write_text(json.dumps({**work, "size": size}))
    scores = expected @ expected.T
    between = float((scores.sum() - np.trace(scores)) / (len(expected) * (len(expected) - 1)))
    return {
        "arch": loaded.arch,
        "size": size,
        "weights": settings.ckpt or "random",
        "gflop_per_image": work["operations"] / 1e9,
        "mb_per_image_in_fp16": work["moved"] * 2 / 1e6,
        "mb_of_weights_in_fp16": work["weights"] * 2 / 1e6,
        "cosine_between_photos": between,  # if it is near 1, all descriptors are alike, and cosines say little
    }


def _export(settings: Settings, step: str, source: Path, **options: Any) -> Result:
    from isc_fast.assets import demo_photos
    from isc_fast.export import export_engine

    def log(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    photos = demo_photos()[:_VERIFIED_PHOTOS]
    made = export_engine(source, engine_of(settings, step), photos=photos, log=log, **options)
    return {
        "precision": made.spec.precision,
        "export_s": round(made.seconds, 1),
        "megabytes": round(made.size_bytes / 1e6, 1),
        "parity": dict(made.spec.parity),
        "tools": dict(made.spec.tools),
    }


def onnx(settings: Settings) -> Result:
    """Export the fp32 engine. ONNX Runtime runs it, and the TensorRT plan is built from it."""
    size = input_size(settings)
    return _export(settings, ONNX, checkpoint_of(settings), size=size)


def plan(settings: Settings) -> Result:
    """Build the TensorRT plan, tuned for 64 images in one execution."""
    if settings.device != "cuda":
        raise NotHere("a plan is built for an NVIDIA GPU only")
    from isc_fast.export.targets import to_plan

    if not settings.ckpt:
        to_plan.MIN_COSINE["fp16"] = _RANDOM_COSINE
    return _export(settings, PLAN, engine_of(settings, ONNX), precision="fp16", batch=(1, 64, 64))


def _package(settings: Settings, step: str, precision: str) -> Result:
    options: dict[str, Any] = {} if settings.ckpt or precision == "fp32" else {"min_cosine": _RANDOM_COSINE}
    size = input_size(settings)
    return _export(
        settings,
        step,
        checkpoint_of(settings),
        size=size,
        precision=precision,
        device=settings.device,
        **options,
    )


def pt2(settings: Settings) -> Result:
    """Export the package that torch compiles, in fp16 on a GPU."""
    return _package(settings, PT2, settings.half)


def pt2_bf16(settings: Settings) -> Result:
    """Export the package that torch compiles, in bf16."""
    if settings.device != "cuda":
        raise NotHere("a .pt2 engine in bf16 is for a GPU")
    return _package(settings, PT2_BF16, "bf16")


def rows(settings: Settings) -> Result:
    """Make descriptors to search, and the exact answer for some of the queries, in double precision."""
    xq, xb = make_rows(settings.queries, settings.references, settings.dim)
    scores, indices = by_numpy(xq[:CHECKED_QUERIES].astype(np.float64), xb, settings.k)
    for name, array in (("queries", xq), ("references", xb), ("scores", scores), ("indices", indices)):
        np.save(settings.folder / f"{name}.npy", array)
    return {"queries": len(xq), "references": len(xb), "dim": settings.dim, "k": settings.k}


_ROWS: dict[str, Row] = {
    "machine": machine,
    "ceilings": ceilings,
    "network": network,
    "onnx": onnx,
    "plan": plan,
    "pt2": pt2,
    "pt2 bf16": pt2_bf16,
    "rows": rows,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Build and print."""
    return run_bench("prepare", __doc__, steps(), _ROWS, arguments)


if __name__ == "__main__":
    sys.exit(main())
