"""Changes the pixels of an image as JPEG compression does, on any device, without writing a JPEG.

JPEG is lossless after it has rounded the transformed blocks. Therefore it is enough to convert the colours, halve the
chroma, apply the cosine transform, quantise, and go the same way back. These are a few tensor operations, which need no
encoder. Sizes, tables and roundings are those of libjpeg with 4:2:0 sampling, which Pillow writes by default.

Source: ITU-T T.81 (annex A.3.3 and tables K.1, K.2), JFIF 1.02 for the colours.
"""

from __future__ import annotations

import functools
import math

import torch
from torch.nn import functional

_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, *(99 for _ in range(32)),
)  # fmt: skip


def compress(image: torch.Tensor, quality: int) -> torch.Tensor:
    """Compress and decompress an image.

    Args:
        image: the image, uint8 ``(3, h, w)`` RGB.
        quality: the quality from 1 to 100, with which libjpeg scales its tables.

    Returns:
        the changed image, uint8 ``(3, h, w)``, on the same device.
    """
    height, width = image.shape[1:]
    red, green, blue = _extend(image.to(torch.float32), 16).unbind()
    bright = 0.299 * red + 0.587 * green + 0.114 * blue
    luma = bright.round()
    chroma = torch.stack(((blue - bright) / 1.772 + 128, (red - bright) / 1.402 + 128)).round_()
    # Means are rounded up and down in turn along a row, so that halving does not make an image lighter.
    half = functional.avg_pool2d(chroma, 2)
    half = (half + torch.tensor((0.25, 0.5), device=image.device).repeat(half.shape[2] // 2)).floor_()

    luma_table, chroma_table = _tables(quality, image.device)
    luma = _through_blocks(luma[None], luma_table)[0, :height, :width]
    half = _through_blocks(half, chroma_table)[:, : (height + 1) // 2, : (width + 1) // 2]
    blue_tint, red_tint = _double(half)[:, :height, :width] - 128
    red = luma + 1.402 * red_tint
    green = luma - (0.114 * 1.772 * blue_tint + 0.299 * 1.402 * red_tint) / 0.587
    blue = luma + 1.772 * blue_tint
    return torch.stack((red, green, blue)).add_(0.5).floor_().clamp_(0, 255).to(torch.uint8)


def _extend(image: torch.Tensor, multiple: int) -> torch.Tensor:
    height, width = image.shape[1:]
    edges = (0, -width % multiple, 0, -height % multiple)
    return functional.pad(image[None], edges, mode="replicate")[0]


def _through_blocks(planes: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Transform each 8 × 8 block of ``planes (n, h, w)``, round to multiples of the table, and transform back."""
    count, height, width = planes.shape
    basis = _cosines(planes.device)
    # The arithmetic is float64, which no setting of the caller turns into TF32 or half precision. The cost is small.
    blocks = planes.to(torch.float64).reshape(count, height // 8, 8, width // 8, 8).transpose(2, 3) - 128
    # libjpeg keeps eighths, and rounds halves away from zero. Halves are common, because the mean of a block has few places.
    eighths = (basis @ blocks @ basis.T * 8).round_()
    waves = ((eighths.abs() + 4 * table) / (8 * table)).floor_() * eighths.sign() * table
    back = (basis.T @ waves @ basis + 128.5).floor_().clamp_(0, 255)
    return back.to(torch.float32).transpose(2, 3).reshape(count, height, width)


def _double(planes: torch.Tensor) -> torch.Tensor:
    """Double the height and the width.

    In both directions, each new sample is three quarters of the nearest sample and one quarter of the next one.
    """
    above = torch.cat((planes[:, :1], planes[:, :-1]), 1)
    below = torch.cat((planes[:, 1:], planes[:, -1:]), 1)
    tall = torch.stack((3 * planes + above, 3 * planes + below), 2).flatten(1, 2)
    before = torch.cat((tall[:, :, :1], tall[:, :, :-1]), 2)
    behind = torch.cat((tall[:, :, 1:], tall[:, :, -1:]), 2)
    # To round, libjpeg adds 8 sixteenths to left samples and 7 sixteenths to right ones.
    return torch.stack(((3 * tall + before + 8) / 16, (3 * tall + behind + 7) / 16), 3).flatten(2, 3).floor_()


@functools.lru_cache(maxsize=4)
def _cosines(device: torch.device) -> torch.Tensor:
    rows = [[math.cos((2 * x + 1) * u * math.pi / 16) / 2 for x in range(8)] for u in range(8)]
    rows[0] = [math.sqrt(1 / 8)] * 8
    return torch.tensor(rows, dtype=torch.float64, device=device)


@functools.lru_cache(maxsize=64)
def _tables(quality: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    luma, chroma = (
        torch.tensor(
            [min(max((step * scale + 50) // 100, 1), 255) for step in steps], dtype=torch.float64, device=device
        )
        for steps in (_LUMA, _CHROMA)
    )
    return luma.view(8, 8), chroma.view(8, 8)
