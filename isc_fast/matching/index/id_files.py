"""Files of ids, one a line."""

from __future__ import annotations

import os

from ...errors import InputError
from ...files.reading import open_regular


def read_ids(path: str | os.PathLike[str]) -> list[str]:
    """The ids of a text file; empty lines are passed over, and bytes that are not UTF-8 are kept as they are.

    Raises:
        InputError: it cannot be read, or holds no id.
    """
    try:
        with open_regular(path) as stream:
            text = stream.read().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise InputError(f"cannot read {os.fspath(path)}: {error.strerror or error}; expected one id a line") from error
    ids = [line.removesuffix("\r") for line in text.split("\n")]
    found = [id_ for id_ in ids if id_]
    if not found:
        raise InputError(f"{os.fspath(path)} holds no id; expected one a line")
    return found
