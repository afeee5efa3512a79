"""Matches of several views of the same queries, such as each photo as it is and mirrored, as the best match of each pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .matches import Matches


def best_of_views(found: Mapping[str, Matches], ids: Sequence[str], k: int) -> Matches:
    """Of each pair the view that scores best, and of each query the k best references.

    Args:
        found: by the name of the view, its matches with the k best references of each query. Where two views score the same,
            the first one counts.
        ids: of the queries, in the order in which the result has them; gone through once.
        k: references of each query.

    Returns:
        pairs in the order of the queries, best first, with their views.
    """
    best: dict[str, dict[str, tuple[float, str]]] = {}
    for view, matches in found.items():
        for query, reference, score in matches:
            pairs = best.setdefault(query, {})
            if reference not in pairs or score > pairs[reference][0]:
                pairs[reference] = score, view
    queries: list[str] = []
    references: list[str] = []
    scores: list[float] = []
    views: list[str] = []
    for query in filter(best.__contains__, ids):
        order = sorted(best[query].items(), key=lambda pair: -pair[1][0])[:k]
        for reference, (score, view) in order:
            queries.append(query)
            references.append(reference)
            scores.append(score)
            views.append(view)
    return Matches(queries, references, np.array(scores, np.float32), views)
