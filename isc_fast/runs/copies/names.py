"""Names in the output folders of `dedup`, `find` and `leaks`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..pixels.aligning import OWN as _ALIGNING


class Names(NamedTuple):
    """What tells the output of a verb; see `isc_fast.files.own_folder.OwnFolder`.

    Attributes:
        record: the file that lists all others.
        begun: a regular expression for the names of what an unfinished run leaves.
    """

    record: str
    begun: str


def _names(verb: str, descriptors: str) -> Names:
    return Names(f"{verb}.json", rf"({descriptors})\.h5|pairs|{_ALIGNING}")


NAMES: Mapping[str, Names] = {
    "dedup": _names("dedup", "photos"),
    "find": _names("find", r"(queries|references)[\w-]*"),
    "leaks": _names("leaks", "train|eval-.*"),
}
"""By verb."""
