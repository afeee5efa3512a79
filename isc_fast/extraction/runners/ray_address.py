"""Where a Ray cluster is, found out without Ray: whether anything answers there shows in seconds."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from ...errors import InputError
from .cluster import split_address

CONNECT_S = 5.0
"""Seconds that the head of a cluster gets to answer."""
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""What a client of HTTP/2 says first, with no settings. The head of a cluster serves gRPC, which is HTTP/2."""
_SETTINGS, _FRAME_BYTES = 4, 9
"""The type of the frame that a server of HTTP/2 sends first, and how long the beginning of a frame is."""


def find_cluster(given: str | None) -> str | None:
    """The address of the cluster that a run joins; None where it starts one of its own.

    Args:
        given: by the user; by default that of ``RAY_ADDRESS``, or of the cluster that was started on this machine last.

    Raises:
        InputError: nothing answers at an address that somebody gave.
    """
    wanted = given or os.environ.get("RAY_ADDRESS") or "auto"
    if wanted not in ("auto", "local"):
        problem = no_answer(wanted)
        if problem:
            raise InputError(
                f"no Ray cluster answers at {wanted} ({problem}); start one there: ray start --head, or give another address"
            )
        return wanted
    here = started_here() if wanted == "auto" else None
    return here if here and not no_answer(here) else None


def started_here() -> str | None:
    """The cluster that ``ray start`` began or joined on this machine last. It may have ended since."""
    try:
        return (
            Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray" / "ray_current_cluster"
        ).read_text().strip() or None
    except (OSError, ValueError):
        return None


def no_answer(address: str) -> str | None:
    """Why no head of a cluster answers there, in words; None where one seems to.

    That a connection is taken says little: the system does that for a program that stands still. So it has to say something. With
    Ray's own encryption (``RAY_USE_TLS``) a connection is all that is asked for.
    """
    try:
        with socket.create_connection(split_address(address), timeout=CONNECT_S) as line:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
                return None
            line.sendall(_GREETING)
            frame = b""
            while len(frame) < _FRAME_BYTES and (more := line.recv(_FRAME_BYTES - len(frame))):
                frame += more
    except TimeoutError:
        return f"no answer in {CONNECT_S:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    return None if frame[3:4] == bytes([_SETTINGS]) else "what answers there is something else"
