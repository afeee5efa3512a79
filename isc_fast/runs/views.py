"""Views of photos: mirrored and turned, so that copies are found which a network takes for other photos.

A view is a source of its own, with the ids of the photos. So its descriptors are a file of their own, which resumes and is
brought up to date as any other.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from PIL import Image

from ..decoders.limits import ROOM, bytes_of
from ..decoders.opening import ImageProblem, open_image, open_photo, problems
from ..decoders.rules import decode_rgb
from ..items import Item, Photo
from ..sources.base import Source
from ..sources.listing import Listing

_MIRRORED = Image.Transpose.FLIP_LEFT_RIGHT
_TURNS = {
    "turned-90": Image.Transpose.ROTATE_270,  # Pillow turns to the left
    "turned-180": Image.Transpose.ROTATE_180,
    "turned-270": Image.Transpose.ROTATE_90,
}
VIEWS: dict[str, Sequence[Image.Transpose]] = {
    "mirrored": (_MIRRORED,),
    **{name: (turn,) for name, turn in _TURNS.items()},
    **{f"mirrored-{name}": (_MIRRORED, turn) for name, turn in _TURNS.items()},
}
"""By name, what is done to a photo, in order. It is mirrored left to right, and turned clockwise by so many degrees."""


def views_of(*, mirror: bool, turn: bool) -> list[str]:
    """The names of the views that are looked at beside the photo as it is."""
    return [name for name in VIEWS if (mirror or "mirrored" not in name) and (turn or "turned" not in name)]


@dataclass(frozen=True)
class ViewSource(Source):
    """The photos of a source in a view.

    A view's pixels are those of the decoded photo, upright and at its full size, moved and never computed anew. They go to the
    decoder as an uncompressed picture.

    Attributes:
        source: of the photos. Ids and paths are its own.
        view: one of `VIEWS`.
    """

    source: Source
    view: str

    @cached_property
    def inputs(self) -> Sequence[str]:  # type: ignore[override]
        """See `Source`."""
        return [*self.source.inputs, f"view={self.view}"]

    def list(self) -> Listing:
        """See `Source`."""
        return self.source.list()

    def open(self, item: Item) -> Photo:
        """See `Source`."""
        return seen_as(self.source.open(item), self.view)

    def content(self, item: Item) -> Photo:
        """See `Source`: a view changes where its photo does."""
        return self.source.content(item)


def seen_as(photo: Photo, view: str) -> Photo:
    """A photo in a view: an uncompressed picture, or the problem because of which there is none."""
    try:
        with problems(), open_photo(photo) as stream:
            image = open_image(stream)
            with ROOM.taken(2 * bytes_of(image, stream)):  # the photo, and the picture that is made of it
                made = decode_rgb(image, stream)
                for step in VIEWS[view]:
                    made = made.transpose(step)
                out = io.BytesIO()
                made.save(out, "PPM")
                return out.getvalue()
    except ImageProblem as error:
        return error.problem
