"""The values that every stage passes on: one image of the input, its photo, and what went wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# The aliases are strings, so that this module does not import NumPy.
Pixels: TypeAlias = "npt.NDArray[np.uint8]"
Floats: TypeAlias = "npt.NDArray[np.float32]"
Vectors: TypeAlias = "npt.NDArray[np.float32]"
"""Descriptors, one a row."""
Doubles: TypeAlias = "npt.NDArray[np.float64]"
Ints: TypeAlias = "npt.NDArray[np.int64]"


@dataclass(frozen=True, slots=True)
class Item:
    """One image of the input.

    Attributes:
        id: the name under which its descriptor is stored.
        path: the name under which its source opens it. For images in files this is the path of the file.
    """

    id: str
    path: str


@dataclass(frozen=True, slots=True)
class Problem:
    """The reason why an image has no pixels.

    Attributes:
        stage: ``"read"``, ``"decode"`` or ``"engine"``.
        reason: one line.
    """

    stage: str
    reason: str


Photo: TypeAlias = "str | bytes | Problem | Callable[[], Photo]"
"""One photo, not yet decoded. It is one of four things:

* a text: the path of a file. The decoder reads the file itself, so that large files are not in memory twice;
* bytes: the content of an image file;
* a `Problem`: there is no photo, and this is why. It becomes a row of the ledger of failures;
* a function: the decoder calls it in one of its threads, and gets one of the other three. Sources that have to wait for a
  photo give this, so that many photos are waited for at once.

`isc_fast.decoders.opening.open_photo` is the one place that tells them apart.
"""


NOTED = "noted"
"""The stage of a row of the ledger whose image has a descriptor all the same."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One row of the ledger: an image without a descriptor, or one whose descriptor says little, and why.

    Attributes:
        id, path: see `Item`.
        stage: see `Problem`, or `NOTED` where the image has a descriptor.
        reason: one line.
    """

    id: str
    path: str
    stage: str
    reason: str
