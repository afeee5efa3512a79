"""The page that shows people each query beside its matches: one HTML file that needs no other file."""

from __future__ import annotations

import base64
import html
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from ..decoders.opening import ImageProblem
from ..decoders.rules import load_rgb
from ..decoders.views import WHOLE
from ..errors import InputError, OutputError
from ..evaluation.metrics import Evaluation
from ..files.atomic import try_to_write, write_text
from ..items import Photo
from ..matching.matches import Matches, Truth

THUMBNAIL_PX = 144
DEFAULT_ROWS = 200

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #cf222e; --quiet: #8a8a8a; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1080px; padding: 0 1rem; }
h1 { margin-bottom: .2rem; } h2 { margin-top: 2.2rem; } p.lead { margin-top: 0; color: var(--quiet); }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .3rem .9rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
.rows { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 14px; }
.row { border: 1px solid var(--line); border-radius: 8px; padding: 10px; display: flex; gap: 10px; }
figure { margin: 0; width: 50%; } figure img { width: 100%; height: 116px; object-fit: contain; background: #8881; }
figcaption { font-size: 12px; overflow-wrap: anywhere; }
.good { color: var(--good); } .bad { color: var(--bad); } .quiet { color: var(--quiet); }
"""


@dataclass(frozen=True)
class Section:
    """A part of the page that has a heading.

    Attributes:
        title: the heading.
        lead: a sentence under the heading.
        rows: each row is (query id, reference id or None, caption, style); the style is ``good``, ``bad`` or ``quiet``.
    """

    title: str
    lead: str
    rows: Sequence[tuple[str, str | None, str, str]]


def _thumbnail(photo: Photo) -> str | None:
    """Return a small image as a ``data:`` address, or None if the photo cannot be read."""
    try:
        image = load_rgb(photo)
    except ImageProblem:
        return None
    image.thumbnail((THUMBNAIL_PX * 2, THUMBNAIL_PX * 2), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=78)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")


class _Page:
    def __init__(self, queries: Mapping[str, Photo], references: Mapping[str, Photo]) -> None:
        self._photos = {"query": queries, "reference": references}
        self._thumbnails: dict[tuple[str, str], str | None] = {}

    def figure(self, side: str, id_: str, caption: str) -> str:
        photo = self._photos[side].get(id_)
        if (side, id_) not in self._thumbnails:
            self._thumbnails[side, id_] = None if photo is None else _thumbnail(photo)
        address = self._thumbnails[side, id_]
        picture = f'<img src="{address}" alt="{_text(id_)}">' if address else '<p class="quiet">no picture</p>'
        return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"

    def row(self, query: str, reference: str | None, caption: str, css: str) -> str:
        left = self.figure("query", query, _text(query))
        if reference is None:
            right = f'<figure><p class="{css}">{caption}</p></figure>'
        else:
            right = self.figure("reference", reference, f'{_text(reference)}<br><b class="{css}">{caption}</b>')
        return f'<div class="row">{left}{right}</div>'


def _text(value: str) -> str:
    """Escape a text for HTML. File names may hold any bytes; those that are not UTF-8 become replacement characters."""
    return html.escape(value.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))


def _evaluation_table(name: str, evaluation: Evaluation) -> str:
    rows = []
    for protocol, scores in evaluation.by_protocol.items():
        recall = "not reached" if scores.recall_at_p90 is None else f"{scores.recall_at_p90:.3f}"
        threshold = "–" if scores.threshold_at_p90 is None else f"{scores.threshold_at_p90:.3f}"
        rows.append(
            f"<tr><td>{_text(name)}, {protocol}</td><td>{scores.micro_ap:.3f}</td><td>{recall}</td><td>{threshold}</td>"
            f"<td>{scores.recall_at_rank[1]:.3f}</td></tr>"
        )
    return "".join(rows)


def write_page(
    path: str | os.PathLike[str],
    *,
    title: str,
    lead: str,
    sections: Sequence[Section],
    queries: Mapping[str, Photo],
    references: Mapping[str, Photo],
    evaluations: Mapping[str, Evaluation] | None = None,
) -> None:
    """Write an HTML page of image pairs in sections. The file contains the thumbnails.

    Args:
        path: the HTML file to write.
        title: the heading of the page.
        lead: a sentence under the heading.
        sections: the parts of the page.
        queries, references: the photo of each id, for example the path of its file. An id without a photo, or with one
            that cannot be read, shows no picture.
        evaluations: figures for the table at the top of the page, by name.

    Raises:
        OutputError: the file cannot be written.
    """
    page = _Page(queries, references)
    parts = [f"<h1>{_text(title)}</h1><p class=lead>{_text(lead)}</p>"]
    if evaluations:
        head = "<tr><th></th><th>µAP</th><th>R@P90</th><th>threshold</th><th>recall@1</th></tr>"
        parts.append(f"<table>{head}{''.join(_evaluation_table(n, e) for n, e in evaluations.items())}</table>")
    for section in sections:
        parts.append(f"<h2>{_text(section.title)}</h2><p class=lead>{_text(section.lead)}</p><div class=rows>")
        parts.extend(page.row(query, reference, _text(caption), css) for query, reference, caption, css in section.rows)
        parts.append("</div>")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{_text(title)}</title>'
    write_text(path, f"<!doctype html><html lang=en>{head}<style>{_STYLE}</style>{''.join(parts)}</html>\n")


def write_report(
    path: str | os.PathLike[str],
    matches: Matches,
    *,
    queries: Mapping[str, Photo],
    references: Mapping[str, Photo],
    truth: Truth | None = None,
    threshold: float | None = None,
    max_rows: int = DEFAULT_ROWS,
) -> int:
    """Write a page that shows matches, the best ones first.

    Args:
        path: the HTML file to write.
        matches: the result of `isc_fast.search`.
        queries, references: the photo of each id, for example the path of its file.
        truth: if given, right pairs are green and wrong ones are red.
        threshold: the lowest score that the page shows.
        max_rows: the largest number of pairs that the page shows.

    Returns:
        the number of pairs on the page.

    Raises:
        InputError: a number makes no sense, none of the ids in the pairs is among the queries, or none is among the references.
        OutputError: the file cannot be written.
    """
    if max_rows < 1:
        raise InputError(f"the page must show at least 1 pair, not {max_rows}")
    if threshold is not None and math.isnan(threshold):
        raise InputError("the threshold is not a number")
    if os.path.splitext(path)[1].lower() not in (".html", ".htm"):
        raise OutputError(f"cannot write {os.fspath(path)}: a page is HTML; give a name that ends in .html")
    try_to_write(path)
    order = sorted(range(len(matches)), key=lambda i: -float(matches.scores[i]))
    chosen = [i for i in order if threshold is None or matches.scores[i] >= threshold][:max_rows]
    for side, ids, paths in (("query", matches.query_ids, queries), ("reference", matches.reference_ids, references)):
        if chosen and not any(ids[i] in paths for i in chosen):
            some = next(iter(paths), "none at all")
            raise InputError(
                f"no {side} of the matches is among the photos given: ids such as {ids[chosen[0]]!r} against {some!r}; give "
                "what extract was given, and the same --ids"
            )
    rows = []
    for i in chosen:
        pair = (matches.query_ids[i], matches.reference_ids[i])
        css = "quiet" if truth is None else "good" if pair in truth.pairs else "bad"
        view = "" if matches.views is None or matches.views[i] == WHOLE else f", {matches.views[i]}"
        rows.append((*pair, f"{matches.scores[i]:.3f}{view}", css))
    lead = f"{len(rows)} of {len(matches)} pairs, best first" + (
        "" if truth is None else "; green: in the ground truth, red: not"
    )
    section = Section("Matches", lead, rows)
    write_page(path, title="isc-fast: matches", lead="", sections=[section], queries=queries, references=references)
    return len(rows)
