"""Check that two checkouts make the same files. Both run every verb that writes a file on the same inputs, and the program
compares the files byte by byte.

    python bench/same_bytes.py OLD/.venv/bin/python NEW/.venv/bin/python

Each argument is the Python of an environment in which one checkout is installed. The program takes some minutes. Engine files
name the version of isc-fast that made them; if the two versions differ, the old number counts as the new one. The exit status
is 1 if anything differs. The last line is JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ENGINE = "demo"
MAKE_CHECKPOINT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from helpers_export import calibrated, published
photos = sorted(Path(sys.argv[2]).glob("*.jpg"))[:16]
net = calibrated("tf_efficientnet_lite0", photos, 64)
torch.save(published(net, "tf_efficientnet_lite0", 64), sys.argv[3])
"""
MAKE_SETS = """
import sys
from pathlib import Path
import numpy as np
import isc_fast
out, rng = Path(sys.argv[1]), np.random.default_rng(0)
def unit(n, seed):
    rows = np.random.default_rng(seed).normal(size=(n, 256)).astype("f4")
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
base = unit(300, 9)
for name, n, seed in (("queries", 700, 1), ("references", 30_000, 2), ("train", 20_000, 3)):
    rows = unit(n, seed)
    rows[: n // 3] += 2 * base[rng.integers(0, 300, n // 3)]  # near pairs
    rows[n // 2 : n // 2 + n // 10] = rows[n // 2]  # equal rows, as of blank images
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    isc_fast.write_descriptors(out / f"{name}.h5", isc_fast.Descriptors(rows, [f"{name}{i}" for i in range(n)]))
"""


class Side:
    """One checkout, with its Python and the folder into which it writes."""

    def __init__(self, python: str, folder: Path) -> None:
        self.python, self.folder = python, folder
        folder.mkdir()
        self.version = self.run("-c", "import isc_fast; print(isc_fast.__version__)").strip()

    def run(self, *arguments: str, status: int = 0) -> str:
        """Run the checkout's Python and return what it printed."""
        done = subprocess.run([self.python, *arguments], cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode != status:
            raise SystemExit(f"{self.python} {' '.join(arguments)[:300]} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout

    def verb(self, *arguments: str, status: int = 0) -> str:
        """Run a verb of isc-fast and return what it printed."""
        return self.run("-m", "isc_fast", *arguments, status=status)


def make_photos(source: Path, folder: Path) -> None:
    """Make a folder with sub-folders of photos, equal names, blank images and files that cannot be read."""
    photos = sorted(source.glob("*.jpg"))
    for number, photo in enumerate(photos):
        target = folder / f"set{number % 3}" / f"photo{number:02}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photo, target)
    shutil.copyfile(photos[0], folder / "set0" / "photo01.png")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_bytes(b"this is no image")
    (folder / "cut.jpg").write_bytes(photos[1].read_bytes()[:5000])
    header = b"P6 64 64 255\n"
    for number in range(6):
        (folder / f"blank{number}.ppm").write_bytes(header + bytes([255]) * (64 * 64 * 3))


def interrupted(side: Side, output: str, *arguments: str) -> None:
    """Run an extraction, kill it when its first part exists, and run it again."""
    command = [side.python, "-m", "isc_fast", "extract", *arguments, "-o", output]
    process = subprocess.Popen(command, cwd=side.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    parts = side.folder / f"{output}.parts"
    while process.poll() is None and not list(parts.glob("*.h5")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = side.folder / f"{output}-parts"
    kept.mkdir()
    for part in sorted(parts.glob("*.h5"))[:1]:
        shutil.copyfile(part, kept / part.name)
    side.verb("extract", *arguments, "-o", output)


def demo(side: Side) -> None:
    """Run the demo. Its descriptor files hold the times of the photos that it has just made, so their rows are compared alone."""
    side.verb("demo", "-o", "demo-out")
    shutil.rmtree(side.folder / "demo-out/work", ignore_errors=True)
    for name in ("queries", "references"):
        side.verb("convert", f"demo-out/{name}.h5", "--to", "npy", "-o", f"demo-{name}.npy")
        (side.folder / "demo-out" / f"{name}.h5").unlink()


def steps(photos: Path, sets: Path, checkpoint: Path, here: Path) -> dict[str, Callable[[Side], object]]:
    """Return what both sides do, by name. Each step leaves files in the side's folder."""
    given = (str(photos), "--engine", ENGINE)
    q, r, t = (str(sets / f"{name}.h5") for name in ("queries", "references", "train"))
    small = ("--batch-size", "4", "--shard-size", "4")

    def run(*arguments: str) -> Callable[[Side], object]:
        return lambda side: side.verb(*arguments)

    def told(name: str, *arguments: str) -> Callable[[Side], object]:
        return lambda side: (side.folder / name).write_text(side.verb(*arguments))

    return {
        "extract": run("extract", *given, "-o", "plain.h5"),
        "extract, Pillow, small shards": run("extract", *given, *small, "--decoder", "pillow", "-o", "pillow.h5"),
        "extract, paths as ids, 5 threads": run("extract", *given, "--ids", "path", "--workers", "5", "-o", "path.h5"),
        "extract, two processes": run("extract", *given, *small, "--device", "cpu,cpu", "-o", "two.h5"),
        "extract, killed and resumed": lambda side: interrupted(side, "killed.h5", *given, *small),
        "extract, killed in two processes": lambda side: interrupted(
            side, "killed2.h5", *given, *small, "--device", "cpu,cpu"
        ),
        "extract, failed images again": run("extract", *given, "--retry-failed", "-o", "plain.h5"),
        "ledger": told("ledger.jsonl", "info", "plain.h5", "--failures"),
        "search, best 10": run("search", q, r, "-o", "best.csv"),
        "search, threshold": run("search", q, r, "--threshold", "0.5", "-o", "threshold.csv"),
        "search, best pairs, l2": run("search", q, r, "--max-pairs", "5000", "--metric", "l2", "-o", "pairs.jsonl"),
        "negatives": run("negatives", t, "-o", "negatives.h5"),
        "normalize, nes": run("normalize", q, "--negatives", "negatives.h5", "-o", "nes.h5"),
        "normalize, nes, twice": run(
            *("normalize", q, "--negatives", "negatives.h5", "--iterations", "2", "-k", "3", "-o", "nes2.h5")
        ),
        "normalize, score": run("normalize", q, "--negatives", t, "--method", "score", "--role", "query", "-o", "s.h5"),
        "normalize, score, references": run(
            "normalize", r, "--method", "score", "--role", "reference", "-o", "score-r.h5"
        ),
        "search, score": run("search", "s.h5", "score-r.h5", "-o", "score.csv"),
        "convert, submission": run("convert", f"query={q}", f"reference={q}", "--to", "submission", "-o", "sub.h5"),
        "convert, back": run("convert", "sub.h5", "--set", "query", "-o", "back.h5"),
        "convert, kit": run("convert", q, "--to", "kit", "-o", "kit.h5"),
        "convert, clip-retrieval": run("convert", q, "--to", "clip-retrieval", "-o", "clip"),
        "demo": demo,
        "export": run("export", "--ckpt", str(checkpoint), "-o", "net.onnx"),
        "export, fp16 weights": run("export", "--ckpt", str(checkpoint), "--weights-as", "fp16", "-o", "half.onnx"),
        "export, int8 of the demo": run(
            *(
                "export",
                "--ckpt",
                str(here / "isc_fast" / "data" / "demo.onnx"),
                "--precision",
                "int8",
                "-o",
                "int8.onnx",
            )
        ),
        "export, and describe with it": run("extract", str(photos), "--engine", "net.onnx", "-o", "net.h5"),
    }


def digests(side: Side, versions: tuple[str, str]) -> dict[str, str]:
    """Return the SHA-256 of every file that the side has made. The old version number counts as the new one."""
    found = {}
    for path in sorted(side.folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.suffix in (".onnx", ".h5"):
                content = content.replace(*(version.encode() for version in versions))
            found[str(path.relative_to(side.folder))] = hashlib.sha256(content).hexdigest()
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare the two checkouts and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="Python of the environment of the old checkout")
    parser.add_argument("new", help="Python of the environment of the new checkout")
    parser.add_argument(
        "--only", nargs="+", metavar="WORD", help="run only steps whose name contains one of these words"
    )
    given = parser.parse_args(arguments)
    here = Path(__file__).resolve().parent.parent
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        old, new = (Side(os.path.abspath(python), base / name) for python, name in ((given.old, "o"), (given.new, "n")))
        photos, sets, checkpoint = base / "photos", base / "sets", base / "net_v107.pth"
        sets.mkdir()
        make_photos(here / "isc_fast" / "data" / "photos", photos)
        old.run("-c", MAKE_SETS, str(sets))
        wanted = steps(photos, sets, checkpoint, here)
        if given.only:
            wanted = {name: step for name, step in wanted.items() if any(word in name for word in given.only)}
        if any("export" in name for name in wanted):
            old.run("-c", MAKE_CHECKPOINT, str(here / "tests"), str(here / "isc_fast/data/photos"), str(checkpoint))
        versions = old.version, new.version
        different: list[str] = []
        count = 0
        seen: set[str] = set()
        for name, step in wanted.items():
            for side in (old, new):
                step(side)
            made = digests(old, versions), digests(new, versions)
            fresh = sorted((made[0].keys() | made[1].keys()) - seen)
            seen |= set(fresh)
            count += len(fresh)
            off = [file for file in fresh if made[0].get(file) != made[1].get(file)]
            different += off
            print(
                f"{name:<36} {len(fresh):>3} files  {'same bytes' if not off else 'DIFFERENT: ' + ', '.join(off)}",
                flush=True,
            )
    result = {"bench": "same_bytes", "files": count, "different": different, "versions": list(versions)}
    print(json.dumps(result))
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
