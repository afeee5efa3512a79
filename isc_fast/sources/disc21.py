"""The layouts of DISC21, the data set of the challenge: each folder holds one set of images.

There are three: the one that Meta offers for download, the one that the reference solution asks for, and the one of the
challenge's evaluation kit.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InputError

FOLDERS: dict[str, tuple[str, ...]] = {
    "q": ("query_images", "dev_queries", "images/queries", "images/dev_queries"),
    "p": ("query_images_phase2", "final_queries", "images/final_queries"),
    "r": ("reference_images", "references", "images/references"),
    "t": ("training_images", "train_images", "train", "images/train"),
}
"""The names of each image set's folder, by letter: queries, phase-2 queries, references, training images. The first that exists
counts."""
TRUTH_HINTS = {"q": ("public", "dev"), "p": ("private", "phase2", "phase_2", "test", "final")}


def find_sets(root: Path, sets: str | None) -> dict[str, list[Path]]:
    """Find the folders of each set, by its letter: the sets that are asked for, or those that exist.

    A set is one folder, or the folders that its numbered archives were unpacked into: ``references_0``, ``references_1``, ….

    Raises:
        InputError: a letter is unknown, or a folder that is asked for, or every folder, is missing.
    """
    unknown = set(sets or "") - set(FOLDERS)
    if unknown:
        raise InputError(f"there is no set {sorted(unknown)[0]!r}; choose from {', '.join(FOLDERS)}, such as qrt")
    found = {}
    for letter, names in FOLDERS.items():
        folders = next(filter(None, (_folders(root, name) for name in names)), None)
        if folders and (sets is None or letter in sets):
            found[letter] = folders
        elif sets is not None and letter in sets:
            raise InputError(
                f"{root} has no folder {' or '.join(names)}, which the set {letter!r} needs{_unpack(root, names)}"
            )
    if not found:
        expected = [name for names in FOLDERS.values() for name in names]
        raise InputError(
            f"{root} has none of the folders {', '.join(expected)}; expected a layout of DISC21{_unpack(root, expected)}"
        )
    return found


def _folders(root: Path, name: str) -> list[Path]:
    """The folder of this name, or else the numbered ones, in the order of their numbers."""
    whole = root / name
    if whole.is_dir():
        return [whole]
    numbered = [
        path for path in root.glob(f"{name}_*") if path.name[len(whole.name) + 1 :].isdecimal() and path.is_dir()
    ]
    return sorted(numbered, key=lambda path: int(path.name[len(whole.name) + 1 :]))


def _unpack(root: Path, names: list[str] | tuple[str, ...]) -> str:
    """What to do if a set is still packed, as the end of a message; empty if it is not."""
    packed = sorted(file for name in names for file in root.glob(f"{name}*.zip"))
    return f"; unpack {packed[0].name}{' and the others' * (len(packed) > 1)} there first" if packed else ""


def find_truth(root: Path, letter: str, given: str | os.PathLike[str] | None) -> Path | None:
    """Find the ground truth of a set of queries: the given file, or the file whose name says so; None where there is none.

    Raises:
        InputError: several files could be it.
    """
    if given is not None:
        return Path(given)
    found = [*root.glob("*.csv"), *root.glob("*/*.csv")]  # no deeper: there may be a million images
    files = sorted(file for file in found if "truth" in file.name.lower())
    fitting = [file for file in files if _is_of(file, letter)]
    if not fitting and len(files) == 1 and letter == "q" and not _is_of(files[0], "p"):
        fitting = files
    if len(fitting) > 1:
        raise InputError(
            f"several files could be the ground truth: {', '.join(map(str, fitting))}; choose with --ground-truth"
        )
    return fitting[0] if fitting else None


def _is_of(truth: Path, letter: str) -> bool:
    return any(hint in truth.name.lower() for hint in TRUTH_HINTS[letter])
