"""Rounding to bf16 and int8 grids, against slow definitions and against all the choices that there are."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest

from isc_fast.export.precision import rounding
from isc_fast.export.precision.rounding import (
    ActivationGrid,
    activation_grid,
    int8_scales,
    round_layer,
    round_rows,
    to_bf16,
    to_int8,
)


def bits(values):
    return np.asarray(values, np.float32).view(np.uint32)


def numbers(*patterns):
    return np.array(patterns, np.uint32).view(np.float32)


# --- grids


def test_bf16_is_the_nearest_ties_to_even():
    """Of all 65,536 upper halves with the lower halves where the decision falls: infinities, subnormals, overflow."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    upper = np.arange(65536, dtype=np.uint32)[:, None] << 16
    values = (upper | np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)).view(np.float32)
    with np.errstate(all="ignore"):
        expected = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    found = to_bf16(values)
    assert found.dtype == np.float32
    number = ~np.isnan(values)
    np.testing.assert_array_equal(bits(found)[number], bits(expected)[number])
    assert np.isnan(found[~number]).all()


def test_bf16_by_hand():
    before = numbers(0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF, 0x00008000, 0x00008001, 0x80000001, 0xFF800000)
    after = numbers(0x3F800000, 0x3F820000, 0x3F810000, 0x7F800000, 0x00000000, 0x00010000, 0x80000000, 0xFF800000)
    np.testing.assert_array_equal(bits(to_bf16(before)), bits(after))


def test_bf16_of_any_array_leaves_it_as_it_was():
    values = np.random.default_rng(0).normal(size=(5, 7, 2))
    kept = values.copy()
    found = to_bf16(values[:, ::2].transpose(2, 0, 1))
    assert found.shape == (2, 5, 4)
    np.testing.assert_array_equal(values, kept)
    one_by_one = [struct.unpack("<f", b"\0\0" + struct.pack("<f", float(v))[2:])[0] for v in found.ravel()]
    np.testing.assert_array_equal(found.ravel(), one_by_one)
    np.testing.assert_allclose(found, values[:, ::2].transpose(2, 0, 1), rtol=2**-8)
    np.testing.assert_array_equal(to_bf16(found), found)


def test_int8_grid_holds_the_largest_weight_of_each_row():
    weights = np.random.default_rng(1).normal(size=(6, 40)) * 10.0 ** np.arange(-3, 3)[:, None]
    weights[3] = 0
    scales = int8_scales(weights)
    assert scales.dtype == np.float32
    found = to_int8(weights, scales)
    steps = found / scales.astype(np.float64)[:, None]
    assert np.abs(steps - np.rint(steps)).max() < 1e-9
    assert np.abs(steps).max(axis=1)[[0, 1, 2, 4, 5]] == pytest.approx(127)
    assert (np.abs(found - weights) <= scales[:, None] / 2 * (1 + 1e-6)).all()
    assert (found[3] == 0).all()
    np.testing.assert_array_equal(to_int8(weights[:, 5], scales), found[:, 5])  # one column
    assert (to_int8(weights * 3, scales).max(axis=1) <= 127 * scales.astype(np.float64)).all()
    assert to_int8(np.array([0.5, 1.5, -2.5]), np.ones(3, np.float32)).tolist() == [0, 2, -2]


# --- activations


SAMPLES = {
    "both signs": np.random.default_rng(2).normal(size=(3, 4000)),
    "positive": np.abs(np.random.default_rng(3).normal(size=(1, 4000))),
    "far from zero": np.random.default_rng(4).uniform(5, 6, (1, 4000)),
    "negative": -np.abs(np.random.default_rng(5).normal(size=(1, 4000))),
    "silu": np.random.default_rng(6).normal(size=(1, 4000))
    / (1 + np.exp(-np.random.default_rng(6).normal(size=(1, 4000)))),
    "zeros": np.zeros((2, 10)),
    "tiny": np.random.default_rng(7).normal(size=(2, 100)) * 1e-5,
    "one value": np.full((1, 5), -3.0),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_an_activation_grid(name):
    sample = SAMPLES[name].astype(np.float32)
    grid = activation_grid(sample)
    assert grid.scale > 0
    assert 0 <= grid.zero <= 255
    assert grid.round(np.zeros(3, np.float32)).tolist() == [0, 0, 0]  # borders are padded with zeros
    found = grid.round(sample)
    assert found.dtype == np.float32
    steps = found / np.float32(grid.scale) + grid.zero
    assert np.abs(steps - np.rint(steps)).max() < 1e-3
    assert steps.min() > -0.01
    assert steps.max() < 255.01
    # As good as the plain grid from the lowest to the highest value, or better.
    low, high = min(sample.min(), 0), max(sample.max(), 0)
    plain = ActivationGrid(max(high - low, 1e-6) / 255, round(-low / max(high - low, 1e-6) * 255))
    assert ((found - sample) ** 2).mean() <= ((plain.round(sample) - sample) ** 2).mean() * (1 + 1e-4) + 1e-12 * (
        sample**2
    ).mean()


def test_rare_large_values_are_clipped():
    sample = np.random.default_rng(8).normal(size=1_000_000).astype(np.float32)
    sample[:2] = 11, -11
    grid = activation_grid(sample)
    assert np.abs(grid.round(sample[:2])).max() < 8
    assert grid.scale < 16 / 255
    plain = ActivationGrid(22 / 255, 128)
    assert ((grid.round(sample) - sample) ** 2).mean() < 0.7 * ((plain.round(sample) - sample) ** 2).mean()
    # And none where there is nothing rare.
    even = np.linspace(-1, 1, 5000, dtype=np.float32)
    assert activation_grid(even).scale == pytest.approx(2 / 255)


def test_the_grid_rounds_as_onnx_runtime_does():
    """Bit for bit: `QuantizeLinear`, `DequantizeLinear` on the same numbers."""
    ort, onnx = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    sample = np.random.default_rng(9).normal(size=30_000).astype(np.float32)
    grid = activation_grid(sample)
    sample[:600] = ((np.arange(600) - 300) / 2 * np.float32(grid.scale)).astype(np.float32)  # ties, and beyond the ends
    constants = [
        numpy_helper.from_array(np.array(grid.scale, np.float32), "scale"),
        numpy_helper.from_array(np.array(grid.zero, np.uint8), "zero"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [len(sample)]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(["y"], {"x": sample})[0], grid.round(sample))


# --- weights


def correlated(seed, groups, n, k):
    """Inputs as the pixels of a patch are: much alike, all positive."""
    random = np.random.default_rng(seed)
    return (random.normal(1, 1, (groups, n, 1)) + 0.3 * random.normal(size=(groups, n, k))).astype(np.float32)


def grid_of(step):
    return lambda column: np.rint(column / step) * step


def loss(inputs, exact, rounded):
    """For each output the mean squared change, as `round_rows` wants it small."""
    change = np.matmul(inputs.astype(np.float64), (exact - rounded).transpose(0, 2, 1))
    return (change**2).mean(axis=1)


def optimum(inputs, exact, step):
    """The least loss of one row of weights over all ways to round each down or up."""
    low = np.floor(exact / step) * step
    ways = np.array(list(itertools.product((0, step), repeat=len(exact))))
    hessian = inputs.astype(np.float64).T @ inputs / len(inputs)
    off = exact - (low + ways)
    return np.einsum("wi,ij,wj->w", off, hessian, off).min()


@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_it_is_near_the_best_of_all_choices(k):
    """One channel of weights after the other, all 2^k ways. Nearest rounding is far from the best, this is not."""
    found, nearest, best = [], [], []
    for seed in range(60):
        inputs = correlated(seed, 1, 50, k)
        exact = np.random.default_rng(seed).normal(size=(1, 1, k))
        rounded = round_rows(exact, inputs, grid_of(0.25))
        assert np.abs(rounded / 0.25 - np.rint(rounded / 0.25)).max() < 1e-9
        found.append(loss(inputs, exact, rounded).item())
        nearest.append(loss(inputs, exact, grid_of(0.25)(exact)).item())
        best.append(optimum(inputs[0], exact[0, 0], 0.25))
    assert min(np.array(found) / np.array(best)) > 0.3  # it may also step further than the neighbours
    assert np.mean(found) < 1.6 * np.mean(best)
    if k == 1:
        np.testing.assert_allclose(found, nearest)
    elif k >= 4:
        assert np.mean(found) < 0.5 * np.mean(nearest)


@pytest.mark.parametrize("k", [9, 64, 300])
def test_it_beats_nearest_rounding_by_far_on_inputs_that_are_alike(k):
    inputs = correlated(k, 2, 4 * k, k)
    exact = np.random.default_rng(1).normal(size=(2, 20, k))
    for to_grid in (grid_of(0.1), lambda column: to_bf16(column).astype(np.float64)):
        rounded = round_rows(exact, inputs, to_grid)
        assert loss(inputs, exact, rounded).mean() < 0.35 * loss(inputs, exact, to_grid(exact)).mean()
        np.testing.assert_array_equal(to_grid(rounded), rounded)
    fresh = correlated(k + 1, 2, 4 * k, k)  # not only on the sample
    assert loss(fresh, exact, rounded).mean() < 0.35 * loss(fresh, exact, to_grid(exact)).mean()


def test_inputs_that_have_nothing_in_common_are_rounded_to_the_nearest():
    inputs = np.sqrt(50) * np.eye(8, dtype=np.float32)[None]
    exact = np.random.default_rng(3).normal(size=(1, 5, 8))
    np.testing.assert_allclose(round_rows(exact, inputs, grid_of(0.25)), grid_of(0.25)(exact), atol=1e-12)


def test_groups_are_independent_of_each_other():
    inputs, exact = correlated(5, 7, 60, 9), np.random.default_rng(6).normal(size=(7, 3, 9))
    inputs *= np.arange(1, 8, dtype=np.float32)[:, None, None]
    together = round_rows(exact, inputs, grid_of(0.2))
    for group in range(7):
        alone = round_rows(exact[group : group + 1], inputs[group : group + 1], grid_of(0.2))
        np.testing.assert_allclose(together[group], alone[0], atol=1e-12)


def test_rows_are_independent_of_each_other():
    inputs, exact = correlated(5, 1, 60, 9), np.random.default_rng(6).normal(size=(1, 6, 9))
    together = round_rows(exact, inputs, grid_of(0.2))
    alone = np.concatenate([round_rows(exact[:, [row]], inputs, grid_of(0.2)) for row in range(6)], axis=1)
    np.testing.assert_allclose(together, alone, atol=1e-12)


def test_working_in_blocks_changes_nothing(monkeypatch):
    inputs, exact = correlated(8, 2, 700, 150), np.random.default_rng(9).normal(size=(2, 4, 150))
    found = []
    for block in (1, 7, 128, 150, 1000):
        monkeypatch.setattr(rounding, "_BLOCK", block)
        found.append(round_rows(exact, inputs, grid_of(0.2)))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-9)


def test_what_it_is_given_stays_as_it_is():
    inputs, exact = correlated(8, 2, 30, 5), np.random.default_rng(9).normal(size=(2, 4, 5))
    inputs.flags.writeable = exact.flags.writeable = False
    rounded = round_rows(exact, inputs, grid_of(0.2))
    assert not np.shares_memory(rounded, exact)


@pytest.mark.parametrize(
    "kind", ["no input at all", "half of the inputs", "few patches", "one patch", "equal inputs", "huge"]
)
def test_samples_that_say_little_still_round_sensibly(kind):
    inputs, exact = correlated(1, 2, 100, 20), np.random.default_rng(2).normal(size=(2, 3, 20))
    if kind == "no input at all":
        inputs[1] = 0
    elif kind == "half of the inputs":
        inputs[:, :, ::2] = 0
    elif kind == "few patches":
        inputs = inputs[:, :10]
    elif kind == "one patch":
        inputs = inputs[:, :1]
    elif kind == "equal inputs":
        inputs[:] = inputs[:, :, :1]
    else:
        inputs *= 1e6
    rounded = round_rows(exact, inputs, grid_of(0.1))
    assert np.isfinite(rounded).all()
    assert np.abs(rounded - exact).max() < 1.0
    assert (loss(inputs, exact, rounded) <= loss(inputs, exact, grid_of(0.1)(exact)) + 1e-12).mean() > 0.8
    if kind == "no input at all":
        np.testing.assert_allclose(rounded[1], grid_of(0.1)(exact)[1], atol=1e-12)


# --- a layer


@pytest.mark.parametrize("groups", [1, 4])
def test_the_mean_output_of_a_layer_is_what_it_was(groups):
    random = np.random.default_rng(4)
    inputs = correlated(3, groups, 200, 18)
    weights = random.normal(size=(8, 18)).astype(np.float32)
    grid = activation_grid(inputs)
    scales = int8_scales(weights)
    for seen, to_grid in (
        (grid.round(inputs), lambda column: to_int8(column, scales)),
        (to_bf16(inputs), lambda column: to_bf16(column).astype(np.float64)),
        (inputs + np.float32(0.1), lambda column: np.rint(column * 4) / 4),
    ):
        rounded, correction = round_layer(weights, inputs, seen, to_grid)
        assert rounded.dtype == correction.dtype == np.float32
        assert (rounded.shape, correction.shape) == ((8, 18), (8,))
        each = 8 // groups
        for channel in range(8):
            group = channel // each
            exact = inputs[group].astype(np.float64) @ weights[channel]
            found = seen[group].astype(np.float64) @ rounded[channel] + correction[channel]
            assert found.mean() == pytest.approx(exact.mean(), abs=2e-6)
            on_grid = to_grid(np.full(8, rounded[channel, 0], np.float64))[channel]
            assert on_grid == pytest.approx(rounded[channel, 0], rel=1e-6)


def test_a_layer_is_rounded_for_what_it_will_see():
    """The sample in fp32 and the one it sees may differ much; weights make up for errors of what is seen."""
    inputs = correlated(3, 1, 400, 12)
    seen = inputs * np.linspace(-1, 2, 12, dtype=np.float32)
    weights = np.random.default_rng(4).normal(size=(16, 12)).astype(np.float32)
    scales = int8_scales(weights)

    def to_grid(column):
        return to_int8(column, scales)

    rounded, _ = round_layer(weights, inputs, seen, to_grid)
    exact = weights[None].astype(np.float64)
    otherwise = round_rows(exact, inputs, lambda column: to_grid(column[0])[None])
    assert loss(seen, exact, rounded[None]).mean() < 0.5 * loss(seen, exact, otherwise).mean()
    expected = round_rows(weights[None].astype(np.float64), seen, lambda column: to_grid(column[0])[None])
    np.testing.assert_allclose(rounded, expected[0], rtol=1e-6)
