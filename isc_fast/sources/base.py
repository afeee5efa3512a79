"""The seam between the package and whatever holds the photos: a source lists images and opens one of them.

`Source` is for programs: an object that is given to `isc_fast.extract`. `Kind` is for the command line too: one kind of input,
such as a folder, which is told from its name. A new kind is one file of this folder and one row of
`isc_fast.sources.listing.KINDS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..items import Item, Photo
from .catalog import Entry as Entry
from .choice import Choice

if TYPE_CHECKING:
    from .listing import Listing
    from .whole_containers import Expansion


class Source(ABC):
    """A place that holds photos.

    Attributes:
        inputs: texts that say which photos these are. An interrupted extraction goes on where they are the same; without them
            only the images are compared.
        by_path: whether `isc_fast.sources.listing.open_item` opens the items too. Then several processes can work on them;
            otherwise the source is used in the process that has it.
        expansion: where what is listed are containers, what gives the images of some of them; see
            `isc_fast.sources.whole_containers`.
    """

    inputs: Sequence[str] = ()
    by_path: bool = False
    expansion: Expansion | None = None

    @abstractmethod
    def list(self) -> Listing:
        """The images, in the same order and with the same ids each time.

        An item's path is the name that `open` takes. It holds from any working directory, since the next run may have another.
        """

    @abstractmethod
    def open(self, item: Item) -> Photo:
        """The photo of an item: bytes, the path of a file, or the `Problem` because of which there is none.

        Several threads of the decoder call this at once. What it raises becomes a row of the ledger of failures.
        """

    def content(self, item: Item) -> Photo:
        """The photo whose bytes tell whether an item has changed: by default what `open` gives. Several threads call it."""
        return self.open(item)


def opener(source: Source) -> Callable[[Item], Photo]:
    """A function that gives the decoder each photo of a source without waiting for it."""
    if source.by_path:
        return source.open  # gives the path, and the decoder's threads read the file
    return lambda item: partial(source.open, item)


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Attributes:
        noun: in messages, ``"a folder"``.
        takes: whether an input, as the user names it, is of this kind.
        entries: the images of an input, and of the choice what concerns this kind. For each other file that is in it, an
            entry with an empty path, or None.
        holds: whether it holds images under names of its own, as a folder does: they are sorted by name, and with several
            inputs their ids begin with the name of the input. Otherwise images stay in their order, and keep their names.
        scheme: the paths of its images begin with ``scheme://``; empty for paths in the file system.
        open: the photo of a path, for a kind that has a scheme. The decoder's threads call it.
        packs: the suffixes of its files, if one of them is a container of photos: a folder of nothing but containers, and a
            list that names some, give their photos. The ids of these begin with the container's name, and their paths are
            made by `isc_fast.sources.containers`.
        remote: whether its inputs are addresses, and not paths.
    """

    noun: str
    takes: Callable[[str], bool]
    entries: Callable[[str, Choice], Iterator[Entry | None]]
    holds: bool = False
    scheme: str = ""
    open: Callable[[str], Photo] = str
    packs: frozenset[str] = frozenset()
    remote: bool = False
