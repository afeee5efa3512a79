"""An engine for tests. It does real arithmetic on real pixels and needs no runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from isc_fast.engines.base import check_pixels
from isc_fast.engines.spec import EngineSpec


class FakeEngine:
    """An engine (see `isc_fast.engines.base.Engine`) that projects an 8 × 8 thumbnail by a fixed random matrix."""

    def __init__(self, size: int = 32, dim: int = 16, seed: int = 0) -> None:
        self.spec = EngineSpec(name=f"fake{seed}", arch="none", height=size, width=size, dim=dim, gem_p=1.0)
        self.id = f"{seed:064x}"
        self.path = Path("fake.onnx")
        self.device = "none"
        self.default_batch_size = 4
        self.calls: list[int] = []
        self._projection = np.random.default_rng(seed).normal(size=(8 * 8 * 3, dim)).astype(np.float32)

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        check_pixels(self.spec, pixels)
        self.calls.append(len(pixels))
        step = self.spec.height // 8
        small = pixels[:, ::step, ::step].reshape(len(pixels), -1).astype(np.float32) / 255 - 0.5
        rows = np.stack([row @ self._projection for row in small])  # row by row, so that the batch makes no difference
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


class Interrupted(FakeEngine):
    """An engine that ends the run at its fifth call, when two shards of two batches are done."""

    def run(self, pixels):
        if len(self.calls) == 4:
            raise KeyboardInterrupt
        return super().run(pixels)
