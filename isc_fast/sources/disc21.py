"""The layout of DISC21, the data set of the challenge, as it is downloaded: each folder holds one set of images."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InputError

FOLDERS: dict[str, tuple[str, ...]] = {
    "q": ("query_images",),
    "p": ("query_images_phase2",),
    "r": ("reference_images",),
    "t": ("training_images", "train_images"),
}
"""The image sets by letter: queries, phase-2 queries, references, training images."""
TRUTH_HINTS = {"q": ("public", "dev"), "p": ("private", "phase2", "phase_2", "test")}


def find_sets(root: Path, sets: str | None) -> dict[str, Path]:
    """Find the folder of each set, by its letter: the sets that are asked for, or those that exist.

    Raises:
        InputError: a letter is unknown, or a folder that is asked for, or every folder, is missing.
    """
    unknown = set(sets or "") - set(FOLDERS)
    if unknown:
        raise InputError(f"there is no set {sorted(unknown)[0]!r}; choose from {', '.join(FOLDERS)}, such as qrt")
    found = {}
    for letter, names in FOLDERS.items():
        folder = next((root / name for name in names if (root / name).is_dir()), None)
        if folder is not None and (sets is None or letter in sets):
            found[letter] = folder
        elif sets is not None and letter in sets:
            raise InputError(f"{root} has no folder {' or '.join(names)}, which the set {letter!r} needs")
    if not found:
        expected = ", ".join(name for names in FOLDERS.values() for name in names)
        raise InputError(f"{root} has none of the folders {expected}; expected the layout of DISC21")
    return found


def find_truth(root: Path, letter: str, given: str | os.PathLike[str] | None) -> Path | None:
    """Find the ground truth of a set of queries: the given file, or the file whose name says so; None where there is none.

    Raises:
        InputError: several files could be it.
    """
    if given is not None:
        return Path(given)
    found = [*root.glob("*.csv"), *root.glob("*/*.csv")]  # no deeper: there may be a million images
    files = sorted(file for file in found if "truth" in file.name.lower())
    fitting = [file for file in files if any(hint in file.name.lower() for hint in TRUTH_HINTS[letter])]
    if not fitting and len(files) == 1 and letter == "q":
        fitting = files
    if len(fitting) > 1:
        raise InputError(
            f"several files could be the ground truth: {', '.join(map(str, fitting))}; choose with --ground-truth"
        )
    return fitting[0] if fitting else None
