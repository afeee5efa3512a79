"""The edits for the labelled pairs that the last stage trains on.

They are the kinds of edits of the published training, at the photo's own size. None of them is used for the held-out set;
see `isc_fast.evaluation.edits.held_out`.
"""

from __future__ import annotations

import math
import string
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from ...evaluation.edits.demo import Edit
from ...evaluation.edits.perspective import perspective_matrix
from ..views.apply_pil import apply_edit
from ..views.edits import Jitter, Jpeg, Perspective, Pixelize
from ..views.recipes import HUE, JPEG_QUALITIES, inscribed

_BILINEAR = Image.Resampling.BILINEAR


def cut(photo: Image.Image, _other: Image.Image, random: Random) -> Image.Image:
    """Cut out a part of 25–90 % of the area, with another aspect ratio."""
    width, height = photo.size
    pixels, ratio = width * height * random.uniform(0.25, 0.9), random.uniform(0.8, 1.25) * width / height
    w, h = min(width, round(math.sqrt(pixels * ratio))), min(height, round(math.sqrt(pixels / ratio)))
    x, y = random.randint(0, width - w), random.randint(0, height - h)
    return photo.crop((x, y, x + w, y + h))


def turn(photo: Image.Image, _other: Image.Image, random: Random) -> Image.Image:
    """Turn the photo by up to half a circle, and crop it to the largest upright rectangle inside."""
    angle = random.uniform(0, 180)
    whole = photo.rotate(angle, _BILINEAR, expand=True)
    width, height = inscribed(photo.size, angle)
    x, y = (whole.width - width) // 2, (whole.height - height) // 2
    return whole.crop((x, y, x + width, y + height))


def colours(photo: Image.Image, _other: Image.Image, random: Random) -> Image.Image:
    """Change brightness, contrast, saturation and hue, in a random order."""
    order = random.sample(range(4), 4)
    brightness, contrast, saturation = (random.uniform(0.4, 1.6) for _ in range(3))
    return apply_edit(Jitter(tuple(order), brightness, contrast, saturation, random.uniform(-HUE, HUE)), photo)


def greyscale(photo: Image.Image, _other: Image.Image, _random: Random) -> Image.Image:
    """Remove the colours."""
    return photo.convert("L").convert("RGB")


def soften(photo: Image.Image, _other: Image.Image, random: Random) -> Image.Image:
    """Blur the photo with a radius of up to a sixtieth of its short side."""
    return photo.filter(ImageFilter.GaussianBlur(min(photo.size) * random.uniform(0.003, 0.016)))


def jpeg(photo: Image.Image, _other: Image.Image, random: Random) -> Image.Image:
    """Compress the photo as JPEG of a low quality, at full size."""
    return apply_edit(Jpeg(random.choice(JPEG_QUALITIES)), photo)


def paste(photo: Image.Image, other: Image.Image, random: Random) -> Image.Image:
    """Paste the photo onto another one, or another one onto it, with an opacity of 60 to 100 %."""
    onto = random.random() < 0.5
    back, pasted = (other, photo) if onto else (photo, other)
    share = random.uniform(0.45, 0.8) if onto else random.uniform(0.25, 0.6)
    scale = min(back.width * share / pasted.width, back.height * share / pasted.height)
    small = pasted.resize((max(1, round(pasted.width * scale)), max(1, round(pasted.height * scale))), _BILINEAR)
    place = random.randint(0, back.width - small.width), random.randint(0, back.height - small.height)
    result = back.copy()
    result.paste(small, place, Image.new("L", small.size, round(255 * random.uniform(0.6, 1))))
    return result


def letters(photo: Image.Image, _other: Image.Image, random: Random) -> Image.Image:
    """Write one or two lines of random letters in one colour."""
    result = photo.copy()
    draw = ImageDraw.Draw(result)
    size = max(10, round(min(photo.size) * random.uniform(0.1, 0.3)))
    font = ImageFont.load_default(size=size)
    colour = tuple(random.randrange(256) for _ in range(3))
    x, y = photo.width * random.uniform(0, 0.5), photo.height * random.uniform(0, 0.5)
    for line in range(random.randint(1, 2)):
        word = "".join(random.choices(string.ascii_letters + string.digits, k=random.randint(5, 9)))
        draw.text((x, y + line * size), word, fill=colour, font=font)
    return result


def smiley(photo: Image.Image, _other: Image.Image, random: Random) -> Image.Image:
    """Draw a yellow face at a random place, which may reach over the edge."""
    result = photo.copy()
    draw = ImageDraw.Draw(result)
    d = photo.height * random.uniform(0.1, 0.3)
    x, y = photo.width * random.random() - d / 4, photo.height * random.random() - d / 4
    draw.ellipse((x, y, x + d, y + d), fill="#fc3")
    for eye in (0.28, 0.6):
        draw.ellipse((x + eye * d, y + 0.28 * d, x + (eye + 0.12) * d, y + 0.46 * d), fill="#531")
    start, end = (20, 160) if random.random() < 0.7 else (200, 340)
    draw.arc(
        (x + 0.22 * d, y + 0.35 * d, x + 0.78 * d, y + 0.82 * d), start, end, fill="#531", width=max(1, round(d / 16))
    )
    return result


def aslant(photo: Image.Image, _other: Image.Image, random: Random) -> Image.Image:
    """Show the photo from the side, on black."""
    width, height = photo.size
    corners = np.array([(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)], dtype=np.float64)
    inwards = np.array([(random.uniform(0, 0.2) * width, random.uniform(0, 0.2) * height) for _ in range(4)])
    return apply_edit(Perspective(perspective_matrix(corners, np.abs(corners - inwards))), photo)


def pixels(photo: Image.Image, _other: Image.Image, random: Random) -> Image.Image:
    """Shrink the photo, and enlarge it again."""
    share = random.uniform(0.15, 0.6)
    return apply_edit(Pixelize(max(1, round(photo.width * share)), max(1, round(photo.height * share))), photo)


def edges(photo: Image.Image, _other: Image.Image, random: Random) -> Image.Image:
    """Enhance the edges."""
    return photo.filter(ImageFilter.EDGE_ENHANCE_MORE if random.random() < 0.5 else ImageFilter.EDGE_ENHANCE)


def mirrored(photo: Image.Image, _other: Image.Image, random: Random) -> Image.Image:
    """Exchange left and right, or in one of five cases top and bottom."""
    across = random.random() < 0.8
    return photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT if across else Image.Transpose.FLIP_TOP_BOTTOM)


PAIR_EDITS: dict[str, Edit] = {
    edit.__name__: edit
    for edit in (
        cut, turn, mirrored, aslant, colours, greyscale, soften, edges, paste, letters, smiley, pixels, jpeg,
    )
}  # fmt: skip
"""Every edit by its name. Several edits are made in this order: those that cut come before those that paste something."""
