"""An output folder that a verb fills: only what the verb itself wrote there is ever replaced or removed.

The folder has a record, such as ``dedup.json``, that lists the files of the last run. Before the first run has written it, there
are only files that the next run goes on with, such as descriptors. A folder that holds anything else is somebody's, and is
refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import OutputError
from .atomic import make_folder, output_error, try_to_write, write_text
from .one_run import one_run
from .reading import parse_json

_KEY = "written"


@contextlib.contextmanager
def own_folder(path: str | os.PathLike[str], record: str, begun: str) -> Iterator[OwnFolder]:
    """The output folder of a verb, which is made if it is missing. While the block runs, no other run may write there.

    Args:
        path: of the folder.
        record, begun: see `OwnFolder`.

    Raises:
        OutputError: it cannot be made or written to, another run holds it, or it holds files of somebody else.
    """
    folder = make_folder(path)
    with one_run(folder):
        yield OwnFolder(folder, record, begun)


class OwnFolder:
    """The output folder of a verb.

    Args:
        folder: exists, and is not written to by another run.
        record: the name of its record.
        begun: a regular expression for the names of what an unfinished run leaves.

    Attributes:
        folder: where the run writes.
        place: where its files are in the end: the folder; or an address, see `isc_fast.files.own_bucket`.

    Raises:
        OutputError: it holds files of somebody else, or cannot be written to.
    """

    folder: Path
    place: Path | str

    def __init__(self, folder: Path, record: str, begun: str) -> None:
        self.folder = self.place = folder
        self._record = folder / record
        try_to_write(self._record)
        self._earlier = self._of_earlier_run(begun)

    def _of_earlier_run(self, begun: str) -> list[str]:
        verb = self._record.stem
        try:
            names = parse_json(self._record.read_text("utf-8", "surrogateescape"))[_KEY]
            if not isinstance(names, list) or not all(map(_is_plain, names)):
                raise ValueError(names)
        except FileNotFoundError:
            refuse_others(self.folder, self._record.name, begun, verb)
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{self._record} is not what isc-fast {verb} writes, so the folder is somebody's: give a new or an empty one"
            ) from error
        return names

    def named(self, file: Path) -> Path | str:
        """Where a file is in the end that the run writes."""
        return file

    def clear(self) -> None:
        """Remove the files of the earlier run, and folders of it that are empty then. From here on, files may be written.

        Raises:
            OutputError: the record cannot be written.
        """
        for name in self._earlier:
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()
        for name in {os.path.dirname(name) for name in self._earlier} - {""}:
            with contextlib.suppress(OSError):
                (self.folder / name).rmdir()
        write_text(self._record, json.dumps({_KEY: []}) + "\n")

    def finish(self, result: Mapping[str, Any], files: Iterable[Path]) -> None:
        """Write the record of this run.

        Args:
            result: for people and scripts.
            files: that were written, or the folder of a removal list; those in the folder are replaced by the next run.

        Raises:
            OutputError: it cannot be written.
        """
        inside = [os.path.relpath(file, self.folder) for file in parts_of(files)]
        write_text(self._record, record_text(result, sorted(name for name in inside if _is_plain(name))))


def parts_of(files: Iterable[Path]) -> list[Path]:
    """Files as they are, and the files of a removal list."""
    return [part for file in files for part in (sorted(file.glob("part.0.parquet")) if file.is_dir() else [file])]


def record_text(result: Mapping[str, Any], names: Sequence[str]) -> str:
    """The record of a run.

    Args:
        result: for people and scripts.
        names: of the files that were written.
    """
    return json.dumps({**result, _KEY: [*names]}, indent=2) + "\n"


def left_by_run(begun: str) -> re.Pattern[str]:
    """What the names of all files match that an unfinished run leaves; see `OwnFolder`."""
    return re.compile(rf"(?:{begun})(?:\.parts)?|\..*\.tmp", re.DOTALL)


def refuse_others(folder: Path, record: str, begun: str, verb: str) -> None:
    """Refuse a folder that holds files of somebody else: one without the record of a verb, but not empty.

    `OwnFolder` asks it; so does a verb that keeps a record of its own kind.

    Args:
        folder: exists.
        record: the name of the verb's record.
        begun: a regular expression for the names of what an unfinished run leaves before it has a record.
        verb: for the message.

    Raises:
        OutputError: there is another file, or the folder cannot be read.
    """
    if (folder / record).exists():
        return
    of_run = left_by_run(begun)
    try:
        others = sorted(name for name in os.listdir(folder) if not of_run.fullmatch(name))
    except OSError as error:
        raise output_error(folder, error) from error
    if others:
        raise OutputError(
            f"{folder} holds {others[0]!r}, and isc-fast {verb} writes only to a folder of its own: give a new or an empty one"
        ) from None


def files_of_earlier_run(folder: str | os.PathLike[str]) -> frozenset[str]:
    """The names of the files in a folder that the next run of the verb that wrote them replaces; none in any other folder."""
    names = set[str]()
    for record in Path(folder).glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            names.update(filter(_is_plain, parse_json(record.read_text("utf-8", "surrogateescape"))[_KEY]))
            names.add(record.name)
    return frozenset(names)


def _is_plain(name: object) -> bool:
    """Whether this is the name of a file in a folder, or in a folder in it."""
    return (
        isinstance(name, str)
        and name.count("/") <= 1
        and not any(part in ("", ".", "..") or "\0" in part for part in name.split("/"))
    )
