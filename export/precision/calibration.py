"""Samples of what each convolution of an engine sees on calibration photos; ONNX Runtime computes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import helper, numpy_helper

from ...machine.cores import available_cores
from ..telling import Say, counting
from .layers import Floats, Layer, constants_of

T = TypeVar("T")

_PATCHES = (32, 256)  # each photo gives at least and at most so many
_PER_INPUT = (
    4  # all photos give so many patches for each number in a patch; too few would fit the rounding to the sample
)
_BUDGET_BYTES = 1_000_000_000  # samples take no more memory; more layers are done in further passes over the photos


def _count(layer: Layer, photos: int) -> int:
    """How many patches one photo gives."""
    k = int(np.prod(layer.shape[1:]))
    return int(np.clip(-(-_PER_INPUT * k // photos), *_PATCHES))


def _patches(maps: Floats, layer: Layer, count: int, random: np.random.Generator) -> Floats:
    """Cut out of one photo's ``(1, c, h, w)`` the patches that the convolution multiplies: ``(groups, n, k)``."""
    top, left, bottom, right = layer.pads
    height, width = layer.shape[2:]
    padded = np.pad(maps[0], ((0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    windows = windows[:, :: layer.strides[0], :: layer.strides[1]]
    rows, columns = windows.shape[1:3]
    places = random.choice(rows * columns, min(count, rows * columns), replace=False)
    chosen = windows[:, places // columns, places % columns]  # (c, n, kh, kw)
    chosen = chosen.reshape(layer.groups, -1, *chosen.shape[1:]).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(chosen.reshape(layer.groups, len(places), -1))


def _sample_bytes(layer: Layer, photos: int) -> int:
    """How much memory the layer's sample takes."""
    return 4 * photos * _count(layer, photos) * layer.groups * int(np.prod(layer.shape[1:]))


def _passes(layers: Sequence[Layer], photos: int) -> Iterator[list[Layer]]:
    """Split the layers so that the samples of each part fit into memory."""
    some: list[Layer] = []
    size = 0
    for layer in layers:
        more = _sample_bytes(layer, photos)
        if some and size + more > _BUDGET_BYTES:
            yield some
            some, size = [], 0
        some.append(layer)
        size += more
    if some:
        yield some


def layer_inputs(
    model: Any,
    layers: Sequence[Layer],
    pixels: npt.NDArray[np.uint8],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[tuple[Layer, Floats]]:
    """Give each layer with a sample of its input patches, ``float32 (groups, n, k)``; the sample is the same at every call.

    Args:
        model: the graph in fp32; when the last layer was given, its outputs are as before.
        layers: convolutions of this graph.
        pixels: calibration photos ``uint8 (n, h, w, 3)``.
        progress: gets (layers done, layers in all).
    """
    outputs = model.graph.output
    kept = len(outputs)
    places = {layer.name: place for place, layer in enumerate(layers)}
    done = 0
    for some in _passes(layers, len(pixels)):
        names = sorted({layer.input for layer in some})
        outputs.extend(helper.make_empty_tensor_value_info(name) for name in names)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = available_cores()
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        finally:
            del outputs[kept:]
        samples: dict[str, list[Floats]] = {layer.name: [] for layer in some}
        for number in range(len(pixels)):
            maps = session.run(names, {session.get_inputs()[0].name: pixels[number : number + 1]})
            by_name = dict(zip(names, maps, strict=True))
            for layer in some:
                random = np.random.default_rng((number, places[layer.name]))
                samples[layer.name].append(_patches(by_name[layer.input], layer, _count(layer, len(pixels)), random))
        for layer in some:
            yield layer, np.concatenate(samples.pop(layer.name), axis=1)
            done += 1
            progress(done, len(layers))


def lower_layers(
    model: Any,
    layers: Sequence[Layer],
    pixels: npt.NDArray[np.uint8],
    how: Callable[[Floats, Floats, Floats], T],
    to: str,
    say: Say,
) -> dict[str, T]:
    """Lower every layer, and return what became of each by its name.

    Args:
        model, layers, pixels: see `layer_inputs`.
        how: lowers one layer; it takes weights, bias and a sample of input patches ``(groups, n, k)``.
        to: the precision, for messages.
        say: gets a line for every fifty layers.
    """
    constants = constants_of(model)
    lowered = {}
    for layer, inputs in layer_inputs(model, layers, pixels, counting(say, f"rounding weights to {to}", "layers", 50)):
        weights, bias = (numpy_helper.to_array(constants[name]) for name in (layer.weight, layer.bias))
        lowered[layer.name] = how(weights, bias, inputs)
    return lowered
