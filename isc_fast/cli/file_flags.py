"""Which flags of a verb name files: what it reads, and what it writes, over which kinds of files.

Before a verb runs, `check_files` refuses an output that would destroy one of its inputs, or a file of another kind.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import OutputError

FOLDER: Sequence[str] = ()
"""Stands for the kinds of an output that is a folder: the function behind the verb refuses one that holds somebody's files."""

_DESCRIPTORS, _MATCHES, _DRAWING, _ENGINE = ("descriptors",), ("matches",), ("drawing",), ("engine",)


@dataclass(frozen=True)
class Files:
    """The files of a verb, by the names of its flags in the parsed command line.

    Attributes:
        writes: the outputs, each with the kinds of files that it may replace, see `isc_fast.runs.file_kinds.table`.
        reads: the inputs that no output may replace.
        edits: the inputs that an output may replace by design.
    """

    writes: Mapping[str, Sequence[str]]
    reads: Sequence[str]
    edits: Sequence[str] = field(default=())


_NAMES_ENGINE = ("engine", "teacher")
_LEFT_OUT = ("calibration", "verdicts", "stop_list")
_TO_FOLDER = {"output": FOLDER}
_TO_DESCRIPTORS = {"output": _DESCRIPTORS}

FILES: dict[str, Files] = {
    "dedup": Files({"output": FOLDER, "link_to": FOLDER}, ("photos", "engine", *_LEFT_OUT)),
    "find": Files(_TO_FOLDER, ("queries", "references", "engine", "negatives", *_LEFT_OUT)),
    "leaks": Files(_TO_FOLDER, ("train", "evaluations", "engine", *_LEFT_OUT)),
    "train": Files(_TO_FOLDER, ("data", "init", "ground_truth", "evaluate", "fonts", "emoji")),
    "distill": Files({"output": _ENGINE}, ("teacher", "data", "init")),
    "export": Files({"output": _ENGINE}, ("ckpt", "photos", "timing_cache")),
    "extract": Files(_TO_DESCRIPTORS, ("inputs", "engine")),
    "negatives": Files(_TO_DESCRIPTORS, ("descriptors",)),
    "normalize": Files(_TO_DESCRIPTORS, ("descriptors", "negatives")),
    "search": Files({"output": _MATCHES}, ("queries", "references", "labelled", *_LEFT_OUT)),
    "index": Files(_TO_FOLDER, ("descriptors", "photos", "negatives", "engine", "ids"), edits=("index",)),
    "align": Files(
        {"output": _MATCHES, "evidence": ("evidence",), "pictures": FOLDER}, ("matches", "queries", "references")
    ),
    "evaluate": Files({"plot": _DRAWING}, ("matches", "truth")),
    "calibrate": Files({"output": ("calibration",), "plot": _DRAWING}, ("photos", "engine", "negatives")),
    "report": Files({"output": ("page",)}, ("matches", "queries", "references", "truth", "verdicts", "evidence")),
    "assemble": Files(_TO_DESCRIPTORS, ("parts",)),
    "merge": Files(_TO_DESCRIPTORS, (), edits=("files",)),
    "remove": Files(_TO_DESCRIPTORS, ("ids",), edits=("descriptors",)),
    "rename": Files(_TO_DESCRIPTORS, ("ids",), edits=("descriptors",)),
    "convert": Files(_TO_DESCRIPTORS, ("inputs",)),
    "challenge": Files(_TO_FOLDER, ("input", "engine", "reference_subset", "ground_truth")),
    "demo": Files(_TO_FOLDER, ("engine",)),
}
"""By verb; one that is not here writes no file that a flag names."""


def check_files(arguments: Namespace) -> None:
    """Refuse outputs that would destroy an input of the same command, another output, or a file of another kind.

    Raises:
        OutputError: there is such an output.
    """
    files = FILES.get(arguments.verb)
    if files is None:
        return
    from ..runs.file_kinds.outputs import refuse_inputs, refuse_other_kinds

    inputs = [path for name in files.reads for path in _paths(arguments, name)]
    places = dict[str, str]()
    for flag, path, kinds in _outputs(arguments, files):
        if places.setdefault(os.path.realpath(path), flag) != flag:
            raise OutputError(f"{places[os.path.realpath(path)]} and {flag} both name {path}; give {flag} another name")
        refuse_inputs(path, inputs, flag)
        if kinds != FOLDER:
            refuse_other_kinds(path, kinds, f"isc-fast {arguments.verb}", flag=flag)


def _outputs(arguments: Namespace, files: Files) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Flag, path and kinds of each output that was named, and of what is written beside it."""
    for name, kinds in files.writes.items():
        flag = "-o" if name == "output" else "--" + name.replace("_", "-")
        for path in _paths(arguments, name):
            yield flag, path, kinds
    if arguments.verb == "convert" and arguments.to is not None:
        from ..descriptors.formats.table import FORMATS

        for beside in FORMATS[arguments.to].beside(Path(arguments.output)):
            yield "-o", str(beside), (*_DESCRIPTORS, "ids of an array")


def _paths(arguments: Namespace, name: str) -> Iterator[str]:
    """What was given for a flag; of ``SET=FILE`` also the file alone."""
    given = getattr(arguments, name, None) or ()
    if name in _NAMES_ENGINE and given == "demo" and not os.path.isfile(given):
        return  # the engine inside the package, whatever else has this name
    for path in (given,) if isinstance(given, str) else given:
        yield path
        if arguments.verb == "convert" and "=" in path:
            yield path.partition("=")[2]
