"""Going through inputs, of any kind, and noting what is in them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ..errors import InputError, MissingExtraError
from ..stores.urls import is_url, without_stamp
from .base import Entry, Kind
from .catalog import Catalog
from .choice import Choice
from .containers import unreadable
from .paths import is_there, real


def nouns_of(kinds: Sequence[Kind]) -> list[str]:
    """What the kinds are called in a message; all addresses under one name."""
    schemes = [f"{kind.scheme}://" for kind in kinds if kind.remote and kind.scheme]
    local = [kind.noun for kind in kinds if not kind.remote]
    return [*local, f"an address ({', '.join(schemes)})"] if schemes else local


class Finder:
    """Adds the images of inputs to a catalog.

    Args:
        kinds: the kinds of input; the first that takes an input lists it.
        catalog: gets the images.
        choice: what of the inputs is taken.
        names: of images that are given one by one, in the place of their file's name.

    Attributes:
        left_out: how many files have names that are not an image's, by suffix.
        excluded: how many files and folders a pattern leaves out, by pattern.
        has_containers: whether there was a container among the inputs.
    """

    def __init__(
        self, kinds: Sequence[Kind], catalog: Catalog, choice: Choice, names: Mapping[str, str] | None = None
    ) -> None:
        self._kinds, self._catalog, self._choice, self._names = kinds, catalog, choice, names or {}
        self._opened: dict[object, str] = {}
        self.left_out, self.excluded = Counter[str](), Counter[str]()
        self.has_containers = False

    def add(self, root: str, *, several: bool) -> None:
        """Add the images of one input.

        Args:
            root: the input, as the user names it.
            several: there are others, so that ids begin with the name of the folder.

        Raises:
            InputError: the input does not exist, cannot be read or is of no known kind.
            MissingExtraError: what reads it is not installed.
        """
        kind = next((kind for kind in self._kinds if kind.takes(root)), None)
        if kind is None:
            nouns = nouns_of(self._kinds)
            if not is_there(root):
                raise InputError(f"there is no {root}; expected {', '.join(nouns[:-1])} or {nouns[-1]}")
            raise InputError(f"{root} is neither {', nor '.join(nouns)}")
        if kind.packs:
            self._refuse_twice(root)
            self._catalog.add(self._counted(self._inside(kind, root, _label(root))))
            return
        prefix = (
            os.path.basename(real(root) if is_url(root) else os.path.abspath(root)) + "/"
            if several and kind.holds
            else ""
        )
        entries = kind.entries(root, self._choice)
        if root in self._names:
            self._catalog.add([(self._names[root], root, "")])
            return
        if not kind.holds:
            self._catalog.add(self._counted(self._unpacked(entries)))
            return
        packed = list[str]()
        before = len(self._catalog)
        self._catalog.add(self._counted(_renamed(entries, prefix), packed), by_name=True)
        if len(self._catalog) == before and packed:
            self._add_packed(root, sorted(packed, key=os.fsencode), prefix)

    def add_container(self, path: str, label: str) -> None:
        """Add the images of a container, whose ids begin with that label."""
        kind = self._packing(path)
        assert kind is not None
        self._catalog.add(self._counted(self._or_end(kind, path, label)))

    def _add_packed(self, root: str, names: Sequence[str], prefix: str) -> None:
        """Add the images of a folder that holds none but containers."""
        labels = Counter(os.path.splitext(name)[0] for name in names)
        for name in names:
            label, kind = os.path.splitext(name)[0], self._packing(name)
            assert kind is not None
            self.left_out[_suffix(name)] -= 1
            label = prefix + (label if labels[label] == 1 else name)  # a.tar beside a.zip
            self._catalog.add(self._counted(self._or_end(kind, os.path.join(root, name), label)))
        self.left_out += Counter()  # without the zeros

    def _unpacked(self, entries: Iterator[Entry | None]) -> Iterator[Entry | None]:
        """The entries of a list, and in place of each container those of what it holds."""
        for entry in entries:
            name, path, given = entry or ("", "", "")
            file = without_stamp(path)
            kind = self._packing(file)
            if kind is None or not (is_url(file) or os.path.isfile(file)):
                yield entry
            else:
                self._refuse_twice(file)
                yield from self._or_end(kind, file, given or os.path.splitext(name)[0])

    def _packing(self, path: str) -> Kind | None:
        suffix = _suffix(path)
        return next((kind for kind in self._kinds if suffix and suffix in kind.packs), None)

    def _refuse_twice(self, path: str) -> None:
        key: object = path
        if not is_url(path):
            try:
                status = os.stat(path)
            except OSError:
                return
            key = status.st_dev, status.st_ino
        before = self._opened.get(key)
        self._opened[key] = path
        if before is not None:
            also = "" if before == path else f", also as {before}"
            raise InputError(f"{path} is given twice{also}; name it once")

    def _inside(self, kind: Kind, path: str, label: str) -> Iterator[Entry | None]:
        """The entries of a container. Their names begin with its label."""
        self.has_containers = True
        for entry in kind.entries(path, self._choice):
            name, where, given = entry or ("", "", "")
            yield f"{label}/{name}", where, label + given if where and given else given

    def _or_end(self, kind: Kind, path: str, label: str) -> Iterator[Entry | None]:
        """The same for a container that is one of many: one that cannot be read costs a row of the ledger, not the others."""
        try:
            yield from self._inside(kind, path, label)
        except MissingExtraError:
            raise
        except InputError as error:
            yield f"{label}/#end", unreadable(kind.scheme, path, str(error)), f"{label}#end"

    def _counted(self, entries: Iterator[Entry | None], packed: list[str] | None = None) -> Iterator[Entry]:
        """The entries that are images; the others are counted, and containers among them noted."""
        for entry in entries:
            name, path, given = entry or ("", "", "")
            if path:
                yield name, path, given
            elif given:
                self.excluded[given] += 1
            else:
                self.left_out[_suffix(name)] += 1
                if packed is not None and self._packing(name) is not None:
                    packed.append(name)


def _renamed(entries: Iterator[Entry | None], prefix: str) -> Iterator[Entry | None]:
    for entry in entries:
        name, path, given = entry or ("", "", "")
        yield prefix + name if path else name, path, given


def _label(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()
