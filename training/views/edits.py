"""The edits that a recipe can hold, each as plain data. Everything is decided: no edit draws a random number.

`isc_fast.training.views.recipes` draws them; `isc_fast.training.views.apply_pil` and
`isc_fast.training.views.apply_torch` carry them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PIL import Image

from .artwork import Patch

Size = tuple[int, int]
"""(width, height) in pixels."""
Box = tuple[int, int, int, int]
"""(left, top, width, height) in pixels."""
Matrix = tuple[float, ...]
"""The coefficients that map a pixel of the result to a place in the source, as Pillow's ``transform`` takes them."""


@dataclass(frozen=True)
class Rotate:
    """Turn the photo counter-clockwise with nearest neighbours, and crop it to the largest upright rectangle inside.

    ``width`` and ``height`` are those of the result. ``matrix`` has six coefficients.
    """

    angle: float
    width: int
    height: int
    matrix: Matrix


@dataclass(frozen=True, eq=False)
class Overlay:
    """Paste the photo onto ``picture`` if ``onto`` is true, or else ``picture`` onto the photo.

    The pasted image is resized to ``width × height`` (bicubic). Its corner lies at ``left``, ``top``, and it may reach over
    the edge. ``opacity`` is 0 to 255.
    """

    picture: Image.Image
    onto: bool
    width: int
    height: int
    left: int
    top: int
    opacity: int


@dataclass(frozen=True)
class Crop:
    """Cut out a rectangle of the photo, and resize it to a square of ``size`` (bilinear, antialiased)."""

    top: int
    left: int
    height: int
    width: int
    size: int


@dataclass(frozen=True)
class Resize:
    """Resize the whole photo to a square of ``size`` (bilinear, antialiased). The aspect ratio is ignored."""

    size: int


@dataclass(frozen=True)
class Jitter:
    """Change the colours in this ``order``: 0 brightness, 1 contrast, 2 saturation, 3 hue.

    ``hue`` is in turns; the others are factors.
    """

    order: tuple[int, ...]
    brightness: float
    contrast: float
    saturation: float
    hue: float


@dataclass(frozen=True)
class Pixelize:
    """Resize to ``width × height`` and back, bicubic both ways."""

    width: int
    height: int


@dataclass(frozen=True)
class ShufflePixels:
    """Exchange this share of the pixels among themselves. For photos of one size, they are always the same pixels."""

    share: float


@dataclass(frozen=True)
class Jpeg:
    """Compress the image as JPEG and decompress it, with chroma at half the resolution."""

    quality: int


@dataclass(frozen=True)
class Grayscale:
    """Remove the colours."""


@dataclass(frozen=True)
class Blur:
    """Blur with Pillow's Gaussian blur. ``radius`` is its standard deviation, in pixels."""

    radius: float


@dataclass(frozen=True)
class Perspective:
    """Show the photo from the side (bilinear), on black. ``matrix`` has eight coefficients."""

    matrix: Matrix


@dataclass(frozen=True)
class Flip:
    """Exchange left and right."""


@dataclass(frozen=True)
class TurnOver:
    """Exchange top and bottom."""


@dataclass(frozen=True, eq=False)
class Paste:
    """Paste a text or an emoji that is already drawn.

    ``patch`` is uint8 ``(h, w, 4)`` RGBA. Its corner lies at ``left``, ``top``.
    """

    kind: Literal["text", "emoji"]
    patch: Patch
    left: int
    top: int


@dataclass(frozen=True)
class EdgeEnhance:
    """Apply Pillow's ``EDGE_ENHANCE``, or ``EDGE_ENHANCE_MORE`` if ``more`` is true."""

    more: bool


@dataclass(frozen=True, eq=False)
class Page:
    """Lay the photo and other pictures on a page of one colour.

    Attributes:
        width, height, colour: the page, in pixels, and its red, green and blue.
        box: the left, top, width and height of the photo on the page. The photo is resized to it (bilinear, antialiased).
        pictures: the other pictures, each with its box. The photo lies on top of them.
    """

    width: int
    height: int
    colour: tuple[int, int, int]
    box: Box
    pictures: tuple[tuple[Image.Image, Box], ...] = ()


@dataclass(frozen=True)
class Bend:
    """Bend the photo: a pixel takes the colour of the nearest pixel at another place.

    With the middle as the origin and the short side as 2, the place (x, y) takes the colour of
    ``(x, y) · (1 + radial · (x² + y²)) / (1 + |radial|)``, moved by ``swing · sin(rate · y + phase)`` along x and by
    ``swing · sin(rate · x + phase)`` along y. Places outside take the nearest colour of the edge.
    """

    radial: float
    swing: float
    rate: float
    phase: float


@dataclass(frozen=True)
class Screen:
    """Show the photo as a camera sees it on a screen: stripes, a reflection, and less contrast.

    A value v becomes ``contrast · v + lift + stripes · sin(a) · sin(b) + reflection``. The phases a and b are those of two
    waves over the picture, given by ``waves``: for each, radians per pixel along x and along y. The reflection falls from
    ``glare`` grey levels at ``place`` (shares of the width and the height) to 0 at the distance ``reach`` (a share of the
    diagonal).
    """

    contrast: float
    lift: float
    stripes: float
    waves: tuple[tuple[float, float], tuple[float, float]]
    glare: float
    place: tuple[float, float]
    reach: float


Edit = (
    Rotate | Overlay | Crop | Resize | Jitter | Pixelize | ShufflePixels | Jpeg | Grayscale | Blur | Perspective | Flip
    | TurnOver | Paste | EdgeEnhance | Page | Bend | Screen
)  # fmt: skip


@dataclass(frozen=True)
class Erase:
    """Replace a rectangle of the finished view by N(0, 1) noise, on the scale where pixels are 0 to 1."""

    top: int
    left: int
    height: int
    width: int
    seed: int


@dataclass(frozen=True)
class ViewRecipe:
    """The edits that make a view.

    Attributes:
        edits: the edits in their order.
        size: the side of the view, in pixels.
        erase: the rectangle to erase afterwards, or None.
    """

    edits: tuple[Edit, ...]
    size: int
    erase: Erase | None = None

    @property
    def erase_row(self) -> tuple[int, int, int, int, int]:
        """The rectangle to erase, as `isc_fast.training.views.apply_torch.finish` takes it.

        It is top, left, height, width and seed, or zeros if there is none.
        """
        erase = self.erase
        return (erase.top, erase.left, erase.height, erase.width, erase.seed) if erase else (0, 0, 0, 0, 0)
