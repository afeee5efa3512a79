"""The logs of a run: a row of figures every few steps, the evaluations, and the images that could not be read."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ...errors import OutputError, TrainingError
from ...files.atomic import replacing, write_text
from ...files.reading import one_line, parse_json
from .state import Position


@dataclass(frozen=True)
class LogRow:
    """A row of ``log.csv``. Its figures are means over the steps since the row before.

    Attributes:
        epoch, step: the last step of the row and its epoch, both counted from 0.
        learning_rate: the learning rate of the epoch, in the units of the published run.
        loss, positive, negative: the loss and its two terms.
        positive_distance, negative_distance: the mean distances of positive and of negative pairs, 0 to 2.
        active_negatives: the share of negative pairs that are nearer than the margin. It grows if the network collapses.
        images_per_s: the images per second, over all processes.
        data_wait: the share of the time in which the first process waited for images, 0 to 1.
        skipped: how many images could not be read since the stage began.
    """

    epoch: int
    step: int
    learning_rate: float
    loss: float
    positive: float
    negative: float
    positive_distance: float
    negative_distance: float
    active_negatives: float
    images_per_s: float
    data_wait: float
    skipped: int


_COLUMNS = [field.name for field in fields(LogRow)]


@contextlib.contextmanager
def _damage_in_words(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainingError(f"cannot read {os.fspath(path)}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
        raise TrainingError(
            f"{os.fspath(path)} is damaged ({one_line(error)}); move it away to continue with a new one"
        ) from error


def read_log(path: str | os.PathLike[str]) -> list[LogRow]:
    """Read the rows of a ``log.csv``. An incomplete last line is left out.

    Raises:
        TrainingError: it cannot be read, or is damaged.
    """
    whole = {"epoch", "step", "skipped"}

    def values(row: Mapping[str, str]) -> dict[str, Any]:
        return {name: (int if name in whole else float)(row[name]) for name in _COLUMNS}

    with _damage_in_words(path), open(path, newline="", encoding="utf-8") as stream:
        return [LogRow(**values(row)) for row in csv.DictReader(stream) if None not in row.values()]


class Journal:
    """Appends to ``log.csv``, ``evaluation.jsonl`` and ``skipped.jsonl`` in a folder.

    Args:
        folder: the folder of the run.
        rank: the number of this process. Only the first process writes figures. Every process writes down the images that
            it could not read, the others into ``skipped-RANK.jsonl``.
        start: the position where the run starts. The journal drops rows at or after it, which an interrupted run wrote
            after it had saved its state.
    """

    def __init__(self, folder: Path, rank: int, start: Position) -> None:
        self._log, self._evaluation = folder / "log.csv", folder / "evaluation.jsonl"
        self._skipped = folder / ("skipped.jsonl" if rank == 0 else f"skipped-{rank}.jsonl")
        if not start.skipped:
            self._skipped.unlink(missing_ok=True)
        if rank == 0:
            kept = read_log(self._log) if self._log.exists() else []
            place = (start.epoch, start.step)
            self._rewrite([row for row in kept if (row.epoch, row.step) < place])
            if self._evaluation.exists():
                with _damage_in_words(self._evaluation):
                    lines = self._evaluation.read_text("utf-8").splitlines()
                    kept_lines = [line for line in lines if parse_json(line)["epoch"] < start.epoch]
                write_text(self._evaluation, "".join(f"{line}\n" for line in kept_lines))

    def _rewrite(self, rows: Iterable[LogRow]) -> None:
        with replacing(self._log) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, _COLUMNS)
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)

    def _append(self, path: Path, lines: Sequence[str]) -> None:
        try:
            with open(path, "a", encoding="utf-8", errors="surrogateescape", newline="") as stream:
                stream.writelines(lines)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error

    def row(self, row: LogRow) -> None:
        """Append a row of figures."""
        self._append(self._log, [",".join(repr(value) for value in asdict(row).values()) + "\r\n"])

    def evaluation(self, figures: Mapping[str, Any]) -> None:
        """Append the figures of an evaluation."""
        self._append(self._evaluation, [json.dumps(figures) + "\n"])

    def skipped(self, images: Sequence[tuple[str, str]]) -> None:
        """Append the images that could not be read, each with its path and the reason."""
        if images:
            self._append(
                self._skipped, [json.dumps({"path": path, "reason": reason}) + "\n" for path, reason in images]
            )
