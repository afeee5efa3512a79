"""How another process of this Python is started: what it runs is a module, and it imports what this process would."""

from __future__ import annotations

import os
import signal
import sys


def child_command(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment of a process that runs a module.

    -P: not from the folder the user happens to be in, where a file torch.py would be imported instead of torch.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return [sys.executable, "-P", "-m", module, *arguments], environment


def signal_name(status: int) -> str:
    """The name of the signal that ended a process of that negative exit status."""
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
