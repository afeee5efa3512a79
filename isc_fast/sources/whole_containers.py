"""Archives and tables that are listed as they are, and gone through when somebody comes to their photos.

A list of all photos in 10,000 tars takes an hour and gigabytes; a list of the tars takes neither. Whoever has a container of such
a list in hand expands it: then its photos have the ids, the paths and the order that `isc_fast.list_images` gives them.

The path of a container is ``tar:///photos/x.tar//#SIZE,TIME``, so one that was changed since it was listed is an error that names
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from ..errors import InputError
from ..items import Item, Problem
from ..stores.store import store_of
from ..stores.urls import is_url, join, split
from .base import Entry, Kind, Source
from .catalog import Catalog
from .choice import Choice
from .containers import (
    container_of,
    file_of,
    path_in_words,
    place_of,
    repeated,
    stamp_now,
    unreadable,
    whole,
)
from .finding import Finder
from .listing import KINDS, Files, Inputs, Listing, names_of

ID_RULES = ("auto", "path")
"""Rules for ids by which the photos of two containers never have the same id."""


@dataclass(frozen=True)
class Expansion:
    """How the photos of containers are listed; a function that gives the images of items.

    Args:
        ids, choice: see `isc_fast.list_images`.
    """

    ids: str = "auto"
    choice: Choice = field(default_factory=Choice)

    def __call__(self, containers: Sequence[Item]) -> list[Item]:
        """The images of containers, in order.

        Raises:
            InputError: a container is gone or was changed since it was listed, or two of its images would have the same id.
            StoreError: its bucket cannot be reached.
        """
        return [image for container in containers for image in self._inside(container)]

    def _inside(self, container: Item) -> Sequence[Item]:
        place = place_of(container.path)
        if isinstance(place, Problem):
            return [Item(f"{container.id}#end", container.path)]
        if stamp_now(place.container) != place.stamp:
            raise _changed(place.container)
        catalog = Catalog(self.ids)
        finder = Finder(KINDS, catalog, self.choice)
        finder.add_container(place.container, container.id)
        catalog.settle_repeats(container_of, repeated)
        equal = catalog.settle_ids()
        if equal is not None:
            first, second = equal
            raise InputError(f"two images would have the id {first.id!r}: {first.path} and {second.path}")
        images = [*catalog]
        if any(_stamp(image) not in (None, place.stamp) for image in images[:1]):
            raise _changed(place.container)  # while it was gone through
        return images

    def message(self) -> dict[str, Any]:
        """It as a message between processes; `of_message` is the way back."""
        return asdict(self)

    @classmethod
    def of_message(cls, message: Mapping[str, Any]) -> Self:
        """The expansion of a message."""
        return cls(message["ids"], Choice(**message["choice"]))


def _stamp(image: Item) -> tuple[int, int] | None:
    place = place_of(image.path)
    return None if isinstance(place, Problem) else place.stamp


def _changed(file: str) -> InputError:
    return InputError(
        f"{file} is gone, or has changed since this extraction was planned: put it back as it was and run the same command "
        "again, or describe it as it is now into another output"
    )


class Containers(Files):
    """The containers of inputs that are given by their names; see `isc_fast.sources.listing.Files`.

    Raises:
        InputError: by that rule two photos in different containers may have the same id.
    """

    expansion: Expansion

    def __init__(self, inputs: Inputs, ids: str = "auto", choice: Choice | None = None) -> None:
        super().__init__(inputs, ids, choice)
        if ids not in ID_RULES:
            raise InputError(f"photos in containers get ids by one of the rules {', '.join(ID_RULES)}, not {ids}")
        self.expansion = Expansion(ids, choice or Choice())

    def list(self) -> Listing:
        """The containers, in the order in which `list_images` would go through them.

        Raises:
            InputError: as `list_images`; or there is a photo among them, or two would give their photos the same ids.
        """
        catalog = Catalog(self.expansion.ids)
        finder = _Whole(KINDS, catalog, self.expansion.choice)
        roots = names_of(self._given)
        for root in roots:
            finder.add(root, several=len(roots) > 1)
        if not len(catalog):
            raise InputError(
                f"found no archive and no table in {', '.join(roots)}; expected .tar, .zip, .parquet or .arrow"
            )
        _refuse_equal(catalog)
        return Listing(catalog, finder.left_out.total(), dict(finder.left_out), dict(finder.excluded)).list()


def _refuse_equal(catalog: Catalog) -> None:
    """See that all are containers, and that ids of their photos differ by what they begin with.

    Raises:
        InputError: they are not, or do not.
    """
    catalog.settle_ids()
    paths: dict[str, str] = {}
    for item in catalog:
        if not container_of(item.path):
            raise InputError(
                f"{path_in_words(item.path)} is no archive and no table, and --by-container (in Python by_container) takes "
                "nothing else; leave it out"
            )
        other = paths.get(item.id)
        if other is not None:
            raise _equal(item.id, other, item.path)
        paths[item.id] = item.path
    for id_, path in paths.items():
        for end in (place for place, letter in enumerate(id_) if letter == "/"):
            if id_[:end] in paths:
                raise _equal(id_, paths[id_[:end]], path)


def _equal(id_: str, first: str, second: str) -> InputError:
    return InputError(
        f"ids of photos in {file_of(first)} and in {file_of(second)} would both begin with {id_!r}; give their common parent "
        "folder, or a list file with id<TAB>path lines"
    )


class _Whole(Finder):
    """Adds containers, as they are, to a catalog."""

    def __init__(self, kinds: Sequence[Kind], catalog: Catalog, choice: Choice) -> None:
        super().__init__(kinds, catalog, choice)
        self._stamps: dict[tuple[str, str], tuple[int, int]] = {}  # of objects that a listing showed

    def _inside(self, kind: Kind, path: str, label: str) -> Iterator[Entry | None]:
        self.has_containers = True
        stamp = (self._stamps.get(split(path)) if is_url(path) else None) or stamp_now(path)
        if stamp is None:
            yield label, unreadable(kind.scheme, path, f"cannot read {path}: it is not there"), label
        else:
            yield label, whole(kind.scheme, path, stamp), label

    def _add_packed(self, root: str, names: Sequence[str], prefix: str) -> None:
        if is_url(root):
            base, key = split(root)
            for block in store_of(base).list(key):
                self._stamps |= {split(join(base, meta.key)): meta.stamp for meta in block}
        super()._add_packed(root, names, prefix)


def as_containers(inputs: Inputs | Source, ids: str = "auto", choice: Choice | None = None) -> Source:
    """The source of archives and tables that a user named, planned as they are.

    Raises:
        InputError: what was given is a source already.
    """
    if isinstance(inputs, Source):
        raise InputError(
            "by_container lists archives and tables by their names; give these, and not what was listed already"
        )
    return Containers(inputs, ids, choice)
