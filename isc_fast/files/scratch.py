"""Temporary files that nobody else sees, for what may be too large for the memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..errors import OutputError


@contextlib.contextmanager
def needs_scratch(what: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn what can go wrong with temporary files into words.

    Args:
        what: needs them.
        errors: of a library that uses them, beside OSError.

    Raises:
        OutputError: there is no room, or no permission.
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
