"""Names of files as they hold from any working directory."""

from __future__ import annotations

import os


def absolute_file(path: str) -> str:
    """A path in the file system as it holds from any working directory, leading to the same file as the system would open."""
    return os.path.join(os.getcwd(), path) if _leaves_link(path) else os.path.abspath(path)


def _leaves_link(path: str) -> bool:
    """Whether ``..`` comes behind a link to a folder: there it leads to the parent of the folder, not of the link."""
    if "/.." not in path:
        return False
    parts = path.split("/")
    return any(os.path.islink("/".join(parts[:number])) for number, part in enumerate(parts) if part == ".." and number)
