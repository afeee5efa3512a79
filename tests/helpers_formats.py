"""Descriptors in the formats of others, written by plain h5py, numpy and pyarrow."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from oracles import unit_rows

from isc_fast.descriptors.store import Descriptors

pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

QUERY, REFERENCE, TRAIN = unit_rows(1, 4, 8), unit_rows(2, 6, 8), unit_rows(3, 5, 8)


def ids_of(prefix, count):
    """Ids in an order that is not the sorted one, and not the sorted one of their lengths either."""
    return [f"{prefix}{i}" for i in (10, 9, 100, 1, 2, 33)[:count]]


QUERIES = Descriptors(QUERY, ids_of("Q", 4))
REFERENCES = Descriptors(REFERENCE, ids_of("R0", 6))
TRAINING = Descriptors(TRAIN, ids_of("T", 5))


def fixed(ids):
    return np.array([id_.encode("ascii") for id_ in ids])


def hdf5(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, data in datasets.items():
            file[name] = data
    return path


def submission(path, **changed):
    """The challenge's file; None leaves a data set out."""
    sets = {
        "query": QUERY,
        "reference": REFERENCE,
        "query_ids": fixed(QUERIES.ids),
        "reference_ids": fixed(REFERENCES.ids),
    }
    return hdf5(path, **{name: data for name, data in {**sets, **changed}.items() if data is not None})


def clip_retrieval(folder, *parts, column="image_path", digits=1):
    (folder / "img_emb").mkdir(parents=True)
    (folder / "metadata").mkdir()
    for number, (rows, ids) in enumerate(parts):
        np.save(folder / "img_emb" / f"img_emb_{number:0{digits}d}.npy", rows)
        table = pa.table({"caption": ["a cat"] * len(ids), column: ids})
        pq.write_table(table, folder / "metadata" / f"metadata_{number:0{digits}d}.parquet")
    return folder


def assert_equal(found, rows, ids):
    np.testing.assert_array_equal(found.vectors, rows)
    assert found.vectors.dtype == np.float32
    assert list(found.ids) == list(ids)
