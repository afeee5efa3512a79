"""``isc-fast completion``: let a shell complete verbs, flags and the names of files."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from ..errors import require
from .output import show

HELP = "print what lets a shell complete verbs, flags and the names of files"
EXAMPLE = "isc-fast completion bash > ~/.local/share/bash-completion/completions/isc-fast"

SHELLS = ("bash", "zsh", "tcsh")
_FILES = frozenset(
    "FILE FOLDER PHOTOS PHOTO INDEX MATCHES CSV QUERIES REFERENCES REFS TRAIN MORE MAP TRUTH GROUND_TRUTH DISC21".split()
)
"""Placeholders of what is a file or a folder, without their suffix."""


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("shell", choices=SHELLS, help="where it is for")


def run(arguments: Namespace) -> int:
    """Print the script."""
    from .main import make_parser

    shtab = require("shtab", "completion")
    parser = make_parser()
    for action in _actions(parser):
        if action.nargs != 0 and _names_files(action):
            setattr(action, "complete", shtab.FILE)  # noqa: B010  # an attribute that shtab looks for, and argparse has not
    show(shtab.complete(parser, arguments.shell))
    return 0


def _actions(parser: ArgumentParser) -> Iterator[argparse.Action]:
    """All arguments of a parser and of the parsers of its verbs."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)


def _names_files(action: Any) -> bool:
    """Whether the value of an argument is the name of a file or a folder, as its placeholder says."""
    return str(action.metavar).partition(".")[0] in _FILES
