"""List files, which name one image a line."""

from __future__ import annotations

import codecs
import io
import os
import string
import sys
from collections.abc import Iterator

from ..errors import InputError
from ..stores.urls import beside, unseen
from .base import Entry, Kind
from .choice import Choice
from .paths import is_there
from .range_file import open_stream

LIST_SUFFIXES = frozenset((".txt", ".lst", ".list", ".tsv"))

_BLOCK = 1 << 20  # bytes of a list file that are read at a time


def _lines(list_file: str) -> Iterator[str]:
    """Yield the texts between the line ends of a list file, or between the NUL bytes where it holds any."""
    encoding, errors = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
    with open_stream(list_file) as stream:
        begin = stream.read(len(codecs.BOM_UTF8))
        if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError(f"the list file {list_file} is UTF-16, as PowerShell writes it; save it as UTF-8")
        start = len(begin) if begin == codecs.BOM_UTF8 else 0
        stream.seek(start)
        by_nul = any(b"\0" in block for block in iter(lambda: stream.read(_BLOCK), b""))
        stream.seek(start)
        with io.TextIOWrapper(stream, encoding, errors, newline="" if by_nul else None) as text:
            if not by_nul:
                yield from (line.removesuffix("\n") for line in text)
                return
            rest = ""
            while block := text.read(_BLOCK):
                *whole, rest = (rest + block).split("\0")
                yield from whole
            yield rest


def _from_list(list_file: str, _choice: Choice) -> Iterator[Entry | None]:
    return entries_of(list_file, os.path.dirname(list_file))


def entries_of(list_file: str, folder: str) -> Iterator[Entry]:
    """Yield the images that a list file names; see `isc_fast.list_images` for the format.

    Args:
        list_file: its path.
        folder: paths in it are relative to this one.

    Raises:
        InputError: it cannot be read, or an entry is none.
    """
    try:
        for number, line in enumerate(_lines(list_file), 1):
            if not line.strip(string.whitespace):
                continue
            head, tab, tail = line.partition("\t")
            if tab and not (head and tail):
                raise InputError(
                    f"entry {number} of the list file {list_file} is {os.fsencode(line)!r}; expected id<TAB>path"
                )
            name, given = (tail, head) if tab else (head, "")
            yield name, unseen(beside(folder, name)), given
    except OSError as error:
        raise InputError(f"cannot read the list file {list_file}: {error.strerror or error}") from error


def _is_list(path: str) -> bool:
    return is_there(path) and os.path.splitext(path)[1].lower() in LIST_SUFFIXES


LIST = Kind(f"a list file ({', '.join(sorted(LIST_SUFFIXES))})", _is_list, _from_list)
