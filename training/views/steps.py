"""The edits a view can consist of, each as plain data with everything decided: no step draws a random number.

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
Matrix = tuple[float, ...]
"""Coefficients that lead from a pixel of the result to the place in the source, as Pillow's ``transform`` takes them."""


@dataclass(frozen=True)
class Rotate:
    """A counter-clockwise turn, nearest neighbours, cut to the largest upright rectangle inside.

    ``width`` and ``height`` are the result's; ``matrix`` has six coefficients.
    """

    angle: float
    width: int
    height: int
    matrix: Matrix


@dataclass(frozen=True, eq=False)
class Overlay:
    """The photo pasted onto ``picture`` (``onto``), or ``picture`` onto the photo.

    What is pasted gets the size ``width × height`` (bicubic), its corner at ``left``, ``top``, and may hang over the edge.
    ``opacity``: 0 to 255.
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
    """A rectangle of the photo, resized to a square of ``size`` (bilinear, antialiased)."""

    top: int
    left: int
    height: int
    width: int
    size: int


@dataclass(frozen=True)
class Resize:
    """The whole photo, resized to a square of ``size`` (bilinear, antialiased, aspect ratio ignored)."""

    size: int


@dataclass(frozen=True)
class Jitter:
    """Colours changed in this ``order``: 0 brightness, 1 contrast, 2 saturation, 3 hue. Factors; hue in turns."""

    order: tuple[int, ...]
    brightness: float
    contrast: float
    saturation: float
    hue: float


@dataclass(frozen=True)
class Pixelize:
    """Resized to ``width × height`` and back, bicubic both ways."""

    width: int
    height: int


@dataclass(frozen=True)
class ShufflePixels:
    """This share of the pixels change places among themselves: the same ones at every photo of a size."""

    share: float


@dataclass(frozen=True)
class Jpeg:
    """Compressed and decompressed, chroma at half the resolution."""

    quality: int


@dataclass(frozen=True)
class Grayscale:
    """Without colour."""


@dataclass(frozen=True)
class Blur:
    """Pillow's Gaussian blur; ``radius``, the standard deviation, is in pixels."""

    radius: float


@dataclass(frozen=True)
class Perspective:
    """Seen from aside, bilinear, black around. ``matrix`` has eight coefficients."""

    matrix: Matrix


@dataclass(frozen=True)
class Flip:
    """Left and right change places."""


@dataclass(frozen=True)
class TurnOver:
    """Top and bottom change places."""


@dataclass(frozen=True, eq=False)
class Paste:
    """Writing or an emoji, already drawn: ``patch`` uint8 ``(h, w, 4)`` RGBA, its corner at ``left``, ``top``."""

    kind: Literal["text", "emoji"]
    patch: Patch
    left: int
    top: int


@dataclass(frozen=True)
class EdgeEnhance:
    """Pillow's ``EDGE_ENHANCE``, or ``EDGE_ENHANCE_MORE``."""

    more: bool


Step = (
    Rotate | Overlay | Crop | Resize | Jitter | Pixelize | ShufflePixels | Jpeg | Grayscale | Blur | Perspective | Flip
    | TurnOver | Paste | EdgeEnhance
)  # fmt: skip


@dataclass(frozen=True)
class Erase:
    """A rectangle of the finished view that becomes N(0, 1) noise on the scale where pixels are 0 to 1."""

    top: int
    left: int
    height: int
    width: int
    seed: int


@dataclass(frozen=True)
class ViewRecipe:
    """The steps that make a view of ``size × size`` pixels, in their order, and what is erased from it afterwards."""

    steps: tuple[Step, ...]
    size: int
    erase: Erase | None = None

    @property
    def erase_row(self) -> tuple[int, int, int, int, int]:
        """``erase`` as `isc_fast.training.views.apply_torch.finish` takes it: top, left, height, width, seed; zeros for none."""
        erase = self.erase
        return (erase.top, erase.left, erase.height, erase.width, erase.seed) if erase else (0, 0, 0, 0, 0)
