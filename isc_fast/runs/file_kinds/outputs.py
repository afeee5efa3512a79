"""Whether a file may be written where the user says: over no input of the same command, and over no file of another kind."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from ...errors import DamageError, IscFastError, OutputError
from ...files.own_folder import files_of_earlier_run

_WHOLE = ("descriptors", "unfinished extraction", "unfinished result in parts", "index")
"""Kinds of folders whose files belong together, so that nothing else is written into one that is read."""


def refuse_inputs(output: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]], flag: str = "-o") -> None:
    """Refuse an output that would destroy what the same command reads.

    Two paths are one place if they lead to the same file or folder, be it through links. An output inside an input that is an
    index or a result in parts is refused too, and an output folder whose next run replaces a file that is read.

    Args:
        output: a file or a folder, which need not exist.
        inputs: what is read. What is no path on this machine, such as an address, does not count.
        flag: that names the output, for the message.

    Raises:
        OutputError: one of the inputs would be lost.
    """
    for one in inputs:
        if _same(output, one):
            raise OutputError(
                f"cannot write {os.fspath(output)}: the same command reads it{_as(output, one)}, and it would be lost; give "
                f"another name: {flag} OTHER"
            )
        if _lies_in(output, one) and _is_whole(one):
            raise OutputError(
                f"cannot write {os.fspath(output)}: it lies in {os.fspath(one)}, which the same command reads, and whose files "
                f"belong together; give a name elsewhere: {flag} OTHER"
            )
        if _lies_in(one, output) and _replaced(output, one):
            raise OutputError(
                f"the same command reads {os.fspath(one)} and would replace it, because an earlier run wrote it to "
                f"{os.fspath(output)}; give a copy of it that lies elsewhere, or another folder: {flag} OTHER"
            )


def refuse_other_kinds(
    output: str | os.PathLike[str], kinds: Collection[str], writer: str, *, flag: str = "-o"
) -> None:
    """Refuse an output that would take the place of a file of another kind, which is told by its content.

    Args:
        output: a file, which need not exist; an empty one is of every kind.
        kinds: names of what may be replaced, see `isc_fast.runs.file_kinds.table`.
        writer: what writes it, for the message.
        flag: that names the output, for the message.

    Raises:
        OutputError: there is a file of another kind, or one that cannot be told.
    """
    path = Path(output)
    try:
        if not path.is_file() or not path.stat().st_size:
            return
    except OSError:
        return  # whoever writes it says why that is not possible
    found = _kind_of(path)
    if found not in kinds:
        what = (
            f"it is of the kind {found!r}"
            if found
            else "a file of that name is there, and it is none that isc-fast knows"
        )
        raise OutputError(
            f"cannot write {os.fspath(output)}: {what}, and {writer} replaces only what it writes, {' or '.join(kinds)}; give "
            f"another name: {flag} OTHER, or remove the file first"
        )


def _same(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return os.path.samefile(one, other)
    return False


def _as(output: str | os.PathLike[str], other: str | os.PathLike[str]) -> str:
    same_name = os.path.normpath(output) == os.path.normpath(other)
    return "" if same_name else f" under the name {os.fspath(other)}"


def _lies_in(inner: str | os.PathLike[str], outer: str | os.PathLike[str]) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return os.path.isdir(outer) and Path(os.path.realpath(outer)) in Path(os.path.realpath(inner)).parents
    return False


def _is_whole(folder: str | os.PathLike[str]) -> bool:
    from .table import kind_of

    with contextlib.suppress(IscFastError):
        kind = kind_of(folder)
        return kind is not None and kind.name in _WHOLE
    return False


def _replaced(folder: str | os.PathLike[str], file: str | os.PathLike[str]) -> bool:
    inside = os.path.relpath(os.path.realpath(file), os.path.realpath(folder))
    return inside in files_of_earlier_run(folder)


def _kind_of(path: Path) -> str:
    """The name of a file's kind; empty where its content is of none, whatever its name says."""
    from ...descriptors.formats.table import find_format
    from ...engines.base import describe_engine
    from .table import kind_of

    try:
        kind = kind_of(path)
        # The rows of these two look at the name too.
        if kind is not None and kind.name == "descriptors":
            find_format(path)
        elif kind is not None and kind.name == "engine":
            describe_engine(path)
    except DamageError:
        return kind.name if kind is not None else ""
    except IscFastError:
        return ""
    return "" if kind is None else kind.name
