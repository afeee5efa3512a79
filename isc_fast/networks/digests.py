"""The SHA-256 of a file, kept in a file beside it, so that a changed file is noticed.

``NAME.sha256`` is written as ``sha256sum`` writes it: ``sha256sum -c NAME.sha256`` checks the file too.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..files.atomic import write_text

_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")


def digest_file(path: Path) -> Path:
    """Where the digest of a file is kept."""
    return path.with_name(path.name + ".sha256")


def kept_digest(path: Path) -> str | None:
    """The digest that is kept beside a file; None where there is none, or none that can be read."""
    try:
        found = _DIGEST.search(digest_file(path).read_text("utf-8").lower())
    except (OSError, ValueError):
        return None
    return found[0] if found else None


def keep_digest(path: Path, sha256: str) -> None:
    """Keep the digest of a file beside it.

    Raises:
        OutputError: it cannot be written.
    """
    write_text(digest_file(path), f"{sha256}  {path.name}\n")
