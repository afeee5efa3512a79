"""The edits of the held-out set. Training uses none of these functions.

The demo's six edits are among them. Ten kinds have a counterpart in training (`COUNTERPARTS`), which other code makes with other
numbers. The other ten kinds have no counterpart: they show whether the network also finds copies whose edits it has never seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from .demo import EDITS, Edit
from .perspective import perspective_matrix

HeldOutEdit = Callable[[Image.Image, Sequence[Image.Image], Random], Image.Image]
"""A function (photo, three other photos, source of randomness) → edited copy. It does not change its inputs."""
_BILINEAR = Image.Resampling.BILINEAR
_CAPTIONS = (
    "WHEN IT IS MONDAY",
    "NOBODY:",
    "ME, EVERY TIME",
    "ONE DOES NOT SIMPLY",
    "THAT FEELING",
    "WAIT FOR IT",
    "TOO REAL",
)
_PALETTES = (("#12005e", "#ff6f91"), ("#003b46", "#ffe066"), ("#3c0d0d", "#7af0d0"), ("#101820", "#f2aa4c"))


def using_one(edit: Edit) -> HeldOutEdit:
    """Turn an edit that takes one other photo into one that takes several; it uses the first of them."""
    return lambda photo, others, random: edit(photo, others[0], random)


def _numbers(random: Random) -> np.random.Generator:
    return np.random.default_rng(random.getrandbits(64))


def _as_image(values: npt.NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def collage2(photo: Image.Image, others: Sequence[Image.Image], random: Random) -> Image.Image:
    """Place the photo beside, above or below another one."""
    pair = [photo, ImageOps.fit(others[0], photo.size, _BILINEAR)]
    random.shuffle(pair)
    width, height = photo.size
    across, gap = random.random() < 0.5, random.choice((0, 4, 10))
    size = (2 * width + gap, height) if across else (width, 2 * height + gap)
    page = Image.new("RGB", size, random.choice(("white", "black")))
    page.paste(pair[0], (0, 0))
    page.paste(pair[1], (width + gap, 0) if across else (0, height + gap))
    return page


def collage4(photo: Image.Image, others: Sequence[Image.Image], random: Random) -> Image.Image:
    """Place the photo among three others, two by two."""
    four = [photo, *(ImageOps.fit(other, photo.size, _BILINEAR) for other in others[:3])]
    random.shuffle(four)
    width, height = photo.size
    gap = random.choice((0, 4, 10))
    page = Image.new("RGB", (2 * width + gap, 2 * height + gap), random.choice(("white", "black")))
    for number, picture in enumerate(four):
        page.paste(picture, (number % 2 * (width + gap), number // 2 * (height + gap)))
    return page


def meme(photo: Image.Image, _others: Sequence[Image.Image], random: Random) -> Image.Image:
    """Add a bar with a line of capitals above the photo, and often one below it."""
    bar = max(18, round(photo.height * random.uniform(0.14, 0.24)))
    below = bar if random.random() < 0.6 else 0
    back, ink = random.choice((("white", "black"), ("black", "white")))
    page = Image.new("RGB", (photo.width, photo.height + bar + below), back)
    page.paste(photo, (0, bar))
    draw = ImageDraw.Draw(page)
    for top in (0, *([bar + photo.height] if below else [])):
        words = random.choice(_CAPTIONS)
        size = min(bar * 0.6, 1.5 * photo.width / len(words))
        draw.text((photo.width / 2, top + bar / 2), words, ink, ImageFont.load_default(size=max(8, size)), anchor="mm")
    return page


def film(photo: Image.Image, _others: Sequence[Image.Image], random: Random) -> Image.Image:
    """Make the photo look like old film: faded, brown or bluish, grainy, and dark at the edges."""
    pixels = np.asarray(photo, np.float32)
    tint = np.array(random.choice(((1.12, 0.98, 0.74), (0.92, 1.0, 1.12))), np.float32)
    grey = pixels.mean(axis=2, keepdims=True)
    faded = (grey + (pixels - grey) * random.uniform(0.1, 0.5)) * tint * 0.75 + 38
    grain = _numbers(random).normal(0, random.uniform(6, 14), size=grey.shape)
    return _as_image((faded + grain) * _falling_off(photo.size, random.uniform(0.3, 0.7)))


def _falling_off(size: tuple[int, int], strength: float) -> npt.NDArray[np.float32]:
    """Return factors ``float32 (h, w, 1)`` that are 1 in the middle and smaller towards the corners."""
    x, y = (np.linspace(-1, 1, side, dtype=np.float32) for side in size)
    return (1 - np.float32(strength / 2) * (x[None, :, None] ** 2 + y[:, None, None] ** 2)).clip(0, 1)


def duotone(photo: Image.Image, _others: Sequence[Image.Image], random: Random) -> Image.Image:
    """Make the photo grey, then replace black and white by two colours."""
    dark, light = random.choice(_PALETTES)
    return ImageOps.colorize(ImageOps.autocontrast(photo.convert("L"), cutoff=1), dark, light)


def poster(photo: Image.Image, _others: Sequence[Image.Image], random: Random) -> Image.Image:
    """Leave only a few tones, or invert the bright ones."""
    if random.random() < 0.6:
        return ImageOps.posterize(photo, random.choice((1, 2, 3)))
    return ImageOps.solarize(photo, random.randint(110, 200))


def border(photo: Image.Image, _others: Sequence[Image.Image], random: Random) -> Image.Image:
    """Add a frame of one colour, or fill up to a square, 9:16 or 16:9 with one colour or a blurred enlargement."""
    if random.random() < 0.4:
        return ImageOps.expand(photo, round(min(photo.size) * random.uniform(0.06, 0.2)), _colour(random))
    shape = random.choice((1.0, 9 / 16, 16 / 9))
    width, height = max(photo.width, round(photo.height * shape)), max(photo.height, round(photo.width / shape))
    if random.random() < 0.5:
        page = ImageOps.fit(photo, (width, height), _BILINEAR).filter(ImageFilter.GaussianBlur(min(width, height) / 20))
    else:
        page = Image.new("RGB", (width, height), _colour(random))
    page.paste(photo, ((width - photo.width) // 2, (height - photo.height) // 2))
    return page


def _colour(random: Random) -> tuple[int, int, int]:
    return random.choice(
        ((255, 255, 255), (0, 0, 0), (random.randrange(256), random.randrange(256), random.randrange(256)))
    )


def stretch(photo: Image.Image, _others: Sequence[Image.Image], random: Random) -> Image.Image:
    """Make the photo much wider or taller, and cut a little off one end, which the resize to a square can't undo."""
    factor = random.uniform(1.5, 2.2)
    width, height = (factor, 1) if random.random() < 0.5 else (1, factor)
    part = photo.crop((round(photo.width * 0.1), 0, photo.width, photo.height))
    return part.resize((round(part.width * width), round(part.height * height)), _BILINEAR)


def lens(photo: Image.Image, _others: Sequence[Image.Image], random: Random) -> Image.Image:
    """Bend the photo as a barrel lens does, or as waves on water do."""
    width, height = photo.size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    if random.random() < 0.5:
        u, v = 2 * x / width - 1, 2 * y / height - 1
        bent = 1 + random.uniform(0.15, 0.35) * (u**2 + v**2 - 1)
        x, y = (u * bent + 1) * width / 2, (v * bent + 1) * height / 2
    else:
        reach, length = min(photo.size) * random.uniform(0.015, 0.035), min(photo.size) / random.uniform(3, 7)
        x, y = x + reach * np.sin(2 * math.pi * y / length), y + reach * np.sin(2 * math.pi * x / length)
    columns, rows = (np.clip(np.rint(a), 0, side - 1).astype(np.intp) for a, side in ((x, width), (y, height)))
    return Image.fromarray(np.asarray(photo)[rows, columns])


def watermark(photo: Image.Image, _others: Sequence[Image.Image], random: Random) -> Image.Image:
    """Write the same pale words all over the photo, at a slant."""
    size = max(10, round(min(photo.size) * random.uniform(0.06, 0.1)))
    side = 2 * max(photo.size)
    layer = Image.new("L", (side, side))
    draw, font = ImageDraw.Draw(layer), ImageFont.load_default(size=size)
    words = random.choice(("© sample", "preview only", "photo stock"))
    step = round(draw.textlength(words, font) * 1.4)
    for row, y in enumerate(range(0, side, size * 3)):
        for x in range(-(row % 2) * step // 2, side, step):
            draw.text((x, y), words, fill=round(255 * random.uniform(0.35, 0.6)), font=font)
    turned = layer.rotate(random.uniform(15, 45), _BILINEAR)
    left, upper = (side - photo.width) // 2, (side - photo.height) // 2
    result = photo.copy()
    result.paste("white", (0, 0), turned.crop((left, upper, left + photo.width, upper + photo.height)))
    return result


def hdr(photo: Image.Image, _others: Sequence[Image.Image], random: Random) -> Image.Image:
    """Make detail and colour far too strong, as many filters do."""
    local = photo.filter(ImageFilter.UnsharpMask(min(photo.size) / 25, random.randint(120, 220), 0))
    sharp = local.filter(ImageFilter.UnsharpMask(1.5, 150, 2))
    return ImageEnhance.Color(sharp).enhance(random.uniform(1.3, 1.8))


def noise(photo: Image.Image, _others: Sequence[Image.Image], random: Random) -> Image.Image:
    """Add noise as in a photo taken in the dark: coloured noise, or single white and black pixels."""
    numbers, pixels = _numbers(random), np.asarray(photo, np.float32)
    if random.random() < 0.6:
        return _as_image(pixels + numbers.normal(0, random.uniform(20, 45), size=pixels.shape))
    hit = numbers.random(pixels.shape[:2]) < random.uniform(0.03, 0.1)
    salt = numbers.integers(2, size=(*pixels.shape[:2], 1)) * 255.0
    return _as_image(np.where(hit[:, :, None], salt, pixels))


def stickers(photo: Image.Image, _others: Sequence[Image.Image], random: Random) -> Image.Image:
    """Stick polygons, stars, bubbles and bars over parts of the photo."""
    result = photo.copy()
    draw = ImageDraw.Draw(result)
    for _ in range(random.randint(3, 6)):
        r = min(photo.size) * random.uniform(0.08, 0.2)
        x, y = photo.width * random.random(), photo.height * random.random()
        fill = random.choice(("#e91e63", "#ffd400", "#00bcd4", "#8bc34a", "#ffffff", "#111111"))
        shape = random.randrange(4)
        if shape == 0:
            draw.regular_polygon((x, y, r), random.choice((3, 5, 6)), random.randrange(360), fill=fill)
        elif shape == 1:
            spikes = [(r if i % 2 else r / 2.4, math.pi * i / 5) for i in range(10)]
            draw.polygon([(x + d * math.sin(a), y + d * math.cos(a)) for d, a in spikes], fill=fill)
        elif shape == 2:
            draw.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline="black", width=2)
        else:
            draw.rounded_rectangle((x - 1.6 * r, y - r / 2, x + 1.6 * r, y + r / 2), r / 4, fill=fill)
    return result


def off_screen(photo: Image.Image, _others: Sequence[Image.Image], random: Random) -> Image.Image:
    """Photograph the photo off a screen: at a slant, with the stripes of two grids, a pale sheen and a dark room."""
    pixels = np.asarray(photo, np.float32)
    height, width = pixels.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle, period = random.uniform(0, math.pi), random.uniform(4, 12)
    stripes = np.sin(2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / period)
    sheen = np.clip(1 - np.hypot(x / width - random.random(), y / height - random.random()) / 0.6, 0, 1)
    shown = pixels * 0.8 + 20 + stripes[:, :, None] * random.uniform(8, 20) + sheen[:, :, None] * random.uniform(20, 80)
    margin = round(min(photo.size) * 0.12)
    room = ImageOps.expand(_as_image(shown), margin, (26, 24, 30))
    w, h = room.size
    corners = np.array([(0, 0), (w - 1, 0), (w - 1, h - 1), (0, h - 1)], dtype=np.float64)
    moved = corners + np.array([(random.uniform(-1, 1) * margin, random.uniform(-1, 1) * margin) for _ in range(4)])
    matrix = perspective_matrix(corners, moved)
    seen = room.transform(room.size, Image.Transform.PERSPECTIVE, matrix, _BILINEAR, fillcolor=(26, 24, 30))
    return seen.filter(ImageFilter.GaussianBlur(0.8))


HELD_OUT_EDITS: dict[str, HeldOutEdit] = {
    "crop": using_one(EDITS["crop"]),
    **{edit.__name__: edit for edit in (stretch, lens, film, duotone, poster, hdr, noise)},
    "filter": using_one(EDITS["filter"]),
    **{edit.__name__: edit for edit in (stickers, watermark)},
    "text": using_one(EDITS["text"]),
    **{edit.__name__: edit for edit in (meme, border, collage2, collage4)},
    "overlay": using_one(EDITS["overlay"]),
    "screenshot": using_one(EDITS["screenshot"]),
    "off_screen": off_screen,
    "recompress": using_one(EDITS["recompress"]),
}
"""Every kind of edit by its name. A query with several edits gets them in this order, as people make them: cutting and
bending, the look, what is put on top, the layout, sharing."""

COUNTERPARTS = frozenset(
    ("crop", "overlay", "text", "filter", "recompress", "collage2", "collage4", "border", "lens", "off_screen")
)
"""The kinds that training knows in another form: the tiny schedule the first five, the mini schedule all of them. Training has
nothing like the others."""

LIMITS = (
    (frozenset(("collage2", "collage4", "overlay", "screenshot")), 1),  # the photo becomes small
    (frozenset(("film", "duotone", "poster", "hdr", "noise", "filter")), 2),  # colours and tones
)
"""Groups of kinds, and how many of each group one query gets at most. With more, nobody would recognise the photo."""
