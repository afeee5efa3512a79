"""One pipeline of NVIDIA DALI, which decodes and resizes the JPEGs of a run together; made anew after each failure."""

from __future__ import annotations

import io
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InputError
from ..items import Pixels

RUN_IMAGES = 256
"""Images in one run at most; a pipeline is made for this number."""


def _reason(error: Exception) -> str:
    """The line of DALI's message that names the fault; a traceback and advice surround it."""
    text = str(error).rpartition("encountered:")[2]
    lines = [line.strip() for line in text.splitlines() if line.strip() and "no longer valid" not in line]
    return " ".join(lines)[:300] or type(error).__name__


def _sample() -> bytes:
    """A JPEG that any decoder decodes."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "gray").save(out, "JPEG")
    return out.getvalue()


class Pipeline:
    """One pipeline of DALI, made anew after each failure. For one thread at a time."""

    def __init__(self, dali: ModuleType, device: int | None, threads: int, size: tuple[int, int], load: float) -> None:
        self._dali, self._device, self._threads, self._size, self._load = dali, device, threads, size, load
        self._pipe: Any = None
        self.reason = ""
        self.flat: list[bool] = []

    def _build(self) -> Any:
        dali, mixed = self._dali, self._device is not None
        # With a queue of one, a run is fed, computed and fetched before the next begins, and two pipelines overlap. So a
        # failure loses one batch and none that was fed ahead.
        pipe = dali.Pipeline(
            batch_size=RUN_IMAGES,
            num_threads=self._threads,
            device_id=self._device,
            prefetch_queue_depth=1,
            exec_dynamic=True,
        )
        with pipe:
            photo = dali.fn.decoders.image(
                dali.fn.external_source(name="jpegs", dtype=dali.types.UINT8, ndim=1),
                device="mixed" if mixed else "cpu",
                output_type=dali.types.RGB,
                adjust_orientation=True,
                use_fast_idct=False,
                jpeg_fancy_upsampling=True,
                hw_decoder_load=self._load,
                affine=False,  # else the threads of all pipelines are tied to the same first cores
            )
            small = dali.fn.resize(
                photo,
                size=self._size,
                min_filter=dali.types.INTERP_LINEAR,
                mag_filter=dali.types.INTERP_LINEAR,
                antialias=True,
                dtype=dali.types.UINT8,
            )
            ends = [reduced(small, axes=(0, 1)) for reduced in (dali.fn.reductions.min, dali.fn.reductions.max)]
            pipe.set_outputs(small, *ends)
        pipe.build()
        return pipe

    def run(self, jpegs: Sequence[bytes]) -> Any | None:
        """Decode: a dense list of tensors ``uint8 (n, height, width, 3)``, complete when this returns, or None where DALI failed.

        After it, ``flat`` says which photos are of one single colour.

        Raises:
            InputError: no pipeline can be made.
        """
        if self._pipe is None:
            try:
                self._pipe = self._build()
            except Exception as error:
                raise InputError(
                    f"DALI makes no pipeline: {_reason(error)}; use the decoder turbo or pillow"
                ) from error
        try:
            # On the GPU this waits for the result too, so that a result is known to be good.
            made, least, most = self._pipe.run(jpegs=[np.frombuffer(jpeg, np.uint8) for jpeg in jpegs])
            self.flat = (rows_of(least) == rows_of(most)).all(axis=1).tolist()
            return made
        except Exception as error:
            self._pipe = None  # DALI's documentation says that it is lost
            self.reason = _reason(error)
            return None

    def check(self) -> None:
        """Find out, after a failure on one photo, whether the pipeline works at all.

        Raises:
            InputError: it does not, so the photo is not the reason.
        """
        reason = self.reason
        if self.run([_sample()]) is None:
            raise InputError(f"DALI fails on every photo: {reason}; use the decoder turbo or pillow")


def rows_of(made: Any) -> Pixels:
    """A result of DALI as an array, such as ``uint8 (n, height, width, 3)``, on the host, valid as long as ``made``."""
    return np.asarray(made.as_cpu().as_array())
