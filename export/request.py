"""What a user asks the exporter for: one value that every target reads, and the checks that hold for all of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engines.kinds import kind_of
from ..errors import CheckpointError, EngineError, InputError, OutputError
from ..networks.torch_files import refuse_other_files
from ..networks.weights import RELEASES, DownloadCallback
from .telling import Say, say_nothing

MIN_COSINE = 0.99999
"""Lowest cosine of any photo between an fp32 engine and the network that it comes from."""

_SIZES = (32, 4096)


@dataclass(frozen=True)
class Request:
    """One engine that a user wants.

    Attributes:
        ckpt: what the engine is made from: a checkpoint, the name of published weights, or an fp32 ``.onnx`` engine.
        output: where the engine is published; its suffix picks the kind of engine.
        precision: what the engine computes in, one of `isc_fast.engines.spec.PRECISIONS`.
        photos: real images, to verify with; a lower precision is also calibrated and measured with them.
        name: what the engine calls itself; None takes the preset's name or the file's.
        size: side of the input in pixels; None takes the checkpoint's.
        gem_p: power of the pooling; None takes the preset's or the checkpoint's.
        min_cosine: every photo has to agree with the network at least this well.
        options: an instance of the target's `options` class.
        say: gets one line for each thing that begins.
        progress: gets (bytes here, bytes in all) of a download.
    """

    ckpt: str | os.PathLike[str]
    output: Path
    precision: str = "fp32"
    photos: Sequence[Path] = ()
    name: str | None = None
    size: int | None = None
    gem_p: float | None = None
    min_cosine: float = MIN_COSINE
    options: Any = None
    say: Say = say_nothing
    progress: DownloadCallback | None = None

    @property
    def given_engine(self) -> str:
        """The suffix of `ckpt` where its name is an engine's, such as ``".onnx"``; else an empty string."""
        kind = kind_of(self.ckpt)
        return kind.suffix if kind else ""


def check_request(request: Request) -> None:
    """Refuse what no target can do, before any work begins.

    Raises:
        InputError: the size cannot be used, or there is no photo.
        CheckpointError: the checkpoint does not exist or is something else.
        OutputError: the folder of the output does not exist.
    """
    size, output = request.size, request.output
    least, most = _SIZES
    if size is not None and not least <= size <= most:
        raise InputError(f"the input size {size} cannot be used; expected {least} to {most} pixels")
    if not output.parent.is_dir():
        raise OutputError(f"cannot write {output}: the folder {output.parent} does not exist; make it first")
    if not request.photos:
        raise InputError("there are no photos to verify the engine on; pass some, for example --photos FOLDER")
    if not request.given_engine:
        _check_checkpoint(request.ckpt)


def _check_checkpoint(ckpt: str | os.PathLike[str]) -> None:
    """Refuse a checkpoint that cannot be one, before torch is imported, which takes seconds."""
    path = Path(ckpt)
    if path.is_file():
        refuse_other_files(path)
    elif os.fspath(ckpt) not in RELEASES:
        found = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError(
            f"the checkpoint {path} {found}; expected a file, or published weights: {', '.join(RELEASES)}"
        )


def check_engine_is_taken_as_it_is(request: Request) -> None:
    """Refuse to change the input or the pooling of an engine; both are part of its graph.

    Raises:
        EngineError: a size or a power was given together with an ``.onnx`` engine.
    """
    if request.given_engine == ".onnx" and (request.size is not None or request.gem_p is not None):
        raise EngineError(f"{request.ckpt} is an engine; its size and pooling are in it and cannot be changed")
