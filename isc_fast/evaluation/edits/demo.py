"""Edits of photos, as people make them. The demo uses them; you can also try an engine with them on your own photos."""

from __future__ import annotations

import io
from collections.abc import Callable
from random import Random

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Edit = Callable[[Image.Image, Image.Image, Random], Image.Image]
"""A function (photo, another photo, source of randomness) → edited copy. It does not change its inputs."""

_PHRASES = ("look at this!", "SOLD", "so true", "weekend mood", "BREAKING NEWS", "no way", "only today", "© my page")


def crop(photo: Image.Image, _other: Image.Image, random: Random) -> Image.Image:
    """Cut out a part that has 45–75 % of each side."""
    width, height = photo.size
    w, h = (max(1, round(side * random.uniform(0.45, 0.75))) for side in photo.size)
    x, y = random.randint(0, width - w), random.randint(0, height - h)
    return photo.crop((x, y, x + w, y + h))


def overlay(photo: Image.Image, other: Image.Image, random: Random) -> Image.Image:
    """Shrink the photo to 55–75 % of its size and paste it onto another one."""
    background = other.resize(photo.size, Image.Resampling.BILINEAR)
    share = random.uniform(0.55, 0.75)
    width, height = photo.size
    small = photo.resize((round(width * share), round(height * share)), Image.Resampling.BILINEAR)
    x, y = random.randint(0, width - small.width), random.randint(0, height - small.height)
    background.paste(small, (x, y))
    return background


def text(photo: Image.Image, _other: Image.Image, random: Random) -> Image.Image:
    """Write two lines of large text across the photo."""
    result = photo.copy()
    draw = ImageDraw.Draw(result)
    font = ImageFont.load_default(size=max(12, photo.height // 8))
    for share in (random.uniform(0.05, 0.3), random.uniform(0.55, 0.8)):
        place = (photo.width * random.uniform(0.02, 0.2), photo.height * share)
        colour = random.choice(["white", "yellow", "black", "red"])
        draw.text(place, random.choice(_PHRASES), fill=colour, font=font, stroke_width=2, stroke_fill="grey")
    return result


def _film(photo: Image.Image, random: Random) -> Image.Image:
    warm = ImageOps.colorize(ImageOps.grayscale(photo), "#2b1608", "#fff1cf")
    return Image.blend(photo, warm, random.uniform(0.6, 0.9))


def photo_filter(photo: Image.Image, _other: Image.Image, random: Random) -> Image.Image:
    """Mirror the photo and change its look: black and white, faded film, harsh contrast or blur."""
    looks: list[Callable[[], Image.Image]] = [
        lambda: ImageOps.grayscale(photo).convert("RGB"),
        lambda: _film(photo, random),
        lambda: ImageEnhance.Contrast(ImageEnhance.Color(photo).enhance(2.2)).enhance(1.7),
        lambda: photo.filter(ImageFilter.GaussianBlur(photo.width / 120)),
    ]
    return ImageOps.mirror(random.choice(looks)())


def recompress(photo: Image.Image, _other: Image.Image, random: Random) -> Image.Image:
    """Shrink the photo to a third and save it as a JPEG of very low quality, as if it had been shared many times."""
    small = photo.resize((max(1, photo.width // 3), max(1, photo.height // 3)), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=random.randint(8, 20))
    return Image.open(out).convert("RGB")


def screenshot(photo: Image.Image, _other: Image.Image, random: Random) -> Image.Image:
    """Show the photo on the screen of a phone, with bars, a name, buttons and a line of text."""
    width = 360
    height = 640
    dark = random.random() < 0.5
    back, ink = ("#111", "#eee") if dark else ("#fff", "#222")
    screen = Image.new("RGB", (width, height), back)
    draw = ImageDraw.Draw(screen)
    font = ImageFont.load_default(size=17)
    draw.rectangle((0, 0, width, 24), fill="#000")
    draw.ellipse((12, 36, 48, 72), fill=random.choice(["#3a7", "#a37", "#37a", "#a73"]))
    draw.text((60, 44), random.choice(["some_friend", "photo.daily", "the_traveller"]), fill=ink, font=font)
    w, h = width, 400
    if photo.width * h > photo.height * w:
        h = max(1, round(photo.height / photo.width * w))
    else:
        w = max(1, round(photo.width / photo.height * h))
    shown = photo.resize((w, h), Image.Resampling.BILINEAR)
    top = 84 + (400 - shown.height) // 2
    screen.paste(shown, ((width - shown.width) // 2, top))
    for i in range(3):
        draw.rounded_rectangle((14 + 44 * i, 500, 46 + 44 * i, 528), 8, outline=ink, width=3)
    draw.text((14, 544), random.choice(_PHRASES), fill=ink, font=font)
    draw.rectangle((0, height - 36, width, height), fill="#222")
    return screen


EDITS: dict[str, Edit] = {
    "crop": crop,
    "overlay": overlay,
    "text": text,
    "filter": photo_filter,
    "recompress": recompress,
    "screenshot": screenshot,
}
"""Every edit by its name."""
