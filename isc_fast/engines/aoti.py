"""Engines that torch compiled ahead of time (AOTInductor) for one kind of machine, in ``.pt2`` packages.

A package is a zip archive that holds a shared library: **to load it is to run what is in it**, so load only packages that
you trust, as with any program. A package that isc-fast did not make is refused before anything in it runs. That protects from
mistakes, not from malice, because anybody can write a specification into a zip.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EngineError, MissingExtraError, require
from ..files.reading import file_sha256
from ..machine.cores import available_cores, processor
from .aoti_file import GRAPH_KEY, graph_name, read_package, vector_instructions
from .protocol import check_pixels


def _release(version: str) -> str:
    """``"2.14.1+cu130"`` → ``"2.14"``: what the compiled code's interface to torch depends on."""
    return ".".join(version.partition("+")[0].split(".")[:2])


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


def _import_torch(device: str) -> Any:
    """Import torch so that its idle threads sleep, if nobody has imported it before.

    Otherwise idle threads spin and keep the cores from each other and from the decoder's threads. On two cores with other
    work on them, a batch took 436 ms with two threads that spin, 120 ms with one, and 63 ms with two that sleep.
    """
    policy = "OMP_WAIT_POLICY"  # the library reads it once, when it is loaded
    if device != "cpu" or "torch" in sys.modules or policy in os.environ:
        return require("torch", "compiled")
    os.environ[policy] = "PASSIVE"
    try:
        return require("torch", "compiled")
    finally:
        del os.environ[policy]


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """Silence torch's remarks about compilers and CUDA, which loading does not need."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


class AotiEngine:
    """A ``.pt2`` engine; see `isc_fast.engines.protocol.Engine` and `isc_fast.engines.base.load_engine`.

    Args:
        path: the ``.pt2`` file. Loading it runs code that is in it.
        device: the device that the file was compiled for.
        threads: threads of the processor; by default one for each core.
        index: number of the GPU, among those that this process sees.

    Raises:
        EngineError: the file is not such a package, is damaged, or was compiled for another device, processor, GPU or torch.
        MissingExtraError: torch is not installed.
    """

    def __init__(self, path: Path, *, device: str = "cpu", threads: int | None = None, index: int = 0) -> None:
        self.path, self.gpu = path, index
        self.spec, self.made_for = read_package(path)
        self._check_machine(device)
        self._torch: Any = _import_torch(device)
        self._check_torch()
        self._threads = threads or available_cores()
        self._model = self._load()
        if device == "cuda":
            self.device = f"torch CUDA {self.made_for.gpu}"
            self.default_batch_size = min(32, self.made_for.max_batch)
        else:
            self.device = "torch CPU"
            self.default_batch_size = min(4, self.made_for.max_batch)
        self._host: Any = None
        self.id = file_sha256(path)
        # One run here, so that an engine that cannot run is an error before any image is read.
        self.run(np.zeros((1, self.spec.height, self.spec.width, 3), np.uint8))

    def _check_machine(self, device: str) -> None:
        made = self.made_for
        again = f"export it again on this machine with -o {self.path.name}"
        if device != made.device:
            raise EngineError(
                f"{self.path} is compiled for {made.device}, not for {device}; run it with --device {made.device}, or "
                f"export it again with --device {device}"
            )
        if platform.machine() != made.machine:
            raise EngineError(f"{self.path} is compiled for {made.machine}, and this is {platform.machine()}; {again}")
        missing = sorted(set(made.instructions) - set(vector_instructions()))
        if missing:
            # An illegal instruction would end the process without a word. This holds for a GPU too: the program around its
            # kernels is compiled for this very processor.
            raise EngineError(
                f"{self.path} is compiled for processors with {', '.join(missing[:4])}, and this one ({processor()}) has "
                f"no such instructions; {again}"
            )

    def _check_torch(self) -> None:
        torch, made = self._torch, self.made_for
        if _release(torch.__version__) != _release(made.torch):
            raise EngineError(
                f"{self.path} is compiled by torch {made.torch}, and this is torch {torch.__version__}; run: "
                f"pip install 'torch=={_release(made.torch)}.*', or export it again"
            )
        if made.device != "cuda":
            return
        if not torch.cuda.is_available():
            raise EngineError(
                f"{self.path} needs a GPU, and torch {torch.__version__} sees none; look at: isc-fast doctor"
            )
        if str(torch.version.cuda).partition(".")[0] != made.cuda.partition(".")[0]:
            raise EngineError(
                f"{self.path} is compiled for CUDA {made.cuda}, and this torch brings CUDA {torch.version.cuda}; install "
                f"torch {made.torch}, or export it again"
            )
        if not self.gpu < torch.cuda.device_count():
            raise EngineError(
                f"there is no GPU {self.gpu}: this process sees {torch.cuda.device_count()}, counted from 0"
            )
        capability = "{}.{}".format(*torch.cuda.get_device_capability(self.gpu))
        if capability != made.capability:
            raise EngineError(
                f"{self.path} is compiled for {made.gpu} (compute capability {made.capability}), and this is "
                f"{torch.cuda.get_device_name(self.gpu)} ({capability}); export it again on this machine"
            )

    def _load(self) -> Any:
        with zipfile.ZipFile(self.path) as package:
            damaged = package.testzip()  # a flipped bit in a library would end the process
        if damaged:
            raise EngineError(f"{self.path} is damaged in {damaged}; export it again, or copy it again")
        on_gpu = self.made_for.device == "cuda"
        try:
            with _no_warnings():
                inductor: Any = require("torch._inductor", "compiled")
                model = inductor.aoti_load_package(str(self.path), device_index=self.gpu if on_gpu else -1)
            compiled_as = model.get_metadata().get(GRAPH_KEY)
        except MissingExtraError:
            raise
        except Exception as error:  # a library that does not load: RuntimeError, OSError and others
            raise EngineError(f"torch cannot load {self.path}: {_first_line(error)}; export it again") from error
        if compiled_as != graph_name(self.spec):
            raise EngineError(
                f"the code in {self.path} is {compiled_as} and its specification says {graph_name(self.spec)}; export it "
                "again"
            )
        return model

    @contextlib.contextmanager
    def _settings(self) -> Iterator[None]:
        """Set torch's process-wide settings as this engine needs them, and set them back afterwards."""
        torch = self._torch
        if self.made_for.device == "cpu":
            before = torch.get_num_threads()
            torch.set_num_threads(self._threads)
            try:
                yield
            finally:
                torch.set_num_threads(before)
            return
        # By default cuDNN computes convolutions of fp32 in TF32, which keeps three digits instead of seven.
        convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
        saved = convolutions.allow_tf32, products.allow_tf32
        convolutions.allow_tf32 = products.allow_tf32 = False
        try:
            with torch.cuda.device(self.gpu):
                yield
        finally:
            convolutions.allow_tf32, products.allow_tf32 = saved

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See `isc_fast.engines.protocol.Engine.run`."""
        check_pixels(self.spec, pixels)
        vectors = np.empty((len(pixels), self.spec.dim), np.float32)
        size = self.made_for.max_batch
        try:
            with self._torch.inference_mode(), self._settings():
                for start in range(0, len(pixels), size):
                    rows = pixels[start : start + size]
                    made = self._model(self._on_device(rows))
                    if tuple(made.shape) != (len(rows), self.spec.dim) or made.dtype != self._torch.float32:
                        raise EngineError(f"{self.path} gave {made.dtype} {tuple(made.shape)}; export it again")
                    vectors[start : start + size] = made.cpu().numpy()
        except RuntimeError as error:  # torch's errors, out of memory among them
            raise EngineError(f"{self.path} failed on a batch of {len(pixels)}: {_first_line(error)}") from error
        return vectors

    def _on_device(self, rows: npt.NDArray[np.uint8]) -> Any:
        torch = self._torch
        if self.made_for.device == "cpu":
            # A copy where the array is read-only or has gaps: torch takes neither.
            plain = rows if rows.flags.c_contiguous and rows.flags.writeable else rows.copy()
            return torch.from_numpy(plain)
        if self._host is None or len(self._host) < len(rows):
            # Page-locked, so that the copy runs at the bus's speed; kept, because making it takes longer than the copy.
            # The results of the last call have been read, so nothing on the GPU reads the old one any more.
            self._host = torch.empty((len(rows), *rows.shape[1:]), dtype=torch.uint8, pin_memory=True)
        host = self._host[: len(rows)]
        host.numpy()[...] = rows
        return host.to(f"cuda:{self.gpu}", non_blocking=True)
