"""Reading an engine's specification and id from its file before any runtime is loaded; the specification names the runtime.

An ONNX file is one protocol-buffer message, ``ModelProto`` of onnx.proto3: a chain of (field number, wire type, value).
Only its field 14, ``metadata_props``, matters here. The reader jumps over the weights, so a large file costs nothing.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import EngineError
from .spec import METADATA_KEY, EngineSpec

_METADATA_PROPS = 14
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_KEY, _VALUE = 1, 2

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


def _fields(data: Bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (number, first byte, end) of every field that has a length, and skip the others.

    Raises:
        ValueError, IndexError: this is not a protocol-buffer message, or it is cut short.
    """
    at, size = 0, len(data)
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


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_spec(path: Path) -> EngineSpec:
    """Read the specification inside an ``.onnx`` engine.

    Raises:
        EngineError: the file is not ONNX or is damaged, holds no specification, or wants a preprocessing that is not known.
    """
    try:
        with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            text = metadata(data).get(METADATA_KEY)
    except OSError as error:
        raise EngineError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, IndexError) as error:  # an empty file cannot be mapped either: ValueError
        raise EngineError(f"{path} is not an ONNX file, or it is damaged ({error}); export it again") from error
    if text is None:
        raise EngineError(
            f"{path} is an ONNX file without an isc-fast specification; make the engine with isc-fast export"
        )
    return parse_spec(text, path)


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
