"""Reading an engine's specification and id from its file before any runtime is loaded; the specification names the runtime.

An ONNX file is one protocol-buffer message, ``ModelProto`` of onnx.proto3: a chain of (field number, wire type, value).
Its field 14, ``metadata_props``, holds the specification. The rest is gone through only to see that all weights are in the
file. The reader jumps over the weights themselves, so a large file costs nothing.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import EngineError
from ..files.reading import open_regular
from .spec import METADATA_KEY, EngineSpec

_METADATA_PROPS = 14
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_KEY, _VALUE = 1, 2

# The messages that lie between the model and its tensors, and the fields through which they lead there, by onnx.proto3.
_PATHS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA = 13  # of a tensor: where its numbers are, if they are in another file
_OP_TYPE = 4  # of a node
_CONTEXT = b"EPContext"  # the operator that stands for a compiled graph, which may be in another file
_DEEPEST = 100  # graphs within graphs

Bytes = bytes | mmap.mmap


def _varint(data: Bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number longer than 64 bits")


def _fields(data: Bytes, at: int = 0, end: int | None = None) -> Iterator[tuple[int, int, int]]:
    """Yield (number, first byte, end) of every field of a message that has a length, and skip the others.

    Args:
        data: holds the message.
        at, end: the message's first byte and its end; by default all of the data.

    Raises:
        ValueError, IndexError: this is not a protocol-buffer message, or it is cut short.
    """
    size = len(data) if end is None else end
    while at < size:
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if not number:
            raise ValueError("field number 0")
        if kind == _VARINT:
            _, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        elif kind == _LENGTH:
            length, at = _varint(data, at)
            yield number, at, at + length
            at += length
        else:
            raise ValueError(f"wire type {kind}")
    if at != size:
        raise ValueError("cut short")


def metadata(data: Bytes) -> dict[str, str]:
    """Read the ``metadata_props`` from the bytes of an ONNX file.

    Raises:
        ValueError, IndexError: these bytes are not an ONNX file.
    """
    found = {}
    for number, start, end in _fields(data):
        if number == _METADATA_PROPS:
            entry = data[start:end]
            texts = {key: entry[a:b].decode() for key, a, b in _fields(entry)}
            found[texts.get(_KEY, "")] = texts.get(_VALUE, "")
    return found


def _refuse_other_files(data: Bytes) -> None:
    """Refuse a graph of which a part lies in another file: the id of an engine is the hash of its own file.

    Raises:
        EngineError: a tensor's numbers, or a part of the graph, lie in another file.
        ValueError, IndexError: these bytes are not an ONNX file.
    """
    messages = [("model", 0, len(data), 0)]
    while messages:
        kind, start, end, depth = messages.pop()
        if depth > _DEEPEST:
            raise ValueError("graphs within graphs without an end")
        for number, first, last in _fields(data, start, end):
            if last > end:
                raise ValueError("cut short")
            if kind == "tensor":
                if number == _EXTERNAL_DATA:
                    raise EngineError("its weights lie in another file, which could change unseen")
            elif kind == "node" and number == _OP_TYPE and data[first:last] == _CONTEXT:
                raise EngineError(
                    "a part of its graph is compiled, and may lie in another file, which could change unseen"
                )
            elif number in _PATHS[kind]:
                messages.append((_PATHS[kind][number], first, last, depth + 1))


def read_spec(path: Path) -> EngineSpec:
    """Read the specification inside an ``.onnx`` engine, and see that all of the engine is in this file.

    Raises:
        EngineError: the file is not ONNX or is damaged, holds no specification, wants a preprocessing that is not known, or keeps
            weights in another file.
    """
    try:
        with open_regular(path) as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            text = metadata(data).get(METADATA_KEY)
            _refuse_other_files(data)
    except OSError as error:
        raise EngineError(f"cannot read {path}: {error.strerror or error}") from error
    except EngineError as error:
        raise EngineError(f"{path} cannot be used: {error}; export it again, into one file") from error
    except (ValueError, IndexError) as error:  # an empty file cannot be mapped either: ValueError
        raise EngineError(f"{path} is not an ONNX file, or it is damaged ({error}); export it again") from error
    if text is None:
        raise EngineError(
            f"{path} is an ONNX file without an isc-fast specification; make the engine with isc-fast export"
        )
    return parse_spec(text, path)


def has_spec(path: str | os.PathLike[str]) -> bool:
    """Whether a file is ONNX with a specification inside, so an engine. A file that cannot be read is none."""
    try:
        with open_regular(path) as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return METADATA_KEY in metadata(data)
    except (OSError, EngineError, ValueError, IndexError):
        return False


def parse_spec(text: str, path: Path) -> EngineSpec:
    """Parse the specification that stood in an engine file.

    Raises:
        EngineError: it is damaged, or wants a preprocessing that is not known.
    """
    spec = EngineSpec.from_json(text)
    try:
        _ = spec.input
    except EngineError as error:
        raise EngineError(f"{path} cannot be used: {error}") from error
    return spec
