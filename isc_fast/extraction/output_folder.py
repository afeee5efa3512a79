"""An output that keeps its parts: ``manifest.json`` when it is whole, a folder for each plan, and who began first.

Nothing here is locked, since locks do not reach from host to host on every file system. Who begins is decided by a file that is
written once, ``begun-AFTER``: it names the plan that counts for all jobs which saw the same manifest, or none, when they began.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from ..descriptors.manifest import BEGUN, MANIFEST, Manifest, is_unfinished, parts_home, read_manifest
from ..errors import FormatError, OutputError
from ..files.atomic import write_text
from ..files.homes import Home, home_of, is_bucket
from ..files.reading import parse_json
from .plan_folder import LEFT_S, PlanFolder

_PLAN = re.compile(r"[0-9a-f]{64}")
_OURS = re.compile(rf"{re.escape(MANIFEST)}|{BEGUN.pattern}|{_PLAN.pattern}|\..*\.tmp|\.nfs\w+", re.DOTALL)
NEW = "new"
"""What stands in the place of a manifest's id where there is none."""
_MOST_BYTES = 1 << 16


def is_parts_output(output: str | os.PathLike[str]) -> bool:
    """Whether an output keeps its parts: its name ends with a slash, or it is a folder with such a result already.

    Raises:
        OutputError: it is in a bucket, and its name has no slash.
    """
    name = os.fspath(output)
    if name.endswith(os.sep):
        return True
    if is_bucket(name):
        address = home_of(name).address
        raise OutputError(
            f"cannot write {address}: a result in a bucket keeps its parts, and has a name with a slash: -o {address}/; isc-fast "
            "assemble makes one file of it"
        )
    return Path(name).is_dir() and (parts_home(name) is not None or is_unfinished(name))


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


def begun_name(after: str) -> str:
    """The name of the file that says what was begun after the manifest of that id, or `NEW`."""
    return f"begun-{after}.json"


def read_begun(place: str | os.PathLike[str] | Home, after: str = NEW) -> Begun | None:
    """What was begun in a home after the manifest of that id; None where nothing was.

    Raises:
        FormatError: the file that says so is damaged.
        StoreError: its bucket cannot be reached.
    """
    home, name = home_of(place), begun_name(after)
    try:
        values = parse_json(home.read(name, _MOST_BYTES))
        made = Begun(str(values["plan"]), str(values["todo"]))
        if not _PLAN.fullmatch(made.plan) or not _PLAN.fullmatch(made.todo or made.plan):
            raise ValueError("it names no plan")
        return made
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(
            f"{home.address}/{name} is damaged; remove it, and run the same command again, which keeps all parts"
        ) from error


class OutputFolder:
    """See the module's text.

    Args:
        path: of the folder, which is made if it is missing; or the address of a prefix in a bucket.

    Attributes:
        home: where it is.

    Raises:
        OutputError: it cannot be made or written to, or holds files of somebody else.
        StoreError: its bucket cannot be reached, or refuses.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.home = home_of(path)
        other = self.home.prepare(_OURS)
        if other is None and self.home.size(MANIFEST) is not None and parts_home(self.home.path) is None:
            other = MANIFEST
        if other is not None:
            raise OutputError(
                f"{self.address} holds {other!r}, which is not isc-fast's, and the parts of a result lie in a folder of their "
                "own: give a new or an empty one"
            )

    @property
    def address(self) -> str:
        """It in messages."""
        return self.home.address

    def manifest(self) -> Manifest | None:
        """The manifest; None where there is none.

        Raises:
            FormatError: it is damaged, or of another version.
        """
        return None if self.home.size(MANIFEST) is None else read_manifest(self.home)

    def now(self) -> str:
        """What the manifest is called in the name of what is begun after it; `NEW` where there is none, or a damaged one."""
        with contextlib.suppress(FormatError):
            found = self.manifest()
            return NEW if found is None else after_of(found)
        return NEW

    def plan_folder(self, plan_id: str) -> PlanFolder:
        """The folder of a plan, which need not be there."""
        return PlanFolder(self.home, plan_id)

    def begun(self, after: str) -> Begun | None:
        """What was begun after the manifest of that id; see `read_begun`."""
        return read_begun(self.home, after)

    def claim(self, after: str, wanted: Begun) -> Begun:
        """Begin, unless another job was faster; returns what counts.

        Raises:
            OutputError: it cannot be written.
        """
        self.home.create(begun_name(after), partial(write_text, text=json.dumps(asdict(wanted)) + "\n"))
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
        self.home.tidy("", LEFT_S)
        begun = self.begun(after_of(now))
        used = {now.plan_id, *((begun.plan, begun.todo) if begun else ())}
        for name, age_s in self.home.left():
            if BEGUN.fullmatch(name) and name != begun_name(after_of(now)):
                self.home.remove(name)
            elif _PLAN.fullmatch(name) and name not in used and age_s > LEFT_S:
                self.remove_plan(name)

    def give_up(self, after: str) -> None:
        """Forget what was begun after a manifest; its parts stay."""
        self.home.remove(begun_name(after))

    def remove_plan(self, plan_id: str) -> None:
        """Remove the folder of a plan."""
        self.home.remove_folder(plan_id)

    def remove_if_empty(self) -> None:
        """Remove the folder if nothing is in it, such as after a mistyped command."""
        self.home.remove_if_empty()
