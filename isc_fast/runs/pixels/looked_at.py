"""The photos of one side of a comparison that are looked at in their pixels."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict

from PIL import Image

from ...decoders.opening import ImageProblem
from ...decoders.rules import load_rgb
from ...errors import InputError
from ...items import Item
from ...review.alignment import Features, find_features
from ...sources.base import Source, opener
from ...sources.stamps import stamps_of

_KEPT_BYTES = 300 << 20  # of features that stay in memory; those of one photo take 770 kB at most


class LookedAt:
    """The photos of one side that are looked at. Several threads may ask for them.

    Args:
        name: of the side, in messages.
        source: opens the photos.
        wanted: their ids.

    Attributes:
        unread: ids of those that could not be read.

    Raises:
        InputError: one of them is not in the source.
    """

    def __init__(self, name: str, source: Source, wanted: set[str]) -> None:
        self._items: dict[str, Item] = {item.id: item for item in source.list().found if item.id in wanted}
        missing = next((id_ for id_ in sorted(wanted) if id_ not in self._items), None)
        if missing is not None:
            raise InputError(
                f"{missing!r} of the matches is not among the {name}; give the photos that they were extracted from, with the "
                "same id rule (--ids)"
            )
        self._open = opener(source)
        self._features: OrderedDict[str, Features] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self.unread: set[str] = set()

    def state(self) -> bytes:
        """SHA-256 of which photos these are, and of size and time of their files."""
        items = sorted(self._items.values(), key=lambda item: item.id)
        digest = hashlib.sha256(json.dumps([[item.id, item.path] for item in items]).encode("ascii"))
        digest.update(stamps_of([item.path for item in items]).tobytes())
        return digest.digest()

    def image(self, id_: str) -> Image.Image | None:
        """A photo; None if it cannot be read."""
        try:
            return load_rgb(self._open(self._items[id_]))
        except ImageProblem:
            self.unread.add(id_)
            return None

    def features(self, id_: str) -> Features | None:
        """The features of a photo, which are kept for a while; None if it cannot be read."""
        with self._lock:
            if id_ in self._features:
                self._features.move_to_end(id_)
                return self._features[id_]
        image = self.image(id_)
        if image is None:
            return None
        return self._keep(id_, find_features(image))

    def both(self, id_: str, *, keep: bool) -> tuple[Features, Features] | None:
        """The features of a photo and of its mirror image; None if it cannot be read.

        Args:
            id_: of the photo.
            keep: its own features, since it is compared from the other side too.
        """
        image = self.image(id_)
        if image is None:
            return None
        with self._lock:
            known = self._features.get(id_)
        plain = find_features(image) if known is None else known
        if keep and known is None:
            self._keep(id_, plain)
        return plain, find_features(image, mirrored=True)

    def _keep(self, id_: str, made: Features) -> Features:
        with self._lock:
            if id_ not in self._features:  # no other thread was faster
                self._features[id_] = made
                self._bytes += made.vectors.nbytes
            while self._bytes > _KEPT_BYTES and len(self._features) > 1:
                self._bytes -= self._features.popitem(last=False)[1].vectors.nbytes
        return made
