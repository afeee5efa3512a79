"""Where a Ray cluster is, found out without Ray: whether anything answers there shows in seconds."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from ...errors import InputError
from .cluster import split_address

CONNECT_S = 5.0
"""Seconds that the head of a cluster gets to answer."""


def find_cluster(given: str | None) -> str | None:
    """The address of the cluster that a run joins; None where it starts one of its own.

    Args:
        given: by the user; by default that of ``RAY_ADDRESS``, or of the cluster that was started on this machine last.

    Raises:
        InputError: nothing answers at an address that somebody gave.
    """
    wanted = given or os.environ.get("RAY_ADDRESS") or "auto"
    if wanted not in ("auto", "local"):
        problem = _no_answer(wanted)
        if problem:
            raise InputError(
                f"no Ray cluster answers at {wanted} ({problem}); start one there: ray start --head, or give another address"
            )
        return wanted
    here = started_here() if wanted == "auto" else None
    return here if here and not _no_answer(here) else None


def started_here() -> str | None:
    """The cluster that ``ray start`` began or joined on this machine last. It may have ended since."""
    try:
        return (
            Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray" / "ray_current_cluster"
        ).read_text().strip() or None
    except (OSError, ValueError):
        return None


def _no_answer(address: str) -> str | None:
    """Why nothing answers there, in words; None where something does."""
    try:
        socket.create_connection(split_address(address), timeout=CONNECT_S).close()
    except TimeoutError:
        return f"no answer in {CONNECT_S:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    return None
