"""The other process of `isc_fast.machine.trial_run`: ``python -m isc_fast.machine.trial_child MODULE FUNCTION ARGUMENT…``.

It calls the function and prints what that returns.
"""

from __future__ import annotations

import importlib
import sys


def main(module: str, function: str, *arguments: str) -> None:
    """Call a function by its name and print its answer as the last line."""
    print(getattr(importlib.import_module(module), function)(*arguments), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
