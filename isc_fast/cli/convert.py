"""``isc-fast convert``: read and write descriptor files of other tools."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from ..errors import InputError
from .flags import add_dtype
from .output import show, tell, told_in_one_line

if TYPE_CHECKING:
    from ..descriptors.store import Descriptors

HELP = "read and write descriptor files of other tools"
EXAMPLE = "isc-fast convert refs.h5 --to npy -o refs.npy"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="[SET=]FILE",
        help="descriptors of any format; several are put together; SET is query, reference or train",
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="file to make; for clip-retrieval a folder"
    )
    parser.add_argument(
        "--to",
        choices=("isc-fast", "submission", "reference", "kit", "npy", "clip-retrieval"),
        help="format to write (default: isc-fast)",
    )
    parser.add_argument(
        "--unit-length", action="store_true", help="divide every descriptor by its length, as searching by cosine needs"
    )
    add_dtype(parser, "as the input has it")
    parser.add_argument("--set", choices=("query", "reference", "train"), help="which set of a submission to read")


def run(arguments: Namespace) -> int:
    """Convert, and print how many descriptors each set has."""
    from ..descriptors.comparing import compare, compare_to_merge
    from ..descriptors.concatenation import concatenate
    from ..descriptors.formats.base import SETS
    from ..descriptors.formats.table import FORMATS, convert, find_format, read_descriptors
    from ..descriptors.lengths import to_unit_length
    from ..descriptors.writing import stored_as

    target = arguments.to or "isc-fast"
    if arguments.dtype and target != "isc-fast":
        raise InputError(f"--dtype says how isc-fast's own files hold descriptors; leave it out for {target}")
    files: dict[str, list[str]] = {}
    for entry in arguments.inputs:
        name, equals, file = entry.partition("=")
        named = equals and name in SETS
        files.setdefault(name if named else "", []).append(file if named else entry)

    def read(name: str, file: str) -> Descriptors:
        """Read the set of that name where the file holds several."""
        several = bool(find_format(file).needs)
        return read_descriptors(file, which=arguments.set or (name if several and name else None))

    found = {name: [read(name, file) for file in group] for name, group in files.items()}
    with told_in_one_line():
        sets = {name: concatenate(group, names=files[name]) for name, group in found.items()}
    for name, group in found.items():
        tell(compare_to_merge(group, files[name]))
    if arguments.unit_length:
        sets = {name: to_unit_length(part) for name, part in sets.items()}
    sets = {name: stored_as(part, arguments.dtype) for name, part in sets.items()}
    with told_in_one_line():
        convert(sets, arguments.output, target)
    if FORMATS[target].needs:
        tell(compare(sets["query"], sets["reference"]))
    show(f"{arguments.output}: {', '.join(f'{len(part)} {name}'.strip() for name, part in sets.items())} as {target}")
    return 0
