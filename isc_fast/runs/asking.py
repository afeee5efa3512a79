"""Asking an index for photos: the index is opened once, the engine is loaded once, and then each question takes milliseconds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from ..decoders.base import Decoder, choose_decoder, make_decoder
from ..decoders.views import ONLY_WHOLE, WHOLE, view_names
from ..descriptors.comparing import compare
from ..descriptors.formats.table import open_any, read_descriptors
from ..descriptors.provenance import PlanFacts, Provenance
from ..descriptors.store import Descriptors
from ..engines.base import Engine, abilities, gpu_of, load_engine
from ..errors import InputError, MismatchError
from ..extraction.compute import Equipment, compute_shards
from ..extraction.plan import Shard
from ..files.ledger import keep
from ..items import NOTED, Failure, Item, Vectors
from ..matching.index.opened import OpenIndex
from ..matching.lists.matches import Matches
from ..matching.normalizing.subtraction import NegativeSubtraction, subtract_negatives
from ..sources.base import Source, opener
from ..sources.listing import Inputs, as_source
from .sides.describing import Describing, check_views, descriptors_among
from .sides.thresholds import choose_for_search

K = 10
"""So many references of each query are given at most."""


@dataclass(frozen=True)
class IndexAnswer:
    """What an index says to a question.

    Attributes:
        matches: the pairs, each query's best first, in the order of the queries; scores are exact.
        queries: how many were asked, those that could not be read not counted.
        failures: the photos that could not be read, and why.
        threshold: the score from which on a pair counts as a match: as given, or the engine's default for so many pairs. None
            where neither is known: then a pair is one of the nearest, and no more is said of it.
        given: whether the threshold was given, so that no pair lies below it.
    """

    matches: Matches
    queries: int
    failures: Sequence[Failure] = ()
    threshold: float | None = None
    given: bool = False

    @property
    def matched(self) -> int | None:
        """How many queries have a pair that reaches the threshold; None where there is none."""
        if self.threshold is None:
            return None
        reached = np.flatnonzero(np.asarray(self.matches.scores) >= np.float32(self.threshold))
        return len({self.matches.query_ids[row] for row in reached.tolist()})

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        names = ("query_id", "reference_id", "score")
        matches: list[dict[str, Any]] = [dict(zip(names, match, strict=True)) for match in self.matches]
        for row, view in zip(matches, self.matches.views or (), strict=False):
            row["view"] = view
        return {
            "queries": self.queries,
            "threshold": self.threshold,
            "matched": self.matched,
            "matches": matches,
            "failures": [{name: getattr(one, name) for name in Failure.__slots__} for one in self.failures],
        }


class Index:
    """An index that is open for questions; see ``isc-fast index build``, which makes one.

    It is the index as it was when it was opened: what is added or removed afterwards is seen when it is opened again.

    Args:
        folder: of the index.
        describing: how photos are described, with the engine that described the rows. It is loaded when the first photo is
            asked for, and then stays.
        negatives: for rows that are normalised by negative embedding subtraction: the same negatives, which are then
            subtracted from queries too.

    Raises:
        FormatError: there is no index, or it is damaged.
        MismatchError: these are not the negatives of the rows.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        describing: Describing | None = None,
        negatives: Descriptors | str | os.PathLike[str] | None = None,
    ) -> None:
        self._describing = describing or Describing()
        self._index = OpenIndex(folder)
        try:
            given = (
                negatives if negatives is None or isinstance(negatives, Descriptors) else read_descriptors(negatives)
            )
            self._negatives = given
            self._check_negatives()
        except BaseException:
            self._index.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """How many rows it has."""
        return len(self._index)

    def close(self) -> None:
        """Close the files of the index."""
        self._index.close()

    def load(self) -> None:
        """Load the lists and the engine now, so that the first question does not wait for them.

        Raises:
            EngineError: the engine cannot be loaded.
            MismatchError: it is another engine than that of the rows.
        """
        self._index.load()
        _ = self._engine

    def query(
        self,
        asked: Inputs | Source | Descriptors | Vectors,
        *,
        k: int = K,
        threshold: float | None = None,
        views: str = WHOLE,
    ) -> IndexAnswer:
        """Find the rows that are most like each query.

        Args:
            asked: photos, as `isc_fast.extract` takes them; or descriptors, as a set, a file, or an array ``float32 (n, d)`` of
                unit rows. An array is compared as it is, and its rows have the ids ``"0"``, ``"1"``, …
            k: rows of each query at most.
            threshold: lowest score, a cosine; None for any: the answer holds the nearest rows then, and its own threshold says
                from which score on they are matches.
            views: of each photo, words of `isc_fast.decoders.views.WORDS`, such as ``"10"``; the best one counts, and the matches
                say which. Descriptors have those that they have.

        Raises:
            MismatchError: the queries and the rows come from different engines, or were normalised differently.
            InputError: a number is out of range, there are no photos, or views of descriptors are wanted.
            EngineError: the engine cannot be loaded.
            FormatError: a file is damaged.
        """
        seen = view_names(views)
        if isinstance(asked, (np.ndarray, Descriptors)):
            check_views(seen, "queries", given=True)
        if isinstance(asked, np.ndarray):
            rows = np.ascontiguousarray(np.atleast_2d(asked), np.float32)
            return self._answer(Descriptors(rows, [str(row) for row in range(len(rows))]), k, threshold)
        if isinstance(asked, Descriptors):
            return self._answer(self._normalized(asked), k, threshold)
        file = descriptors_among(asked)
        check_views(seen, "queries", given=file is not None)
        with nullcontext(self._described(asked, seen)) if file is None else open_any(file) as queries:
            return self._answer(self._normalized(queries), k, threshold)

    def _answer(self, queries: Descriptors, k: int, threshold: float | None) -> IndexAnswer:
        matches = self._index.query(queries, k=k, threshold=threshold)
        at = self._default_threshold(queries) if threshold is None else threshold
        failures = keep(queries.failures)  # the queries' file is closed then
        return IndexAnswer(matches, len(queries), failures, at, given=threshold is not None)

    def _default_threshold(self, queries: Descriptors) -> float | None:
        """The engine's default, as `isc_fast.find_copies` has it; None where it carries none, or the rows are normalised."""
        if not len(queries):
            return None
        with suppress(InputError):
            return choose_for_search(None, queries, self._index.rows).score
        return None

    def _check_negatives(self) -> None:
        if self._negatives is None:
            return
        done = self._index.rows.provenance.normalization
        if done is None or done.by_score:
            raise MismatchError("the rows of the index are not normalised by these negatives; leave the negatives out")
        if done.negatives != self._negatives.content_id():
            raise MismatchError(
                f"the rows of the index are normalised by {done}, and these are other negatives; give those: --negatives FILE"
            )

    def _normalized(self, queries: Descriptors) -> Descriptors:
        """The queries, normalised as the rows are."""
        done = self._index.rows.provenance.normalization
        if done is None or queries.provenance.normalization is not None or not queries.provenance.stamped:
            return queries
        if self._negatives is None:
            raise MismatchError(
                f"the rows of the index are normalised by {done}, and the queries are not; give the same negatives: --negatives "
                "FILE"
            )
        default = NegativeSubtraction()
        numbers: dict[str, Any] = {
            name: getattr(default, name) if getattr(done, name) is None else getattr(done, name)
            for name in ("k", "beta", "iterations")
        }
        made = subtract_negatives(queries, self._negatives, **numbers)
        return replace(made, failures=queries.failures)

    @cached_property
    def _engine(self) -> Engine:
        """The loaded engine, which is that of the rows."""
        given = self._describing.engine
        options = dict(self._describing.engine_options or {})
        devices = self._describing.devices
        if devices is not None:
            if not isinstance(devices, str) or "," in devices or devices.endswith(":all"):
                raise InputError("an index is asked on one device; give one, such as cpu or cuda:1")
            options["device"] = devices
        engine = load_engine(given, **options) if isinstance(given, (str, os.PathLike)) else given
        plain = self._index.rows.provenance.without("normalization").write()
        rows = replace(self._index.rows, meta=plain)
        compare(self._set(engine, np.empty((0, engine.spec.dim), np.float32), [], ()), rows).require()
        return engine

    @cached_property
    def _decoder(self) -> Decoder:
        asked = self._describing
        return make_decoder(
            asked.decoder,
            asked.workers,
            gpu=gpu_of(self._engine),
            stays_there=abilities(self._engine).takes_gpu_pixels,
            isolated=asked.isolated,
        )

    def _described(self, inputs: Inputs | Source, views: tuple[str, ...]) -> Descriptors:
        """Describe photos, all in memory."""
        source = as_source(inputs, self._describing.ids, self._describing.choice)
        items: Sequence[Item] = list(source.list().found)
        if not len(items):
            raise InputError("there is no photo among what was asked; give a photo, a folder, or descriptors")
        engine = self._engine
        made = _InMemory()
        batch_size = self._describing.batch_size or engine.default_batch_size
        equipment = Equipment(engine, self._decoder, batch_size, opener(source), views=views)
        compute_shards([Shard(0, items)], equipment, made)
        failures = [row for row in made.ledger if row.stage != NOTED]
        lost = {row.id for row in failures}
        return self._set(engine, made.vectors, [item.id for item in items if item.id not in lost], failures, views)

    def _set(
        self,
        engine: Engine,
        vectors: Vectors,
        ids: Sequence[str],
        failures: Sequence[Failure],
        views: tuple[str, ...] = ONLY_WHOLE,
    ) -> Descriptors:
        how = replace(engine.spec.input, views=views)
        decoder = choose_decoder(self._decoder.name, how) if len(ids) else None
        facts = Provenance.of_extraction(engine.id, engine.spec.to_dict(), decoder or "pillow", PlanFacts(), views)
        return Descriptors(vectors, ids, facts.write(), failures)


class _InMemory:
    """Keeps what was computed; see `isc_fast.extraction.compute.Sink`."""

    vectors: Vectors
    ledger: Sequence[Failure]

    def store(self, _shard: Shard, vectors: Vectors, ledger: Sequence[Failure]) -> None:
        self.vectors, self.ledger = vectors, ledger

    def count(self, _shard: Shard, _images: int, _failed: int) -> None:
        """Nobody counts."""
