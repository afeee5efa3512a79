"""The best views of each pair of photos, where a side was described in several views: a pair scores as its best views do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ...descriptors.store import Descriptors
from ..searchers.arrays import Ints, Pairs
from ..searchers.best import best_first


@dataclass(frozen=True)
class Views:
    """The views of both sides of a comparison. Rows are numbered as those of `isc_fast.descriptors.view_rows.rows_of`.

    Attributes:
        queries, references: the names of the views of each side.
    """

    queries: tuple[str, ...]
    references: tuple[str, ...]

    @classmethod
    def of(cls, queries: Descriptors, references: Descriptors) -> Views:
        """Those of two sets."""
        return cls(queries.views, references.views)

    @property
    def several(self) -> bool:
        """Whether a side has several views."""
        return len(self.queries) > 1 or len(self.references) > 1

    @property
    def count(self) -> int:
        """How many pairs of rows two photos have."""
        return len(self.queries) * len(self.references)

    def rows_for(self, k: int) -> int:
        """How many of a query row's best reference rows are needed for the k best references of the query."""
        return k * len(self.references)

    def best(self, pairs: Pairs) -> Pairs:
        """Of the rows of two photos the pair that scores best; of equal scores that of the earlier views. The order is any."""
        if not self.several:
            return pairs
        rows, columns, scores = pairs
        queries, references = self.photos(pairs)
        order = np.lexsort((columns, rows, -scores, references, queries))
        other = np.ones(len(order), bool)
        same = queries[order][1:] == queries[order][:-1]
        other[1:] = ~(same & (references[order][1:] == references[order][:-1]))
        kept = order[other]
        return rows[kept], columns[kept], scores[kept]

    def best_of_each(self, pairs: Pairs, k: int) -> Pairs:
        """The k best references of each query with their best views, in the order of the queries, best first."""
        rows, columns, scores = found = self.best(pairs)
        kept = best_first((*self.photos(found), scores), k)
        return rows[kept], columns[kept], scores[kept]

    def photos(self, pairs: Pairs) -> tuple[Ints, Ints]:
        """The numbers of the photos that the rows of pairs belong to."""
        return pairs[0] // len(self.queries), pairs[1] // len(self.references)

    def names(self, pairs: Pairs) -> list[str] | None:
        """Which view matched, for each pair; ``QUERY / REFERENCE`` where references have several; None where no side has."""
        if not self.several:
            return None
        of_queries = [self.queries[number] for number in (pairs[0] % len(self.queries)).tolist()]
        if len(self.references) == 1:
            return of_queries
        of_references = [self.references[number] for number in (pairs[1] % len(self.references)).tolist()]
        return [f"{one} / {other}" for one, other in zip(of_queries, of_references, strict=True)]


@dataclass(frozen=True)
class PhotoPairs:
    """The photos that the rows of pairs belong to, gone through as often as the pairs.

    Attributes:
        rows: pairs of rows.
        views: of both sides.
    """

    rows: Iterable[Pairs]
    views: Views

    def __iter__(self) -> Iterator[Pairs]:
        for pairs in self.rows:
            yield *self.views.photos(pairs), pairs[2]
