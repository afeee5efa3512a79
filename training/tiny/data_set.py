"""Makes a small data set in the shape of DISC21 from a folder of photos, with a held-out part that training never sees.

    python -m isc_fast.training.tiny.photo_pool POOL
    python -m isc_fast.training.tiny.data_set POOL -o DATA

    DATA/training_images/          photos to train on
    DATA/reference_images/         some of these photos; most of them have copies, the others match nothing
    DATA/query_images/             three copies of each, with one to four edits (`isc_fast.training.tiny.pair_edits`)
    DATA/public_ground_truth.csv   which query is a copy of which reference
    DATA/heldout/                  the same for evaluation, from other sources and with other edits

The two parts share no source. Photos named ``SOURCE__TILE`` come from one picture, and sources with photos that look
alike count as one. One photo of each held-out source is used. Pictures of ``--more MORE`` are for training alone; they leave
the rest of the data set as it is.

Held-out queries are named ``NAME-KIND`` or ``NAME-NUMBER-4edits``. Half of them are copies of photos that are not among
the references. These photos are called strangers; copies are also pasted onto them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from ...errors import InputError, IscFastError
from ...evaluation.edits.held_out import HELD_OUT_EDITS, LIMITS, HeldOutEdit, using_one
from ...items import Item
from ...machine.cores import available_cores
from ...sources.listing import list_images
from .pair_edits import PAIR_EDITS
from .photo_split import group_photos, load_photo, split_groups
from .set_folder import copy_photos, list_pool, new_set, write_part

SEED = 2021
FOUR_EDITS = "4edits"
PAIR_COPIES = 3  # copies of each reference that has copies for training
ONE_EDIT_COPIES = 6  # copies of each held-out original with one edit, each with an edit of another kind
FOUR_EDIT_COPIES = 3  # copies of each held-out original with four edits
_SMALLEST_PILE = 4  # a collage needs three other photos
_ORIGINALS, _OTHERS = 0.4, 0.3  # shares of the held-out photos; all others are strangers
_PAIR_EDITS = {name: using_one(edit) for name, edit in PAIR_EDITS.items()}


@dataclass(frozen=True)
class TinyData:
    """The number of photos and queries of each kind. ``stranger_queries`` match nothing."""

    folder: Path
    training: int
    references: int
    pairs: int
    held_out_originals: int
    held_out_others: int
    held_out_strangers: int
    copies: int
    stranger_queries: int

    def __str__(self) -> str:
        return (
            f"training: {self.training} photos, {self.references} references, {self.pairs} pairs\n"
            f"held out: {self.held_out_originals} originals and {self.held_out_others} other references, "
            f"{self.copies} copies; {self.stranger_queries} queries from {self.held_out_strangers} photos that match nothing"
        )


@dataclass(frozen=True)
class _Query:
    """A query to make: its id, its photo, the other photos that an edit may use, its edits, and its range of JPEG qualities."""

    id: str
    photo: Item
    others: Sequence[Item]
    edits: Sequence[HeldOutEdit]
    qualities: tuple[int, int]

    def save(self, folder: Path) -> None:
        random = Random(f"{SEED} {self.id}")
        image, others = load_photo(self.photo), [load_photo(other) for other in self.others]
        for edit in self.edits:
            image = edit(image, others, random)
        image.save(folder / f"{self.id}.jpg", quality=random.randint(*self.qualities))


def kind_of(query: str) -> str:
    """Return the kind of edit of a held-out query, or how many edits it has, such as ``4edits``."""
    return query.rpartition("-")[2]


def edits_in(kind: str) -> int:
    """Return how many edits a kind stands for, which is 1 for all but ``2edits``, ``3edits`` and so on."""
    count = kind.removesuffix("edits")
    return int(count) if count != kind and count.isdecimal() else 1


def photo_of(query: str) -> str:
    """Return the id of the photo that a held-out query was made from."""
    name, _, kind = query.rpartition("-")
    return name.rpartition("-")[0] if edits_in(kind) > 1 else name


def _cut(photos: list[Item], *shares: float) -> Iterator[list[Item]]:
    """Cut a list into parts of these shares, and the rest."""
    start = 0
    for share in shares:
        end = start + round(share * len(photos))
        yield photos[start:end]
        start = end
    yield photos[start:]


def draw_kinds(
    kinds: Mapping[str, object], count: int, random: Random, limits: Iterable[tuple[frozenset[str], int]] = ()
) -> list[str]:
    """Draw ``count`` different kinds of edits, and return them in the order of the table.

    Args:
        kinds: the table of edits.
        count: how many kinds to draw.
        random: the source of the random numbers.
        limits: groups of kinds, each with the largest number of kinds that may be drawn from it.
    """
    while True:
        drawn = set(random.sample(list(kinds), count))
        if all(len(drawn & group) <= most for group, most in limits):
            return [kind for kind in kinds if kind in drawn]


def _pair_queries(originals: Sequence[Item], others: Sequence[Item]) -> Iterator[_Query]:
    """Make queries from each original, with one to four edits."""
    for photo in originals:
        for number in range(1, PAIR_COPIES + 1):
            id_ = f"{photo.id}-{number}-copy"
            random = Random(f"{SEED} pair {id_}")
            kinds = draw_kinds(_PAIR_EDITS, random.randint(1, 4), random)
            yield _Query(id_, photo, random.sample(others, 1), [_PAIR_EDITS[kind] for kind in kinds], (75, 95))


def _one_edit(photos: Sequence[Item], others: Sequence[Item], each: int) -> Iterator[_Query]:
    """Make ``each`` queries from each photo, with different kinds of edits. All kinds occur equally often."""
    kinds = list(HELD_OUT_EDITS)
    for number, photo in enumerate(photos):
        for i in range(number * each, (number + 1) * each):
            kind = kinds[i % len(kinds)]
            yield _held_out_query(f"{photo.id}-{kind}", photo, others, [kind])


def _four_edits(photos: Sequence[Item], others: Sequence[Item], each: int) -> Iterator[_Query]:
    for number in range(1, each + 1):
        for photo in photos:
            id_ = f"{photo.id}-{number}-{FOUR_EDITS}"
            kinds = draw_kinds(HELD_OUT_EDITS, 4, Random(f"{SEED} kinds {id_}"), LIMITS)
            yield _held_out_query(id_, photo, others, kinds)


def _held_out_query(id_: str, photo: Item, others: Sequence[Item], kinds: Iterable[str]) -> _Query:
    beside = Random(f"{SEED} beside {id_}").sample([other for other in others if other is not photo], 3)
    return _Query(id_, photo, beside, [HELD_OUT_EDITS[kind] for kind in kinds], (80, 95))


def _held_out_queries(originals: Sequence[Item], strangers: Sequence[Item]) -> tuple[list[_Query], list[_Query]]:
    """Make copies of the originals, and as many copies of the strangers, spread evenly over them."""
    copies: list[_Query] = []
    unmatched: list[_Query] = []
    for make, each, most in ((_one_edit, ONE_EDIT_COPIES, len(HELD_OUT_EDITS)), (_four_edits, FOUR_EDIT_COPIES, 1000)):
        copies += make(originals, strangers, each)
        total = each * len(originals)
        unmatched += islice(make(strangers, strangers, min(most, -(-total // len(strangers)))), total)
    return copies, unmatched


def build_tiny_data(
    pool: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    held_out: float = 0.25,
    references: float = 0.75,
    copied: float = 0.75,
    more: str | os.PathLike[str] | None = None,
    workers: int | None = None,
) -> TinyData:
    """Make the data set that the top of this module describes. The same photos give the same bytes.

    Unlike in DISC21, references are training photos too, because there are too few photos to divide them. A stage such as v98
    draws negatives from the references and samples from the training images, so it would meet the same photo under two
    labels. The tiny schedule has no such stage. Its stage with pairs draws negatives from the references without a copy.

    Args:
        pool: a folder of photos. Photos that come from one picture are named ``SOURCE__TILE``.
        out: a new or empty folder. It is filled at the very end.
        held_out: the share of the photos that training never sees.
        references: the share of the training photos that are references too.
        copied: the share of these references that have copies among the queries.
        more: a folder of further pictures to train on, which look like none of the pool.
        workers: the number of threads, by default one for each core.

    Raises:
        InputError: there are too few photos or sources, a photo cannot be read, or ``out`` is not empty.
        OutputError: the data set cannot be written.
    """
    for name, share in (("held_out", held_out), ("references", references), ("copied", copied)):
        if not 0 < share < 1:
            raise InputError(f"the share {name} must lie between 0 and 1, not be {share}")
    photos = list_pool(pool)
    further = list_images(more, ids="stem").items if more is not None else []
    if same := {item.id for item in photos} & {item.id for item in further}:
        raise InputError(
            f"{os.fspath(more or '')} and {os.fspath(pool)} both have a photo named {min(same)!r}; rename one"
        )
    with new_set(out) as root, ThreadPoolExecutor(workers or available_cores()) as threads:
        groups = group_photos(photos, threads)
        train, kept = split_groups(groups, held_out, SEED)
        originals, others, strangers = _cut(kept, _ORIGINALS, _OTHERS)
        paired, unpaired, rest = _cut(train, references * copied, references * (1 - copied))
        if min(map(len, (originals, others, strangers, paired, unpaired, rest))) < _SMALLEST_PILE:
            raise InputError(
                f"{len(photos)} photos of {len(groups)} different sources in {os.fspath(pool)} cannot be divided: fewer than "
                f"{_SMALLEST_PILE} would be left for some purpose; more photos, or more different ones, are needed"
            )
        pairs = list(_pair_queries(paired, rest))
        copies, unmatched = _held_out_queries(originals, strangers)
        copy_photos([*train, *further], root / "training_images")
        write_part(root, "public_ground_truth.csv", [*paired, *unpaired], pairs, [], threads)
        write_part(root / "heldout", "ground_truth.csv", [*originals, *others], copies, unmatched, threads)
    return TinyData(
        Path(out), len(train) + len(further), len(paired) + len(unpaired), len(pairs), len(originals), len(others),
        len(strangers), len(copies), len(unmatched),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: build the data set and print how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path, help="folder of photos")
    parser.add_argument("--more", type=Path, help="folder of further pictures to train on")
    parser.add_argument("-o", "--output", required=True, type=Path, help="new or empty folder for the data set")
    given = parser.parse_args(arguments)
    print(build_tiny_data(given.pool, given.output, more=given.more))


if __name__ == "__main__":
    try:
        main()
    except IscFastError as error:
        sys.exit(f"error: {error}")
