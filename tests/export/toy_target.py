"""A kind of engine in one file: the smallest target there is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from isc_fast.engines.spec import EngineSpec
from isc_fast.errors import EngineError
from isc_fast.export.request import Request
from isc_fast.export.targets.base import Draft, Making, Target, Verdict


@dataclass(frozen=True)
class ToyOptions:
    sparkle: int = 3
    """How good the second candidate is; the first is one worse."""


class ToyMaking(Making):
    def __init__(self, request: Request, path: Path) -> None:
        self.request, self.path = request, path
        self.spec = EngineSpec("toy", "none", 8, 8, 4, 1.0, precision=request.precision)

    def choose(self, budget: float) -> Draft | None:
        """Less is lost in each attempt, as with layers that are kept in fp32."""
        self.request.say(f"choose {budget:.1e}")
        return Draft(self.request.options.sparkle - 1 if budget > 3.5e-4 else self.request.options.sparkle, {}, budget)

    def build(self, draft: Draft) -> None:
        self.request.say(f"build {draft.content}")
        self.path.write_text(str(draft.content))

    def gate(self, draft: Draft) -> Verdict:
        """It measures the file."""
        found = int(self.path.read_text())
        self.request.say(f"gate {found}")
        return Verdict({"parity": {"found": found}}, [] if found >= 3 else [f"{found} sparks, expected at least 3"])

    def stamp(self, verdict: Verdict) -> EngineSpec:
        spec = replace(self.spec, **verdict.figures)
        self.path.write_text(spec.to_json())
        return spec


class ToyTarget(Target):
    kind = "a .toy"
    suffix = ".toy"
    precisions = ("fp32", "fp16")
    options = ToyOptions

    def check(self, request: Request) -> Request:
        if request.options.sparkle > 9:
            raise EngineError("a .toy has at most 9 sparks")
        return request

    @contextlib.contextmanager
    def open(self, request: Request, path: Path) -> Iterator[Making]:
        yield ToyMaking(request, path)
        request.say("closed")
