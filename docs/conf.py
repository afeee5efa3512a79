"""How Sphinx builds these pages: `make docs`, or `python -m sphinx -W docs build/docs`.

Every page is a Markdown file that also reads well where it lies. Three things happen only in the built site: the Python page is
filled from docstrings, the pages in `ELSEWHERE` take the text of a file outside this folder, and a link to a file that
is not part of the site becomes plain text.
"""

import os
import re
from pathlib import Path
from typing import Any

from isc_fast import __version__

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

project = "isc-fast"
author = "the isc-fast authors"
copyright = "2026, the isc-fast authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["README.md"]
html_theme = "furo"
html_title = f"isc-fast {__version__}"
html_show_sourcelink = False
html_copy_source = False

myst_heading_anchors = 3
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # a default as it is written, not as it prints: no path of this machine
smartquotes = False  # two hyphens are a flag
default_role = "py:obj"  # what stands in single backticks in a docstring

ELSEWHERE = {
    "benchmarks": "bench/README.md",
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "security": "SECURITY.md",
    "model-card": "isc_fast/data/MODEL_CARD.md",
}
"""Pages that take the text of another file: the name of the page → the file, from the root of the repository."""

_LINK = re.compile(r"\[([^\]\[]+)\]\((?!\w+:|#)([^)#]+)(#[^)]*)?\)")


def with_links_inside(text: str, folder: Path, page: str) -> str:
    """The text with links that lead from the page to other pages; a link that leads out of the site becomes its text.

    Args:
        text: Markdown.
        folder: where the file lies whose text it is; its links are relative to that.
        page: the name of the page, such as ``decisions/0001-runtimes``; the new links are relative to it.
    """
    pages = {ROOT / file: HERE / f"{name}.md" for name, file in ELSEWHERE.items()}

    def link(found: re.Match[str]) -> str:
        words, path, anchor = found[1], found[2], found[3] or ""
        target = (folder / path).resolve()
        target = pages.get(target, target)
        if target.suffix != ".md" or HERE not in target.parents:
            return words
        return f"[{words}]({os.path.relpath(target, (HERE / page).parent)}{anchor})"

    return _LINK.sub(link, text)


def _read(_app: Any, page: str, source: list[str]) -> None:
    file = ROOT / ELSEWHERE[page] if page in ELSEWHERE else HERE / f"{page}.md"
    source[0] = with_links_inside(file.read_text("utf-8"), file.parent, page)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _read)
