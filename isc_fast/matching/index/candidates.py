"""Inverted lists of faiss, which name the rows that may be near a query. How near they are, the stored rows say."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import require
from ...files.verified import VerifiedFile
from ..searchers.arrays import Floats, Ints
from ..searchers.faiss_cpu import load_faiss
from .memory import ListKind, list_count
from .summed import damage_first, write_summed

TRAINING_ROWS = 32
"""Rows for each list that the lists are trained on. With twice as many, training takes twice as long and gains nothing."""

_ROUNDS = 10  # of k-means
_LEAST = 32  # candidates of a query, however small its k
_IO_BYTES = 1 << 20


class Candidates:
    """The lists of one segment, in memory.

    Attributes:
        lists: how many there are.
        rows: how many rows are in them.
    """

    def __init__(self, index: Any) -> None:
        self._index = index
        self.lists, self.rows = int(index.nlist), int(index.ntotal)

    @classmethod
    def of(cls, blocks: Iterable[Floats], sample: Floats, kind: ListKind, rows: int) -> tuple[Candidates, str]:
        """Make lists.

        Args:
            blocks: the rows, ``float32 (m, d)`` each.
            sample: of the rows, for the training.
            kind: how rows are kept.
            rows: how many there are.

        Returns:
            the lists, and faiss' name of their kind.
        """
        faiss = load_faiss()
        dim = sample.shape[1]
        factory = f"IVF{min(list_count(rows), len(sample))},{kind.code}"
        index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
        index.cp.niter, index.cp.min_points_per_centroid = _ROUNDS, 1  # fewer points are no reason for a warning
        index.train(sample)
        for block in blocks:
            index.add(block)
        return cls(index), factory

    @classmethod
    def read(cls, stream: VerifiedFile) -> Candidates:
        """Read lists from an open file. faiss gets no byte before it was compared with its checksum.

        Raises:
            DamageError: the file is damaged.
            FormatError: it cannot be read, or holds something else.
        """
        faiss = load_faiss()
        with damage_first(stream):
            return cls(faiss.read_index(faiss.PyCallbackIOReader(stream.read, _IO_BYTES)))

    def write(self, path: Path) -> None:
        """Write the lists with checksums, atomically.

        Raises:
            OutputError: they cannot be written.
        """
        faiss = require("faiss", "cpu")
        write_summed(path, lambda out: faiss.write_index(self._index, faiss.PyCallbackIOWriter(out.write, _IO_BYTES)))

    def find(self, xq: Floats, k: int, *, nprobe: int, spread: int, alive: npt.NDArray[np.bool_] | None) -> Ints:
        """Name candidates for the k best rows of each query.

        Args:
            xq: queries ``float32 (n, d)``.
            k: of which some may be wanted.
            nprobe: lists that each query looks into.
            spread: so many times k candidates are named.
            alive: which rows count ``(rows,)``; None where all do.

        Returns:
            rows ``int64 (n, m)``; −1 where the lists hold no more.
        """
        faiss = require("faiss", "cpu")
        options: dict[str, Any] = {"nprobe": nprobe}
        if alive is not None:
            bits = np.packbits(alive, bitorder="little")
            options["sel"] = faiss.IDSelectorBitmap(bits)
        width = min(max(_LEAST, spread * k), self.rows)
        found: Ints = self._index.search(xq, width, params=faiss.SearchParametersIVF(**options))[1]
        return found
