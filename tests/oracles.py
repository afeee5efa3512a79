"""Slow, plain versions of the numeric core, written from the definitions and not from the code, and small data."""

from __future__ import annotations

import os

import numpy as np

from isc_fast.descriptors.store import Descriptors
from isc_fast.matching.searchers.byte_product import ByteProduct

# This must be set before faiss is loaded. Otherwise its threads spin while they wait for each other, and on a busy
# machine the hundreds of tiny searches of these tests take minutes instead of seconds (measured on two cores beside two
# other processes: more than 140 s against 6 s).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def unit_rows(seed, n, d):
    """Return random rows of unit length, float32. They are read-only, so that code which changes its input fails."""
    rows = np.random.default_rng(seed).normal(size=(n, d))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    rows.flags.writeable = False
    return rows


def named(vectors, prefix="r", **meta):
    vectors = np.asarray(vectors, np.float32)
    return Descriptors(vectors, [f"{prefix}{row}" for row in range(len(vectors))], meta)


def similarity(xq, xb, metric="ip"):
    """Return float64 ``(nq, nb)``: inner products, or minus the squared distances."""
    xq, xb = xq.astype(np.float64), xb.astype(np.float64)
    return xq @ xb.T if metric == "ip" else -((xq[:, None] - xb[None]) ** 2).sum(axis=2)


def exact_byte_product(largest=127):
    """Make a product of bytes that is exact on any processor: double precision holds these sums."""
    return ByteProduct(lambda a, b: (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int32), largest)


def norm(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def nearest(xq, xb, k):
    return np.argsort(-similarity(xq, xb), axis=1, kind="stable")[:, :k]


def smoothed(negatives, k=10, power=3):
    t = negatives.astype(np.float64)
    neighbourhoods = zip(t, nearest(t, t, k), strict=True)
    return norm(np.stack([sum((a @ t[i]) ** power * t[i] for i in row) for a, row in neighbourhoods]))


def subtracted(x, negatives, k=10, beta=0.35, iterations=1):
    x, negatives = x.astype(np.float64), negatives.astype(np.float64)
    for _ in range(iterations):
        x = norm(x - beta * np.stack([negatives[row].mean(axis=0) for row in nearest(x, negatives, k)]))
    return x


def normalized_scores(xq, xb, negatives, k, beta):
    against = -np.sort(-similarity(xq, negatives), axis=1)[:, :k]
    return similarity(xq, xb) - beta * against.mean(axis=1, keepdims=True)


def best_pairs(xq, xb, metric="ip", k=None, max_pairs=None, threshold=None):
    """Return [(query row, reference row, score)], with the best pair of all queries first."""
    pairs = []
    for q, row in enumerate(similarity(xq, xb, metric)):
        order = sorted(range(len(row)), key=lambda r: (-row[r], r))
        pairs += [(q, r, row[r]) for r in order[:k]]
    pairs.sort(key=lambda pair: (-pair[2], pair[0], pair[1]))
    return [pair for pair in pairs if threshold is None or pair[2] >= threshold][:max_pairs]


def evaluation(rows, queries, pairs, protocol, kit_cap=500_000):
    """Compute the figures of one protocol from ``rows`` of (query, reference, score), one row at a time."""
    rows = sorted(rows, key=lambda row: (-row[2], (row[0], row[1]) in pairs))
    if protocol == "kit":
        rows = rows[:kit_cap]
    elif protocol == "official":
        rows = [row for row in rows if row[0] in queries][: 10 * len(queries)]
    else:
        kept, seen = [], {}
        for row in rows:
            seen[row[0]] = seen.get(row[0], 0) + 1
            if seen[row[0]] <= 10:
                kept.append(row)
        rows = kept
    ap = recall_before = 0.0
    hits, at_p90 = 0, (None, None)
    for i, (query, reference, score) in enumerate(rows, 1):
        hits += (query, reference) in pairs
        precision, recall = hits / i, hits / len(pairs)
        ap += (recall - recall_before) * precision
        recall_before = recall
        if precision >= 0.9 and (at_p90[0] is None or recall > at_p90[0]):
            at_p90 = recall, score
    ranks = [
        sum(other[0] == query and other[2] >= score for other in rows) - 1
        for query, reference, score in rows
        if (query, reference) in pairs
    ]
    at_rank = {k: sum(rank < k for rank in ranks) / len(pairs) for k in (1, 10)}
    return {"micro_ap": ap, "at_p90": at_p90, "at_rank": at_rank, "predictions": len(rows)}


def near_ties(seed, nq, nb, d):
    """Return queries and references in which many rows are equal and many others differ only in their last bits."""
    rng = np.random.default_rng(seed)
    xb = unit_rows(seed, nb, d).copy()
    xb[rng.integers(0, nb, nb // 4)] = xb[rng.integers(0, 5, nb // 4)]
    some = rng.integers(0, nb, nb // 4)
    xb[some] = np.nextafter(xb[rng.integers(0, 5, nb // 4)], np.float32(rng.choice([-9, 9])))
    xq = np.concatenate([xb[rng.integers(0, nb, nq // 2)], unit_rows(seed + 1, nq - nq // 2, d)])
    return xq, xb
