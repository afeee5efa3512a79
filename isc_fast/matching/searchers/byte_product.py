"""Products of matrices of bytes, summed exactly in 32 bits, by ONNX Runtime."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ByteProduct:
    """A product of bytes.

    Attributes:
        multiply: takes ``uint8 (m, d)`` and ``int8 (d, n)``; gives ``int32 (m, n)``.
        largest: size of the largest signed byte for which every sum is exact.
    """

    multiply: Callable[[Any, Any], Any]
    largest: int


_LARGEST = (127, 63)

# ONNX: y = MatMulInteger(a, b), as onnx.helper makes it with opset 17 and IR version 8.
_MODEL = (
    b'\x08\x08:P\n\x18\n\x01a\n\x01b\x12\x01y"\rMatMulInteger\x12\x01gZ\x0f\n\x01a\x12\n\n\x08\x08\x02\x12\x04\n\x00\n\x00'
    b"Z\x0f\n\x01b\x12\n\n\x08\x08\x03\x12\x04\n\x00\n\x00b\x0f\n\x01y\x12\n\n\x08\x08\x06\x12\x04\n\x00\n\x00B\x04\n\x00\x10\x11"
)


@functools.cache
def load_byte_product() -> ByteProduct | None:
    """Load the product. It is None where ONNX Runtime is missing, or where this processor's sums are not exact.

    Processors without instructions for it (VNNI) add two products in 16 bits, and cut off a sum that is too large. Two
    products of signed bytes up to 63 fit: 2 · 63 · 255 < 2¹⁵. So these processors get one bit less.
    """
    try:
        runtime = importlib.import_module("onnxruntime")
    except (ImportError, OSError):
        return None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1  # the first pass has threads of its own
    session = runtime.InferenceSession(_MODEL, options, providers=["CPUExecutionProvider"])

    def product(a: Any, b: Any) -> Any:
        return session.run(None, {"a": a, "b": b})[0]

    def exact(largest: int) -> bool:
        a, b = np.full((64, 256), 255, np.uint8), np.full((256, 64), largest, np.int8)
        b[:, ::2] = -largest
        return bool((product(a, b) == a.astype(np.int32) @ b.astype(np.int32)).all())

    return next((ByteProduct(product, largest) for largest in _LARGEST if exact(largest)), None)
