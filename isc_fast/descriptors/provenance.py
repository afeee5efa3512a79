"""How a set of descriptors was made: typed records of the JSON in a descriptor file.

A record reads the facts that this version understands into typed attributes. It keeps everything else (facts of a newer
version, and null) in `other`, and writes both back. So a file that is read and written again says exactly what it said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import NoneType
from typing import Any, Self, get_args, get_origin, get_type_hints

from ..decoders.views import ONLY_WHOLE
from ..errors import FormatError, InputError


@dataclass(frozen=True)
class Record:
    """A JSON object with typed facts; None stands for a fact that is missing.

    Attributes:
        other: the members of the object that are no fact of this record, or whose value has another type.
    """

    other: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Read a JSON object."""
        facts: dict[str, Any] = {}
        for name, kinds in _kinds(cls).items():
            value = values.get(name)
            if issubclass(kinds[0], Record):
                if value and isinstance(value, Mapping):
                    facts[name] = kinds[0].read(value)
            elif isinstance(value, kinds):
                facts[name] = value
        return cls(**facts, other={key: value for key, value in values.items() if key not in facts})

    def write(self) -> dict[str, Any]:
        """Return the JSON object that `read` reads into an equal record."""
        facts = {name: getattr(self, name) for name in _kinds(type(self))}
        written = {name: fact.write() if isinstance(fact, Record) else fact for name, fact in facts.items()}
        return dict(self.other) | {name: value for name, value in written.items() if value is not None}

    def without(self, *names: str) -> Self:
        """The same record without these facts, not even as null."""
        other = {key: value for key, value in self.other.items() if key not in names}
        return replace(self, other=other, **{name: None for name in names if name in _kinds(type(self))})


_KINDS: dict[type[Any], dict[str, tuple[type, ...]]] = {}
"""What `_kinds` has found out: reading annotations takes a tenth of the time in which a descriptor file is opened."""


def _kinds(record: type[Record]) -> dict[str, tuple[type, ...]]:
    """The types that each fact of a record may have, by the fact's name; the annotations say them."""
    if record not in _KINDS:
        _KINDS[record] = _annotated(record)
    return _KINDS[record]


def _annotated(record: type[Record]) -> dict[str, tuple[type, ...]]:
    hints = get_type_hints(record)
    names = [entry.name for entry in fields(record) if entry.name != "other"]
    return {
        name: tuple(get_origin(kind) or kind for kind in get_args(hints[name]) if kind is not NoneType)
        for name in names
    }


@dataclass(frozen=True)
class Smoothing(Record):
    """How negatives were smoothed; see `isc_fast.smooth_negatives`.

    Attributes:
        k: neighbours that each negative became the mean of.
        power: of the similarity that weighed them.
        source: content id of the negatives before.
    """

    k: int | None = None
    power: int | None = None
    source: str | None = None

    def __str__(self) -> str:
        numbers = {"k": self.k, "power": self.power}
        details = [f"{name}={value}" for name, value in numbers.items() if value is not None]
        details += [f"of the descriptors {self.source[:12]}"] if self.source is not None else []
        return f"negatives ({', '.join(details)})" if details else "negatives"


_STAMP_NUMBERS = ("role", "k", "beta", "iterations")


@dataclass(frozen=True)
class Normalization(Record):
    """How descriptors were normalised. Two sets with equal records may be searched together.

    Attributes:
        method: ``"nes"`` or ``"score"``.
        role: of score normalisation, ``"query"`` or ``"reference"``.
        k, beta, iterations: numbers of the method.
        smoothing: of the negatives.
        negatives: content id of the negatives.
    """

    method: str | None = None
    role: str | None = None
    k: int | None = None
    beta: float | int | None = None
    iterations: int | None = None
    smoothing: Smoothing | None = None
    negatives: str | None = None

    @property
    def by_score(self) -> bool:
        """Whether the method is score normalisation, which treats queries and references differently."""
        return self.method == "score"

    def __str__(self) -> str:
        numbers = {name: getattr(self, name) for name in _STAMP_NUMBERS}
        details = [f"{name}={value}" for name, value in numbers.items() if value is not None]
        details += [f"negatives {self.negatives[:12]}"] if self.negatives is not None else []
        return f"{self.method} ({', '.join(details)})"


@dataclass(frozen=True)
class PlanFacts(Record):
    """The plan of the extraction that made a file.

    Attributes:
        id: of the plan.
        batch_size: images in one engine call.
        shard_size: images of one part, or containers of images.
        by_container: whether containers were planned; missing where images were.
        inputs: SHA-256 of the names of the inputs and of how they were listed; missing where nobody said so.
    """

    id: str | None = None
    batch_size: int | None = None
    shard_size: int | None = None
    by_container: bool | None = None
    inputs: str | None = None


_NOT_THE_NETWORK = frozenset(
    (
        "name",
        "precision",
        "fp32_layers",
        "weights_as",
        "runtime",
        "parity",
        "accuracy",
        "operating_point",
        "teacher",
        "tools",
        "version",
    )
)
"""Facts of an engine that may differ between two engines of the same network. Every other fact counts, also one that only a
newer version writes: a fact that nobody here understands must not pass for a harmless one."""


@dataclass(frozen=True)
class EngineFacts(Record):
    """The engine's specification as a descriptor file quotes it; see `isc_fast.EngineSpec` for the meaning of each fact.

    A file of an older version lacks the facts that came later. `arithmetic` fills in what they were then.
    """

    name: str | None = None
    precision: str | None = None
    weights_as: str | None = None
    runtime: str | None = None
    checkpoint_sha256: str | None = None
    parity: Mapping[str, Any] | None = None
    accuracy: Mapping[str, Any] | None = None
    operating_point: Mapping[str, Any] | None = None
    teacher: Mapping[str, Any] | None = None

    @property
    def network(self) -> dict[str, Any]:
        """What the engine computes: checkpoint, preprocessing, size and pooling, whatever the precision and the runtime."""
        return {key: value for key, value in self.write().items() if key not in _NOT_THE_NETWORK}

    @property
    def arithmetic(self) -> str:
        """The precision in words, such as ``"int8"``, or ``"fp32 with weights in fp16"``."""
        precision, weights = self.precision or "fp32", self.weights_as or "fp32"
        return precision if weights == "fp32" else f"{precision} with weights in {weights}"


@dataclass(frozen=True)
class ExtractionFacts:
    """What an extraction has to know of an output that it finds, none of it missing."""

    engine_id: str
    engine_name: str
    decoder: str
    plan_id: str
    batch_size: int
    shard_size: int
    views: tuple[str, ...] = ONLY_WHOLE
    by_container: bool = False
    inputs: str | None = None


ROW_TYPES = ("float32", "float16")
"""In which types a file may hold descriptors. float16 takes half the disk; what is read is float32 again."""


def check_row_type(dtype: str | None) -> None:
    """See that there is such a type of rows; None leaves it open.

    Raises:
        InputError: there is none.
    """
    if dtype is not None and dtype not in ROW_TYPES:
        raise InputError(f"descriptors are stored as {' or '.join(ROW_TYPES)}, not as {dtype!r}")


_BELONGING = ("engine_id", "engine", "normalization", "smoothing", "views")


@dataclass(frozen=True)
class Provenance(Record):
    """How a set of descriptors was made. Nothing is known of a foreign file: its record is empty.

    Attributes:
        engine_id: SHA-256 of the engine file.
        engine: its specification.
        decoder: that turned the photos into pixels, one of `isc_fast.decoders.base.DECODERS`.
        plan: of the extraction; missing where the set was computed from another set.
        normalization: by negatives; None for plain descriptors.
        smoothing: None for descriptors of photos.
        plan_id, shard: of a part file, the plan that it belongs to and its number there.
        merged: of a set that was put together: the other engine files that made rows of it, each with ``engine_id``, ``name`` and
            ``arithmetic``.
        dtype: the type in which a file holds the rows, where it is not float32; see `ROW_TYPES`. Sets of different types may be
            compared.
        views: the views of a photo whose descriptors a row holds, in order, by their names; missing where a row is one
            descriptor, of the whole photo. See `seen`.
    """

    engine_id: str | None = None
    engine: EngineFacts | None = None
    decoder: str | None = None
    plan: PlanFacts | None = None
    normalization: Normalization | None = None
    smoothing: Smoothing | None = None
    plan_id: str | None = None
    shard: int | None = None
    merged: list[Any] | None = None
    dtype: str | None = None
    views: list[str] | None = None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Read what a descriptor file says about itself.

        Raises:
            FormatError: a fact that decides what the set may be compared with has a form that this version cannot read.
        """
        found = super().read(values)
        for name in _BELONGING:
            if found.other.get(name):
                raise FormatError(
                    f"these descriptors say {name} = {found.other[name]!r:.60}, which this isc-fast does not understand; "
                    "install the isc-fast that made them, or extract them again"
                )
        views = found.views
        if views is not None and not (
            views and all(isinstance(name, str) and name for name in views) and len({*views}) == len(views)
        ):
            raise FormatError(
                f"these descriptors say views = {views!r:.60}, and views are names that differ; extract them again"
            )
        return found

    @classmethod
    def of_extraction(
        cls,
        engine_id: str,
        spec: Mapping[str, Any],
        decoder: str,
        plan: PlanFacts,
        views: tuple[str, ...] = ONLY_WHOLE,
    ) -> Self:
        """The record of plain descriptors; ``spec`` is the engine's specification as a dictionary."""
        plain = {"normalization": None}  # stands in the file, so that a reader sees that there is none
        engine, seen = EngineFacts.read(spec), None if views == ONLY_WHOLE else [*views]
        return cls(engine_id=engine_id, engine=engine, decoder=decoder, plan=plan, views=seen, other=plain)

    @property
    def seen(self) -> tuple[str, ...]:
        """The views of a photo whose descriptors a row holds, in order; the whole photo alone where there are no others."""
        return tuple(self.views or ONLY_WHOLE)

    def smoothed(self, smoothing: Smoothing) -> Self:
        """The record of negatives that were smoothed: they are no longer the result of an extraction's plan."""
        return replace(self.without("plan", "smoothing", "dtype"), smoothing=smoothing)

    def normalized(self, normalization: Normalization) -> Self:
        """The record of descriptors that were normalised: they are no longer the result of an extraction's plan."""
        return replace(self.without("plan", "normalization", "dtype"), normalization=normalization)

    @property
    def row_type(self) -> str:
        """The type in which a file holds the rows; see `ROW_TYPES`."""
        return self.dtype or ROW_TYPES[0]

    def stored_as(self, dtype: str | None) -> Self:
        """The record of the same descriptors whose rows a file will hold in another type; None is float32.

        Raises:
            InputError: there is no such type.
        """
        check_row_type(dtype)
        plain = self.without("dtype")
        return plain if dtype in (None, ROW_TYPES[0]) else replace(plain, dtype=dtype)

    @property
    def extraction(self) -> ExtractionFacts | None:
        """How the set was extracted; None if it is no plain result of an extraction."""
        engine, plan = self.engine or EngineFacts(), self.plan or PlanFacts()
        facts = (self.engine_id, engine.name, self.decoder, plan.id, plan.batch_size, plan.shard_size)
        if self.normalization or self.smoothing or None in facts:
            return None
        return ExtractionFacts(*facts, self.seen, bool(plan.by_container), plan.inputs)  # type: ignore[arg-type]  # none is None

    @property
    def arithmetics(self) -> list[str]:
        """In which precisions its rows were made; see `EngineFacts.arithmetic`."""
        others = [row.get("arithmetic") for row in self.merged or [] if isinstance(row, Mapping)]
        own = [self.engine.arithmetic] if self.engine else []
        return sorted({*own, *(name for name in others if isinstance(name, str))})

    @property
    def belonging(self) -> Self:
        """What decides whether two sets belong together: the engine, and how they were normalised or smoothed."""
        return self.read({key: value for key, value in self.write().items() if key in _BELONGING})

    @property
    def stamped(self) -> bool:
        """Whether the set says anything of that; a foreign file does not."""
        return any(getattr(self, name) is not None for name in _BELONGING)
