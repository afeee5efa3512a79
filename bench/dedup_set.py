"""Folders of photos with known copies, for `dedup.py`.

A file's name says what it is: ``F-NNNNNN.jpg`` is a photo, the NNNNNN-th of all, from the F-th folder, and
``F-NNNNNN.GROUP-KINDS.jpg`` is a copy of it.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from PIL import Image, ImageOps

from isc_fast.evaluation.edits.demo import EDITS
from isc_fast.evaluation.edits.held_out import HELD_OUT_EDITS, HeldOutEdit

SEED = "copies 1"
BACKGROUNDS = 10  # photos that are not in the folder, onto which copies are pasted
GROUPS = ("light", "one", "two")
"""What the three copies of a photo are: one light edit, one edit of those that change more, two edits of any kind."""


def resize(photo: Image.Image, _others: Sequence[Image.Image], random: Random) -> Image.Image:
    """Make each side 40–80 % or 130–200 % as long."""
    scale = random.uniform(0.4, 0.8) if random.random() < 0.7 else random.uniform(1.3, 2.0)
    return photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.BICUBIC)


def trim(photo: Image.Image, _others: Sequence[Image.Image], random: Random) -> Image.Image:
    """Cut off 5–15 % of each side, anywhere."""
    width, height = (round(side * random.uniform(0.85, 0.95)) for side in photo.size)
    left, upper = random.randint(0, photo.width - width), random.randint(0, photo.height - height)
    return photo.crop((left, upper, left + width, upper + height))


def mirror(photo: Image.Image, _others: Sequence[Image.Image], _random: Random) -> Image.Image:
    """Mirror the photo left to right."""
    return ImageOps.mirror(photo)


def encode(photo: Image.Image, _others: Sequence[Image.Image], random: Random) -> Image.Image:
    """Save the photo as a JPEG of quality 25–60."""
    out = io.BytesIO()
    photo.save(out, "JPEG", quality=random.randint(25, 60))
    return Image.open(out).convert("RGB")


LIGHT: dict[str, HeldOutEdit] = {edit.__name__: edit for edit in (resize, trim, mirror, encode)}
MORE: dict[str, HeldOutEdit] = {
    kind: HELD_OUT_EDITS[kind]
    for kind in (
        *("crop", "film", "hdr", "filter", "stickers", "watermark", "text"),
        *("meme", "border", "overlay", "screenshot", "recompress"),
    )
}
_LOOKS, _LAYOUTS = {"film", "hdr", "filter"}, {"meme", "border", "overlay", "screenshot"}


def draw(group: str, random: Random) -> dict[str, HeldOutEdit]:
    """Draw the edits of one copy, in the order in which people make them."""
    if group != "two":
        table = LIGHT if group == "light" else MORE
        kind = random.choice([*table])
        return {kind: table[kind]}
    table = {**{kind: LIGHT[kind] for kind in ("trim", "mirror")}, **MORE, "resize": resize, "encode": encode}
    while True:
        drawn = set(random.sample([*table], 2))
        if len(drawn & _LOOKS) < 2 and len(drawn & _LAYOUTS) < 2:
            return {kind: edit for kind, edit in table.items() if kind in drawn}


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def make_large(out: Path, folders: Sequence[Path], files: int, trained: Path | None = None) -> None:
    """Make a folder of so many files: two fifths are photos, and half of these have three copies each.

    Args:
        out: the new folder.
        folders: of photos that are unlike each other. Those of an earlier folder get copies first.
        files: how many files to make.
        trained: a folder whose photos, by their names, get no copies.

    Raises:
        SystemExit: there are too few photos.
    """
    known = {path.stem for path in trained.iterdir()} if trained else set()
    random = Random(SEED)
    photos = [(number, path) for number, folder in enumerate(folders) for path in sorted(folder.iterdir())]
    may = [photo for photo in random.sample(photos, len(photos)) if photo[1].stem not in known]
    may.sort(key=lambda photo: photo[0])  # in each folder, they stay in a random order
    edited, count = files // 5, files - 3 * (files // 5)
    if len(may) < edited or len(photos) < count + BACKGROUNDS:
        raise SystemExit(
            f"{files} files take {count + BACKGROUNDS} photos, {edited} of them to be edited; "
            f"there are {len(photos)}, {len(may)} of them to be edited"
        )
    chosen = may[:edited]
    rest = random.sample(sorted({*photos} - {*chosen}), len(photos) - edited)
    taken, left = rest[: count - edited], rest[count - edited :]
    backgrounds = [_opened(path) for _, path in left[:BACKGROUNDS]]
    out.mkdir(parents=True)
    for number, (folder, path) in enumerate([*chosen, *taken]):
        name = f"{folder}-{number:06d}"
        shutil.copy(path, out / f"{name}{path.suffix}")
        for group in GROUPS if number < edited else ():
            drawing = Random(f"{SEED} {number} {group}")
            edits, image = draw(group, drawing), _opened(path)
            for edit in edits.values():
                image = edit(image, drawing.sample(backgrounds, 3), drawing)
            image.save(out / f"{name}.{group}-{'-'.join(edits)}.jpg", quality=drawing.randint(60, 92))


def make_small(out: Path, photos: Sequence[Path], every: int) -> None:
    """Make a folder of photos and, of every so many-th, a copy by each of the demo's six edits."""
    out.mkdir(parents=True)
    for number, path in enumerate(photos):
        name = f"0-{number:06d}"
        shutil.copy(path, out / f"{name}{path.suffix}")
        if number % every == 0:
            image, other = _opened(path), _opened(photos[number - 1])
            for kind, edit in EDITS.items():
                made = edit(image, other, Random(f"{number} {kind}"))
                made.save(out / f"{name}.{kind}.jpg", quality=85)


def origin(name: str) -> str:
    """Return the photo that a file is, or is a copy of."""
    return name.partition(".")[0]


def group_of(name: str) -> str | None:
    """Return what a copy is, such as ``light``, or None for a photo that is no copy."""
    return name.split(".")[1].partition("-")[0] if name.count(".") > 1 else None


def found_in(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> Mapping[str, float]:
    """Say what pairs are worth.

    Returns:
        ``precision``, the share of pairs that are of one photo; ``recall``, the share of all such pairs; ``copies_found``, the
        share of copies that are in a pair with their photo, and the same for each group of copies, kind of edit and folder.
    """
    many: dict[str, int] = {}
    for name in names:
        many[origin(name)] = many.get(origin(name), 0) + 1
    true = sum(count * (count - 1) // 2 for count in many.values())
    right = [pair for pair in pairs if origin(pair[0]) == origin(pair[1])]
    copies = {name for name in names if group_of(name)}
    found = {name for pair in right if len(copies.intersection(pair)) == 1 for name in pair} & copies
    said = {
        "precision": len(right) / max(1, len(pairs)),
        "recall": len(right) / true,
        "copies_found": len(found) / len(copies),
    }
    for group in sorted({str(group_of(name)) for name in copies}, key=lambda group: (group not in GROUPS, group)):
        of_group = {name for name in copies if group_of(name) == group}
        said[f"copies: {group}"] = len(found & of_group) / len(of_group)
    edited = {name: name.split(".")[1].partition("-")[2] for name in copies}
    for kind in sorted({kind for kind in edited.values() if kind and "-" not in kind}):
        of_kind = {name for name in copies if edited[name] == kind}
        said[f"kind: {kind}"] = len(found & of_kind) / len(of_kind)
    for folder in sorted({name.partition("-")[0] for name in copies}):
        of_folder = {name for name in copies if name.partition("-")[0] == folder}
        said[f"folder: {folder}"] = len(found & of_folder) / len(of_folder)
    return said
