"""Errors of temporary files, which hold what may be too large for the memory, in words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..errors import OutputError


@contextlib.contextmanager
def needs_scratch(what: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn errors of temporary files into an OutputError that names the cause and the remedy.

    Args:
        what: what needs the temporary files, as the subject of the message.
        errors: further errors to turn, beside OSError, such as those of a library that writes the files.

    Raises:
        OutputError: there is no room for the files, or no permission to write them.
    """
    caught: tuple[type[Exception], ...] = (OSError, *errors)
    try:
        yield
    except caught as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise OutputError(
            f"{what} needs temporary files, and they cannot be written ({reason}); free some space, or name another folder in "
            "the variable TMPDIR"
        ) from error
