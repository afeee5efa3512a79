"""What a folder is that is given in the place of descriptors or of an index, and the command that comes next."""

from __future__ import annotations

import os
import shlex
from itertools import islice

from ...sources.folders import is_image_name
from ...sources.sniffing import is_image_content

_SEEN = 10_000  # files that are looked at: somebody may give a whole disk
_SHOWN = 4
_DESCRIPTORS = (".h5", ".hdf5", ".npy")


def descriptors_instead(folder: str) -> str:
    """What to give in the place of a folder that is no descriptors as a whole."""
    if os.path.exists(os.path.join(folder, "plan.sqlite")):
        return (
            "it is what an interrupted isc-fast extract left: run that command again, which makes the descriptors of it"
        )
    if files := _descriptors_in(folder):
        shown = ", ".join(files[:_SHOWN]) + (" …" if len(files) > _SHOWN else "")
        return f"it holds {shown}: give one of them, such as {os.path.join(folder, files[0])}"
    if _holds_photos(folder):
        return f"it is a folder of photos, describe it first: {_extract(folder)}"
    return f"isc-fast info {shlex.quote(folder)} says what it is"


def index_instead(folder: str) -> str:
    """How to make an index where a folder, which is there, is none."""
    if files := _descriptors_in(folder):
        best = next((name for name in files if name.startswith("references")), files[0])  # as isc-fast find names them
        return f"make one of the descriptors in it: {_build(os.path.join(folder, best))}"
    if _holds_photos(folder):
        return f"it is a folder of photos, describe it and make one: {_extract(folder)}, then {_build(_made(folder))}"
    return f"make one, in a new folder: {_build('REFERENCES.h5')}"


def _descriptors_in(folder: str) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.lower().endswith(_DESCRIPTORS))


def _holds_photos(folder: str) -> bool:
    """Whether there is a photo among the first files of a folder and those below it, by their names and first bytes."""
    files = (os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)
    return any(is_image_name(file) and is_image_content(file) for file in islice(files, _SEEN))


def _made(folder: str) -> str:
    return (os.path.basename(os.path.abspath(folder)) or "photos") + ".h5"


def _extract(folder: str) -> str:
    return f"isc-fast extract {shlex.quote(folder)} --engine ENGINE -o {shlex.quote(_made(folder))}"


def _build(file: str) -> str:
    return f"isc-fast index build {shlex.quote(file)} -o index/"
