"""The arithmetic of an engine as one torch module, and a way to keep torch's exporters quiet."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import torch
from torch import nn

from ...networks.model import DescribingNet


class PixelGraph(nn.Module):
    """``uint8 (n, h, w, 3)`` RGB → unit ``float32 (n, dim)``: the whole arithmetic of an engine."""

    middle: torch.Tensor
    scale: torch.Tensor

    def __init__(self, net: DescribingNet) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("middle", 255.0 * torch.tensor(net.mean).reshape(1, 1, 1, 3), persistent=False)
        self.register_buffer("scale", 1.0 / (255.0 * torch.tensor(net.std).reshape(1, 1, 1, 3)), persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        # The cast comes before the transpose, because TensorRT takes uint8 only into a cast.
        images = (pixels.float() - self.middle) * self.scale
        return self.net(images.permute(0, 3, 1, 2))  # type: ignore[no-any-return]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what an exporter prints, warns and logs inside the block."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
