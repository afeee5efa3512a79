"""The seam of the exporter: a `Target` says what it makes and takes, a `Making` makes one engine of that kind.

A target is one file in this folder and one row in `isc_fast.export.targets.table.TARGETS`. Its module is light: it imports
torch, onnx and TensorRT only when an engine is made, so that the table can be read where none of them is installed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ...engines.spec import EngineSpec
from ...errors import ParityError
from ..request import Request


@dataclass(frozen=True)
class Draft:
    """How one candidate is to be computed.

    Attributes:
        content: what `Making.build` needs; nobody else looks at it.
        shares: which share of the arithmetic is computed in which precision, as ``"int8_share"`` and so on.
        lost: mean loss of the choice on calibration photos; None where there was nothing to choose.
    """

    content: Any = None
    shares: Mapping[str, float] = field(default_factory=dict)
    lost: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What the gate measured.

    Attributes:
        figures: fields of `EngineSpec` that the candidate is published with: ``parity`` or ``accuracy``.
        problems: why the candidate is not published; empty where it passes.
    """

    figures: Mapping[str, Any]
    problems: Sequence[str] = ()


class Making(ABC):
    """One engine while it is made, as a candidate at a temporary path.

    `isc_fast.export.loop.first_that_passes` calls the methods in the order in which they stand here.
    """

    def choose(self, budget: float) -> Draft | None:
        """Choose what the next candidate computes in which precision.

        Args:
            budget: mean loss that the choice may cost.

        Returns:
            the choice; None where nothing can be chosen within the budget.
        """
        return Draft()

    @abstractmethod
    def build(self, draft: Draft) -> None:
        """Write the candidate."""

    @abstractmethod
    def gate(self, draft: Draft) -> Verdict:
        """Load the candidate from its file and measure it.

        Raises:
            ParityError: the candidate is wrong in a way that another choice would not repair.
        """

    @abstractmethod
    def stamp(self, verdict: Verdict) -> EngineSpec:
        """Write the figures into the candidate, read it back, and return its specification.

        Raises:
            ParityError: the candidate changed when it was written again.
        """

    def refusal(self, last: Verdict | None) -> ParityError:
        """The error for the user when no candidate passes.

        Args:
            last: the verdict on the last candidate; None where no candidate was built.
        """
        problems = last.problems if last else ("nothing could be chosen",)
        return ParityError(f"the engine does not pass its gate: {'; '.join(problems)}; nothing was published")


class Target(ABC):
    """A kind of engine that the exporter makes.

    Attributes:
        kind: what its engines are called in messages: ``"an .onnx engine"``.
        suffix: what their files end in, in small letters.
        precisions: those that it makes.
        default_precision: the precision where a user names none; the first row of a suffix decides.
        options: a frozen dataclass of the options that this target alone takes; every field has a default.
        from_engine: whether it starts from an fp32 ``.onnx`` engine; else it starts from a checkpoint.
        only: by name of an option: the sentence that refuses it for other targets, where the general one says too little;
            ``{flag}`` and ``{value}`` stand for what was given.
        implied: options of other targets, with the one value that says what this target does anyway.
        refusals: by name of an option, or ``"precision"``: why this target does not take it, likewise.
    """

    kind: ClassVar[str]
    suffix: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    default_precision: ClassVar[str] = "fp32"
    options: ClassVar[type[Any]]
    from_engine: ClassVar[bool] = False
    only: ClassVar[Mapping[str, str]] = {}
    implied: ClassVar[Mapping[str, Any]] = {}
    refusals: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def check(self, request: Request) -> Request:
        """Refuse what this target cannot do here, before any work, and return the request with its options filled in.

        Raises:
            EngineError, InputError: the request cannot be met, or not on this machine.
            MissingExtraError: a package that it needs is not installed.
        """

    @abstractmethod
    def open(self, request: Request, path: Path) -> AbstractContextManager[Making]:
        """Begin to make an engine.

        Args:
            request: as `check` returned it.
            path: where the candidate is written; its folder is a scratch folder, which other temporary files may use too.
        """

    def files(self, path: Path) -> tuple[Path, ...]:
        """All files of an engine at this path; the first is the path itself."""
        return (path,)
