"""Images whose size is known and whose pixels are made later, beside those that Pillow's own plugins open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image


class Deferred(Image.Image):
    """An image whose size is known, and whose pixels are made when it is loaded, as those of Pillow's files.

    Args:
        form: the name of its format, as in `Image.Image.format`.
        size: width and height as stored, as the header has them.
        turn: the orientation that counts, 1 to 8.
        make: a function that makes the pixels, in any mode.
    """

    def __init__(self, form: str, size: tuple[int, int], turn: int, make: Callable[[], Image.Image]) -> None:
        super().__init__()
        self.format = form
        self.turn = turn
        self._size = size
        self._mode = "RGB"
        self._make = make

    def load(self) -> Any:
        """Make the pixels, once."""
        if self._im is None:
            made = self._make()
            made.load()
            self._mode, self._size, self.im = made.mode, made.size, made.im
        return super().load()
