"""What it costs to bring a descriptor file up to date: a thousand new photos among a million, without network and decoder.

    python bench/update.py              a folder of a million small files; some minutes, 3 GB of disk
    python bench/update.py --smoke      takes seconds and shows only that it runs

Three runs over one folder, each in a process of its own: the first describes everything, the second finds a thousand files
new, as many changed and as many gone, the third finds nothing to do. The rest of a run's time is that of listing the folder,
which is measured alone. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from measuring import peak_bytes
from stand_in import Dark, Network, decode_with, name_of

DIM = 256
RUNS = ("listing alone", "everything", "update", "nothing to do")


def write_photos(folder: Path, rows: range, text: bytes = b"no photo") -> None:
    """Write a small file for each row."""
    for row in rows:
        path = folder / name_of(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)


def run(name: str, folder: Path) -> None:
    """Carry out one run, and print its time, its processor time and the most memory it took."""
    from isc_fast.extraction.pipeline import extract
    from isc_fast.sources.listing import list_images

    decode_with(Dark())
    began = time.monotonic()
    if name == RUNS[0]:
        rows, described = len(list_images(folder / "photos").items), 0
    else:
        done = 0

        def progress(now: int, _total: int, _failed: int) -> None:
            nonlocal done
            done = now

        made = extract(folder / "photos", Network(DIM), folder / "out.h5", progress=progress)  # type: ignore[arg-type]
        rows, described = made.count, done
    figures = {
        "rows": rows,
        "described": described,
        "seconds": round(time.monotonic() - began, 2),
        "cpu_s": round(time.process_time(), 2),
        "peak_mb": round(peak_bytes() / 1e6),
    }
    print(json.dumps(figures))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument(
        "--changes", type=int, default=1000, help="new files; as many change, and as many go (default: 1000)"
    )
    parser.add_argument("--folder", type=Path, help="folder for the files; by default the system's temporary folder")
    parser.add_argument("--smoke", action="store_true", help="few images")
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.run:
        run(given.run, given.folder)
        return 0
    count, changes = (2000, 20) if given.smoke else (given.images, given.changes)
    found = {}
    with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
        folder = Path(temporary)
        write_photos(folder, range(count))
        print(f"{'':<16}{'rows':>10}{'described':>11}{'seconds':>9}{'CPU s':>8}{'peak MB':>9}", flush=True)
        for name in RUNS:
            if name == "update":
                write_photos(folder, range(count, count + changes))
                write_photos(folder, range(changes), b"another photo")
                for row in range(changes, 2 * changes):
                    os.unlink(folder / name_of(row))
            done = subprocess.run(
                [sys.executable, __file__, "--run", name, "--folder", str(folder)],
                stdout=subprocess.PIPE,
                check=True,
                text=True,
            )
            found[name] = json.loads(done.stdout)
            row = found[name]
            print(
                f"{name:<16}{row['rows']:>10}{row['described']:>11}{row['seconds']:>9}{row['cpu_s']:>8}{row['peak_mb']:>9}",
                flush=True,
            )
    print(json.dumps({"bench": "update", "images": count, "changes": changes, "runs": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
