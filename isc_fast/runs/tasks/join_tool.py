"""A worker that compares: it opens the work of a run and computes pieces of it; see `isc_fast.extraction.runners.assignment`.

The message of the beginning names the kind of the work, one of `KINDS`, and what opens it: sets of descriptors, limits and cut.
Each set has its identity beside its path, so that a worker which finds something else there says so.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property, partial
from typing import Any

from ...descriptors.formats.table import open_any
from ...descriptors.identity import identity_of
from ...descriptors.store import Descriptors
from ...errors import MismatchError
from ...extraction.runners.account import Report
from ...extraction.runners.assignment import Channel
from ...extraction.runners.seen import check_seen
from ...files.atomic import write_text
from ...files.homes import Home, home_of
from ...machine.cores import Part, available_cores, use_cores
from ...machine.gpus import find_device
from ...machine.likeness import hardware
from ...matching.pairs.cross_join import CrossJoin
from ...matching.pairs.pair_files import PairFiles
from ...matching.pairs.search_tasks import Cut, Limits, SearchTasks
from ...matching.pairs.self_join import SelfJoin
from ...matching.searchers.cpu_searcher import CPU
from ...matching.searchers.searcher import Searcher, open_searcher
from ...stores.urls import is_url, unfold
from . import made_rows
from .joining import Join, PairPieces, Pieces, Recipe
from .part_tasks import PartTasks
from .task_folder import text_and_id


def search_message(limits: Limits, cut: Cut) -> dict[str, Any]:
    """What opens `SearchTasks` in a worker, beside the sets."""
    return {"kind": "search", "limits": [*vars(limits).values()], "cut": [cut.queries, [*cut.starts]]}


def side_message(path: str | os.PathLike[str], descriptors: Descriptors) -> tuple[str, str]:
    """What tells a worker of a set: where it is, and its identity."""
    name = unfold(os.fspath(path))
    return name if is_url(name) else os.path.abspath(name), identity_of(path, descriptors)


def self_recipe(place: Home, side: tuple[str, str], threshold: float, rows: int, device: str) -> Recipe:
    """How workers open a `SelfJoin`, whose pieces lie in a folder.

    Raises:
        OutputError: the plan cannot be written.
    """
    return recipe_in(place, {"kind": "self", "sides": [side], "threshold": threshold, "rows": rows}, device)


def cross_recipe(
    place: Home, sides: Sequence[tuple[str, str]], threshold: float, rows: tuple[int, int], device: str
) -> Recipe:
    """How workers open a `CrossJoin`, whose pieces lie in a folder.

    Raises:
        OutputError: the plan cannot be written.
    """
    return recipe_in(place, {"kind": "cross", "sides": [*sides], "threshold": threshold, "rows": [*rows]}, device)


def recipe_in(place: Home, begin: Mapping[str, Any], device: str) -> Recipe:
    """How workers open work whose pieces lie in a folder. A plan there tells them whether they see it.

    Raises:
        OutputError: the plan cannot be written.
    """
    text, plan_id = text_and_id(begin)
    name = f"plan-{plan_id[:16]}.json"  # the sets may lie elsewhere next time, and nothing in a bucket is replaced
    place.create(name, partial(write_text, text=text))
    return Recipe(device, {**begin, "plan": [place.absolute, name, len(text)]})


def _self(sides: Sequence[Descriptors], begin: Mapping[str, Any], searcher: Searcher) -> Pieces:
    return _pieces(SelfJoin(sides[0], begin["threshold"], device=searcher, rows=begin["rows"]), begin)


def _cross(sides: Sequence[Descriptors], begin: Mapping[str, Any], searcher: Searcher) -> Pieces:
    rows = (begin["rows"][0], begin["rows"][1])
    return _pieces(CrossJoin(sides[0], sides[1], begin["threshold"], device=searcher, rows=rows), begin)


def _search(sides: Sequence[Descriptors], begin: Mapping[str, Any], searcher: Searcher) -> Pieces:
    queries, references = sides
    return _pieces(SearchTasks(queries, references, Limits(*begin["limits"]), Cut(*begin["cut"]), searcher), begin)


def _pieces(join: Join, begin: Mapping[str, Any]) -> Pieces:
    return PairPieces(join, PairFiles(begin["place"], join.blocks))


def _made(sides: Sequence[Descriptors], begin: Mapping[str, Any], searcher: Searcher) -> Pieces:
    made = made_rows.KINDS[begin["kind"]](sides, begin["numbers"], begin["meta"], searcher)
    return PartTasks(made, begin["starts"], begin["place"])


KINDS: dict[str, Callable[[Sequence[Descriptors], Mapping[str, Any], Searcher], Pieces]] = {
    "search": _search,
    "self": _self,
    "cross": _cross,
    "normalize": _made,
    "negatives": _made,
}
"""By name, what opens work on sets of descriptors."""


class JoinTool:
    """What searches, in a worker; see `isc_fast.extraction.runners.assignment.Tool`.

    Args:
        device: see `isc_fast.search`.
    """

    facts: Mapping[str, Any] = {}

    def __init__(self, device: str) -> None:
        self._device, self._searcher = device, open_searcher(device)

    @cached_property
    def hardware(self) -> Mapping[str, str]:
        """See there."""
        return hardware(self._device, None if self._device == CPU else str(find_device()))

    def compute(self, channel: Channel, begin: Mapping[str, Any]) -> None:
        """See there."""
        address, name, size = begin["plan"]
        home = home_of(address)
        check_seen(lambda: home.size(name), size, address)
        with ExitStack() as stack:
            sides = [stack.enter_context(open_any(path)) for path, _ in begin["sides"]]
            for (path, identity), side in zip(begin["sides"], sides, strict=True):
                if identity_of(path, side) != identity:
                    raise MismatchError(
                        f"the node {socket.gethostname()} has other descriptors at {path} than the machine that began the run; "
                        "they must be there for all nodes under the same path"
                    )
            pieces = KINDS[begin["kind"]](sides, begin, self._searcher)
            while (task := channel.ask(wait=True)) is not None:
                pieces.write(task["shard"])
                channel.report(Report(task["shard"], task["size"], 0, stored=True))


def open_tool(job: Mapping[str, Any], part: Part | None) -> JoinTool:
    """Open what searches; see `isc_fast.extraction.runners.assignment.load_tool`.

    Raises:
        EngineError: there is no such device, or faiss does not work on it.
        MissingExtraError: faiss is not installed.
    """
    use_cores(job["cores"] if part is None else part.share(available_cores()))
    return JoinTool(job["device"])
