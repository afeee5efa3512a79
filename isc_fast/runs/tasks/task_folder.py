"""The output of a run that is cut into tasks: a folder for the plan with a file for each task, and the result, which comes last.

Like a result in parts of `isc_fast.extraction.output_folder` it needs no lock: several jobs, on this machine or on others, may
work in it at once. ``begun.json`` names the plan, is created once and tells later jobs what the folder is for. The record, such
as ``search.json``, says what the result is; where it is there, the result is whole. It may lie in a bucket.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import FormatError, MismatchError, OutputError
from ...extraction.plan_folder import LEFT_S
from ...files.atomic import write_text
from ...files.homes import Write, home_of
from ...files.reading import file_sha256, parse_json

BEGUN, PLAN = "begun.json", "plan.json"
_MOST_BYTES = 1 << 24
_OF_TASKS = (".pairs", ".h5")  # the ends of names of files that tasks write


def is_task_output(output: str | os.PathLike[str]) -> bool:
    """Whether an output is a folder of tasks: its name ends with a slash, or tasks were begun there before."""
    return os.fspath(output).endswith(os.sep) or (Path(output) / BEGUN).is_file()


def text_and_id(plan: Mapping[str, Any]) -> tuple[str, str]:
    """A plan as it is written, and what its tasks go by: the SHA-256 of that."""
    text = json.dumps(plan, sort_keys=True) + "\n"
    return text, hashlib.sha256(text.encode("ascii")).hexdigest()


class TaskFolder:
    """See the module's text.

    Args:
        path: of the folder, which is made if it is missing; or the address of a prefix in a bucket.
        verb: that fills it; its record is ``VERB.json``.
        names: a regular expression for the names of the verb's results.

    Attributes:
        home: where it is.

    Raises:
        OutputError: it cannot be made or written to, or holds files of somebody else.
        StoreError: its bucket cannot be reached, or refuses.
    """

    def __init__(self, path: str | os.PathLike[str], verb: str, names: str) -> None:
        self.home, self._verb, self._record = home_of(path), verb, f"{verb}.json"
        ours = rf"{re.escape(BEGUN)}|{re.escape(self._record)}|{names}|[0-9a-f]{{64}}|\..*\.tmp|\.nfs\w+"
        other = self.home.prepare(re.compile(ours, re.DOTALL))
        if other is not None:
            raise OutputError(
                f"{self.address} holds {other!r}, and isc-fast {verb} writes its tasks only to a folder of its own: give a new "
                "or an empty one"
            )

    @property
    def address(self) -> str:
        """It in messages."""
        return self.home.address

    def begin(self, plan: Mapping[str, Any]) -> Begun:
        """Begin a plan, or go on with it.

        Args:
            plan: what decides what the tasks give, as plain data.

        Raises:
            MismatchError: another plan was begun here.
            FormatError: the file that says so is damaged.
            OutputError: it cannot be written.
        """
        text, plan_id = text_and_id(plan)
        claim = json.dumps({"plan": plan_id}) + "\n"
        self.home.create(BEGUN, partial(write_text, text=claim))
        there = self._read(BEGUN)
        if there.get("plan") != plan_id:
            raise MismatchError(
                f"{self.address} was begun for other descriptors, other limits or another cut; give another folder, or the "
                f"arguments of then: {self.address}/{there.get('plan', '')}/{PLAN} has them"
            )
        self.home.begin_folder(plan_id)
        self.home.create(f"{plan_id}/{PLAN}", partial(write_text, text=text))
        return Begun(self, plan_id, len(text))

    def _read(self, name: str) -> dict[str, Any]:
        """A small file of the folder; empty where it is not there.

        Raises:
            FormatError: it is damaged.
        """
        try:
            values = parse_json(self.home.read(name, _MOST_BYTES))
            if not isinstance(values, dict):
                raise ValueError("it is no object")
            return values
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise FormatError(
                f"{self.address}/{name} is damaged; remove it, and run the same command again, which keeps what is done"
            ) from error

    def result(self) -> dict[str, Any] | None:
        """What the record says; None where there is none."""
        return self._read(self._record) or None

    def finish(self, name: str, write: Write, record: Mapping[str, Any]) -> None:
        """Write the result, and then the record. Of two jobs that do so at once, both write the same bytes.

        Args:
            name: of the result's file.
            write: writes it.
            record: what is to be found again.

        Raises:
            OutputError: it cannot be written; or another result is in the bucket.
        """
        self._put(name, write)
        self._put(self._record, partial(write_text, text=json.dumps(record, indent=2) + "\n"))
        self.home.tidy("", LEFT_S)

    def _put(self, name: str, write: Write) -> None:
        made: list[str] = []

        def written(path: Path) -> None:
            write(path)
            made.append(file_sha256(path))

        self.home.create(name, written, lambda: file_sha256(self.home.file(name)) == made[-1])

    @contextlib.contextmanager
    def litter_removed(self) -> Iterator[None]:
        """Remove the folder after an error if nothing is in it, such as after a mistyped command."""
        try:
            yield
        except BaseException:
            self.home.remove_if_empty()
            raise


class Begun:
    """A plan that was begun.

    Attributes:
        plan_id: SHA-256 of the plan.
        place: its folder, or the address of it, for other processes too.
        message: names the plan for workers, who look whether they see it.
    """

    def __init__(self, folder: TaskFolder, plan_id: str, plan_bytes: int) -> None:
        self._folder, self.plan_id, self.place = folder, plan_id, f"{folder.home.absolute}/{plan_id}"
        self.message = [folder.home.absolute, f"{plan_id}/{PLAN}", plan_bytes]

    @contextlib.contextmanager
    def litter_removed(self, *, alone: bool) -> Iterator[None]:
        """Forget the plan after an error, if no task is done and no other job may work on it."""
        try:
            yield
        except BaseException:
            if alone and not any(name.endswith(_OF_TASKS) for name in self._folder.home.sizes(self.plan_id)):
                self._folder.home.remove_folder(self.plan_id)
                self._folder.home.remove(BEGUN)
            raise
