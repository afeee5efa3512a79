"""What the benchmarks on a GPU share: the settings, the GPU's ceilings, the timing, and the way to run a benchmark.

docs/gpu.md says what has run on a GPU so far. With ``--device cpu`` all of these benchmarks run on a processor; the tests run
them that way.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from harness import PHOTO_SIZE, finish, interleaved
from steps import BAD, OK, Result, Row, Step, import_ahead, run_steps, say, serve, with_needs

if TYPE_CHECKING:
    pass

BENCH = Path(__file__).resolve().parent
MACHINE = Step("prepare/machine", str(BENCH / "gpu_engines.py"), 120, needs_gpu=False)
"""The step that describes the machine. It comes first, because it says whether there is a GPU."""
_BENCH_BUDGET_S = 3600.0
REFERENCE = "reference"
"""The name of the row with which the others of its group are compared."""


@dataclass(frozen=True)
class Settings:
    """What a benchmark measures. The defaults are v107's network on one large GPU.

    Attributes:
        work: folder in which steps leave files for each other.
        device: ``"cuda"``, or ``"cpu"`` to try the benchmarks out.
        ckpt: path of the checkpoint; empty for random weights.
        arch, size: backbone of the random network, and the side of its input in pixels.
        batches: numbers of images in one call, for ways that take any number.
        photos: number of different photos; descriptors and pixels are compared on these.
        files: number of JPEG files in the timed decoding; they are copies of those photos.
        photo_width, photo_height: size of the photos in pixels.
        rounds: number of timed turns; their median counts.
        seconds: least time of a turn, if its work can be repeated.
        side: side of the square matrices that measure the peak.
        queries, references, dim, k: numbers of queries and references, dimensions, and neighbours of the search.
    """

    work: str
    device: str = "cuda"
    ckpt: str = ""
    arch: str = "tf_efficientnetv2_m"
    size: int = 512
    batches: tuple[int, ...] = (32, 128, 256)
    photos: int = 60
    files: int = 3840
    photo_width: int = PHOTO_SIZE[0]
    photo_height: int = PHOTO_SIZE[1]
    rounds: int = 3
    seconds: float = 0.5
    side: int = 8192
    queries: int = 10_000
    references: int = 1_000_000
    dim: int = 256
    k: int = 10

    @property
    def folder(self) -> Path:
        """Return ``work`` as a path."""
        return Path(self.work)

    @property
    def half(self) -> str:
        """Return the lower precision in which engines are made for the device: fp16 on a GPU, none on a processor."""
        return "fp16" if self.device == "cuda" else "fp32"

    def small(self) -> Settings:
        """Return settings so small that they take seconds on a processor."""
        return replace(
            self,
            arch="test_resnet",
            size=64,
            batches=(2, 4),
            photos=6,
            files=12,
            photo_width=160,
            photo_height=120,
            rounds=1,
            seconds=0.0,
            side=256,
            queries=60,
            references=3000,
            dim=64,
        )

    def to_json(self) -> str:
        """Write the settings as JSON for `from_json`."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Settings:
        """Read settings that `to_json` wrote."""
        values = json.loads(text)
        return Settings(**{**values, "batches": tuple(values["batches"])})


def see_gpu() -> tuple[str | None, str]:
    """Return the name of the GPU that torch can use, or None, and a text that says why there is none. It loads torch."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return None, f"torch does not import ({error})"
    if not torch.cuda.is_available():
        return None, f"torch {torch.__version__} (CUDA {torch.version.cuda}) sees no NVIDIA GPU"
    return str(torch.cuda.get_device_name()), ""


def wait_for(device: str) -> Callable[[], object]:
    """Return a function that waits until the device has done all work that torch has queued there."""
    if device != "cuda":
        return lambda: None
    import torch

    return torch.cuda.synchronize


@contextlib.contextmanager
def on_gpu(pixels: npt.NDArray[np.uint8]) -> Iterator[int]:
    """Copy an array into the GPU's memory and yield its address. This uses our own binding of CUDA and not torch."""
    from isc_fast.machine import cuda

    stream, device, host = cuda.Stream(), cuda.DeviceBuffer(pixels.nbytes), cuda.PinnedBuffer(pixels.nbytes)
    try:
        host.array(pixels.shape, np.uint8)[:] = pixels
        cuda.copy(device.pointer, host.pointer, pixels.nbytes, "to device", stream)
        stream.synchronize()
        yield device.pointer
    finally:
        for resource in (stream, host, device):
            resource.close()


def rate_of(work: Callable[[], object], images: int, settings: Settings) -> dict[str, float]:
    """Time work, which is repeated until a turn takes long enough. The clock stops when the device is done.

    Args:
        work: function that describes, decodes, … ``images`` images. It may return before the device is done with them.
        images: number of images of one call.
        settings: number and least time of the turns.

    Returns:
        the median rate and its range, in images/s.
    """
    wait = wait_for(settings.device)
    for _ in range(3 if settings.seconds else 1):  # the first calls choose kernels and allocate memory
        work()
    wait()
    began = time.perf_counter()
    work()
    wait()
    times = max(1, math.ceil(settings.seconds / max(time.perf_counter() - began, 1e-6)))

    def turn() -> int:
        for _ in range(times):
            work()
        wait()
        return images * times

    return interleaved({"": turn}, settings.rounds)[""]


def cosines(found: Any, expected: Any) -> dict[str, float]:
    """Return the worst and the mean cosine between the rows of two arrays."""
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    each = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return {"cosine_min": float(each.min()), "cosine_mean": float(each.mean())}


def add_ratios(rows: dict[str, Result]) -> None:
    """Add to each rate its ratio to the reference row of its group, if that row has a rate."""
    for name, row in rows.items():
        group = name.partition("/")[0]
        reference = rows.get(f"{group}/{REFERENCE}", {}).get("images_per_s")
        if reference and row.get("images_per_s"):
            row["ratio_to_reference"] = row["images_per_s"] / reference


def table(rows: Mapping[str, Result]) -> str:
    """Return the results as text, one row a line."""
    lines = []
    for name, row in rows.items():
        line = f"{name:<30} {row['state']:<8}"
        if row.get("images_per_s"):
            line += f" {row['images_per_s']:12,.1f}/s"
            for key, text in (("ratio_to_reference", "{:.2f} × reference"), ("share_of_ceiling", "{:.0%} of the ceiling"),
                              ("share_of_slower_part", "{:.0%} of the slower part"), ("cosine_min", "cosine {:.6f}"),
                              ("same_ids", "{:.1%} same ids")):  # fmt: skip
                if row.get(key) is not None:
                    line += "  " + text.format(row[key])
        lines.append(line + (f"  {row['reason']}" if row.get("reason") else ""))
    return "\n".join(lines)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser of the options that all of these scripts have."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--ckpt", default="", help="checkpoint; by default random weights")
    made.add_argument(
        "--device", choices=("cuda", "cpu"), help="by default cuda; with --smoke cpu where there is no GPU"
    )
    made.add_argument("--smoke", action="store_true", help="a small network, few images, one round")
    made.add_argument("--only", nargs="+", metavar="WORD", help="rows whose name holds one of these words")
    made.add_argument("--row", help=argparse.SUPPRESS)
    made.add_argument("--settings", help=argparse.SUPPRESS)
    return made


def settings_of(given: argparse.Namespace, work: str, device: str) -> Settings:
    """Return the settings that the options ask for."""
    made = Settings(work=work, device=device, ckpt=os.path.abspath(given.ckpt) if given.ckpt else "")
    return made.small() if given.smoke else made


@dataclass(frozen=True)
class Check:
    """The results of some steps.

    Attributes:
        gpu: name of the GPU, or None if none is used.
        why: the reason why no GPU is used.
        device: the device that was measured.
        settings: the settings as plain data.
        rows: results by the names of steps.
        seconds: time of all steps together.
    """

    gpu: str | None
    why: str
    device: str
    settings: dict[str, Any]
    rows: dict[str, Result]
    seconds: float

    @property
    def status(self) -> int:
        """Return the exit status: 0, 1 if a row failed, 3 if a GPU was wanted and there is none."""
        states = {row["state"] for row in self.rows.values()}
        if states & set(BAD):
            return 1
        return 3 if self.device == "cuda" and not self.gpu else 0


def run_check(chosen: Sequence[Step], given: argparse.Namespace, budget_s: float) -> Check:
    """Run steps in a temporary folder. `MACHINE` runs first, even if it is not among them."""
    began = time.monotonic()
    ends = began + budget_s
    with tempfile.TemporaryDirectory(prefix="isc-fast-bench-") as work:
        settings = settings_of(given, work, given.device or "cuda")
        if given.smoke:
            import_ahead(("torch", "timm"))
        found = run_steps([MACHINE], settings.to_json(), ends=ends, gpu=False, fork=given.smoke)
        machine = found[MACHINE.name]
        gpu, why = machine.get("gpu"), machine.get("why") or machine.get("reason", "")
        if not given.device and given.smoke and not gpu:
            settings = replace(settings, device="cpu")
        rest = [step for step in chosen if step.name != MACHINE.name]
        can = bool(gpu) or settings.device == "cpu"
        run_steps(rest, settings.to_json(), ends=ends, gpu=can, why_no_gpu=why, found=found, fork=given.smoke)
    add_ratios(found)
    plain = {key: value for key, value in asdict(settings).items() if key != "work"}
    used = gpu if settings.device == "cuda" else None
    return Check(used, why, settings.device, plain, found, time.monotonic() - began)


def run_bench(
    group: str, doc: str | None, steps: Sequence[Step], rows: Mapping[str, Row], arguments: Sequence[str] | None
) -> int:
    """Run one benchmark as a program: all of its rows, or only the one that ``--row`` names, in this process.

    Args:
        group: the group of its rows.
        doc: the text that ``--help`` shows.
        steps: its rows, and those that may have to run before them.
        rows: the functions that compute its own rows, by name.
        arguments: arguments of the command line.

    Returns:
        the exit status; see `Check.status`.
    """
    given = parser(doc).parse_args(arguments)
    if given.row:
        return serve(rows, given.row, Settings.from_json(given.settings))
    words = given.only or [""]
    chosen = with_needs(steps, lambda step: step.name.startswith(f"{group}/") and any(w in step.name for w in words))
    check = run_check(chosen, given, _BENCH_BUDGET_S)
    print(table(check.rows))
    done = {name: row for name, row in check.rows.items() if row["state"] == OK and name.startswith(f"{group}/")}
    ratios = [row["ratio_to_reference"] for name, row in done.items()
              if "ratio_to_reference" in row and not name.endswith(f"/{REFERENCE}")]  # fmt: skip
    finish(
        {
            "bench": f"gpu_{group}",
            "gpu": check.gpu,
            "device": check.device,
            "settings": check.settings,
            "rows": check.rows,
            "ratio_to_best_reference": max(ratios, default=None),
            "best_reference": f"{group}/{REFERENCE}",
            "cosine_min": min((row["cosine_min"] for row in done.values() if "cosine_min" in row), default=None),
        }
    )
    if check.status == 3:
        say(f"no GPU: {check.why}")
    return check.status
