"""An output folder of a verb that lies in a bucket.

The run works in a folder on this machine, whose name is always the same for the same output and command, so that an interrupted
run goes on with what it has there. What it has made is then created in the bucket, once, and its record comes last: where
that is, the result is whole. ``begun.json`` is created before anything else and says what the prefix is for, so that another
command, or somebody's own objects, are found out before the work.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import IscFastError, MismatchError, OutputError
from .atomic import write_text
from .bucket_home import MOST_BYTES
from .homes import Home
from .one_run import one_run
from .own_folder import OwnFolder, parts_of, record_text
from .reading import file_sha256
from .scratch import ScratchFolder, needs_scratch

BEGUN = "begun.json"
_MOST_BYTES = 1 << 24
_NEED = "an output in a bucket"


class OwnBucket(OwnFolder):
    """A prefix in a bucket as the output folder of a verb; see the module's text.

    Args:
        home: the prefix.
        folder: where the run works, on this machine.
        record: the name of the verb's record.
        asked: what decides the result, as plain data.

    Raises:
        OutputError: the prefix holds objects of somebody else.
        MismatchError: another command was begun there.
        StoreError: the bucket cannot be reached, or refuses.
    """

    def __init__(self, home: Home, folder: Path, record: str, asked: Mapping[str, Any]) -> None:
        self.folder, self.place, self._record, self._home = folder, home.path, folder / record, home
        self._begin(asked)

    def _begin(self, asked: Mapping[str, Any]) -> None:
        verb, address = self._record.stem, self._home.address
        other = self._home.prepare(re.compile(re.escape(BEGUN)))
        if self._home.size(BEGUN) is None and (other is not None or self._home.size("") is not None):
            what = f"holds {other!r}" if other is not None else "is an object"
            raise OutputError(
                f"{address} {what}, and isc-fast {verb} writes only to a prefix of its own: give a new or an empty one"
            )
        text = json.dumps({"verb": verb, **asked}, sort_keys=True) + "\n"
        self._home.create(BEGUN, partial(write_text, text=text))
        there = self._home.read(BEGUN, _MOST_BYTES)
        if there != text.encode("ascii"):
            raise MismatchError(
                f"{address} was begun for {_difference(there, json.loads(text))}, and nothing in a bucket is replaced: give "
                f"another output, or the arguments of then, which {BEGUN} there has"
            )

    def named(self, file: Path) -> Path | str:
        """See `OwnFolder`."""
        return f"{self.place}/{file.relative_to(self.folder).as_posix()}" if self._is_inside(file) else file

    def clear(self) -> None:
        """See `OwnFolder`. What lies on this machine is written over, and nothing in the bucket is replaced."""

    def finish(self, result: Mapping[str, Any], files: Iterable[Path]) -> None:
        """Create the files in the bucket, and the record of this run.

        Args:
            result, files: see `OwnFolder`. What lies elsewhere on this machine stays there.

        Raises:
            OutputError: another result is there, or a file is too large.
            StoreError: the bucket cannot be reached, or refuses.
        """
        inside = sorted(file for file in parts_of(files) if self._is_inside(file))
        for file in inside:
            if file.stat().st_size > MOST_BYTES:
                raise OutputError(
                    f"{file.name} has {file.stat().st_size} bytes, limit {MOST_BYTES} for an object that is created in one "
                    f"request; all is finished, and lies in {self.folder} on this machine"
                )
        names = [file.relative_to(self.folder).as_posix() for file in inside]
        for name, file in zip(names, inside, strict=True):
            self._create(name, file)
        write_text(self._record, record_text(result, names))
        self._create(self._record.name, self._record)

    def _is_inside(self, file: Path) -> bool:
        return self.folder in file.parents

    def _create(self, name: str, file: Path) -> None:
        def is_right() -> bool:
            return file_sha256(self._home.file(name)) == file_sha256(file)

        self._home.create(name, lambda path: shutil.copyfile(file, path), is_right)

    def give_up(self) -> None:
        """Leave nothing behind where nothing was done, such as after a mistyped command."""
        with contextlib.suppress(IscFastError):
            if set(self._home.sizes("")) <= {BEGUN} and not any(self.folder.iterdir()):
                self._home.remove(BEGUN)


@contextlib.contextmanager
def own_bucket(home: Home, record: str, asked: Mapping[str, Any]) -> Iterator[OwnBucket]:
    """The output of a verb in a bucket. While the block runs, no other run on this machine works on it.

    After the block, the folder on this machine goes; after an error it stays, for the next run.

    Args:
        home, record, asked: see `OwnBucket`.

    Raises:
        OutputError: another run of this machine works on it, or there is no room for temporary files; or see `OwnBucket`.
        IscFastError: see there.
    """
    folder = _work_folder(home.address, asked)
    with one_run(folder, home.address):
        try:
            own = OwnBucket(home, folder, record, asked)
            try:
                yield own
            except BaseException:
                own.give_up()
                raise
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()  # where nothing was done


class SharedBucket(OwnBucket):
    """The same for a job that computes its share of the pieces, which lie in the bucket, and writes no list."""

    def __init__(self, home: Home, record: str, asked: Mapping[str, Any]) -> None:
        with needs_scratch(_NEED):
            self._scratch = ScratchFolder()
        super().__init__(home, self._scratch.path, record, asked)


def _work_folder(address: str, asked: Mapping[str, Any]) -> Path:
    """A folder for the run on this machine, which nobody else can write to.

    Raises:
        OutputError: it cannot be made, or somebody else has made one of its name.
    """
    words = json.dumps([address, asked], sort_keys=True)
    name = f"isc-fast-run-{os.getuid()}-{hashlib.sha256(words.encode('ascii')).hexdigest()[:24]}"
    folder = Path(tempfile.gettempdir()) / name
    with needs_scratch(_NEED):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(0o700)
        status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise OutputError(
            f"{folder} is not a folder that this user alone writes to; remove it, or name another folder in the variable TMPDIR"
        )
    return folder


def _difference(there: bytes, asked: Mapping[str, Any]) -> str:
    """What tells two commands apart, in words."""
    try:
        before = json.loads(there)
        names = sorted(name for name in {*before, *asked} if before.get(name) != asked.get(name))
    except (ValueError, TypeError, AttributeError):
        names = []
    if not names or "verb" in names:
        return "something else"
    return "other arguments (" + ", ".join(names) + ")"
