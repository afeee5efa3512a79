"""What a de-duplication writes: tables of pairs, groups, what stays and what could go; and the page."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...files.atomic import make_folder
from ...files.rows import write_rows
from ...review.pairs import Chances, Group, Pair, ReviewPage, with_chances
from ...review.writing import write_page
from ...sources.containers import path_in_words
from ..pixels.align import with_placements
from ..pixels.aligning import ALIGNING
from ..sides.describing import Progress
from .deciding import Collection
from .dedup_links import write_links
from .suggestions import write_suggestions

TABLES = ("pairs", "groups", "keep", "remove")
NEMO = "remove-nemo"
_ROWS = 1 << 16


def write_everything(
    made: Collection,
    folder: Path,
    *,
    form: str,
    nemo: bool,
    link_to: str | os.PathLike[str] | None,
    most: tuple[int, int],
    threshold: float,
    chances: Chances | None = None,
    align: bool = False,
    progress: Progress | None = None,
) -> tuple[dict[str, Path], int | None]:
    """Write all files of a de-duplication; returns them by name, and how many pairs of the page align, if they were looked at.

    Args:
        made: what was decided.
        folder: exists, without tables of an earlier run.
        form, nemo, link_to: see `isc_fast.runs.copies.dedup.find_duplicates`.
        most: groups, and photos of each, that the page and the links show.
        threshold: for the words of the page.
        chances: how likely pairs are copies, for the page.
        align: whether the pairs of the page are looked at in their pixels.
        progress: is told of the page's pairs.

    Raises:
        OutputError: a file or link cannot be written.
        FormatError: an id cannot stand in a table of this format.
    """
    at = {"path": str} if made.side.source is not None else {}
    said = {} if made.left_out.verdicts is None else {"verdict": str}
    columns: dict[str, dict[str, type]] = {
        "pairs": {"id": str, "other_id": str, "score": float, "kind": str, **said},
        "groups": {
            "group": int,
            "id": str,
            "size": int,
            "weakest_link": float,
            "kept_id": str,
            "score": float,
            "kind": str,
        },
        "keep": {"id": str, **at},
        "remove": {"id": str, "kept_id": str, "score": float, "kind": str, "bytes": int, **at},
    }
    rows = {
        "pairs": _pair_rows(made),
        "groups": _group_rows(made),
        "keep": _keep_rows(made),
        "remove": _remove_rows(made),
    }
    files = {name: write_rows(folder, name, form, columns[name], rows[name]) for name in TABLES}
    aligned = 0 if align else None
    if suggestions := write_suggestions(folder, form, made.hubs):
        files["suggestions"] = suggestions
    if nemo:
        part = ((name,) for name in made.names_of(made.removed))
        files["nemo"] = write_rows(make_folder(folder / NEMO), "part.0", "parquet", {"id": str}, part).parent
    if made.side.source is not None and len(made.removed):
        page = _page(made, most, threshold, chances)
        if align:
            source, told = made.side.source, progress("align") if progress else None
            pairs = with_placements(page.pairs, source, source, told, folder / ALIGNING)
            page, aligned = replace(page, pairs=pairs), sum(pair.placement is not None for pair in pairs)
        files["page"] = folder / "dedup.html"
        photos = made.side.open({id_: made.items[id_] for pair in page.pairs for id_ in (pair.left, pair.right)})
        write_page(files["page"], page, photos, photos, progress=progress("page") if progress else None)
    if link_to is not None:
        files["links"] = write_links(made, Path(link_to), most)
    return files, aligned


def _pair_rows(made: Collection) -> Iterator[Sequence[Any]]:
    for first, second, scores in made.pairs:
        columns = (made.names_of(first), made.names_of(second), scores, made.kinds(first, second))
        for row in zip(*columns, strict=True):
            yield row if made.left_out.verdicts is None else (*row, made.left_out.mark(row[0], row[1]))


def _group_rows(made: Collection) -> Iterator[Sequence[Any]]:
    sizes, weakest = made.components.sizes(), made.components.weakest()
    for number, rows in enumerate(made.groups(), 1):
        label = made.components.label[rows[0]]
        for name, kept, score, kind in made.stands(rows):
            yield number, name, int(sizes[label]), weakest[label], kept, score, kind


def _keep_rows(made: Collection) -> Iterator[Sequence[Any]]:
    removed = made.removed
    if made.side.source is None:
        kept = made.leaders.kept
        for start in range(0, len(made.ids), _ROWS):
            some = made.ids[start : start + _ROWS]
            yield from ((id_,) for id_, stays in zip(some, kept[start : start + _ROWS].tolist(), strict=True) if stays)
        return
    gone = set(made.names_of(removed))
    failed = {failure.id for failure in made.side.made.failures} if made.side.made else set()
    for item in made.side.source.list().found:
        if item.id not in gone and item.id not in failed:
            yield item.id, path_in_words(item.path)


def _remove_rows(made: Collection) -> Iterator[Sequence[Any]]:
    for row, (name, kept, score, kind) in zip(made.removed.tolist(), made.stands(made.removed), strict=True):
        facts = made.fact(row)
        place = (path_in_words(made.items[name].path),) if made.items else ()
        yield name, kept, score, kind, None if facts is None else facts.bytes, *place


def _page(made: Collection, most: tuple[int, int], threshold: float, chances: Chances | None) -> ReviewPage:
    """The page of the groups, the largest first, and in each the photos that could go, the least alike first."""
    pairs, groups = list[Pair](), list[Group]()
    weakest = made.components.weakest()
    count, removed = made.group_counts()[0], len(made.removed)
    for number, rows in enumerate(made.groups()):
        if number == most[0]:
            break
        going = rows[~made.leaders.kept[rows]]
        shown = going[np.argsort(made.leaders.scores[going], kind="stable")][: most[1]]
        unseen = {
            "could go": len(going) - len(shown),
            "stay": len(rows) - len(going) - len(np.unique(made.leaders.of[shown])),
        }
        more = "".join(f"; {number} more that {what} are not shown" for what, number in unseen.items() if number)
        link = weakest[made.components.label[rows[0]]]
        words = f"{len(rows) - len(going)} stay, {len(going)} could go; weakest link {link:.3f}{more}"
        groups.append(Group(len(rows), words))
        for name, kept, score, kind in made.stands(shown):
            note = f"equal {kind}" if kind in ("file", "pixels") else None
            said = made.left_out.said(kept, name)
            pairs.append(Pair(kept, name, float(score), group=number, note=note, verdict=said))
    return ReviewPage(
        title="Copies in one collection",
        lead="The photo that stays beside one that could go, group by group: the largest first, in each the least alike first."
        + (f" The page has {len(groups):,} of {count:,} groups." if len(groups) < count else ""),
        pairs=with_chances(pairs, chances),
        sides=("stays", "could go"),
        groups=groups,
        figures=[("Groups", f"{count:,}"), ("Could go", f"{removed:,}"), ("Matching from", f"{threshold:.3f}")],
        stops=[(one.id, one.words) for one in made.hubs],
    )
