"""Write docs/cli.md from the parser: `make docs` runs it, and a test fails while the page differs.

The page is written from the parser's actions, not from its help text, whose layout differs between versions of Python.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from isc_fast.cli.main import make_parser

PAGE = Path(__file__).resolve().parent / "cli.md"
HEAD = """# Command line

This page is written from the parser by `make docs`; do not edit it. `isc-fast VERB --help` prints the same facts.

Every verb follows the same conventions. The result of a command goes to stdout, progress and notes go to stderr, and
`-o` names the output. `--json` prints what a script reads. The exit status is 0 when the work is done, 1 with one line
`error: …` on stderr, 2 when the command line itself is wrong, and 130 after Ctrl-C. A default that is not named here
stands in the signature of the [Python function](python.md) that the verb calls.
"""


def _value(action: argparse.Action) -> str:
    """What stands behind a flag: ``FILE``, ``{a,b}`` or nothing."""
    if action.nargs == 0:
        return ""
    if action.metavar is None and action.choices is not None:
        name = "{" + ",".join(map(str, action.choices)) + "}"
    else:
        name = str(action.metavar or action.dest.upper())
    if action.nargs == "?" and action.option_strings:
        return f"[{name}]"
    return f"{name} [{name} …]" if action.nargs == "+" else name


def _written(action: argparse.Action) -> str:
    """``-o FILE`` or ``PHOTOS [PHOTOS …]``."""
    return " ".join(part for part in (max(action.option_strings, key=len, default=""), _value(action)) if part)


def _usage(verb: str, parser: argparse.ArgumentParser) -> str:
    needed = [_written(action) for action in parser._actions if action.required or not action.option_strings]
    for group in parser._mutually_exclusive_groups:
        if group.required:
            needed.insert(0, f"({' | '.join(map(_written, group._group_actions))})")
    return " ".join(["isc-fast", verb, *needed, "[options]"])


def _text(action: argparse.Action) -> str:
    """The help of an argument, with what Markdown would read as its own written out."""
    text = (action.help or "") % {**vars(action), "prog": "isc-fast"}
    return text.replace("*", "\\*").replace("<", "&lt;")


def _rows(actions: list[argparse.Action]) -> Iterator[str]:
    yield "| argument | meaning |"
    yield "|---|---|"
    for action in actions:
        names = [f"`{name}`" for name in action.option_strings] or [f"`{_value(action)}`"]
        if action.option_strings and _value(action):
            names[-1] = f"`{action.option_strings[-1]} {_value(action)}`"
        needed = " (required)" if action.required and action.option_strings else ""
        cells = [", ".join(names), _text(action) + needed]
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def page() -> str:
    """The whole page."""
    lines = [HEAD, "| verb | what it does |", "|---|---|"]
    (verbs,) = _inner(make_parser())
    lines += [f"| [{choice.dest}](#{choice.dest}) | {choice.help} |" for choice in verbs._choices_actions]
    for verb, parser in verbs.choices.items():
        lines += _section(f"## {verb}", verb, parser)
        for actions in _inner(parser):
            for action, inner in actions.choices.items():
                lines += _section(f"### {verb} {action}", f"{verb} {action}", inner)
    return "\n".join(lines) + "\n"


def _inner(parser: argparse.ArgumentParser) -> list[argparse._SubParsersAction[argparse.ArgumentParser]]:
    """The verbs of the program, or the actions of a verb."""
    return [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]


def _section(heading: str, name: str, parser: argparse.ArgumentParser) -> list[str]:
    """What stands of a verb or of one of its actions."""
    lines = ["", heading, "", str(parser.description)]
    outer = _inner(parser)
    if outer:
        return [
            *lines,
            "",
            *(f"* `isc-fast {name} {choice.dest}`: {choice.help}" for choice in outer[0]._choices_actions),
        ]
    actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    example = ["", f"For {str(parser.epilog).replace('example: ', 'example: `', 1)}`"] if parser.epilog else []
    return [*lines, "", "```", _usage(name, parser), "```", *example, "", *_rows(actions)]


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
