"""Temporary files that nobody else sees, for what may be too large for the memory."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from .errors import OutputError


@contextlib.contextmanager
def needs_scratch(what: str) -> Iterator[None]:
    """Turn what can go wrong with temporary files into words.

    Args:
        what: needs them.

    Raises:
        OutputError: there is no room, or no permission.
    """
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise OutputError(
            f"{what} needs temporary files, and they cannot be written ({reason}); free some space, or name another folder in "
            "the variable TMPDIR"
        ) from error
