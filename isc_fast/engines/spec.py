"""The promise of an engine file: `EngineSpec` travels inside the file and is checked when the file is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..decoders.preprocessing import FIRST_NAME, Preprocessing
from ..errors import EngineError
from ..files.reading import parse_json

SPEC_VERSION = 1
METADATA_KEY = "isc_fast.spec"
"""Key of the specification in the metadata of an ONNX file; the value is JSON."""

PREPROCESSING = FIRST_NAME
"""The name of the preprocessing of engines that do not say another: stretch, bilinear, antialiased."""

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int8-bf16", "fp8")
"""The arithmetic of an engine: all in fp32; fp16, on a GPU; bf16; int8 where the graph has Q/DQ pairs, and fp32 or bf16
elsewhere; fp8, on a GPU. Layers that lose too much stay in fp32 in each of them; in a TensorRT plan in int8 or fp8 they stay in
fp16."""
PLAN_PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
"""The precisions of a TensorRT plan."""

RUNTIMES = ("onnxruntime", "openvino")
"""The libraries that can run an ``.onnx`` engine."""
COMPILED_RUNTIMES = ("aoti", "tensorrt")
"""The libraries that run an engine that is compiled for one kind of machine; the kind of file says which."""

_TYPES: dict[Any, tuple[str, ...]] = {
    int: ("height", "width", "dim"),
    (int, float, type(None)): ("gem_p",),
    (str, type(None)): ("arch", "augmentation"),
    str: ("name", "precision", "runtime", "weights_as", "preprocessing", "checkpoint_sha256"),
    list: ("fp32_layers",),
    dict: ("parity", "accuracy", "tools", "operating_point", "teacher"),
}


def uses_bf16(precision: str) -> bool:
    """Whether an engine of this precision needs a processor that computes in bf16."""
    return precision.endswith("bf16")


@dataclass(frozen=True)
class EngineSpec:
    """The contract of one engine file: ``uint8 (n, height, width, 3)`` RGB in, unit ``float32 (n, dim)`` out.

    Attributes:
        name: the engine's name in files made with it, such as ``"v107"``.
        arch: the backbone's timm name, as the checkpoint gave it; None where it has none.
        height, width: of the input, in pixels.
        dim: length of a descriptor.
        gem_p: power of the generalised-mean pooling in the graph; None for networks that pool in another way.
        precision: of the arithmetic, one of `PRECISIONS`.
        fp32_layers: names of the graph's nodes that stay in fp32 where the rest is computed in bf16; each is named like
            the tensor it makes.
        runtime: the library that the engine was measured with and is run by: one of `COMPILED_RUNTIMES`, or one of
            `RUNTIMES`, any of which may run an engine in fp32.
        weights_as: how the weights are stored: ``"fp32"``, or ``"fp16"`` widened to fp32 when the engine loads.
        preprocessing: the name of a `isc_fast.decoders.preprocessing.Preprocessing`; `input` is the value itself.
        checkpoint_sha256: of the file that the engine was exported from.
        parity: the measurements against the network that it came from, made before the engine was published.
        accuracy: for an engine in reduced precision, the measurements against its fp32 engine on copies of photos that
            calibration never saw, made before the engine was published.
        tools: versions of the libraries that made the engine.
        augmentation: which views of a photo the engine makes and sums, such as
            `isc_fast.networks.augmented.SCALES_AND_MIRROR`; None for the photo alone.
        operating_point: the score from which on two photos count as copies, as `isc_fast.engines.operating_point` reads it;
            empty where it was not measured.
        teacher: of a network that learned to give another engine's descriptors: that engine and how near it came, as
            `isc_fast.descriptors.teaching` reads it; empty for any other.
        version: of this specification.
    """

    name: str
    arch: str | None
    height: int
    width: int
    dim: int
    gem_p: float | None
    precision: str = "fp32"
    fp32_layers: tuple[str, ...] = ()
    runtime: str = "onnxruntime"
    weights_as: str = "fp32"
    preprocessing: str = PREPROCESSING
    checkpoint_sha256: str = ""
    parity: Mapping[str, Any] = field(default_factory=dict)
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    augmentation: str | None = None
    operating_point: Mapping[str, Any] = field(default_factory=dict)
    teacher: Mapping[str, Any] = field(default_factory=dict)
    version: int = SPEC_VERSION

    @property
    def input(self) -> Preprocessing:
        """How a photo becomes the input.

        Raises:
            EngineError: this version does not know the preprocessing.
        """
        return Preprocessing.named(self.preprocessing, self.height, self.width)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON. A fact that came later is left out where it says nothing, so that files stay the same."""
        values = asdict(self)
        for name in ("augmentation", "operating_point", "teacher"):
            if not values[name]:
                del values[name]
        return values

    def to_json(self) -> str:
        """One line of JSON with sorted keys; `from_json` reads it back."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> EngineSpec:
        """Read what `to_json` wrote.

        Raises:
            EngineError: not JSON, a field is missing or senseless, or the specification is newer than this version understands.
        """
        try:
            values = parse_json(text)
            version = values["version"]
        except (ValueError, KeyError, TypeError) as error:
            raise EngineError("the engine's specification is damaged; export the engine again") from error
        if version != SPEC_VERSION:
            raise EngineError(
                f"the engine's specification has version {version} and this isc-fast reads version {SPEC_VERSION}; "
                "export the engine again, or install the isc-fast that made it"
            )
        for kind, names in _TYPES.items():
            for name in names:
                value = values.get(name)
                if name in values and (not isinstance(value, kind) or (kind is int and value < 1)):
                    raise EngineError(
                        f"the engine's specification is damaged ({name} is {value!r:.60}); export the engine again"
                    )
        for name, choices in (("precision", PRECISIONS), ("runtime", RUNTIMES + COMPILED_RUNTIMES)):
            if values.get(name, choices[0]) not in choices:
                raise EngineError(
                    f"the engine's {name} is {values[name]!r}, which this isc-fast does not know; install the isc-fast that "
                    "made it"
                )
        values["fp32_layers"] = tuple(map(str, values.get("fp32_layers", ())))
        known = {entry.name for entry in fields(cls)}
        try:
            return cls(**{key: value for key, value in values.items() if key in known})
        except TypeError as error:
            raise EngineError(f"the engine's specification is incomplete ({error}); export the engine again") from error
