"""Examples of every verb, and what lets a shell complete them."""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess

import pytest

from isc_fast.cli.main import VERBS, main, make_parser


@pytest.mark.parametrize("name", VERBS)
def test_the_example_of_a_verb_is_a_command_line(name, capsys):
    program, *words = shlex.split(VERBS[name].EXAMPLE.partition(" > ")[0])
    assert program == "isc-fast"
    assert make_parser().parse_args(words).verb == name
    with pytest.raises(SystemExit):
        make_parser().parse_args([name, "--help"])
    assert f"\nexample: {VERBS[name].EXAMPLE}\n" in capsys.readouterr().out


def parsers(parser, words=()):
    """Every parser with the words that lead to it: the program's, those of verbs, and those of their actions."""
    yield words, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from parsers(inner, (*words, name))


PARSERS = dict(parsers(make_parser()))


@pytest.mark.parametrize("words", PARSERS, ids=" ".join)
def test_every_help_has_an_example_and_says_what_each_flag_is(words):
    parser = PARSERS[words]
    shown = parser.format_help().splitlines()[-1]
    assert shown.startswith("example: isc-fast ")
    parsed = make_parser().parse_args(shlex.split(shown.partition(" > ")[0])[2:])
    assert [parsed.verb, getattr(parsed, "action", None)][: len(words)] == [*words]
    assert not [action.dest for action in parser._actions if not action.help and action.dest not in ("verb", "action")]


def completed(script, line):
    """What bash offers at the end of a line."""
    words = line.split(" ")
    program = (
        f"source {script}; COMP_WORDS=({' '.join(map(shlex.quote, words))}); COMP_CWORD={len(words) - 1}; "
        "_shtab_isc_fast isc-fast; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=False, cwd=script.parent)
    return set(done.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_verbs_flags_and_files(tmp_path, capsys):
    pytest.importorskip("shtab")
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "isc-fast.bash"
    script.write_text(capsys.readouterr().out)
    (tmp_path / "photos").mkdir()
    assert completed(script, "isc-fast ded") == {"dedup"}
    assert {"--engine", "--ids"} <= completed(script, "isc-fast extract --")
    assert completed(script, "isc-fast extract --ids s") == {"stem"}
    assert "photos" in {found.rstrip("/") for found in completed(script, "isc-fast extract pho")}
    assert "photos" in {found.rstrip("/") for found in completed(script, "isc-fast find x --in pho")}
    assert "photos" not in {found.rstrip("/") for found in completed(script, "isc-fast search a b -k pho")}


def test_other_shells_and_a_missing_library(capsys, monkeypatch):
    pytest.importorskip("shtab")
    for shell in ("zsh", "tcsh"):
        assert main(["completion", shell]) == 0
        assert "dedup" in capsys.readouterr().out
    monkeypatch.setitem(__import__("sys").modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert "isc-fast[completion]" in capsys.readouterr().err
