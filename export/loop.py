"""The loop of every export: choose, build, gate; with less to lose where a candidate does not pass."""

from __future__ import annotations

from pathlib import Path

from ..engines.spec import EngineSpec
from .precision.gate import ATTEMPTS, LOSS_BUDGET, next_budget
from .request import Request
from .targets.base import Making, Target, Verdict


def make(target: Target, request: Request, path: Path) -> EngineSpec:
    """Make one engine as a file that has passed its gate and says so; nobody else sees it yet.

    Args:
        target: what makes it.
        request: as `Target.check` returned it.
        path: where the file is written; its folder is a scratch folder.

    Raises:
        ParityError: no candidate passes.
        IscFastError: what the target raises.
    """
    with target.open(request, path) as making:
        return first_that_passes(making)


def first_that_passes(making: Making) -> EngineSpec:
    """Build one candidate after another until one passes its gate.

    Raises:
        ParityError: none does; no more than `ATTEMPTS` are tried.
    """
    budget = LOSS_BUDGET
    verdict: Verdict | None = None
    for _ in range(ATTEMPTS):
        draft = making.choose(budget)
        if draft is None:
            break
        making.build(draft)
        verdict = making.gate(draft)
        if not verdict.problems:
            return making.stamp(verdict)
        if draft.lost is None:
            break
        budget = next_budget(budget, draft.lost)
    raise making.refusal(verdict)
