"""JPEG files → network input in front of a GPU: PIL processes, turbo, torchvision's nvJPEG, DALI, beside the decoders' own rates.

    python bench/gpu_decode.py           3,840 files of 1024 × 768 → the network's input
    python bench/gpu_decode.py --smoke   takes seconds; runs on the processor where there is no GPU

The reference way is the reference solution's: a DataLoader with a PIL process on every core. All ways use all cores and begin
with files that lie in the page cache. Decoders on a GPU leave their pixels in its memory. The ceiling of a row is its decoder
alone, from memory and without the resize: libjpeg-turbo on all cores, nvJPEG, or DALI. Each row also gives the difference to
Pillow's pixels in grey levels. In this benchmark ``cosine_min`` compares pixels, not descriptors.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gpu import BENCH, REFERENCE, Settings, cosines, rate_of, run_bench
from gpu_engines import NETWORK, checkpoint_of, files_of, input_size
from gpu_engines import steps as preparation
from steps import Result, Row, Step, so_far

from isc_fast.decoders.base import Decoder, DeviceDecoder
from isc_fast.decoders.preprocessing import Preprocessing
from isc_fast.errors import require
from isc_fast.machine.cores import available_cores

Pixels = npt.NDArray[np.uint8]
SCRIPT = str(BENCH / "gpu_decode.py")
BATCH = 60
"""The number of different photos. A larger batch would repeat photos, and torchvision decodes equal content only once."""


def steps() -> list[Step]:
    """Return the rows, each with the steps that it needs."""
    return [
        Step(f"decode/{REFERENCE}", SCRIPT, 60, order=2, needs=(NETWORK,)),
        Step("decode/turbo", SCRIPT, 45, order=2, needs=(NETWORK,)),
        Step("decode/nvJPEG", SCRIPT, 45, order=6, needs=(NETWORK,)),
        Step("decode/dali", SCRIPT, 60, order=5, needs=(NETWORK,)),
        Step("decode/dali, hardware", SCRIPT, 60, order=8, needs=(NETWORK,)),
        Step("decode/pillow", SCRIPT, 45, order=8, needs=(NETWORK,)),
    ]


def drift(made: Pixels, settings: Settings) -> Result:
    """Measure how far the pixels of the different photos are from Pillow's."""
    expected = np.load(settings.folder / "pixels.npy")
    difference = np.abs(made.astype(np.int16) - expected)
    flat = cosines(made.reshape(len(made), -1), expected.reshape(len(made), -1))
    return {
        "cosine_min": flat["cosine_min"],
        "largest_difference": int(difference.max()),
        "mean_difference": float(difference.mean()),
    }


def measure(work: Callable[[], object], made: Pixels, alone: Callable[[], object] | None, settings: Settings) -> Result:
    """Measure the rate of decoding all files, the difference to Pillow's pixels, and the share of the decoder's own rate."""
    result: Result = {**drift(made, settings), **rate_of(work, settings.files, settings)}
    so_far(result)
    if alone is not None:
        own = rate_of(alone, settings.files, settings)
        result |= {"decoder_alone": own, "share_of_ceiling": result["images_per_s"] / own["images_per_s"]}
    return result


def jobs(paths: Sequence[str], size: int = BATCH) -> list[Sequence[str]]:
    """Divide files into batches."""
    return [paths[start : start + size] for start in range(0, len(paths), size)]


def drained(decoder: Decoder, paths: Sequence[str], side: int, batch: int = BATCH, *, stay: bool = False) -> int:
    """Decode all files by a decoder of this package and drop the pixels. With ``stay`` they are not copied off the GPU."""
    make: Any = decoder.device_batches if stay and isinstance(decoder, DeviceDecoder) else decoder.batches
    return sum(len(batch.problems) for batch in make(jobs(paths, batch), Preprocessing(side, side)))


def libjpeg_turbo(paths: Sequence[str]) -> Callable[[], object]:
    """Return a function that decodes with libjpeg-turbo alone, on all cores."""
    from decode import ceiling

    cores = min(available_cores(), len(paths))
    parts = [ceiling(paths[part::cores]) for part in range(cores)]
    pool = ThreadPoolExecutor(cores)
    return lambda: [done.result() for done in [pool.submit(part) for part in parts]]


def nvjpeg(paths: Sequence[str], device: str) -> Callable[[], object]:
    """Return a function that decodes batches with torchvision's decoder alone, which is nvJPEG on a GPU."""
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    data = [torch.frombuffer(bytearray(Path(path).read_bytes()), dtype=torch.uint8) for path in paths]
    batches = [data[start : start + BATCH] for start in range(0, len(data), BATCH)]

    def run() -> None:
        for batch in batches:
            decode_jpeg(batch, mode=ImageReadMode.RGB, device=device)

    return run


def dali_alone(paths: Sequence[str], device: str, hardware: float) -> Callable[[], object]:
    """Return a function that decodes with DALI alone, with our decoder's options and a queue of batches ahead."""
    dali: Any = require("nvidia.dali", "gpu")
    files = [np.frombuffer(Path(path).read_bytes(), np.uint8) for path in paths]
    on_gpu = device == "cuda"
    batch = min(BATCH, len(files))
    pipe = dali.Pipeline(
        batch_size=batch,
        num_threads=available_cores(),
        device_id=0 if on_gpu else None,
        prefetch_queue_depth=3,
        exec_dynamic=True,
    )
    turns = len(files) // batch
    with pipe:
        source = dali.fn.external_source(
            source=lambda info: files[info.iteration % turns * batch :][:batch], batch=True, batch_info=True
        )
        pipe.set_outputs(
            dali.fn.decoders.image(
                source,
                device="mixed" if on_gpu else "cpu",
                output_type=dali.types.RGB,
                use_fast_idct=False,
                jpeg_fancy_upsampling=True,
                hw_decoder_load=hardware,
            )
        )
    pipe.build()

    def run() -> None:
        for _ in range(turns):
            pipe.run()

    return run


def _reference(settings: Settings) -> Result:
    import torch
    from reference import photo_batches

    from isc_fast.networks.checkpoint import build_network, load_checkpoint

    net = build_network(load_checkpoint(checkpoint_of(settings)))
    paths, side = files_of(settings), input_size(settings)
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (net.mean, net.std))
    first = torch.cat(list(photo_batches(net, paths[: settings.photos], side, BATCH)))
    pixels = ((first * std + mean) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()

    def work() -> None:
        for _ in photo_batches(net, paths, side, BATCH, pinned=settings.device == "cuda"):
            pass

    return measure(work, pixels, None, settings)


def _decoder(settings: Settings, decoder: Decoder, alone: Callable[[], object] | None) -> Result:
    paths, side = files_of(settings), input_size(settings)
    first = list(decoder.batches(jobs(paths[: settings.photos]), Preprocessing(side, side)))
    wrong = [problem for batch in first for problem in batch.problems if problem]
    if wrong:
        raise RuntimeError(f"{decoder.name} cannot decode a good photo: {wrong[0].reason}")
    made = np.concatenate([batch.pixels for batch in first])
    return measure(lambda: drained(decoder, paths, side, stay=True), made, alone, settings)


def _by_name(name: str) -> Row:
    def row(settings: Settings) -> Result:
        from isc_fast.decoders.base import make_decoder

        alone = libjpeg_turbo(files_of(settings)) if name == "turbo" else None
        return _decoder(settings, make_decoder(name), alone)

    return row


def _dali(hardware: float) -> Row:
    def row(settings: Settings) -> Result:
        from isc_fast.decoders.dali import DaliCpuDecoder, DaliDecoder

        decoder = DaliDecoder(hw_decoder_load=hardware) if settings.device == "cuda" else DaliCpuDecoder()
        alone = dali_alone(files_of(settings), settings.device, hardware)
        return {"hardware_share": hardware, **_decoder(settings, decoder, alone)}

    return row


def _nvjpeg(settings: Settings) -> Result:
    """Decode by torchvision and resize by torch, both on the device, as a user of torch does it."""
    import torch
    from torch.nn.functional import interpolate

    from isc_fast.training.views.decoding import decode_on_device

    paths, side = files_of(settings), input_size(settings)

    def decode(some: Sequence[str]) -> list[torch.Tensor]:
        small = []
        for photo in decode_on_device([Path(path).read_bytes() for path in some], settings.device):
            if photo is None:
                raise RuntimeError("nvJPEG cannot decode a good photo")
            resized = interpolate(photo[None].float(), (side, side), mode="bilinear", antialias=True)
            small.append(resized[0].round().clamp(0, 255).to(torch.uint8))
        return small

    made = torch.stack(decode(paths[: settings.photos])).permute(0, 2, 3, 1).cpu().numpy()

    def work() -> None:
        for some in jobs(paths):
            torch.stack(decode(some))

    return measure(work, made, nvjpeg(paths, settings.device), settings)


ROWS: dict[str, Row] = {
    REFERENCE: _reference,
    "pillow": _by_name("pillow"),
    "turbo": _by_name("turbo"),
    "nvJPEG": _nvjpeg,
    "dali": _dali(0.0),
    "dali, hardware": _dali(0.65),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    return run_bench("decode", __doc__, [*preparation(), *steps()], ROWS, arguments)


if __name__ == "__main__":
    sys.exit(main())
