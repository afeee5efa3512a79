"""Sets a part of the training photos aside, to choose values of a schedule without looking at the held-out set.

    python -m isc_fast.training.tiny.validation DATA -o SPLIT
    torchrun --nproc-per-node=2 -m isc_fast.training --schedule mini --data SPLIT --evaluate SPLIT/validation -o RUNS

    SPLIT/training_images/   the photos of DATA/training_images whose sources are not set aside
    SPLIT/validation/        queries, references and a ground truth, from the sources that are set aside

The queries are hard views as in training: some with one kind of edit, the others with all kinds of the schedule. Half of the
photos that queries are made from are references; the others match nothing. Queries are named ``PHOTO-KIND``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from ...errors import InputError, IscFastError
from ...files.atomic import make_folder, output_error, write_text
from ...items import Item
from ...matching.lists.matches import TRUTH_HEADER
from ...sources.listing import list_images
from ..stages import STAGES, HardView
from ..views.apply_pil import apply_pil
from ..views.artwork import Artwork, find_artwork
from ..views.recipes import draw_hard, view_random
from .photo_split import load_photo, source_of

SIZE = 224  # of the queries, in pixels
SHARE = 0.2  # of the sources that are set aside
SEED = 99
_SMALLEST = 12  # sources that are set aside; with fewer there is nothing to measure
_NOTHING = HardView(
    rotation=0, overlay=0, overlay_opacity=0.8, overlay_size=(0.3, 0.7), colour_jitter=0.3, jpeg=0, perspective=0, text=0,
    emoji=0, edge_enhance=0, pixelize=0, shuffle_pixels=0, grayscale=0, blur=0, flip=0, turn_over=0, erase=0,
    blur_reference_size=512,
)  # fmt: skip


def kinds() -> dict[str, HardView]:
    """Return the settings of each kind of query."""
    hard = STAGES["mini"].hard_view
    assert hard is not None
    return {
        "parts": replace(_NOTHING, parts=1.0),
        "overlay": replace(_NOTHING, overlay=1.0),
        "frame": replace(_NOTHING, frame=1.0),
        "bend": replace(_NOTHING, bend=1.0),
        "screen": replace(_NOTHING, screen=1.0, frame=1.0, perspective=1.0),
        "mixed": hard,
        "mixed2": hard,
    }


def _query(
    photo: Item, others: Sequence[Item], settings: HardView, random: np.random.Generator, art: Artwork
) -> Image.Image:
    image = load_photo(photo)

    def open_other() -> Image.Image:
        return load_photo(others[int(random.integers(len(others)))])

    recipe = draw_hard(settings, image.size, SIZE, random, open_other=open_other, artwork=art)
    return Image.fromarray(apply_pil(recipe, image))


def split_for_validation(data: str | os.PathLike[str], out: str | os.PathLike[str]) -> tuple[int, int]:
    """Make the folder that the top of this module describes. The same photos give the same queries.

    Args:
        data: a folder with ``training_images``, such as `isc_fast.training.tiny.data_set` makes. Nothing else in it is read.
        out: a new or empty folder. It is filled at the very end.

    Returns:
        the number of photos to train on, and the number of queries.

    Raises:
        InputError: there are too few sources, a photo cannot be read, or ``out`` is not empty.
        OutputError: the folder cannot be written.
    """
    photos = list_images(Path(data, "training_images"), ids="stem").items
    sources = sorted({source_of(item.id) for item in photos})
    random = Random(SEED)
    aside = set(random.sample(sources, round(SHARE * len(sources))))
    if len(aside) < _SMALLEST:
        raise InputError(
            f"{os.fspath(data)} has training photos of {len(sources)} sources; expected at least "
            f"{round(_SMALLEST / SHARE)}, so that a fifth of them can be set aside"
        )
    folder = make_folder(out)
    if any(folder.iterdir()):
        raise InputError(f"{folder} is not empty: name a new folder")
    train = [item for item in photos if source_of(item.id) not in aside]
    one_each = {source_of(item.id): item for item in random.sample(photos, len(photos))}
    chosen = [one_each[source] for source in sorted(aside)]
    random.shuffle(chosen)
    originals, others, strangers = np.array_split(
        np.array(chosen, dtype=object), [len(chosen) // 3, len(chosen) * 2 // 3]
    )
    artwork = find_artwork()
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
            root = Path(scratch, "split")
            for items, place in ((train, "training_images"), ([*originals, *others], "validation/reference_images")):
                for item in items:
                    shutil.copyfile(item.path, make_folder(root / place) / Path(item.path).name)
            queries, rows = make_folder(root / "validation/query_images"), [TRUTH_HEADER]
            for group, copied in ((originals, True), (strangers, False)):
                for number, photo in enumerate(group):
                    for turn, (kind, settings) in enumerate(kinds().items()):
                        made = _query(photo, [*strangers], settings, view_random(SEED, copied, number, turn), artwork)
                        made.save(queries / f"{photo.id}-{kind}.png")
                        rows.append(f"{photo.id}-{kind},{photo.id if copied else ''}")
            write_text(root / "validation/ground_truth.csv", "\n".join(rows) + "\n")
            os.replace(root, folder)
    except OSError as error:
        raise output_error(folder, error) from error
    return len(train), len(rows) - 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: set photos aside and print how many there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder made by isc_fast.training.tiny.data_set")
    parser.add_argument("-o", "--output", required=True, type=Path, help="new or empty folder")
    given = parser.parse_args(arguments)
    train, queries = split_for_validation(given.data, given.output)
    print(f"{train} photos to train on, {queries} queries for validation")


if __name__ == "__main__":
    try:
        main()
    except IscFastError as error:
        sys.exit(f"error: {error}")
