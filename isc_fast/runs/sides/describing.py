"""Sides of a comparison: photos that are described first, or descriptors that are there already.

Every run that takes photos or descriptors (`isc_fast.runs.copies.find` and its neighbours) begins here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ...assets import DEMO_ENGINE
from ...decoders.base import AUTO
from ...decoders.views import ONLY_WHOLE, in_words
from ...descriptors.formats.table import find_format
from ...descriptors.manifest import is_unfinished, parts_home
from ...engines.base import Engine
from ...errors import FormatError, InputError, MismatchError
from ...extraction.job import Request
from ...extraction.pipeline import Extraction, extract_with
from ...extraction.runners.base import Runner
from ...extraction.runners.choose import choose_runner
from ...files.homes import is_bucket
from ...items import Item, Photo
from ...progress import ProgressCallback
from ...sources.base import Source, opener
from ...sources.choice import Choice
from ...sources.listing import Inputs, Listing, as_source, names_of
from ...sources.remote import check_address
from ...sources.standard_input import NAME as STANDARD_INPUT_NAME
from ...stores.urls import is_url

DESCRIPTOR_SUFFIXES = (".h5", ".hdf5", ".npy")

Progress = Callable[[str], ProgressCallback]
"""Takes the name of a step and returns the callback for it."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        name: in messages, such as ``"queries"``.
        path: the descriptor file.
        source: opens the photos; None where only descriptors were given.
        made: what the extraction did; None where nothing was extracted.
    """

    name: str
    path: str | Path
    source: Source | None = None
    made: Extraction | None = None

    def items(self, ids: Collection[str]) -> dict[str, Item]:
        """The images of these ids; empty where only descriptors were given."""
        if self.source is None:
            return {}
        wanted = set(ids)
        return {item.id: item for item in self.source.list().found if item.id in wanted}

    def photos(self, ids: Collection[str]) -> dict[str, Photo]:
        """The photos of these ids; empty where only descriptors were given."""
        return self.open(self.items(ids))

    def open(self, items: Mapping[str, Item]) -> dict[str, Photo]:
        """The photos of what `items` gave."""
        open_photo = None if self.source is None else opener(self.source)
        return {} if open_photo is None else {id_: open_photo(item) for id_, item in items.items()}


@dataclass(frozen=True)
class Describing:
    """How photos are described before they are compared; the same for all sides of one run.

    Attributes:
        engine: a loaded engine, or the path of an engine file; by default the small engine inside the package.
        ids, choice: see `isc_fast.list_images`.
        batch_size, workers, decoder, isolated, devices, engine_options: see `isc_fast.extract`.
        overwrite: replace descriptors in the output folder that come from other photos or another engine.
        checksum: see `isc_fast.extract`.
    """

    engine: Engine | str | os.PathLike[str] = DEMO_ENGINE
    ids: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    decoder: str = AUTO
    isolated: bool = False
    devices: str | Sequence[str] | None = None
    engine_options: Mapping[str, Any] | None = field(default=None)
    overwrite: bool = False
    choice: Choice | None = None
    checksum: bool = False

    @cached_property
    def runner(self) -> Runner:
        """What computes; it serves all sides, so that the engine is loaded once."""
        return choose_runner(self.engine, self.devices, self.engine_options, self.workers, isolated=self.isolated)

    def sides(self, wanted: Sequence[WantedSide], output: Path | str, progress: Progress | None = None) -> list[Side]:
        """Describe photos into ``NAME.h5``, or ``NAME-views-10.h5``; or take the descriptors that were given instead.

        In a bucket it is a result in parts, ``NAME/``. All photos are listed before the first is described.

        An interrupted call goes on where it was.

        Args:
            wanted: the sides.
            output: a folder, which exists; or an address in a bucket.
            progress: see `Progress`.

        Raises:
            IscFastError: see `isc_fast.extract`.
            InputError: descriptors were given together with other inputs.
            MismatchError: the folder has descriptors of other photos, or by another engine.
        """
        listed = [self._side_or_photos(side) for side in wanted]
        return [
            one if isinstance(one, Side) else self._described(side.name, one, side.views, output, progress)
            for side, one in zip(wanted, listed, strict=True)
        ]

    def _side_or_photos(self, wanted: WantedSide) -> Side | Source:
        """The descriptors that were given; or the photos, listed."""
        given = descriptors_among(wanted.inputs)
        if given is not None:
            return Side(wanted.name, given)
        source = as_source(wanted.inputs, self.ids, self.choice)
        listing = source.list()
        return listing if source.by_path else _Listed(source, listing)

    def _described(
        self, name: str, seen: Source, views: tuple[str, ...], output: Path | str, progress: Progress | None
    ) -> Side:
        request = Request(batch_size=self.batch_size, decoder=self.decoder, checksum=self.checksum, views=views)
        suffix = "" if views == ONLY_WHOLE else f"-views-{in_words(views).replace(',', '-')}"
        path = f"{output}/{name}{suffix}/" if is_bucket(output) else Path(output) / f"{name}{suffix}.h5"
        try:
            made = extract_with(self.runner, seen, path, request, progress(name) if progress else None)
        except MismatchError:
            if not self.overwrite:
                raise
            again = replace(request, overwrite=True)
            made = extract_with(self.runner, seen, path, again, progress(name) if progress else None)
        return Side(name, path, seen, made)


class WantedSide(NamedTuple):
    """A side that is wanted.

    Attributes:
        name: of the side, and of its file.
        inputs: photos, as `isc_fast.extract` takes them; or one descriptor file of any format.
        views: of each photo, by name; descriptors that were given have those that they have.
    """

    name: str
    inputs: Inputs | Source
    views: tuple[str, ...] = ONLY_WHOLE


class _Listed(Source):
    """A source that was listed already, and opens its photos itself."""

    def __init__(self, source: Source, listing: Listing) -> None:
        self._source, self._listing, self.inputs = source, listing, source.inputs

    def list(self) -> Listing:
        """See `Source`."""
        return self._listing

    def open(self, item: Item) -> Photo:
        """See `Source`."""
        return self._source.open(item)

    def content(self, item: Item) -> Photo:
        """See `Source`."""
        return self._source.content(item)


def check_there(*inputs: Inputs | Source) -> None:
    """See before minutes of work that every input is there.

    Raises:
        InputError: one is not.
        StoreError: its bucket cannot be reached.
    """
    for given in inputs:
        for name in names_of(given):
            if is_url(name):
                check_address(name)
            elif name != STANDARD_INPUT_NAME and not os.path.lexists(name):
                raise InputError(f"there is no {name}; give photos, such as a folder, or a descriptor file")


def descriptors_among(inputs: Inputs | Source) -> str | Path | None:
    """The descriptor file, or folder, that was given in the place of photos; None where photos were given.

    Raises:
        InputError: it stands among other inputs.
    """
    names = names_of(inputs)
    found = [name if is_url(name) else Path(name) for name in names if _holds_descriptors(name)]
    if found and len(names) > 1:
        raise InputError(
            f"{found[0]} holds descriptors and stands among {len(names) - 1} other inputs; give photos alone, or one file of "
            "descriptors"
        )
    return found[0] if found else None


def _holds_descriptors(name: str) -> bool:
    path = Path(name)
    if is_url(name):
        if parts_home(name) is not None or (is_bucket(name) and is_unfinished(name)):
            return True
        if path.suffix.lower() in DESCRIPTOR_SUFFIXES:
            raise InputError(f"{name} is a descriptor file, and those are read on this machine only; download it first")
        return False
    if parts_home(path) is not None or is_unfinished(path):
        return True
    if not path.is_dir():
        return path.suffix.lower() in DESCRIPTOR_SUFFIXES
    try:
        return find_format(path).is_folder
    except FormatError:
        return False


def check_views(views: tuple[str, ...], what: str, *, given: bool) -> None:
    """Refuse views of sides that are descriptors already.

    Args:
        views: that are wanted.
        what: the sides are called in the message.
        given: whether one of them is descriptors.

    Raises:
        InputError: one is, and there are views beside the whole photo.
    """
    if views != ONLY_WHOLE and given:
        raise InputError(
            f"views are cut out of photos, and the {what} are descriptors, which cannot be cut, mirrored or turned; give the "
            f"photos, or extract them with --views {in_words(views)}"
        )
