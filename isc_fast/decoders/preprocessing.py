"""How a photo becomes the input of a network, as data: size, resize, filter, antialiasing and fill colour.

An engine file names its preprocessing, `isc_fast.decoders.rules` carries out any of them with Pillow, and each faster decoder
says which of them it can carry out too. Mean and standard deviation are not part of it: they are in the engine's graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import EngineError, InputError
from .views import ONLY_WHOLE

RESIZES = ("stretch", "short_side_crop", "pad")
"""What happens to the aspect ratio:

| name | rule |
|---|---|
| stretch | it is ignored: the whole photo fills the whole input |
| short_side_crop | it is kept: the photo covers the input, and what is left over on two sides is cut off |
| pad | it is kept: the photo fits into the input, and two sides are filled with one colour |
"""

FILTERS = ("bilinear", "bicubic", "lanczos")
"""How pixels are interpolated, by Pillow's filters of these names."""

FIRST_NAME = "rgb8-pillow-bilinear-1"
"""The name of stretch, bilinear and antialiased, which engine files have held from the beginning."""

_NAMED = "rgb8-pillow-2"


@dataclass(frozen=True)
class Preprocessing:
    """How a photo becomes ``uint8 (height, width, 3)`` RGB.

    Attributes:
        height, width: of the input, in pixels.
        resize: one of `RESIZES`.
        filter: one of `FILTERS`.
        antialias: whether the filter becomes wider where the photo shrinks, as in Pillow's ``resize``. Without, each pixel of the
            input is interpolated from the 2, 4 or 6 nearest pixels of the photo in each direction.
        fill: the colour that `resize` ``"pad"`` fills with, red, green and blue from 0 to 255.
        views: of the photo, names of `isc_fast.decoders.views.VIEWS`. Engine files do not hold them: an extraction chooses them.
            Each view becomes an input of its own.

    Raises:
        InputError: a value is none of those.
    """

    height: int
    width: int
    resize: str = "stretch"
    filter: str = "bilinear"
    antialias: bool = True
    fill: tuple[int, int, int] = (0, 0, 0)
    views: tuple[str, ...] = ONLY_WHOLE

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise InputError(f"the input of a network has at least one pixel, not {self.height} × {self.width}")
        for what, value, known in (("resize", self.resize, RESIZES), ("filter", self.filter, FILTERS)):
            if value not in known:
                raise InputError(f"there is no {what} {value!r}; choose one of {', '.join(known)}")
        if len(self.fill) != 3 or not all(0 <= value <= 255 for value in self.fill):
            raise InputError(f"the fill colour is {self.fill!r}; expected red, green and blue from 0 to 255")

    @property
    def only_whole(self) -> bool:
        """Whether a photo becomes one input, which shows the whole of it."""
        return self.views == ONLY_WHOLE

    @property
    def slot(self) -> tuple[int, int, int]:
        """The shape of what one photo becomes: its views lie below each other."""
        return len(self.views) * self.height, self.width, 3

    @property
    def name(self) -> str:
        """The text that stands for all but the size and the views; `named` reads it back.

        Two preprocessings of one name and size make the same pixels. Engine files hold this text, and old engine files hold
        `FIRST_NAME`, so that one field serves both.
        """
        if (self.resize, self.filter, self.antialias) == ("stretch", "bilinear", True):
            return FIRST_NAME
        fill = f" fill={','.join(map(str, self.fill))}" if self.resize == "pad" else ""
        antialias = "yes" if self.antialias else "no"
        return f"{_NAMED} resize={self.resize} filter={self.filter} antialias={antialias}{fill}"

    @classmethod
    def named(cls, name: str, height: int, width: int) -> Preprocessing:
        """The preprocessing of that name and size.

        Raises:
            EngineError: there is none of that name.
        """
        try:
            made = cls(height, width) if name == FIRST_NAME else cls(height, width, **_facts(name))
        except (ValueError, KeyError, InputError):
            made = None
        if made is None or made.name != name:  # the second: it holds facts that this version does not know
            raise EngineError(
                f"images prepared by {name!r} are unknown to this isc-fast, which knows {FIRST_NAME!r} and "
                f"'{_NAMED} resize=… filter=… antialias=…'; export the engine again, or install the isc-fast that made it"
            )
        return made


def _facts(name: str) -> dict[str, Any]:
    """The arguments of `Preprocessing` that a name holds."""
    _, *pairs = name.split(" ")
    facts = dict(pair.split("=", 1) for pair in pairs)
    fill = tuple(map(int, facts.get("fill", "0,0,0").split(",")))
    return {
        "resize": facts["resize"],
        "filter": facts["filter"],
        "antialias": facts["antialias"] == "yes",
        "fill": fill,
    }
