"""The README cannot drift: its commands parse, its names exist, its files are there."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

import isc_fast
from isc_fast.cli.parser import VERBS, make_parser
from isc_fast.evaluation.metrics import PROTOCOLS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines() if line.startswith("isc-fast ")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command):
    words = shlex.split(command, comments=True)
    make_parser().parse_args(words[1:])


def test_every_verb_is_shown():
    shown = {shlex.split(command)[1] for command in COMMANDS}
    mentioned = set(re.findall(r"`isc-fast (\w+)|make (demo)\b", README))
    assert set(VERBS) <= shown | {name for pair in mentioned for name in pair}


def test_the_python_example_uses_names_that_exist():
    (code,) = [text for kind, text in BLOCKS if kind == "python"]
    tree = ast.parse(code)
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert names <= set(isc_fast.__all__)
    assert len(names) > 7


def test_every_protocol_and_make_target_is_there():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"(?:^|`)make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert all(f"| `{name}` |" in README for name in PROTOCOLS)


def test_every_file_named_is_there():
    (tree,) = [text for kind, text in BLOCKS if not kind and "sources/" in text]
    named = re.findall(r"\b(\w+\.py)\b", tree) + re.findall(r"\b(\w+)/", tree)
    assert len(named) > 15
    for name in named:
        assert [*ROOT.glob(f"isc_fast/**/{name}"), *ROOT.glob(name)], name
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link


def test_extras_in_the_readme_are_the_ones_there_are():
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for group in re.findall(r"'\.\[([\w,]+)\]'", README) for name in group.split(",")}
    assert named <= set(extras)
    assert {"cpu", "gpu", "export", "parquet"} <= named


def test_nothing_is_left_to_fill_in():
    for file in (ROOT / "README.md", ROOT / "bench" / "README.md"):
        assert "@@" not in file.read_text("utf-8")
