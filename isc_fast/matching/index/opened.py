"""An index that is open for queries."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ...descriptors.comparing import compare
from ...descriptors.lengths import check_lengths
from ...descriptors.store import Descriptors
from ...descriptors.texts import ids_at
from ...descriptors.view_rows import row_blocks
from ...errors import FormatError, InputError
from ...files.sums import damage
from ..lists.matches import Matches
from ..pairs.self_join import check_threshold
from ..pairs.views import Views
from ..searchers.arrays import Floats, Ints, join
from ..searchers.inputs import checked_queries
from .layout import read_manifest
from .segment import Segment

_AT_ONCE = 256  # queries, whose candidates are in memory
_TRIES = 5  # to open an index that somebody changes meanwhile


class OpenIndex:
    """An index as it was when it was opened: it does not see what others change afterwards, until it is opened again.

    Attributes:
        folder: where it lies.
        manifest: what it consists of.

    Raises:
        FormatError: there is no index.
        DamageError: it is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        for left in reversed(range(_TRIES)):
            self.manifest = read_manifest(self.folder)
            try:
                self._open()
                return
            except FormatError:
                if not left or read_manifest(self.folder) == self.manifest:
                    raise

    def _open(self) -> None:
        with ExitStack() as stack:
            self._segments = [stack.enter_context(Segment(self.folder, facts)) for facts in self.manifest.segments]
            for segment in self._segments:
                if segment.descriptors.dim != self.manifest.dim:
                    found = f"rows of {segment.descriptors.dim} numbers where {self.manifest.dim} are expected"
                    raise damage(str(self.folder), found)
            self._stack = stack.pop_all()

    @property
    def rows(self) -> Descriptors:
        """A set without a row that says how the rows of the index were made."""
        return Descriptors(np.empty((0, self.manifest.dim), np.float32), [], self.manifest.meta)

    def __len__(self) -> int:
        return self.manifest.live

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def load(self) -> None:
        """Read what queries need, so that the first one does not wait for it."""
        for segment in self._segments:
            segment.load()

    def query(self, queries: Descriptors, *, k: int, threshold: float | None) -> Matches:
        """The best rows of each query, best first, in the order of the queries.

        Args:
            queries: ``(n, d)`` rows of unit length; with v views ``(n, v · d)``, of which the best counts.
            k: rows of each query at most.
            threshold: lowest score; None for any.

        Raises:
            MismatchError: the queries were made by another engine, or normalised in another way, than the rows.
            InputError: a number is out of range or not finite, or the index was closed.
            DamageError: the index is damaged.
        """
        if k < 1:
            raise InputError(f"k must be at least 1, not {k}")
        if threshold is not None:
            check_threshold(threshold)
        compare(queries, self.rows).require()
        check_lengths(queries, "query")
        starts = np.cumsum([0, *(segment.facts.rows for segment in self._segments)])
        views, first = Views.of(queries, self.rows), 0
        query_ids: list[str] = []
        reference_ids: list[str] = []
        scores: list[Floats] = [np.empty(0, np.float32)]
        names: list[str] = []
        for block in row_blocks(queries, _AT_ONCE):
            xq = checked_queries(block, "ip").rows
            found = []
            for segment, start in zip(self._segments, starts.tolist(), strict=False):
                query, row, score = segment.answer(xq, k)
                found.append((query, row + start, score))
            if not found:
                continue
            pairs = views.best_of_each(join(found), k)
            if threshold is not None:
                enough = pairs[2] >= np.float32(threshold)
                pairs = pairs[0][enough], pairs[1][enough], pairs[2][enough]
            query_ids += ids_at(queries.ids, views.photos(pairs)[0] + first)
            reference_ids += self._ids(pairs[1], starts)
            scores.append(pairs[2])
            names += views.names(pairs) or []
            first += len(block) // len(views.queries)
        return Matches(query_ids, reference_ids, np.concatenate(scores), names if views.several else None)

    def _ids(self, rows: Ints, starts: Ints) -> list[str]:
        made = np.empty(len(rows), object)
        number = np.searchsorted(starts, rows, "right") - 1
        for which in np.unique(number).tolist():
            mine = number == which
            made[mine] = ids_at(self._segments[which].descriptors.ids, rows[mine] - starts[which])
        return list(made)
