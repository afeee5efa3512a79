"""``isc-fast doctor``: find out what works on this machine."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from .flags import add_json
from .output import note, show

HELP = "find out what works on this machine, and the line that installs or repairs the rest"
EXAMPLE = "isc-fast doctor"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    add_json(parser)


def run(arguments: Namespace) -> int:
    """Print the diagnosis; the status is 1 where no engine runs."""
    from ..runs.checks.doctor import diagnose

    note("trying out what is installed; this takes some seconds")
    found = diagnose()
    show(json.dumps(found.to_dict()) if arguments.json else found)
    return 0 if found.can_run else 1
