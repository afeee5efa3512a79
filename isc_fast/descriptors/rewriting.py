"""Descriptor files made from descriptor files: several as one, one without some ids, and one under other ids.

Nothing is described anew. A file is read block by block and written under a temporary name, so the output may be one of the
inputs.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import FormatError, InputError
from ..files.atomic import try_to_write
from ..files.lazy import Lazy
from ..items import Ints
from .assembling import assemble, with_names
from .comparing import compare_to_merge
from .concatenation import Prefer, concatenate, without_rows
from .formats.table import open_any
from .hdf5 import check_name
from .provenance import check_row_type
from .store import Descriptors
from .texts import repeated_id
from .verdict import Verdict
from .writing import write_descriptors


@dataclass(frozen=True)
class Rewritten:
    """What a new descriptor file holds.

    Attributes:
        path: the file.
        count: descriptors in it.
        failures: images without a descriptor in it.
        left_out: descriptors of the inputs that are not in it.
        unknown: ids of the list that the input does not have.
        verdict: what a user should know about sets that were put together.
    """

    path: Path
    count: int
    failures: int
    left_out: int = 0
    unknown: int = 0
    verdict: Verdict = field(default_factory=Verdict)

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        names = ("count", "failures", "left_out", "unknown")
        return {"path": str(self.path)} | {name: getattr(self, name) for name in names}


def merge_descriptors(
    files: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    prefer: Prefer | None = None,
    dtype: Literal["float32", "float16"] | None = None,
) -> Rewritten:
    """Put several descriptor files together, in order, with their failures, notes and stamps.

    Beside a block of rows, memory holds eight bytes a row where rows are left out, and the ids that occur several times.

    Args:
        files: of any format; of one network, in engine files of any runtime. The result says which engine files made its rows.
        output: the file to make; it may be one of the inputs.
        prefer: ``"first"`` or ``"last"``: which of two equal ids stays; by default they are refused. A failure whose id has a
            descriptor in another file is left out.
        dtype: see `write_descriptors`; by default float16 where all files hold float16.

    Raises:
        FormatError: a file cannot be read, dimensions differ, or an id occurs twice.
        MismatchError: the files come from different networks or normalisations.
        InputError: there is no file, no such preference, or no such type.
        OutputError: the output cannot be written.
    """
    check_row_type(dtype)
    _try_output(output)
    with ExitStack() as stack:
        sets = [stack.enter_context(open_any(file)) for file in files]
        names = [os.fspath(file) for file in files]
        made = concatenate(sets, prefer=prefer, names=names, scratch=Path(output).parent)
        write_descriptors(output, made, dtype=dtype)
        left_out = sum(map(len, sets)) - len(made)
        return _result(output, made, left_out=left_out, verdict=compare_to_merge(sets, names))


def remove_descriptors(file: str | os.PathLike[str], ids: Iterable[str], output: str | os.PathLike[str]) -> Rewritten:
    """Write a descriptor file without some ids: their rows, failures and notes.

    `isc_fast.extract` brings the result up to date as it would the input: it describes again what is still in its folder.

    Ids that the file does not have are counted and passed over, so that the same call may be repeated.

    Args:
        file: descriptors of any format.
        ids: what goes. They are in memory; of the file, memory holds a block of rows and eight bytes a row.
        output: the file to make; it may be the input.

    Raises:
        InputError: nothing would be left.
        FormatError: the file cannot be read.
        OutputError: the output cannot be written.
    """
    _try_output(output)
    going = set(ids)
    with open_any(file) as whole:
        found = set[str]()
        rows = _among(whole.ids, going, found)
        failures = _among((row.id for row in whole.failures), going, found)
        if len(rows) == len(whole):
            raise InputError(f"all {len(whole)} descriptors of {os.fspath(file)} would go; remove the file instead")
        # Without stamps, an extraction would take the same plan for a complete result.
        record = whole.provenance if whole.stamps is not None else whole.provenance.without("plan")
        known = isinstance(whole.ids, Lazy) and whole.ids.unique
        made = assemble([without_rows(whole, rows, failures)], record.write(), unique=known)
        write_descriptors(output, made)
        return _result(output, made, left_out=len(rows), unknown=len(going) - len(found))


def rename_descriptors(
    file: str | os.PathLike[str], names: Mapping[str, str], output: str | os.PathLike[str]
) -> Rewritten:
    """Write a descriptor file under other ids, in its ledgers too. Ids without a new name stay.

    The result is no longer the result of an extraction: `isc_fast.extract` refuses to bring it up to date.

    Args:
        file: descriptors of any format.
        names: the new id of each old one. They are in memory; of the file, memory holds a block of rows.
        output: the file to make; it may be the input.

    Raises:
        InputError: the file has none of the ids, or a new one is empty.
        FormatError: two ids would be equal, or the file cannot be read.
        OutputError: the output cannot be written.
    """
    unnamed = next((old for old, new in names.items() if not new), None)
    if unnamed is not None:
        raise InputError(f"the new id of {unnamed!r} is empty; give it a name, or leave it out of the list")
    _try_output(output)
    with open_any(file) as whole:
        found = set[str]()
        _among(whole.ids, names.keys(), found)
        _among((row.id for row in whole.failures), names.keys(), found)
        _require_some(found, names, file)
        renamed = with_names(whole, lambda id_: names.get(id_, id_))
        twice = repeated_id(renamed.ids, Path(output).parent)
        if twice is not None:
            raise FormatError(
                f"two descriptors of {os.fspath(file)} would have the id {twice!r}; give every one its own"
            )
        made = replace(renamed, meta=whole.provenance.without("plan").write())
        write_descriptors(output, made)
        return _result(output, made, unknown=len(names) - len(found))


def _try_output(output: str | os.PathLike[str]) -> None:
    check_name(output)
    try_to_write(output)


def _among(ids: Iterable[str], wanted: Container[str], found: set[str]) -> Ints:
    """The numbers of the ids that are wanted, rising; ``found`` gets these ids."""
    numbers = []
    for number, id_ in enumerate(ids):
        if id_ in wanted:
            numbers.append(number)
            found.add(id_)
    return np.array(numbers, np.int64)


def _require_some(found: set[str], wanted: Iterable[str], file: str | os.PathLike[str]) -> None:
    first = next(iter(wanted), None)
    if first is None:
        raise InputError("the list of ids is empty")
    if not found:
        raise InputError(
            f"{os.fspath(file)} has none of the ids of the list, such as {first!r}; isc-fast info shows the file"
        )


def _result(
    output: str | os.PathLike[str],
    made: Descriptors,
    *,
    left_out: int = 0,
    unknown: int = 0,
    verdict: Verdict | None = None,
) -> Rewritten:
    return Rewritten(Path(output), len(made), len(made.failures), left_out, unknown, verdict or Verdict())
