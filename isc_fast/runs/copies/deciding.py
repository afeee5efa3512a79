"""Deciding what stays of a collection: the photos that match another one are looked at, ordered, and led."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...descriptors.store import Descriptors
from ...descriptors.texts import ids_at
from ...items import Ints, Item
from ...matching.groups.components import Components, find_components
from ...matching.groups.hubs import Hub, hubs_within
from ...matching.groups.leaders import Leaders, choose_leaders
from ...matching.pairs.left_out import LeftOut
from ...matching.searchers.arrays import Pairs
from ..sides.describing import Side
from ..sides.photo_facts import NEEDS_HEADERS, PhotoFacts, Sameness, find_equal, order_of, read_facts

SURELY_ALIKE = 0.99
"""Photos of equal pixels score this much at least, whatever the precision of the engine: only such pairs are looked at."""


@dataclass(frozen=True)
class Collection:
    """A collection of which it is decided what stays.

    Attributes:
        ids: of all photos.
        side: where they come from.
        pairs: gone through several times.
        pair_count: how many there are.
        rows: photos that match another one, rising ``(m,)``.
        names: their ids.
        items: by id; empty where only descriptors were given.
        facts: of these rows; empty where only descriptors were given.
        order: all rows, the most preferred first.
        leaders: who stands for whom.
        components: groups that hang together.
        sameness: which photos are equal; None where nobody asked.
        spared: how many photos stay only because they are other names of a file that stays.
        left_out: what people said of pairs, which are without those that are wrong.
        hubs: photos that match many others.
    """

    ids: Sequence[str]
    side: Side
    pairs: Iterable[Pairs]
    pair_count: int
    rows: Ints
    names: Sequence[str]
    items: Mapping[str, Item]
    facts: Sequence[PhotoFacts]
    order: Ints
    leaders: Leaders
    components: Components
    sameness: Sameness | None
    spared: int
    left_out: LeftOut
    hubs: Sequence[Hub]

    @cached_property
    def _name(self) -> Any:
        return np.array(self.names, object)

    def names_of(self, rows: Ints) -> list[str]:
        """The ids of rows that match another one."""
        found: list[str] = self._name[np.searchsorted(self.rows, rows)].tolist() if len(rows) else []
        return found

    def kinds(self, first: Ints, second: Ints) -> Sequence[str | None]:
        """How each two rows are alike; None where nobody asked."""
        return [None] * len(first) if self.sameness is None else self.sameness.kinds(first, second)

    @cached_property
    def removed(self) -> Ints:
        """The rows that could go, rising."""
        return np.flatnonzero(~self.leaders.kept)

    def fact(self, row: int) -> PhotoFacts | None:
        """What is known of the photo of a row that matches another one."""
        return self.facts[int(np.searchsorted(self.rows, row))] if self.facts else None

    def removed_counts(self) -> tuple[int, int | None, dict[str, int] | None]:
        """How many photos could go, their bytes, and how many of them are equal to the one that stays."""
        size = None
        if self.side.source is not None:
            # Of several names of one file, each could go, and its bytes go once.
            going = (self.facts[place] for place in np.searchsorted(self.rows, self.removed).tolist())
            by_file = {found.file or number: found.bytes for number, found in enumerate(going)}
            size = sum(by_file.values())
        kinds = None
        if self.sameness is not None:
            found = self.kinds(self.removed, self.leaders.of[self.removed])
            kinds = {kind: sum(one == kind for one in found) for kind in ("file", "pixels")}
        return len(self.removed), size, kinds

    def group_counts(self) -> tuple[int, int]:
        """How many groups there are, and how many photos are in the largest."""
        sizes = self.components.sizes()
        return int((sizes > 1).sum()), int(sizes.max(initial=0)) if len(self.rows) else 0

    def stands(self, rows: Ints) -> Iterator[tuple[str, str, Any, str | None]]:
        """For each row: its id, the id of the one that stands for it, and for a row that goes the score and the kind."""
        of = self.leaders.of[rows]
        columns = (
            rows.tolist(),
            self.names_of(rows),
            self.names_of(of),
            of.tolist(),
            self.leaders.scores[rows],
            self.kinds(rows, of),
        )
        for row, name, kept, to, score, kind in zip(*columns, strict=True):
            yield (name, kept, None, None) if row == to else (name, kept, score, kind)

    @cached_property
    def grouped(self) -> Ints:
        """The rows of all groups: the largest group first, and within each group the preferred photo first."""
        rank = np.empty(len(self.order), np.int64)
        rank[self.order] = np.arange(len(self.order))
        label = self.components.label[self.rows]
        by_size = np.lexsort((rank[self.rows], label, -self.components.sizes()[label]))
        rows: Ints = self.rows[by_size]
        return rows

    def groups(self) -> Iterator[Ints]:
        """The rows of each group, in the order of `grouped`."""
        label = self.components.label[self.grouped]
        yield from np.split(self.grouped, np.flatnonzero(np.diff(label)) + 1) if len(label) else []


def decide(
    descriptors: Descriptors,
    side: Side,
    pairs: Iterable[Pairs],
    same: Ints,
    rule: str,
    *,
    exact: bool,
    left_out: LeftOut,
) -> Collection:
    """Look at the photos that match another one, and decide which of them stay."""
    count = len(descriptors)
    matched, alike, number = np.zeros(count, bool), np.zeros(count, bool), 0
    for first, second, scores in pairs:
        close = scores >= SURELY_ALIKE
        matched[first] = matched[second] = True
        alike[first[close]] = alike[second[close]] = True
        number += len(first)
    rows = np.flatnonzero(matched)
    names = ids_at(descriptors.ids, rows)
    items = side.items(names)
    facts: list[PhotoFacts] = []
    if side.source is not None:
        opened = side.open(items)
        photos = [opened[name] for name in names]
        facts = read_facts(photos, [items[name].path for name in names], headers=exact or rule in NEEDS_HEADERS)
        order = order_of(count, rows, facts, rule)
    else:
        order = np.arange(count)
    leaders, spared = _spared(choose_leaders(pairs, order, same), rows, facts)
    sameness = None
    if exact:
        inside = {int(row): place for place, row in enumerate(rows)}
        looked_at = np.flatnonzero(alike)
        sameness = find_equal(
            count,
            looked_at,
            {row: photos[inside[row]] for row in looked_at.tolist()},
            {row: facts[inside[row]] for row in looked_at.tolist()},
        )
    components = find_components(pairs, count)
    hubs = hubs_within(pairs, same, descriptors.ids)
    return Collection(
        descriptors.ids,
        side,
        pairs,
        number,
        rows,
        names,
        items,
        facts,
        order,
        leaders,
        components,
        sameness,
        spared,
        left_out,
        hubs,
    )


def _spared(leaders: Leaders, rows: Ints, facts: Sequence[PhotoFacts]) -> tuple[Leaders, int]:
    """Take from what could go each name of a file that stays under another name: through links, or a folder given twice."""
    kept = leaders.kept
    files = {found.file for row, found in zip(rows.tolist(), facts, strict=False) if kept[row] and found.file}
    names = [row for row, found in zip(rows.tolist(), facts, strict=False) if not kept[row] and found.file in files]
    of, scores = leaders.of.copy(), leaders.scores.copy()
    of[names], scores[names] = names, np.nan
    return Leaders(of, scores), len(names)
