"""Reading files of unknown origin: a pipe does not make a run wait, and whatever is wrong with JSON is one kind of error."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from typing import IO, Any

_LONGEST_INT = 18
"""Digits of a whole number, so that it fits into 64 bits."""


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a regular file for reading. A named pipe would let the run wait for ever for somebody who writes to it.

    Raises:
        OSError: it cannot be opened, in the system's words, or it is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder", os.fspath(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", os.fspath(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def parse_json(text: str | bytes, *, any_number: bool = False) -> Any:
    """Parse JSON of unknown origin.

    Args:
        text: the JSON.
        any_number: take whole numbers of any length, such as an id may be.

    Raises:
        ValueError: it is no JSON, is nested too deeply, or holds a whole number that nothing here can count to.
    """
    try:
        return json.loads(text, parse_int=int if any_number else _int)
    except RecursionError as error:
        raise ValueError("its brackets are nested too deeply") from error


def _int(digits: str) -> int:
    if len(digits.lstrip("-")) > _LONGEST_INT:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def one_line(error: Exception) -> str:
    """The text of a library's error as the part of a line, or its type where it has none."""
    text = "".join(character if character.isprintable() else " " for character in str(error))
    return " ".join(text.split())[:200] or type(error).__name__
