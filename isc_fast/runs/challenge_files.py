"""What a run of the challenge makes of its descriptors, step by step, with a record of what each file was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..descriptors.store import open_descriptors
from ..files.atomic import write_text
from ..files.reading import parse_json
from ..matching.normalizing.methods import SCORE, normalize_to_file
from ..matching.normalizing.smoothing import smooth_to_file
from ..matching.searchers.exact import Metric
from ..matching.searchers.searcher import Searcher

RECORD = "steps.json"
NAMES = {"q": "query", "p": "query_phase2", "r": "reference", "t": "train"}


class Steps:
    """The steps of a run, with a record of what each result was made from. A step with the same inputs is skipped."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / RECORD
        try:
            made = parse_json(self._file.read_text("utf-8"))
        except (OSError, ValueError):
            made = None
        self._made: dict[str, str] = made if isinstance(made, dict) else {}

    def do(self, output: Path, made_from: Any, make: Callable[[], None]) -> str:
        """Make an output, unless it exists and was made from the same inputs.

        Args:
            output: file that ``make`` writes.
            made_from: everything that the output depends on, as data for JSON.
            make: writes the output.

        Returns:
            a stamp of the output. Pass it as ``made_from`` to steps that use this output.
        """
        stamp = hashlib.sha256(json.dumps([output.name, made_from], sort_keys=True).encode()).hexdigest()
        if not (output.exists() and self._made.get(output.name) == stamp):
            make()
            self._made[output.name] = stamp
            write_text(self._file, json.dumps(self._made, indent=1) + "\n")
        return stamp


@dataclass(frozen=True)
class Work:
    """What the steps after extraction share: their record, the folder of the results, and what searches."""

    steps: Steps
    folder: Path
    searcher: Searcher


@dataclass(frozen=True)
class Track:
    """What the file of a track is made of: stamps of the sets, how the names of their files end, and how they are searched."""

    stamps: Mapping[str, str]
    suffix: str = ""
    metric: Metric = "l2"

    def stamps_of(self, letter: str) -> list[str]:
        """The stamps of a set of queries and of the references."""
        return [self.stamps[letter], self.stamps["r"]]

    def files(self, folder: Path, letter: str) -> tuple[Path, Path]:
        """The files of the same two."""
        return folder / f"{NAMES[letter]}{self.suffix}.h5", folder / f"{NAMES['r']}{self.suffix}.h5"


def smooth(work: Work, made_from: str) -> str:
    """Make ``negatives.h5`` from the training images' descriptors, and return its stamp."""
    output = work.folder / "negatives.h5"
    source = work.folder / f"{NAMES['t']}.h5"

    def make() -> None:
        with open_descriptors(source) as plain:
            smooth_to_file(plain, output, device=work.searcher)

    return work.steps.do(output, made_from, make)


def normalize(work: Work, name: str, made_from: list[str]) -> str:
    """Make ``NAME-normalized.h5``, and return its stamp."""
    output = work.folder / f"{name}-normalized.h5"
    sides = work.folder / f"{name}.h5", work.folder / "negatives.h5"

    def make() -> None:
        with open_descriptors(sides[0]) as plain, open_descriptors(sides[1]) as negatives:
            normalize_to_file(plain, negatives, output, device=work.searcher)

    return work.steps.do(output, made_from, make)


def score(work: Work, letter: str, stamps: Mapping[str, str]) -> str:
    """Make ``NAME-scored.h5``, a side of score normalisation, and return its stamp; of references, negatives change nothing."""
    output = work.folder / f"{NAMES[letter]}-scored.h5"
    of_negatives = [] if letter == "r" else ["t"]

    def make() -> None:
        with ExitStack() as stack:
            files = [work.folder / f"{NAMES[each]}.h5" for each in (letter, *of_negatives)]
            plain, *negatives = [stack.enter_context(open_descriptors(file)) for file in files]
            against = negatives[0] if negatives else None
            normalize_to_file(plain, against, output, method=SCORE, device=work.searcher)

    return work.steps.do(output, [stamps[each] for each in (letter, *of_negatives)], make)
