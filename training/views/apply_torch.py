"""Carries out recipes with torch, on a CPU or a GPU, and turns batches of views into the input of the network.

Every edit follows Pillow's arithmetic, with the same integers and roundings. Therefore a view differs only in some pixels,
by about one grey level, from the view that `isc_fast.training.views.apply_pil` makes. `tests/training/test_apply_views.py`
holds the bound of each edit. torchvision's own tensor transforms differ more, because their blur, their JPEG (4:4:4 on a
GPU) and their hue follow other rules.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import assert_never

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from ...errors import InputError
from . import edits
from .apply_pil import shuffled_places
from .decoding import decode_on_device
from .edits import Edit, ViewRecipe
from .fields import bent_places, screen_light
from .jpeg import compress

__all__ = ["apply_edit", "apply_torch", "decode_on_device", "finish", "to_tensor"]


@torch.no_grad()
def apply_torch(recipe: ViewRecipe, photo: torch.Tensor) -> torch.Tensor:
    """Make a view of a photo, on the photo's device.

    Args:
        recipe: the recipe, drawn for a photo of this size.
        photo: the photo, uint8 ``(3, h, w)`` RGB, on any device. It does not change.

    Returns:
        the view, uint8 ``(3, size, size)``, on the same device. `finish` erases the recipe's rectangle later.
    """
    image = photo
    for edit in recipe.edits:
        image = apply_edit(edit, image)
    return image


def apply_edit(edit: Edit, image: torch.Tensor) -> torch.Tensor:
    """Carry out one edit of a recipe on an image uint8 ``(3, h, w)``. The given image does not change."""
    match edit:
        case edits.Crop():
            part = image[:, edit.top : edit.top + edit.height, edit.left : edit.left + edit.width]
            return _resize(part, edit.size, edit.size, InterpolationMode.BILINEAR)
        case edits.Resize():
            return _resize(image, edit.size, edit.size, InterpolationMode.BILINEAR)
        case edits.Rotate():
            return _rotate(edit, image)
        case edits.Overlay():
            return _overlay(edit, image)
        case edits.Jitter():
            return _jitter(edit, image)
        case edits.Pixelize():
            small = _resize(image, edit.height, edit.width, InterpolationMode.BICUBIC)
            return _resize(small, image.shape[1], image.shape[2], InterpolationMode.BICUBIC)
        case edits.ShufflePixels():
            return _shuffle(edit, image)
        case edits.Jpeg():
            return compress(image, edit.quality)
        case edits.Grayscale():
            return _grey(image).to(torch.uint8).expand(3, -1, -1)
        case edits.Blur():
            return _blur(edit, image)
        case edits.Perspective():
            return _perspective(edit, image)
        case edits.Flip():
            return image.flip(2)
        case edits.TurnOver():
            return image.flip(1)
        case edits.Paste():
            patch = torch.tensor(edit.patch, device=image.device).permute(2, 0, 1)
            return _blend(image.clone(), patch[:3], patch[3], edit.left, edit.top)
        case edits.EdgeEnhance():
            return _edges(edit, image)
        case edits.Page():
            return _page(edit, image)
        case edits.Bend():
            columns, rows = (
                torch.from_numpy(places).to(image.device)
                for places in bent_places(edit, image.shape[2], image.shape[1])
            )
            return image[:, rows, columns]
        case edits.Screen():
            light = torch.from_numpy(screen_light(edit, image.shape[2], image.shape[1])).to(image.device)
            return (image.to(torch.float32) * edit.contrast + light).clamp_(0, 255).to(torch.uint8)
        case _:
            assert_never(edit)


def to_tensor(photo: Image.Image, device: torch.device | str = "cpu") -> torch.Tensor:
    """Convert an RGB image into a tensor, uint8 ``(3, h, w)``."""
    return torch.from_numpy(np.array(photo)).to(device).permute(2, 0, 1)


def finish(
    pixels: torch.Tensor,
    erase: torch.Tensor | None,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> torch.Tensor:
    """Turn views into the input of the network: scale pixels to 0 to 1, erase rectangles, normalise.

    Args:
        pixels: the views, uint8 ``(n, 3, s, s)`` or ``(n, s, s, 3)``, on the device for the result.
        erase: the rectangles to erase, int64 ``(n, 5)``, in main memory. Its rows are those of ``ViewRecipe.erase_row``: top,
            left, height, width, seed. A height of 0 erases nothing. The noise is drawn in main memory, so it is the same on
            any device.
        mean, std: the mean and the standard deviation of each channel, on the scale from 0 to 1.
        dtype: the type of the result. The arithmetic is float32.
        channels_last: whether the result has the memory order ``channels_last``.

    Returns:
        the input of the network, ``(n, 3, s, s)``.

    Raises:
        InputError: ``pixels`` or ``erase`` has a wrong shape.
    """
    if pixels.ndim != 4 or 3 not in (pixels.shape[1], pixels.shape[3]):
        raise InputError(f"the views have the shape {tuple(pixels.shape)}; expected (n, 3, s, s) or (n, s, s, 3)")
    if erase is not None and erase.shape != (len(pixels), 5):
        raise InputError(f"erase has the shape {tuple(erase.shape)}; expected ({len(pixels)}, 5)")
    images = pixels if pixels.shape[1] == 3 else pixels.permute(0, 3, 1, 2)
    result = images.to(torch.float32).div_(255)
    for i, (top, left, height, width, seed) in enumerate(erase.tolist() if erase is not None else []):
        if height:
            noise = torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed))
            result[i, :, top : top + height, left : left + width] = noise.to(result.device, non_blocking=True)
    scale = [torch.tensor(values, dtype=torch.float32, device=result.device).view(3, 1, 1) for values in (mean, std)]
    order = torch.channels_last if channels_last else torch.contiguous_format
    return result.sub_(scale[0]).div_(scale[1]).to(dtype, memory_format=order)


def _resize(image: torch.Tensor, height: int, width: int, way: InterpolationMode) -> torch.Tensor:
    exact = height * width == 1  # torch 2.14 on a CPU fails an assertion of its own if the result is one uint8 pixel
    given = image.to(torch.float32) if exact else image
    resized: torch.Tensor = transforms.resize(given, [height, width], interpolation=way, antialias=True)
    return resized.round_().clamp_(0, 255).to(torch.uint8) if exact else resized


def _rotate(edit: edits.Rotate, image: torch.Tensor) -> torch.Tensor:
    """Rotate with nearest neighbours, in Pillow's arithmetic with 16 binary places."""
    a, b, c, d, e, f = edit.matrix
    c, f = c + (a + b) / 2, f + (d + e) / 2  # the matrix applies to the centres of pixels
    a, b, c, d, e, f = (int(np.floor(number * 65536 + 0.5)) for number in (a, b, c, d, e, f))
    columns = torch.arange(edit.width, device=image.device)
    rows = torch.arange(edit.height, device=image.device)[:, None]
    x, y = (a * columns + b * rows + c) >> 16, (d * columns + e * rows + f) >> 16
    height, width = image.shape[1:]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return image[:, y.clamp(0, height - 1), x.clamp(0, width - 1)] * inside


def _overlay(edit: edits.Overlay, image: torch.Tensor) -> torch.Tensor:
    other = to_tensor(edit.picture, image.device)
    back, pasted = (other, image) if edit.onto else (image, other)
    small = _resize(pasted, edit.height, edit.width, InterpolationMode.BICUBIC)
    alpha = torch.full((edit.height, edit.width), edit.opacity, dtype=torch.uint8, device=image.device)
    return _blend(back.clone(), small, alpha, edit.left, edit.top)


def _page(edit: edits.Page, image: torch.Tensor) -> torch.Tensor:
    colour = torch.tensor(edit.colour, dtype=torch.uint8, device=image.device)
    page = colour[:, None, None].repeat(1, edit.height, edit.width)
    others = [(to_tensor(picture, image.device), box) for picture, box in edit.pictures]
    for picture, (left, top, width, height) in (*others, (image, edit.box)):
        small = _resize(picture, height, width, InterpolationMode.BILINEAR)
        opaque = torch.full((height, width), 255, dtype=torch.uint8, device=image.device)
        _blend(page, small, opaque, left, top)
    return page


def _blend(back: torch.Tensor, patch: torch.Tensor, alpha: torch.Tensor, left: int, top: int) -> torch.Tensor:
    """Paste ``patch (3, h, w)`` into ``back``, in place. The patch is cut off at the edge of ``back``."""
    height, width = min(patch.shape[1], back.shape[1] - top), min(patch.shape[2], back.shape[2] - left)
    if height <= 0 or width <= 0:
        return back
    place = back[:, top : top + height, left : left + width]
    weight = alpha[:height, :width].to(torch.int32)
    mixed = patch[:, :height, :width] * weight + place * (255 - weight) + 128
    place.copy_(((mixed >> 8) + mixed) >> 8)
    return back


def _shuffle(edit: edits.ShufflePixels, image: torch.Tensor) -> torch.Tensor:
    flat = image.flatten(1).clone()
    to, source = _places(flat.shape[1], edit.share, image.device)
    flat[:, to] = flat[:, source]
    return flat.view_as(image)


@functools.lru_cache(maxsize=8)
def _places(count: int, share: float, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    to, source = shuffled_places(count, share)
    return torch.from_numpy(to).to(device), torch.from_numpy(source).to(device)


def _grey(image: torch.Tensor) -> torch.Tensor:
    """Convert to grey, int32 ``(1, h, w)``, with Pillow's weights of 16 binary places."""
    red, green, blue = image.to(torch.int32).unbind()
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16)[None]


def _jitter(edit: edits.Jitter, image: torch.Tensor) -> torch.Tensor:
    for which in edit.order:
        if which == 3:
            image = _turn_hue(image, edit.hue)
            continue
        values = image.to(torch.float32)
        if which == 0:
            moved = values * edit.brightness
        elif which == 1:
            # The mean stays a tensor: reading it here would make the host wait for the device.
            mean = (_grey(image).sum(dtype=torch.float64) / image[0].numel() + 0.5).floor().to(torch.float32)
            moved = mean + edit.contrast * (values - mean)
        else:
            grey = _grey(image).to(torch.float32)
            moved = grey + edit.saturation * (values - grey)
        image = moved.clamp_(0, 255).to(torch.uint8)
    return image


def _turn_hue(image: torch.Tensor, turns: float) -> torch.Tensor:
    """Move the hue around the circle in Pillow's HSV, where each channel has 8 bits."""
    values = image.to(torch.float32)
    high, low = values.amax(0), values.amin(0)
    span = high - low
    red, green, blue = (high - values) / span.clamp(min=1)
    sector = torch.where(values[1] == high, 2 + red - blue, 4 + green - red)
    sector = torch.where(values[0] == high, blue - green, sector)
    hue = ((sector / 6 + 1).remainder(1) * 255).floor().where(span > 0, 0)
    saturation = (span / high.clamp(min=1) * 255).floor() / 255
    hue = (hue + int(turns * 255)).remainder(256) * (6 / 255)
    whole = hue.floor()
    part = hue - whole
    low = (high * (1 - saturation) + 0.5).floor()
    down = (high * (1 - saturation * part) + 0.5).floor()
    up = (high * (1 - saturation * (1 - part)) + 0.5).floor()
    sixth = whole.to(torch.int64).remainder(6)[None]
    levels = torch.stack((high, up, low, down))
    # The table says which of these levels red, green and blue take in each sixth of the circle.
    table = torch.tensor([(0, 3, 2, 2, 1, 0), (1, 0, 0, 3, 2, 2), (2, 2, 1, 0, 0, 3)], device=image.device)
    return torch.cat([levels.gather(0, row[sixth]) for row in table]).clamp_(0, 255).to(torch.uint8)


def _blur(edit: edits.Blur, image: torch.Tensor) -> torch.Tensor:
    """Blur as Pillow does: three box filters of a fractional width in each direction, rounded after each filter.

    Source: Gwosdek et al., "Theoretical Foundations of Gaussian Convolution by Extended Box Filtering", 2011.
    """
    if edit.radius <= 0:
        return image
    variance = edit.radius**2 / 3
    whole = int(np.floor((np.sqrt(12 * variance + 1) - 1) / 2))
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    reach, width = whole + 1, 2 * (whole + part) + 1
    values = image.to(torch.float32)
    for dim in (2, 1):
        edges = (reach, reach, 0, 0) if dim == 2 else (0, 0, reach, reach)
        length = image.shape[dim]
        for _ in range(3):
            padded = functional.pad(values[None], edges, mode="replicate")[0]
            # The sum of neighbours is a difference of two running sums, in integers. A convolution might round to TF32.
            sums = padded.to(torch.int32).cumsum(dim, dtype=torch.int32)
            inner = sums.narrow(dim, 2 * reach - 1, length) - sums.narrow(dim, 0, length)
            outer = padded.narrow(dim, 0, length) + padded.narrow(dim, 2 * reach, length)
            values = (outer.mul_(part / width).add_(inner, alpha=1 / width)).add_(0.5).floor_()
    return values.clamp_(0, 255).to(torch.uint8)


def _perspective(edit: edits.Perspective, image: torch.Tensor) -> torch.Tensor:
    """Change the perspective with Pillow's bilinear filter.

    Inside the photo, the nearest pixels count; outside, the view is black. Decimals are cut off.
    """
    a, b, c, d, e, f, g, h = edit.matrix
    height, width = image.shape[1:]
    x = torch.arange(width, device=image.device) + 0.5
    y = (torch.arange(height, device=image.device) + 0.5)[:, None]
    depth = g * x + h * y + 1
    across, down = (a * x + b * y + c) / depth, (d * x + e * y + f) / depth
    grid = torch.stack((across * (2 / width) - 1, down * (2 / height) - 1), dim=-1)[None]
    seen = functional.grid_sample(image[None].float(), grid, "bilinear", "border", align_corners=False)[0]
    inside = (across >= 0) & (across < width) & (down >= 0) & (down < height)
    # Rounding in float32 can put a whole number slightly too low. It must not lose a grey level for that.
    return ((seen + 1e-3).floor() * inside).to(torch.uint8)


def _edges(edit: edits.EdgeEnhance, image: torch.Tensor) -> torch.Tensor:
    """Enhance edges with Pillow's 3 × 3 kernels. The outermost pixels do not change."""
    if min(image.shape[1:]) < 3:
        return image
    values = image.to(torch.int32)
    rows = values[:, :-2] + values[:, 1:-1] + values[:, 2:]
    around = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    middle = values[:, 1:-1, 1:-1]
    sharp = middle * 10 - around if edit.more else (middle * 11 - around + 1) >> 1
    result = image.clone()
    result[:, 1:-1, 1:-1] = sharp.clamp_(0, 255).to(torch.uint8)
    return result
