"""Whether a worker on another machine sees the folder of the run."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from ...errors import OutputError

_SEEN_S = 10.0
"""Seconds until a file that another machine has just made shows here: network file systems remember what was not there."""


def check_seen(size: Callable[[], int | None], expected: int, address: str) -> None:
    """Wait until the plan of the run is seen here.

    Args:
        size: of the plan's file here; None where there is none.
        expected: its size where the run was begun.
        address: of its folder.

    Raises:
        OutputError: it is not seen; the folder is another one.
    """
    deadline = time.monotonic() + _SEEN_S
    while size() != expected:
        if time.monotonic() > deadline:
            raise OutputError(
                f"the node {socket.gethostname()} does not see this run's {address}; the output must lie in a folder that all "
                "nodes share"
            )
        time.sleep(0.5)
