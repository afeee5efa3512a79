"""Kill, stop and cut off parts of a real Ray cluster while it extracts, and compare each result with the local one.

    python tests/cluster/cluster.py [--only WORD …] [--images 120]

A head and two nodes on this machine. Where the system allows it, they run in a network of their own, so that nobody else reaches
them. The last line is JSON; the exit status is 1 if a result has other bytes or a run failed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from images import noise
from PIL import Image
from ray_room import Room
from scenes import SCENES, Scene

from isc_fast.assets import demo_photos
from isc_fast.extraction.pipeline import extract

_ALONE = "ISC_FAST_CLUSTER_ALONE"


def in_own_network() -> None:
    """Run this program again in a network of its own, where the system allows that."""
    if os.environ.get(_ALONE):
        return
    enter = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    try:
        allowed = subprocess.run([*enter, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        allowed = False
    if allowed:
        os.environ[_ALONE] = "1"
        os.execvp(enter[0], [*enter, sys.executable, *sys.argv])


def make_photos(folder: Path, count: int, *, poison: bool) -> Path:
    """Links to the package's photos, in turn; two files that are none; and perhaps one that ends whatever decodes it."""
    folder.mkdir()
    photos = demo_photos()
    for number in range(count):
        (folder / f"{number:05d}.jpg").symlink_to(photos[number % len(photos)])
    for name in ("0bad.jpg", "zbad.jpg"):
        (folder / name).write_text("no picture")
    if poison:
        Image.fromarray(noise(64, 64)).save(folder / f"{count // 2:05d}poison.jpg")
    return folder


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def main() -> int:
    """Play the scenes and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="scenes whose name contains one of these words")
    parser.add_argument("--images", type=int, default=120)
    given = parser.parse_args()
    in_own_network()
    names = [name for name in SCENES if not given.only or any(word in name for word in given.only)]
    rows = []
    with tempfile.TemporaryDirectory() as text, Room(nodes=2) as room:
        folder = Path(text)
        os.environ.update(room.environment)
        sys.path.insert(0, str(room.site))
        photos, wanted = {}, {}
        for poison in {name == "poison" for name in names}:
            photos[poison] = make_photos(folder / f"photos{poison:d}", given.images, poison=poison)
            local = folder / f"local{poison:d}.h5"
            extract(photos[poison], "demo", local, batch_size=4, shard_size=8, isolated=poison)
            wanted[poison] = sha256(local)
        for name in names:
            room.forget()
            room.be_slow()
            poison = name == "poison"
            scene = Scene(room, photos[poison], folder / f"{name.replace(' ', '-')}.h5")
            began = time.monotonic()
            try:
                SCENES[name](scene)
                result = "same bytes" if sha256(scene.output) == wanted[poison] else "OTHER BYTES"
            except Exception:
                traceback.print_exc()
                result = "FAILED"
            rows.append({"scene": name, "result": result, "seconds": round(time.monotonic() - began, 1), **scene.notes})
            print(*(f"{key} {value}" for key, value in rows[-1].items()), sep=", ", flush=True)
    print(json.dumps({"bench": "cluster", "images": given.images, "rows": rows}))
    return 0 if all(row["result"] == "same bytes" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
