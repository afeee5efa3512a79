"""Makes a second held-out set, from photos that no training used and with edits that are not ours.

    pip install augly
    python -m isc_fast.training.tiny.photo_pool MORE --beside POOL
    python -m isc_fast.training.tiny.second_set MORE --unlike DATA/training_images -o SECOND
    python -m isc_fast.training.tiny.model_card --engine ENGINE.onnx --data DATA --held-out SECOND -o CARD

    SECOND/reference_images/   photos; some have copies, the others match nothing
    SECOND/query_images/       ten copies of each photo with copies, and as many of photos that are not among the references
    SECOND/ground_truth.csv    which query is a copy of which reference
    SECOND/edits.csv           the edits of each query, in the order in which they were made

The first held-out set (`isc_fast.training.tiny.data_set`) has edits of this package, and values of the training were chosen
by it. These edits are AugLy's (see `isc_fast.training.tiny.augly_edits`), by which nothing was chosen. One tile of each picture
is used at most, so that no source is in both halves, and at most ``--each`` pictures of one package, which is the first word of
their names. A pool that was trained on (``data_set --more``) is not held out. Photos that look like one of ``--unlike`` are
left out, so ``second_set POOL --unlike DATA/training_images`` makes a set from the photos of POOL that the first set held out.

A query is named ``NAME-KIND`` or ``NAME-NUMBER-Nedits``. The same pool and versions give the same bytes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from random import Random

from ...errors import InputError, IscFastError
from ...files.atomic import write_text
from ...items import Item
from ...machine.cores import available_cores
from ...sources.listing import list_images
from .augly_edits import AUGLY_EDITS, LIMITS, AugLy, load_augly
from .data_set import draw_kinds
from .photo_split import group_photos, load_photo, source_of
from .set_folder import list_pool, new_set, write_part

SEED = 2022
EDITS = (1, 1, 1, 2, 2, 2, 3, 3, 4, 4)  # the number of edits of each copy of a photo
LARGEST_SIDE = 512  # of a query, in pixels


@dataclass(frozen=True)
class PlannedCopy:
    """A copy to make: its id, its photo, the photo for overlays, and its kinds of edit in their order."""

    id: str
    photo: Item
    other: Item
    kinds: Sequence[str]


@dataclass(frozen=True)
class MadeCopy:
    """A planned copy with the library that makes it."""

    plan: PlannedCopy
    augly: AugLy

    @property
    def id(self) -> str:
        return self.plan.id

    @property
    def photo(self) -> Item:
        return self.plan.photo

    def save(self, folder: Path) -> None:
        random = Random(f"{SEED} {self.id}")
        image, other = load_photo(self.photo), load_photo(self.plan.other)
        for kind in self.plan.kinds:
            image = self.augly.edit(kind, image, other, random)
        image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
        image.save(folder / f"{self.id}.jpg", quality=random.randint(75, 95))


@dataclass(frozen=True)
class SecondSet:
    """What the set consists of. No two photos of it come from one source, or look alike.

    Attributes:
        originals: references with copies.
        others: references without a copy.
        strangers: photos that are not among the references.
        copies: the copies of the originals. Overlays show strangers, never a reference.
        unmatched: as many copies of the strangers, spread over them evenly.
    """

    originals: Sequence[Item]
    others: Sequence[Item]
    strangers: Sequence[Item]
    copies: Sequence[PlannedCopy]
    unmatched: Sequence[PlannedCopy]

    def __str__(self) -> str:
        return (
            f"{len(self.originals)} originals and {len(self.others)} other references, {len(self.copies)} copies; "
            f"{len(self.unmatched)} queries from {len(self.strangers)} photos that match nothing"
        )


def package_of(id_: str) -> str:
    """Return the package of a photo, which is the first word of its id."""
    return id_.partition("_")[0]


def pick_photos(photos: Sequence[Item], each: int, random: Random) -> list[Item]:
    """Pick one photo of each source, and of each package at most ``each``, in a random order."""
    sources: dict[str, list[Item]] = {}
    for item in photos:
        sources.setdefault(source_of(item.id), []).append(item)
    taken: Counter[str] = Counter()
    picked = []
    for source in random.sample(sorted(sources), len(sources)):
        package = package_of(source)
        if taken[package] < each:
            taken[package] += 1
            picked.append(random.choice(sources[source]))
    return random.sample(picked, len(picked))


def plan_second_set(
    photos: Sequence[Item],
    *,
    unlike: Sequence[Item] = (),
    originals: int = 90,
    others: int = 60,
    each: int = 120,
    workers: int | None = None,
) -> SecondSet:
    """Choose the photos and the edits of the set that the top of this module describes. AugLy is not needed for it.

    Args:
        photos: the photos to choose from. One of each source is used at most.
        unlike: photos that must not be in the set, such as those that were trained on, nor others of their sources or
            that look like them.
        originals: the number of references with copies.
        others: the number of references without. All other photos are strangers.
        each: the largest number of photos of one package, so that the set is not of one kind of picture.
        workers: the number of threads, by default one for each core.

    Raises:
        InputError: there are too few sources, or a photo cannot be read.
    """
    if min(originals, others, each) < 1:
        raise InputError(f"originals, others and each must be above 0, not {originals}, {others} and {each}")
    known = {item.path for item in unlike}
    trained = {source_of(item.id) for item in unlike}
    random = Random(SEED)
    picked = pick_photos([item for item in photos if source_of(item.id) not in trained], each, random)
    with ThreadPoolExecutor(workers or available_cores()) as threads:
        groups = group_photos([*picked, *unlike], threads)
    chosen = [group[0] for group in groups if not known & {item.path for item in group}]
    strangers = chosen[originals + others :]
    # Of one stranger, two single edits are never of one kind; and one that is edited needs another beside it.
    fewest = max(2, -(-len(EDITS) * originals // len(AUGLY_EDITS)))
    if len(strangers) < fewest:
        raise InputError(
            f"{len(photos)} photos have {len(chosen)} sources that may be used, and {originals} originals and {others} other "
            f"references need {originals + others + fewest}; name more photos, or smaller numbers, or more of each package"
        )
    copied = chosen[:originals]
    copies = list(_copies(copied, strangers, [EDITS] * originals))
    every = random.sample(EDITS * originals, len(copies))
    unmatched = list(_copies(strangers, strangers, [every[place :: len(strangers)] for place in range(len(strangers))]))
    return SecondSet(copied, chosen[originals : originals + others], strangers, copies, unmatched)


def _copies(photos: Sequence[Item], others: Sequence[Item], edits: Sequence[Sequence[int]]) -> Iterator[PlannedCopy]:
    """Plan copies of each photo with these numbers of edits. Kinds of single edits take turns, so all occur equally often."""
    singles = cycle(AUGLY_EDITS)
    for photo, counts in zip(photos, edits, strict=True):
        for number, count in enumerate(counts, 1):
            if count == 1:
                drawn = [next(singles)]
                id_ = f"{photo.id}-{drawn[0]}"
            else:
                id_ = f"{photo.id}-{number}-{count}edits"
                drawn = draw_kinds(AUGLY_EDITS, count, Random(f"{SEED} kinds {id_}"), LIMITS)
            beside = Random(f"{SEED} beside {id_}").choice([other for other in others if other is not photo])
            yield PlannedCopy(id_, photo, beside, drawn)


def build_second_set(
    pool: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    unlike: str | os.PathLike[str] | None = None,
    originals: int = 90,
    others: int = 60,
    each: int = 120,
) -> SecondSet:
    """Make the set that the top of this module describes. The same photos and versions give the same bytes.

    Args:
        pool: a folder of photos. Photos that come from one picture are named ``SOURCE__TILE``.
        out: a new or empty folder. It is filled at the very end.
        unlike: a folder of photos that must not be in the set, nor others that look like them.
        originals, others, each: see `plan_second_set`.

    Raises:
        MissingExtraError: AugLy is not installed.
        InputError: there are too few sources, a photo cannot be read, or ``out`` is not empty.
        OutputError: the set cannot be written.
    """
    augly = load_augly()
    photos = list_pool(pool)
    known = list_images(unlike, ids="stem").items if unlike is not None else []
    # One thread: some of AugLy's functions seed numpy's own generator, which all threads share.
    with new_set(out) as root, ThreadPoolExecutor(1) as thread:
        planned = plan_second_set(photos, unlike=known, originals=originals, others=others, each=each)
        copies, unmatched = ([MadeCopy(copy, augly) for copy in side] for side in (planned.copies, planned.unmatched))
        write_part(root, "ground_truth.csv", [*planned.originals, *planned.others], copies, unmatched, thread)
        rows = [f"{copy.id},{' '.join(copy.kinds)}" for copy in (*planned.copies, *planned.unmatched)]
        write_text(root / "edits.csv", "\n".join(["query_id,edits", *rows]) + "\n")
    return planned


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: build the set and print how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path, help="folder of photos that no training used")
    parser.add_argument("--unlike", type=Path, help="folder of photos that were trained on, which are left out")
    parser.add_argument("-o", "--output", required=True, type=Path, help="new or empty folder for the set")
    parser.add_argument("--originals", type=int, default=90, help="references with ten copies each")
    parser.add_argument("--others", type=int, default=60, help="references without a copy")
    parser.add_argument("--each", type=int, default=120, help="the most pictures of one package")
    given = parser.parse_args(arguments)
    numbers = {"originals": given.originals, "others": given.others, "each": given.each}
    print(build_second_set(given.pool, given.output, unlike=given.unlike, **numbers))


if __name__ == "__main__":
    try:
        main()
    except IscFastError as error:
        sys.exit(f"error: {error}")
