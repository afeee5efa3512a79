"""Carries out recipes with Pillow and numpy. `isc_fast.training.views.apply_torch` is measured against this module.

The views equal, byte by byte, those of torchvision's transforms on Pillow images, which the published training used. Some
edits compute the same bytes in a faster way, and tests compare them with torchvision.
"""

from __future__ import annotations

import functools
import io
from typing import assert_never

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageEnhance, ImageFilter, ImageStat

from . import edits
from .edits import Edit, ViewRecipe
from .fields import bent_places, screen_light

SHUFFLE_SEED = 10
_BICUBIC, _BILINEAR, _NEAREST = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.NEAREST


def apply_pil(recipe: ViewRecipe, photo: Image.Image) -> npt.NDArray[np.uint8]:
    """Make a view of a photo.

    Args:
        recipe: the recipe, drawn for a photo of this size.
        photo: the photo in the mode RGB. It does not change.

    Returns:
        the view, uint8 ``(size, size, 3)``, writable. `isc_fast.training.views.apply_torch.finish` erases the recipe's
        rectangle later.
    """
    image = photo
    for edit in recipe.edits:
        image = apply_edit(edit, image)
    return np.array(image)


def apply_edit(edit: Edit, image: Image.Image) -> Image.Image:
    """Carry out one edit of a recipe on an RGB image. The given image does not change."""
    match edit:
        case edits.Crop():
            return _crop(edit, image)
        case edits.Resize():
            return image.resize((edit.size, edit.size), _BILINEAR)
        case edits.Rotate():
            return image.transform((edit.width, edit.height), Image.Transform.AFFINE, edit.matrix, _NEAREST)
        case edits.Overlay():
            return _overlay(edit, image)
        case edits.Jitter():
            return _jitter(edit, image)
        case edits.Pixelize():
            return image.resize((edit.width, edit.height), _BICUBIC).resize(image.size, _BICUBIC)
        case edits.ShufflePixels():
            return _shuffle(edit, image)
        case edits.Jpeg():
            return _jpeg(edit, image)
        case edits.Grayscale():
            return _as_rgb(image.convert("L"))
        case edits.Blur():
            return image.filter(ImageFilter.GaussianBlur(edit.radius))
        case edits.Perspective():
            return image.transform(image.size, Image.Transform.PERSPECTIVE, edit.matrix, _BILINEAR)
        case edits.Flip():
            return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        case edits.TurnOver():
            return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        case edits.Paste():
            return _paste(edit, image)
        case edits.EdgeEnhance():
            return image.filter(ImageFilter.EDGE_ENHANCE_MORE if edit.more else ImageFilter.EDGE_ENHANCE)
        case edits.Page():
            return _page(edit, image)
        case edits.Bend():
            columns, rows = bent_places(edit, *image.size)
            return Image.fromarray(np.asarray(image)[rows, columns])
        case edits.Screen():
            light = screen_light(edit, *image.size)[:, :, None]
            seen = np.asarray(image, np.float32) * np.float32(edit.contrast) + light
            return Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8))
        case _:
            assert_never(edit)


def _crop(edit: edits.Crop, image: Image.Image) -> Image.Image:
    # `resize(box=…)` would save this copy, but its filter looks beyond the box, so the outermost pixels would differ.
    part = image.crop((edit.left, edit.top, edit.left + edit.width, edit.top + edit.height))
    return part.resize((edit.size, edit.size), _BILINEAR)


def _overlay(edit: edits.Overlay, image: Image.Image) -> Image.Image:
    back, pasted = (edit.picture.copy(), image) if edit.onto else (image.copy(), edit.picture)
    small = pasted.resize((edit.width, edit.height), _BICUBIC)
    back.paste(small, (edit.left, edit.top), Image.new("L", small.size, edit.opacity))
    return back


def _page(edit: edits.Page, image: Image.Image) -> Image.Image:
    page = Image.new("RGB", (edit.width, edit.height), edit.colour)
    for picture, (left, top, width, height) in (*edit.pictures, (image, edit.box)):
        page.paste(picture.resize((width, height), _BILINEAR), (left, top))
    return page


def _paste(edit: edits.Paste, image: Image.Image) -> Image.Image:
    result = image.copy()
    patch = Image.fromarray(edit.patch)
    result.paste(patch, (edit.left, edit.top), patch)
    return result


def _shuffle(edit: edits.ShufflePixels, image: Image.Image) -> Image.Image:
    pixels = np.array(image)
    flat = pixels.reshape(-1, 3)
    to, source = shuffled_places(flat.shape[0], edit.share)
    flat[to] = flat[source]
    return Image.fromarray(pixels)


@functools.lru_cache(maxsize=8)
def shuffled_places(count: int, share: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return which of ``count`` pixels get a new value, and the pixels that these values come from.

    The result is AugLy's choice, which is the same at every call: AugLy seeds numpy's old generator with 10 before each
    shuffle. It chooses exactly ``int(share · count)`` distinct pixels and permutes them among themselves.
    """
    random = np.random.RandomState(SHUFFLE_SEED)
    to = random.choice(count, size=int(share * count), replace=False)
    source = to[:, None].copy()  # one column, because AugLy shuffles the rows of a matrix
    random.shuffle(source)
    return to.astype(np.int64), source[:, 0].astype(np.int64)


def _jpeg(edit: edits.Jpeg, image: Image.Image) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=edit.quality)
    result = Image.open(out)
    result.load()
    return result


def _as_rgb(grey: Image.Image) -> Image.Image:
    return Image.merge("RGB", (grey, grey, grey))


def _jitter(edit: edits.Jitter, image: Image.Image) -> Image.Image:
    for which in edit.order:
        if which == 0:
            image = _stretch(image, 0, edit.brightness)
        elif which == 1:
            # Pillow's ImageEnhance.Contrast stretches around the rounded mean of the grey image too.
            image = _stretch(image, int(ImageStat.Stat(image.convert("L")).mean[0] + 0.5), edit.contrast)
        elif which == 2:
            image = ImageEnhance.Color(image).enhance(edit.saturation)
        else:
            image = turn_hue(image, edit.hue)
    return image


def _stretch(image: Image.Image, middle: int, factor: float) -> Image.Image:
    """Move every value away from ``middle``, or towards it. This changes brightness and contrast.

    Pillow blends with an image of one colour in float32, and cuts the decimals off. A table of 256 entries gives the same
    bytes in a third of the time.
    """
    values = np.arange(256, dtype=np.float32)
    table = np.float32(middle) + np.float32(factor) * (values - np.float32(middle))
    return image.point(list(np.clip(table, 0, 255).astype(np.uint8).tolist()) * 3)


def turn_hue(image: Image.Image, turns: float) -> Image.Image:
    """Move the hue of each pixel around the circle, in Pillow's HSV of 8 bits. ``turns`` is from −0.5 to 0.5."""
    hue, saturation, value = image.convert("HSV").split()
    shift = int(turns * 255) % 256  # torchvision cuts off towards 0, and then takes the number modulo 256
    hue = ImageChops.offset(hue, 0) if not shift else hue.point([(i + shift) % 256 for i in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")
