"""An output folder that keeps its parts: ``manifest.json`` when it is whole, a folder for each plan, and who began first.

Nothing here is locked, since locks do not reach from host to host on every file system. Who begins is decided by a file that is
written once, ``begun-AFTER``: it names the plan that counts for all jobs which saw the same manifest, or none, when they began.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from ..descriptors.manifest import BEGUN, MANIFEST, Manifest, is_unfinished, parts_folder, read_manifest
from ..errors import FormatError, OutputError
from ..files.atomic import (
    forget,
    keep_temporaries,
    make_folder,
    output_error,
    remove_old_temporaries,
    try_to_write,
    write_once,
)
from ..files.reading import parse_json
from .plan_folder import LEFT_S, PlanFolder

_PLAN = re.compile(r"[0-9a-f]{64}")
_OURS = re.compile(rf"{re.escape(MANIFEST)}|{BEGUN.pattern}|{_PLAN.pattern}|\..*\.tmp|\.nfs\w+", re.DOTALL)
NEW = "new"
"""What stands in the place of a manifest's id where there is none."""


def is_parts_output(output: str | os.PathLike[str]) -> bool:
    """Whether an output is a folder that keeps its parts: its name ends with a slash, or such a folder is there already."""
    name = os.fspath(output)
    if name.endswith(os.sep):
        return True
    folder = Path(name)
    if parts_folder(folder) is not None and folder.is_dir():
        return True
    return is_unfinished(folder)


@dataclass(frozen=True)
class Begun:
    """What the first job began.

    Attributes:
        plan: id of the plan whose parts will be the result.
        todo: id of the plan of the images to describe, where the other rows are those of the manifest before; "" where all are
            described.
    """

    plan: str
    todo: str = ""


def after_of(manifest: Manifest) -> str:
    """What a manifest is called in the name of what is begun after it."""
    return manifest.id[:16]


def begun_file(folder: Path, after: str) -> Path:
    """The file that says what was begun after the manifest of that id, or `NEW`."""
    return folder / f"begun-{after}.json"


def read_begun(folder: Path, after: str = NEW) -> Begun | None:
    """What was begun in a folder after the manifest of that id; None where nothing was.

    Raises:
        FormatError: the file that says so is damaged.
    """
    file = begun_file(folder, after)
    try:
        values = parse_json(file.read_bytes())
        made = Begun(str(values["plan"]), str(values["todo"]))
        if not _PLAN.fullmatch(made.plan) or not _PLAN.fullmatch(made.todo or made.plan):
            raise ValueError("it names no plan")
        return made
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(
            f"{file} is damaged; remove it, and run the same command again, which keeps all parts"
        ) from error


class OutputFolder:
    """See the module's text.

    Args:
        path: of the folder; it is made if it is missing.

    Raises:
        OutputError: it cannot be made or written to, or holds files of somebody else.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = make_folder(path)
        keep_temporaries(self.path)
        self.manifest_file = self.path / MANIFEST
        try:
            others = sorted(name for name in os.listdir(self.path) if not _OURS.fullmatch(name))
        except OSError as error:
            raise output_error(self.path, error) from error
        if not others and self.manifest_file.exists() and parts_folder(self.path) is None:
            others = [MANIFEST]
        if others:
            raise OutputError(
                f"{self.path} holds {others[0]!r}, which is not isc-fast's, and the parts of a result lie in a folder of their "
                "own: give a new or an empty one"
            )
        try_to_write(self.manifest_file)

    def manifest(self) -> Manifest | None:
        """The manifest; None where there is none.

        Raises:
            FormatError: it is damaged, or of another version.
        """
        return read_manifest(self.path) if self.manifest_file.exists() else None

    def now(self) -> str:
        """What the manifest is called in the name of what is begun after it; `NEW` where there is none, or a damaged one."""
        with contextlib.suppress(FormatError):
            found = self.manifest()
            return NEW if found is None else after_of(found)
        return NEW

    def plan_folder(self, plan_id: str) -> PlanFolder:
        """The folder of a plan, which need not be there."""
        return PlanFolder(self.path / plan_id)

    def begun(self, after: str) -> Begun | None:
        """What was begun after the manifest of that id; see `read_begun`."""
        return read_begun(self.path, after)

    def claim(self, after: str, wanted: Begun) -> Begun:
        """Begin, unless another job was faster; returns what counts.

        Raises:
            OutputError: it cannot be written.
        """
        write_once(begun_file(self.path, after), json.dumps(asdict(wanted)) + "\n")
        return self.begun(after) or wanted

    def end(self, after: str, begun: Begun, before: Manifest | None, now: Manifest) -> None:
        """Remove what the manifest of now does not need: the plan of the one before, and that of the images to describe."""
        going = {begun.todo, before.plan_id if before else ""} - {"", now.plan_id}
        for plan_id in going:
            self.remove_plan(plan_id)
        self.give_up(after)
        self.remove_stale(now)

    def remove_stale(self, now: Manifest) -> None:
        """Remove what belongs to earlier manifests, and what no job has claimed for a day: a killed job has left it."""
        remove_old_temporaries(self.path, older_than_s=LEFT_S)
        begun = self.begun(after_of(now))
        used = {now.plan_id, *((begun.plan, begun.todo) if begun else ())}
        with contextlib.suppress(OSError):
            clock = os.stat(self.path).st_mtime  # of the file system, not of this host: a file was just written there
            for name in os.listdir(self.path):
                if BEGUN.fullmatch(name) and name != begun_file(self.path, after_of(now)).name:
                    forget(self.path / name)
                elif _PLAN.fullmatch(name) and name not in used and clock - os.stat(self.path / name).st_mtime > LEFT_S:
                    self.remove_plan(name)

    def give_up(self, after: str) -> None:
        """Forget what was begun after a manifest; its parts stay."""
        with contextlib.suppress(OSError):
            begun_file(self.path, after).unlink()

    def remove_plan(self, plan_id: str) -> None:
        """Remove the folder of a plan."""
        shutil.rmtree(self.path / plan_id, ignore_errors=True)

    def remove_if_empty(self) -> None:
        """Remove the folder if nothing is in it, such as after a mistyped command."""
        with contextlib.suppress(OSError):
            self.path.rmdir()
