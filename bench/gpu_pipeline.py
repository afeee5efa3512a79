"""JPEG files → a file of descriptors on a GPU: `isc_fast.extract` end to end, beside its two parts alone and the reference way.

    python bench/gpu_pipeline.py                   the network of v107 (random weights) at 512 × 512, 3,840 files
    python bench/gpu_pipeline.py --ckpt v107.pth   the published weights
    python bench/gpu_pipeline.py --smoke           takes minutes with a small network; on the processor without a GPU

The reference way is a torch DataLoader with a PIL process on every core and torch in eager mode with fp16 autocast, at its best
batch. Ours is `isc_fast.extract` as a user calls it, including the listing, part files and fsync. Each row times three things
in turn, round after round: the whole; its decoder without a network; and its engine without a decoder, on pixels that lie where
the decoder leaves them. ``share_of_slower_part`` is the rate of the whole divided by the rate of the slower of the two parts; 1
is the most that overlapping them can give. Each row also gives the cosine with the network in fp32 on Pillow's pixels. The goals
are at least 0.9 of the slower part, and 5 × the reference way on the same machine.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
from gpu import BENCH, REFERENCE, Settings, cosines, on_gpu, run_bench, wait_for
from gpu_decode import drained
from gpu_engines import NETWORK, ONNX, PLAN, PT2, checkpoint_of, engine_of, files_of, input_size
from gpu_engines import steps as preparation
from harness import interleaved
from steps import NotHere, Result, Row, Step, so_far

from isc_fast.decoders.base import Decoder, DeviceDecoder, make_decoder

Pixels = npt.NDArray[np.uint8]
SCRIPT = str(BENCH / "gpu_pipeline.py")


def steps() -> list[Step]:
    """Return the rows, each with the steps that it needs."""
    return [
        Step(f"pipeline/{REFERENCE}", SCRIPT, 90, order=2, needs=(NETWORK,)),
        Step("pipeline/pt2 + turbo", SCRIPT, 60, order=3, needs=(NETWORK, PT2)),
        Step("pipeline/plan + dali", SCRIPT, 60, order=5, needs=(NETWORK, PLAN)),
        Step("pipeline/plan + turbo", SCRIPT, 60, order=5, needs=(NETWORK, PLAN)),
        Step("pipeline/onnx + turbo", SCRIPT, 90, order=7, needs=(NETWORK, ONNX)),
        Step("pipeline/onnx + dali", SCRIPT, 90, order=8, needs=(NETWORK, ONNX)),
    ]


def timed(
    whole: Callable[[], object], decoding: Callable[[], object], model: Callable[[], object], settings: Settings
) -> Result:
    """Time the whole and its two parts in turn. Each processes all files."""
    wait = wait_for(settings.device)

    def turn(work: Callable[[], object]) -> Callable[[], int]:
        def run() -> int:
            work()
            wait()
            return settings.files

        return run

    ways = {name: turn(work) for name, work in (("whole", whole), ("decode", decoding), ("model", model))}
    for run in ways.values():
        run()  # the first run chooses kernels, allocates memory and reads files
    rates = interleaved(ways, settings.rounds)
    slower = min(("decode", "model"), key=lambda name: rates[name]["images_per_s"])
    return {
        **rates["whole"],
        "decode_alone": rates["decode"],
        "model_alone": rates["model"],
        "slower_part": slower,
        "share_of_slower_part": rates["whole"]["images_per_s"] / rates[slower]["images_per_s"],
    }


def _reference(settings: Settings) -> Result:
    import torch
    from reference import half_precision, photo_batches, reference_way

    from isc_fast.networks.checkpoint import build_network, load_checkpoint

    device, paths, side = settings.device, files_of(settings), input_size(settings)
    net = build_network(load_checkpoint(checkpoint_of(settings))).to(device).to(memory_format=torch.channels_last)
    expected = np.load(settings.folder / "expected.npy")
    result: Result = {}
    by_batch: dict[int, Result] = {}
    for batch in settings.batches[-2:]:
        found: list[Any] = []
        images = torch.zeros(batch, 3, side, side, device=device).to(memory_format=torch.channels_last)

        def whole(batch: int = batch, found: list[Any] = found) -> None:
            found[:] = [reference_way(net, paths, side, batch, device=device, half=True)]

        def decoding(batch: int = batch) -> None:
            for _ in photo_batches(net, paths, side, batch, pinned=device == "cuda"):
                pass

        def model(batch: int = batch, images: torch.Tensor = images) -> None:
            with torch.inference_mode(), half_precision(device):
                for start in range(0, len(paths), batch):
                    net(images[: len(paths) - start])

        by_batch[batch] = {**timed(whole, decoding, model, settings), **cosines(found[0][: len(expected)], expected)}
        best = max(by_batch, key=lambda size: by_batch[size]["images_per_s"])
        result = {**by_batch[best], "batch": best, "by_batch": by_batch}
        so_far(result)
    return result


def engine_alone(engine: Any, count: int, pixels: Pixels, pointer: int | None) -> Callable[[], None]:
    """Return a function that gives an engine as many images as there are files.

    If the engine can begin a batch before the last one is done, the function is always one batch ahead.

    Args:
        engine: see `isc_fast.engines.base.Engine`.
        count: number of images.
        pixels: one batch of images.
        pointer: address of the same batch on the GPU, if the engine is to read it there.
    """
    counts = [min(len(pixels), count - start) for start in range(0, count, len(pixels))]

    def begin(number: int) -> Any:
        return engine.start(pixels[:number]) if pointer is None else engine.start_device(pointer, number)

    def one_ahead() -> None:
        before = None
        for number in counts:
            pending = begin(number)
            if before is not None:
                before.result()
            before = pending
        if before is not None:
            before.result()

    def one_by_one() -> None:
        for number in counts:
            engine.run(pixels[:number])

    return one_ahead if hasattr(engine, "start") else one_by_one


def _decoder(name: str, device: str) -> Decoder:
    """Make a decoder. On a processor DALI's own processor pipeline replaces the GPU's."""
    return make_decoder("dali-cpu" if name == "dali" and device == "cpu" else name)


def extraction(step: str, decoder_name: str) -> Row:
    """Return the row that extracts with this engine and this decoder."""

    def row(settings: Settings) -> Result:
        import isc_fast

        if step == PLAN and settings.device != "cuda":
            raise NotHere("a plan runs on an NVIDIA GPU only")
        decoder = _decoder(decoder_name, settings.device)
        engine = isc_fast.load_engine(engine_of(settings, step), device=settings.device)
        paths, side, batch = files_of(settings), input_size(settings), engine.default_batch_size
        pixels, expected = (np.load(settings.folder / f"{name}.npy") for name in ("pixels", "expected"))
        out = settings.folder / f"out-{step.partition('/')[2]}-{decoder_name}"

        def whole() -> None:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            made = isc_fast.extract(settings.folder / "photos", engine, out / "out.h5", decoder=decoder.name)
            if made.count != len(paths):
                raise RuntimeError(f"{made.count} of {len(paths)} good photos were described")

        def decoding() -> None:
            drained(decoder, paths, side, batch, stay=hasattr(engine, "run_device"))

        stays = isinstance(decoder, DeviceDecoder) and hasattr(engine, "run_device")
        some = np.ascontiguousarray(np.resize(pixels, (batch, *pixels.shape[1:])))
        with on_gpu(some) if stays else nullcontext() as there:
            result = timed(whole, decoding, engine_alone(engine, len(paths), some, there), settings)
        found = isc_fast.read_descriptors(out / "out.h5").vectors[: len(expected)]
        result |= {
            **cosines(found, expected),
            "precision": engine.spec.precision,
            "engine": engine.device,
            "decoder": decoder.name,
            "batch": batch,
            "pixels_stay_on_gpu": stays,
        }
        return result

    return row


ROWS: dict[str, Row] = {
    REFERENCE: _reference,
    "plan + dali": extraction(PLAN, "dali"),
    "plan + turbo": extraction(PLAN, "turbo"),
    "pt2 + turbo": extraction(PT2, "turbo"),
    "onnx + turbo": extraction(ONNX, "turbo"),
    "onnx + dali": extraction(ONNX, "dali"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    return run_bench("pipeline", __doc__, [*preparation(), *steps()], ROWS, arguments)


if __name__ == "__main__":
    sys.exit(main())
