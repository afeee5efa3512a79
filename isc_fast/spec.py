"""What an engine file promises: EngineSpec travels inside the file and is checked when it is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from .errors import EngineError

SPEC_VERSION = 1
METADATA_KEY = "isc_fast.spec"
"""Key of the specification in the metadata of an ONNX file; the value is JSON."""

PREPROCESSING = "rgb8-pillow-bilinear-1"
"""Name of the preprocessing contract that `isc_fast.decoders.rules` implements."""


@dataclass(frozen=True)
class EngineSpec:
    """The contract of one engine file: ``uint8 (n, height, width, 3)`` RGB in, unit ``float32 (n, dim)`` out.

    Attributes:
        name: what the engine is called in files made with it, e.g. ``"v107"``.
        arch: the backbone's timm name, as the checkpoint gave it.
        height, width: of the input, in pixels.
        dim: length of a descriptor.
        gem_p: power of generalised-mean pooling that is built into the graph.
        precision: of the arithmetic: ``"fp32"``.
        weights_as: how the weights are stored: ``"fp32"``, or ``"fp16"`` widened to fp32 when the engine loads.
        preprocessing: name of the contract that turns a file into the input.
        checkpoint_sha256: of the file the engine was exported from.
        parity: what was measured against the network it came from, before the engine was published.
        tools: versions of the libraries that made the engine.
        version: of this specification.
    """

    name: str
    arch: str
    height: int
    width: int
    dim: int
    gem_p: float
    precision: str = "fp32"
    weights_as: str = "fp32"
    preprocessing: str = PREPROCESSING
    checkpoint_sha256: str = ""
    parity: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    version: int = SPEC_VERSION

    def to_json(self) -> str:
        """One line of JSON with sorted keys; `from_json` reads it back."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> EngineSpec:
        """Read what `to_json` wrote.

        Raises:
            EngineError: not JSON, a field is missing or senseless, or the specification is newer than this version understands.
        """
        try:
            values = json.loads(text)
            version = values["version"]
        except (ValueError, KeyError, TypeError) as error:
            raise EngineError("the engine's specification is damaged; export the engine again") from error
        if version != SPEC_VERSION:
            raise EngineError(
                f"the engine's specification has version {version} and this isc-fast reads version {SPEC_VERSION}; "
                "export the engine again, or install the isc-fast that made it"
            )
        for name in ("height", "width", "dim"):
            if name in values and (not isinstance(values[name], int) or values[name] < 1):
                raise EngineError(
                    f"the engine's specification is damaged ({name} is {values[name]!r}); export the engine again"
                )
        known = {entry.name for entry in fields(cls)}
        try:
            return cls(**{key: value for key, value in values.items() if key in known})
        except TypeError as error:
            raise EngineError(f"the engine's specification is incomplete ({error}); export the engine again") from error
