"""TensorRT's log. TensorRT raises nothing when a call fails but writes to a log; this module turns that into reasons."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from typing import Any

_KEPT = 200
_NOISE = ("cudaError 35", "catchCudaError")
"""TensorRT-RTX writes these on a machine without a GPU, even where it builds well."""

_MEANINGS = (
    ("magicTag == kEXPECTED_MAGIC_TAG", "it is not a TensorRT plan, or something stands before it in the file"),
    ("plan.header.size == blobSize", "it is cut short"),
    ("Version tag does not match", "it was built with another version of TensorRT"),
    ("expecting library version", "it was built with another version of TensorRT"),
    ("incompatible device", "it was built for another GPU"),
    ("engine_host_code_allowed", "it holds program code, which is run only where it is trusted"),
    ("utOfMemory", "the GPU's memory is full"),
    ("out of memory", "the GPU's memory is full"),
    ("cudaError 35", "there is no NVIDIA driver, or it is too old"),
)


def make_logger(trt: Any) -> Any:
    """Make a logger for a module of TensorRT. Its ``messages`` are the last warnings and errors, the newest last.

    The logger has to outlive everything that is made with it.
    """

    class Collector(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # super() is not enough for pybind11
            self.messages: deque[tuple[bool, str]] = deque(maxlen=_KEPT)

        def log(self, severity: Any, message: str) -> None:
            # C++ calls this, and no exception may reach C++.
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.messages.append((True, str(message)))
            elif severity == trt.ILogger.WARNING:
                self.messages.append((False, str(message)))

    return Collector()


def _tidy(message: str) -> str:
    """Take out the names of TensorRT's source files: ``… In validate at /_src/network.cpp:4023``."""
    text = " ".join(message.split())
    text = re.sub(r"\s*\(?In \w+ at \S+:\d+\)?\)?", "", text)
    return text[:300]


def meaning(messages: Iterable[tuple[bool, str]]) -> str | None:
    """Return a known failure in plain words, or None."""
    texts = [text for _, text in messages]
    for sign, words in _MEANINGS:
        if any(sign in text for text in texts):
            return words
    return None


def reason(messages: Iterable[tuple[bool, str]]) -> str:
    """Say in one line why a call failed: TensorRT's last message, unless that is only about the driver."""
    errors = [text for wrong, text in messages if wrong]
    telling = [text for text in errors if not any(sign in text for sign in _NOISE)]
    if telling:
        return _tidy(telling[-1])
    return meaning(messages) or (_tidy(errors[-1]) if errors else "TensorRT gave no reason")
