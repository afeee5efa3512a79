"""Collects the photos to train on. It needs only the list of packages in `isc_fast.training.tiny.photo_packages`.

    python -m isc_fast.training.tiny.photo_pool POOL
    python -m isc_fast.training.tiny.photo_pool MORE --beside POOL
    python -m isc_fast.training.tiny.data_set POOL --more MORE -o DATA

The second command collects other pictures, none of which looks like one of POOL; they are for training alone. Both run apt-get,
dpkg and npm, download about 600 MB each, install nothing and take two minutes. On Debian 12 the first one gave 1,750 pictures,
which are named ``SOURCE__TILE.jpg``; other releases may give other pictures. It cuts large photos into tiles, and drops near
duplicates and what cannot be decoded. It leaves out the photos of the demo, both by their looks and by the files that their
licence table names. The pools must not be shipped: their licences are CC-BY, CC-BY-SA, BSD, MIT, GPL, AGPL and others.
"""

from __future__ import annotations

import argparse
import csv
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...assets import DEMO_LICENCES, DEMO_PHOTOS
from ...decoders.opening import ImageProblem
from ...decoders.rules import load_rgb
from ...errors import InputError, IscFastError
from ...files.atomic import make_folder
from .photo_packages import MORE_PACKAGES, PACKAGES

TOOLS = {"apt-get": "apt", "dpkg": "dpkg", "npm": "npm", "tar": "tar"}  # each tool with its Debian package
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
SMALLEST = 150  # the smallest short side of a photo, in pixels
GRIDS = {
    1400: (1, 1),
    2000: (3, 2),
    3000: (4, 3),
}  # the largest long side in pixels → tiles along the long and short side
LARGEST_GRID = (6, 4)
SHORT_SIDE = 320  # the largest short side of a tile, in pixels
QUALITY = 90  # the JPEG quality of a tile
LEAST_DETAIL = 7.0  # grey levels, see `detail`; a tile with less shows clear sky or a blurred background
NEAR = 7  # the hashes of near duplicates differ in at most this many of 64 bits


def open_photo(path: Path) -> Image.Image:
    """Open a photo, upright, in RGB and on white."""
    try:
        return load_rgb(str(path))
    except ImageProblem as error:
        raise InputError(f"{path.name} cannot be decoded: {error}") from error


def difference_bits(image: Image.Image, side: int) -> npt.NDArray[np.bool_]:
    """Return where a small grey copy gets brighter from left to right, ``bool (side · side,)``."""
    grey = np.asarray(image.convert("L").resize((side + 1, side), Image.Resampling.LANCZOS))
    return (grey[:, 1:] > grey[:, :-1]).ravel()


def difference_hash(image: Image.Image) -> int:
    """Return the bits of 8 × 8 places in one number."""
    return int.from_bytes(np.packbits(difference_bits(image, 8)).tobytes(), "big")


def detail(image: Image.Image) -> float:
    """Return the standard deviation, in grey levels, of the difference between a 64 × 64 copy and an 8 × 8 copy."""
    fine = image.convert("L").resize((64, 64), Image.Resampling.BOX)
    coarse = fine.resize((8, 8), Image.Resampling.BOX).resize((64, 64), Image.Resampling.BICUBIC)
    return float((np.asarray(fine, np.float32) - np.asarray(coarse, np.float32)).std())


def tiles(photo: Image.Image) -> Iterator[Image.Image]:
    """Yield the photo, or its tiles if it is large. Nothing is enlarged."""
    width, height = photo.size
    grid = next((grid for side, grid in GRIDS.items() if max(photo.size) <= side), LARGEST_GRID)
    columns, rows = grid if width >= height else grid[::-1]
    for row, column in np.ndindex(rows, columns):
        left, upper = width * column // columns, height * row // rows
        tile = photo.crop((left, upper, width * (column + 1) // columns, height * (row + 1) // rows))
        scale = min(1.0, SHORT_SIDE / min(tile.size))
        yield tile.resize((round(tile.width * scale), round(tile.height * scale)), Image.Resampling.LANCZOS)


@dataclass
class Pool:
    """The pictures that have been kept so far."""

    folder: Path
    shipped: list[int]  # the hashes of photos that must not get into the pool
    kept: list[int] = field(default_factory=list)
    stems: set[str] = field(default_factory=set)
    dropped: int = 0

    def add(self, photo: Image.Image, stem: str) -> None:
        """Keep the tiles of a photo that show detail and do not look like a shipped photo or another tile."""
        if min(photo.size) < SMALLEST or _near(difference_hash(photo), self.shipped):
            return
        while stem in self.stems:  # another photo has the same folder name and file name
            stem += "x"
        self.stems.add(stem)
        for number, tile in enumerate(tiles(photo)):
            looks = difference_hash(tile)
            if detail(tile) < LEAST_DETAIL:
                continue
            if _near(looks, [*self.kept, *self.shipped]):
                self.dropped += 1
            else:
                self.kept.append(looks)
                tile.save(self.folder / f"{stem}__{number}.jpg", quality=QUALITY)


def _near(looks: int, others: Sequence[int]) -> bool:
    return any((looks ^ other).bit_count() <= NEAR for other in others)


def _run(*command: str, folder: Path) -> None:
    """Run a tool. If it fails, raise an error with the last line of its output."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()[-1]
        raise InputError(f"{' '.join(command)} failed: {said}")


def fetch(package: str, folder: Path) -> Path:
    """Download a package into an empty folder, and unpack it together with the Qt resource files in it."""
    root = make_folder(folder / "unpacked")
    if "@" in package:
        _run("npm", "pack", "--silent", package, folder=folder)
        _run("tar", "-xzf", *(file.name for file in folder.glob("*.tgz")), "-C", root.name, folder=folder)
    else:
        _run("apt-get", "download", "-qq", package, folder=folder)
        _run("dpkg", "-x", *(file.name for file in folder.glob("*.deb")), root.name, folder=folder)
    for resource in list(root.rglob("*.rcc")):
        for name, content in resource_files(resource.read_bytes()):
            (make_folder((root / name).parent) / name.name).write_bytes(content)
    return root


def resource_files(data: bytes) -> Iterator[tuple[Path, bytes]]:
    """Yield the name and the content of each file in a Qt resource file.

    Such a file holds a tree of nodes, their contents and their names.
    """
    version, tree, contents, names = struct.unpack_from(">4I", data, 4)
    nodes = [(0, Path())]
    while nodes:
        node, path = nodes.pop()
        # For a folder, the last two values are the number of its nodes and the first node. For a file, they are its language
        # and its content.
        name_at, flags, count, first = struct.unpack_from(">IHII", data, tree + node * (22 if version > 1 else 14))
        if node:  # the root has no name
            start = names + name_at + 6  # the name stands after its length and a hash
            path /= data[start : start + 2 * int.from_bytes(data[start - 6 : start - 4], "big")].decode("utf-16-be")
        if flags & 2:
            nodes += [(child, path) for child in range(first, first + count)]
            continue
        if flags & 4:
            raise InputError(f"{path} in a Qt resource file is compressed by Zstandard, which is not supported here")
        start = contents + first + 4  # the content stands after its length
        content = data[start : start + int.from_bytes(data[start - 4 : start], "big")]
        yield path, zlib.decompress(content[4:]) if flags & 1 else content


def photos_in(root: Path, patterns: str) -> Iterator[str]:
    """Yield the paths below a folder that match the patterns, in a fixed order."""
    expanded = [one for pattern in patterns.split() for one in _either(pattern)]
    for file in sorted(root.rglob("*"), key=lambda file: (str(file.parent), file.name)):
        name = file.relative_to(root).as_posix()
        matching = [pattern for pattern in expanded if fnmatchcase(name, pattern.removeprefix("!"))]
        wanted = matching and not any(pattern.startswith("!") for pattern in matching)
        if wanted and file.suffix in PICTURES and not file.is_symlink():
            yield name


def _either(pattern: str) -> list[str]:
    """Expand braces: ``a{b,c}d`` → ``abd``, ``acd``. A pattern may have several pairs of braces."""
    before, brace, rest = pattern.partition("{")
    choices, _, after = rest.partition("}")
    return [one for choice in choices.split(",") for one in _either(before + choice + after)] if brace else [pattern]


def stem_of(package: str, name: str) -> str:
    """Return the package, the folder and the name of a photo as one word."""
    parts = name.rpartition(".")[0].replace("contents/images/", "").split("/")
    words = "_".join([re.sub(r"\W", "", package)[:14], *parts[-2:]]).lower()
    return re.sub(r"[^a-z0-9]+", "_", words).strip("_")


def shipped_photos(folder: Path) -> tuple[set[str], list[int]]:
    """Return the words of the licence table and the hashes of the shipped photos.

    The words include the path of each photo in its package.
    """
    table, photos = folder / DEMO_LICENCES.name, sorted(folder.glob("*.jpg"))
    if not photos or not table.is_file():
        raise InputError(f"{folder} has no photos or no {table.name}: what must be left out is not known")
    rows = csv.DictReader(table.read_text("utf-8").splitlines())
    words = {word for row in rows for word in re.split(r"[,;\s]+", row["source"])}
    return words, [difference_hash(open_photo(photo)) for photo in photos]


def build_pool(out: Path, shipped: Path = DEMO_PHOTOS, *, beside: Path | None = None) -> Pool:
    """Collect the photos, and fill a new or empty folder with them at the very end.

    Args:
        out: the folder to fill.
        shipped: the folder of the demo's photos, which are left out.
        beside: the folder of another pool. With it, `MORE_PACKAGES` are collected, and everything is left out that looks
            like one of its pictures.

    Raises:
        InputError: a tool is missing or fails, or ``out`` is not empty. A picture of a package that cannot be read is left out.
    """
    if missing := {tool: package for tool, package in TOOLS.items() if not shutil.which(tool)}:
        raise InputError(f"no {' and no '.join(missing)}; on Debian run: apt-get install {' '.join(missing.values())}")
    names, hashes = shipped_photos(shipped)
    if any(make_folder(out).iterdir()):
        raise InputError(f"{out} is not empty: name a new folder")
    with tempfile.TemporaryDirectory() as scratch:
        pool = Pool(make_folder(Path(scratch, "pool")), hashes)
        if beside is not None:
            others = sorted(beside.glob("*.jpg"))
            if not others:
                raise InputError(f"{beside} has no pictures; name the folder that photo_pool filled")
            pool.shipped = hashes + [difference_hash(open_photo(other)) for other in others]
        for package, patterns in (PACKAGES if beside is None else MORE_PACKAGES).items():
            before = len(pool.kept)
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                root = fetch(package, Path(folder))
                for name in photos_in(root, patterns):
                    if name in names:
                        continue
                    try:
                        photo = open_photo(root / name)
                    except InputError as problem:  # such as a drawing of more pixels than a photo may have
                        print(f"left out: {problem}", file=sys.stderr)
                        continue
                    pool.add(photo, stem_of(package, name))
            print(f"{len(pool.kept) - before:5d}  {package}")
        shutil.copytree(pool.folder, out, dirs_exist_ok=True)
    return pool


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: build the pool and print how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="new or empty folder for the photos")
    parser.add_argument("--shipped", type=Path, default=DEMO_PHOTOS, help="folder of the photos to leave out")
    parser.add_argument("--beside", type=Path, help="collect more pictures, unlike those in this folder")
    given = parser.parse_args(arguments)
    pool = build_pool(given.out, given.shipped, beside=given.beside)
    print(f"{len(pool.kept)} pictures, {pool.dropped} near duplicates left out")


if __name__ == "__main__":
    try:
        main()
    except IscFastError as error:
        sys.exit(f"error: {error}")
