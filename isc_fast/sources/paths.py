"""Names of files as they hold from any working directory."""

from __future__ import annotations

import os

from ..stores.urls import is_url


def is_there(name: str) -> bool:
    """Whether something has this name: a file, also a link to nothing; or an address, which is asked when it is opened."""
    return is_url(name) or os.path.lexists(name)


def real(name: str) -> str:
    """What is the same for two names of one input: the path without links; the address without a slash at its end."""
    return name.rstrip("/") if is_url(name) else os.path.realpath(name)


def absolute_file(path: str) -> str:
    """A path in the file system as it holds from any working directory, leading to the same file as the system would open."""
    if path.startswith("/") and not path.endswith("/") and "//" not in path and "/." not in path:
        return path  # as nearly all are; the rest of this costs ten times as much as a look
    return os.path.join(os.getcwd(), path) if _leaves_link(path) else os.path.abspath(path)


def _leaves_link(path: str) -> bool:
    """Whether ``..`` comes behind a link to a folder: there it leads to the parent of the folder, not of the link."""
    if "/.." not in path:
        return False
    parts = path.split("/")
    return any(os.path.islink("/".join(parts[:number])) for number, part in enumerate(parts) if part == ".." and number)
