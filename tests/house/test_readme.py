"""The documents cannot drift: commands parse, names and files exist, links lead somewhere, the reference is the parser's."""

from __future__ import annotations

import argparse
import ast
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import isc_fast
from isc_fast.cli.main import make_parser

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
ELSEWHERE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "bench/README.md", "training/README.md")
PAGES = [ROOT / name for name in (*ELSEWHERE, "examples/README.md", "isc_fast/data/MODEL_CARD.md")]
PAGES += sorted(DOCS.rglob("*.md"))
TEXT = {str(page.relative_to(ROOT)): page.read_text("utf-8") for page in PAGES}
README = TEXT["README.md"]
(VERBS,) = (action.choices for action in make_parser()._actions if action.dest == "verb")
EVERYTHING = "\n".join(TEXT.values())
MOST_README_LINES = 150


def blocks(name: str, kind: str) -> list[str]:
    """The fenced blocks of a page that are marked with a language."""
    return [text for found, text in re.findall(r"```(\w*)\n(.*?)```", TEXT[name], re.DOTALL) if found == kind]


def commands(name: str) -> list[str]:
    """The command lines of isc-fast in a page's blocks, continued lines put together."""
    text = "\n".join(blocks(name, "bash")).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.startswith("isc-fast ")]


COMMANDS = sorted({command for name in TEXT for command in commands(name)})


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command):
    words = shlex.split(command, comments=True)
    make_parser().parse_args(words[1:])


def test_every_command_in_a_sentence_names_a_verb_and_flags_that_exist():
    verbs = "|".join(map(re.escape, VERBS))
    flags = {flag for verb in VERBS for flag in flags_of(verb)}
    for name, text in TEXT.items():
        for verb, rest in re.findall(r"`isc-fast ([a-z]\w+)([^`]*)`", text):
            assert re.fullmatch(verbs, verb), f"{name}: isc-fast {verb}"
            for flag in re.findall(r"(?<![\w-])--?[a-z][\w-]*", rest):
                assert flag in flags_of(verb) | {"--help"}, f"{name}: isc-fast {verb} {flag}"
        if name in {"README.md", *(page for page in TEXT if page.startswith("docs/") and "decisions" not in page)}:
            for flag in re.findall(r"`(--[a-z][\w-]*)", text):
                others = {"--help", "--version", "--smoke", "--only", "--dry-run", "--no-deps", "--rounds", "--resume"}
                assert flag in flags | others, f"{name}: {flag}"


def flags_of(verb: str) -> set[str]:
    """Every way to write a flag of a verb, or of one of its actions."""
    inner = [action for action in VERBS[verb]._actions if isinstance(action, argparse._SubParsersAction)]
    parsers = [VERBS[verb], *(parser for action in inner for parser in action.choices.values())]
    return {option for parser in parsers for action in parser._actions for option in action.option_strings}


def choices_of(verb: str, flag: str) -> list[str]:
    """What a flag of a verb takes."""
    (choices,) = (action.choices for action in VERBS[verb]._actions if flag in action.option_strings)
    return list(choices)


def test_every_verb_is_shown():
    shown = {shlex.split(command)[1] for command in COMMANDS}
    mentioned = {name for pair in re.findall(r"`isc-fast (\w+)|make (demo)\b", EVERYTHING) for name in pair}
    assert set(VERBS) <= shown | mentioned


def test_the_command_line_page_is_the_parsers():
    page = runpy.run_path(str(DOCS / "make_cli.py"))["page"]()
    assert (DOCS / "cli.md").read_text("utf-8") == page, "run: make docs, or python docs/make_cli.py"
    for verb in VERBS:
        section = page.partition(f"\n## {verb}\n")[2].partition("\n## ")[0]
        assert set(re.findall(r"`(--?[a-z][\w-]*)", section)) >= flags_of(verb) - {"-h", "--help"}


@pytest.mark.parametrize("name", [name for name in TEXT if blocks(name, "python")])
def test_the_python_examples_use_names_that_exist(name):
    for code in blocks(name, "python"):
        tree = ast.parse(code)
        names = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "isc_fast"
        }
        assert names <= set(isc_fast.__all__)
        if name in ("README.md", "docs/python.md"):
            assert len(names) > 7


def test_the_python_page_has_every_public_name():
    named = re.findall(r"auto(?:function|class|exception):: isc_fast\.(\w+)$", TEXT["docs/python.md"], re.MULTILINE)
    assert sorted(named) == isc_fast.__all__


def test_the_readme_is_short():
    assert len(README.splitlines()) <= MOST_README_LINES


def test_every_table_is_complete():
    tables = [
        ("docs/concepts.md", "evaluate", "--protocol"),
        ("docs/files.md", "convert", "--to"),
        ("docs/photos.md", "extract", "--decoder"),
        ("docs/precision.md", "export", "--precision"),
    ]
    for name, verb, flag in tables:
        for choice in choices_of(verb, flag):
            assert re.search(rf"`(?:{flag} )?{choice}`", TEXT[name]), f"{name}: {verb} {flag} {choice}"


def test_every_make_target_is_there():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for name, text in TEXT.items():
        for target in re.findall(r"(?:^|`)make ([a-z][\w-]*)", text, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{name}: make {target}"


def test_every_file_of_the_map_is_there():
    (tree,) = [text for text in blocks("docs/architecture.md", "") if "sources/" in text]
    named = re.findall(r"\b(\w+\.py)\b", tree) + re.findall(r"\b(\w+)/", tree)
    assert len(named) > 15
    for name in named:
        assert [*ROOT.glob(f"isc_fast/**/{name}"), *ROOT.glob(name), *ROOT.glob(f"training/{name}")], name
    for folder in (ROOT / "isc_fast").iterdir():
        if folder.is_dir() and folder.name not in ("data", "__pycache__"):
            assert f"{folder.name}/" in tree, f"{folder.name} is not in the map"


def test_every_file_in_a_sentence_is_there():
    for name, text in TEXT.items():
        for path in re.findall(r"`((?:isc_fast|training|export|bench|tests|docs|examples)/[\w./-]*)`", text):
            if "decisions" not in name:  # a record names files as they were
                path = re.sub(r"^isc_fast/(training|export)/", r"\1/", path)  # as they are installed
                assert (ROOT / path).exists() or path == "bench/results/", f"{name}: {path}"


def test_every_table_that_recipes_name_is_there():
    """Each recipe adds a row to a table, or a case to a function, of a file that it names."""
    rows = re.findall(r"to\s+`([A-Z_]+)`\s+in\s+`([\w/.]+)`", TEXT["CONTRIBUTING.md"])
    assert len(rows) >= 8
    for table, path in rows:
        assert re.search(rf"^{table}\b.* = ", (ROOT / path).read_text("utf-8"), re.MULTILINE), f"{table} in {path}"


def anchors(path: Path) -> set[str]:
    """What a link can point to in a page: its headings, as hosts of Markdown write them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_link_leads_somewhere():
    count = 0
    for page in PAGES:
        for link in re.findall(r"(?<!`)\]\(([^)\s]+)\)", page.read_text("utf-8")):
            if re.match(r"\w+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page}: {link}"
            assert ROOT in target.parents, f"{page}: {link} leads out of the repository"
            assert not anchor or anchor in anchors(target), f"{page}: {link}"
            count += 1
    assert count > 100


def test_extras_in_the_documents_are_the_ones_there_are():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for group in re.findall(r"'(?:\.|isc-fast)\[([\w,]+)\]'", EVERYTHING) for name in group.split(",")}
    assert named <= set(extras)
    assert {"cpu", "gpu", "export", "parquet"} <= named
    users = set(extras) - {"dev", "rtx", "dali"}  # for the tests
    assert users <= set(re.findall(r"\b(\w+)\b", " ".join(re.findall(r"'\.\[(.*?)\]'", TEXT["docs/install.md"]))))


def test_not_run_on_a_gpu_stands_in_one_place():
    page = "docs/gpu.md"
    assert "## Not run on a GPU" in TEXT[page]
    for name, text in TEXT.items():
        said = re.findall(r"(?i)(?:not|none|nothing)[\w ]{0,20} run on a gpu|no gpu figure", text)
        linked = re.findall(r"(?i)\[[^\]]*not run[^\]]*\]\([^)]*gpu\.md[^)]*\)", text)
        assert len(said) <= len(linked) or name == page, f"{name} says it itself; link to {page}"


def test_the_version_has_an_entry():
    entries = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", TEXT["CHANGELOG.md"], re.MULTILINE)
    assert entries[0] == isc_fast.__version__
    assert f"version: {isc_fast.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_decision_records_are_numbered_and_listed():
    records = sorted(path.name for path in (DOCS / "decisions").glob("[0-9]*.md"))
    assert [name[:4] for name in records] == [f"{number:04d}" for number in range(1, len(records) + 1)]
    for name in records:
        text = TEXT[f"docs/decisions/{name}"]
        assert re.match(rf"# {name[:4]}: .+\n\n2\d{{3}}-\d\d-\d\d, ", text), name
        assert f"]({name})" in TEXT["docs/decisions/index.md"]


def test_nothing_is_left_to_fill_in():
    for name, text in TEXT.items():
        for mark in ("@@", "TODO", "FIXME", "XXX"):
            assert mark not in text, name


def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_parser")
    pytest.importorskip("furo")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(tmp_path / "work")]
    done = subprocess.run([*command, str(DOCS), str(tmp_path / "site")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    site = {
        path.relative_to(tmp_path / "site"): path.read_text("utf-8") for path in (tmp_path / "site").rglob("*.html")
    }
    assert len(site) > 30
    for path, html in site.items():
        loaded = re.findall(r'(?:<script[^>]+src|<img[^>]+src|<link[^>]+stylesheet[^>]+href)="(\w+:[^"]+)"', html)
        assert not [address for address in loaded if not address.startswith("data:")], f"{path} loads from elsewhere"
    assert "subtract_negatives" in site[Path("python.html")]
    assert "How to read the GPU rows" in site[Path("benchmarks.html")]
