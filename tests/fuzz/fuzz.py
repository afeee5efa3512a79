"""Fuzz the readers of files, guided by coverage: changed bytes that reach new code are changed further.

    pip install atheris
    python tests/fuzz/fuzz.py --seconds 60 [--target "matches csv" …]

Each reader of `readers.py` runs in a process of its own. What a reader must not do (see there) is a finding, and is kept once for
each place in the code. Its bytes lie in build/fuzz/findings; a finding that is mended belongs into tests/fuzz/findings, which
`test_fuzz.py` runs. The corpus stays in build/fuzz, so a later run goes on from there. The last line is JSON; the exit status is
1 if anything was found.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
INSTRUMENTED = ["isc_fast", "numpy.lib", "zipfile", "csv"]
LONGEST_S, MOST_MB = 60, 4096
"""What one input may take: a second limit behind the reader's own, for code in C."""


def place_of(error: BaseException) -> str:
    """The kind of an error, and the innermost line of isc-fast's that it came through."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if "/tests/fuzz/fuzz.py" not in frame.filename
    ]
    ours = [frame for frame in frames if "/isc_fast/" in frame.filename or "/training/" in frame.filename] or frames
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "nowhere"
    return f"{type(error).__name__} at {where}"


def run_one(name: str, seconds: int, folder: Path) -> None:
    """Fuzz one reader in this process, which ends with it."""
    import atheris

    sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]
    corpus, kept = folder / name.replace(" ", "-"), folder / "findings"
    corpus.mkdir(parents=True, exist_ok=True)
    kept.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=os.environ["FUZZ_WORK"]))
    with atheris.instrument_imports(include=INSTRUMENTED):
        import readers
    reader = readers.READERS[name]
    importlib.import_module(reader.needs)  # torch takes minutes where its imports are looked at
    with atheris.instrument_imports(include=INSTRUMENTED):
        for seed in readers.make_ready(reader, work):
            (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
            reader.attempt(work, seed)
    seen: set[str] = set()

    def attempt(data: bytes) -> None:
        try:
            reader.attempt(work, data)
        except Exception as error:
            place = place_of(error)
            if place not in seen:
                seen.add(place)
                path = kept / f"{name.replace(' ', '-')}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"
                path.write_bytes(data)
                print(f"finding: {place}: {str(error)[:200]!r}: {path}", file=sys.stderr, flush=True)

    options = [
        f"-max_total_time={seconds}", f"-timeout={LONGEST_S}", f"-rss_limit_mb={MOST_MB}", "-print_final_stats=1",
        f"-artifact_prefix={kept / name.replace(' ', '-')}-", "-max_len=20000", "-verbosity=1", "-print_pcs=0",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(corpus)], attempt)
    atheris.Fuzz()


def fuzz(name: str, seconds: int, folder: Path) -> dict[str, Any]:
    """Fuzz one reader in a process of its own; returns how often it ran and what was found."""
    command = [sys.executable, str(HERE), "--child", name, "--seconds", str(seconds), "--folder", str(folder)]
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=shared, prefix="fuzz-") as work:
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace", check=False,
            env={**os.environ, "FUZZ_WORK": work, "TMPDIR": work},
        )  # fmt: skip
    runs = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    covered = re.findall(r"cov: (\d+)", done.stderr)
    findings = re.findall(r"^finding: (.*)", done.stderr, re.MULTILINE)
    if done.returncode:
        ends = [
            line for line in done.stderr.splitlines() if "ERROR" in line or "SUMMARY" in line or "Test unit" in line
        ]
        findings.append(f"the process ended with {done.returncode}: {' '.join(ends) or done.stderr[-2000:]}")
    return {"runs": int(runs[1]) if runs else 0, "covered": int(covered[-1]) if covered else 0, "findings": findings}


def main() -> int:
    """Fuzz the readers one after the other and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", nargs="+", metavar="NAME", help="readers of readers.py; by default all")
    parser.add_argument("--seconds", type=int, default=60, help="for each reader (default: 60)")
    parser.add_argument(
        "--folder", type=Path, default=HERE.parents[2] / "build" / "fuzz", help="of corpus and findings"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        run_one(given.child, given.seconds, given.folder)
    sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]
    import readers

    names = given.target or [name for name, reader in readers.READERS.items() if reader.is_installed]
    if unknown := [name for name in names if name not in readers.READERS]:
        parser.error(f"there is no reader {unknown[0]!r}; choose from {', '.join(readers.READERS)}")
    found = {}
    for name in names:
        found[name] = made = fuzz(name, given.seconds, given.folder)
        print(
            f"{name:<24}{made['runs']:>10,} runs{made['covered']:>8} places{len(made['findings']):>4} findings",
            flush=True,
        )
        for finding in made["findings"]:
            print(f"    {finding}", flush=True)
    count = sum(len(made["findings"]) for made in found.values())
    runs = {name: made["runs"] for name, made in found.items()}
    print(
        json.dumps(
            {"bench": "fuzz", "seconds": given.seconds, "runs": runs, "total": sum(runs.values()), "findings": count}
        )
    )
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
