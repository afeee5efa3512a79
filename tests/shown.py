"""Commands and what they print, as pages show them: blocks marked ``console``, run in order and compared.

    ```console
    $ isc-fast dedup photos/ -o out/
    dedup: of 90 photos 24 could go (…), 66 stay
    …
    ```

A line that begins with ``$ `` is a command for bash; what follows is what it writes to its standard output. ``…`` alone in a line
stands for any lines, and ``…`` within one for any text. Whole numbers and words are compared exactly. Numbers with a point may
differ by 0.02 or 3 %, since another processor rounds otherwise. A command below which nothing is shown may print anything.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ANY = "…"
_NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?!\w)")
_FAR, _SHARE = 0.02, 0.03


@dataclass
class Shown:
    """A command of a page, and the lines that the page shows below it."""

    command: str
    lines: list[str] = field(default_factory=list)


def commands_of(text: str) -> list[Shown]:
    """The commands of a page, from all its blocks marked ``console``."""
    made: list[Shown] = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            if line.startswith("$ "):
                made.append(Shown(line[2:]))
            elif not made or (not made[-1].lines and made[-1].command.endswith("\\")):
                made[-1].command += "\n" + line
            else:
                made[-1].lines.append(line)
    return made


def agree(shown: list[str], printed: list[str]) -> bool:
    """Whether a command printed what a page shows."""
    if not shown:
        return not printed
    if shown[0] == ANY:
        return any(agree(shown[1:], printed[skipped:]) for skipped in range(len(printed) + 1))
    return bool(printed) and _same_line(shown[0], printed[0]) and agree(shown[1:], printed[1:])


def _same_line(shown: str, printed: str) -> bool:
    """The same words, and about the same numbers with a point. Runs of blanks are equal, since columns move with numbers."""
    pattern = ""
    for part in re.split(rf"({_NUMBER.pattern}|{ANY}|\s+)", shown.strip()):
        if part == ANY:
            pattern += ".*?"
        elif _NUMBER.fullmatch(part):
            pattern += rf"({_NUMBER.pattern})"
        else:
            pattern += r"\s+" if part.isspace() else re.escape(part)
    found = re.fullmatch(pattern, printed.strip())
    wanted = [float(number) for number in _NUMBER.findall(shown)]
    return found is not None and all(
        abs(float(one) - other) <= max(_FAR, _SHARE * abs(other))
        for one, other in zip(found.groups(), wanted, strict=True)
    )


def run_all(page: str, folder: Path, instead: Mapping[str, str] | None = None) -> int:
    """Run the commands of a page in a folder, and see that each prints what the page shows.

    Args:
        page: the text of the page.
        folder: where the commands run.
        instead: other commands for some.

    Returns:
        how many commands ran.

    Raises:
        AssertionError: a command failed, or printed something else.
    """
    programs = folder / ".programs"
    programs.mkdir(exist_ok=True)
    for name, words in (("isc-fast", "-m isc_fast"), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    found = commands_of(page)
    for shown in found:
        done = subprocess.run(
            ["bash", "-c", (instead or {}).get(shown.command, shown.command)],
            capture_output=True, text=True, check=False, cwd=folder, env=environment, timeout=500,
        )  # fmt: skip
        assert done.returncode == 0, f"$ {shown.command}\n{done.stderr}"
        same = not shown.lines or agree(shown.lines, done.stdout.splitlines())
        assert same, "\n".join(["$ " + shown.command, "the page shows:", *shown.lines, "and it prints:", done.stdout])
    return len(found)
