"""Writing a page of pairs: one HTML file that needs no other file, no network and no server.

Its template, style and scripts lie in `parts/`. The page has a Content-Security-Policy that lets exactly these scripts and
this style run, and pictures that the script makes from the file itself; nothing else, whatever an id holds.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

import numpy as np

from ..files.atomic import write_text
from .curve import points_of
from .pairs import MOST, Pair, ReviewPage, columns_of, digest_of, spread
from .pictures import Photos, Pictures, Tell, make_pictures, place_of

MOST_BYTES = 50_000_000
"""How large a page may be. Of more pairs it shows some, spread evenly over the scores."""

_PARTS = Path(__file__).parent / "parts"
_SCRIPTS = (
    "data",
    "pictures",
    "verdicts",
    "files",
    "filters",
    "list",
    "placing",
    "compare",
    "stage",
    "charts",
    "stops",
    "keys",
    "main",
)
_PAGE_BYTES = 200_000  # of everything that is not pairs


def write_page(
    path: str | os.PathLike[str],
    page: ReviewPage,
    left: Photos,
    right: Photos,
    *,
    most_bytes: int = MOST_BYTES,
    progress: Tell | None = None,
) -> int:
    """Write a page of pairs.

    Args:
        path: the HTML file to write.
        page: what it shows.
        left, right: the photo of each id on both sides, for example the path of its file; the same object where both sides are
            one collection. An id without a photo, or with one that cannot be read, shows no picture.
        most_bytes: how large the file may be.
        progress: is told how many pairs have their pictures, how many there are, and 0.

    Returns:
        the number of pairs on the page.

    Raises:
        OutputError: the file cannot be written.
    """
    wanted = spread([pair.score for pair in page.pairs])
    by_want = [page.pairs[row] for row in wanted.tolist()]
    made, fit = make_pictures(by_want, left, right, most_bytes - _PAGE_BYTES, progress)
    shown = [page.pairs[row] for row in np.sort(wanted[:fit]).tolist()]
    write_text(path, _render(page, shown, made, one_side=left is right))
    return len(shown)


def _render(page: ReviewPage, shown: list[Pair], made: Pictures, *, one_side: bool) -> str:
    import jinja2  # loaded by whoever writes a page, and nobody else

    script = "(() => {\n'use strict';\n" + "\n".join(_part(f"{name}.js") for name in _SCRIPTS) + "\n})();"
    style = _part("page.css")
    places = [place_of(made, pair, one_side=one_side) for pair in shown]
    data = {
        "digest": digest_of(shown),
        "sides": page.sides,
        "threshold": None if page.threshold is None else min(max(page.threshold, -MOST), MOST),
        "photos": {"id": made.ids, "at": made.at, "size": made.size},
        "pairs": {"left": [one for one, _ in places], "right": [other for _, other in places], **columns_of(shown)},
        "stops": [_stop(made, *stop) for stop in page.stops],
        "groups": [{"size": group.size, "words": group.words} for group in page.groups],
        "curve": None if page.curve is None else points_of(page.curve),
    }
    total = page.total if page.total is not None else len(page.pairs)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    text = environment.from_string(_part("page.html.j2")).render(
        page=page,
        shown=len(shown),
        total=total,
        style=_Safe(style),
        script=_Safe(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        data=_Safe(_json(data)),
        pictures=_Safe("".join(made.text)),
    )
    # Titles may hold ids of any bytes; what is no character becomes a question mark. The script's data are ASCII.
    return text.encode("utf-8", "replace").decode("utf-8")


def _stop(made: Pictures, id_: str, why: str) -> dict[str, object]:
    """A photo that matches many others, with the number of its picture where the page has one."""
    return {"id": id_, "why": why, "photo": next((row for row, name in enumerate(made.ids) if name == id_), None)}


class _Safe(str):
    """A text that goes into the page as it is: our own script and style, JSON without ``<``, and base64."""

    def __html__(self) -> str:
        return self


def _part(name: str) -> str:
    return (_PARTS / name).read_text("utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _json(data: object) -> str:
    """JSON in ASCII that cannot end the element it stands in. Halves of characters, as ids of any bytes have them, stay."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e")
