from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
from fakes import FakeEngine

import isc_fast
from isc_fast.assets import DEMO_ENGINE
from isc_fast.decoders.rules import load_input
from isc_fast.engines.base import file_sha256, load_engine
from isc_fast.engines.spec import METADATA_KEY
from isc_fast.engines.tuning import Setting, save_setting
from isc_fast.errors import EngineError
from isc_fast.machine.cores import Part


@pytest.fixture(scope="module")
def demo():
    return load_engine("demo")


@pytest.fixture(scope="module")
def pixels(photos, demo):
    return np.stack([load_input(str(photo), demo.spec.height, demo.spec.width) for photo in photos[:7]])


def by_openvino():
    pytest.importorskip("openvino")
    return load_engine("demo", runtime="openvino")


@pytest.mark.parametrize(
    "make", [lambda: load_engine("demo"), by_openvino, FakeEngine], ids=["onnx", "openvino", "fake"]
)
class TestContract:
    """What every engine promises."""

    def random(self, engine, count):
        shape = (count, engine.spec.height, engine.spec.width, 3)
        return np.random.default_rng(count).integers(0, 256, shape, dtype=np.uint8)

    def test_unit_float32_rows(self, make):
        engine = make()
        for count in (1, 2, 5):
            vectors = engine.run(self.random(engine, count))
            assert vectors.shape == (count, engine.spec.dim)
            assert vectors.dtype == np.float32
            np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)

    def test_a_row_does_not_depend_on_its_neighbours(self, make):
        engine = make()
        batch = self.random(engine, 4)
        changed = batch.copy()
        changed[1:] = 255 - changed[1:]
        np.testing.assert_array_equal(engine.run(batch)[0], engine.run(changed)[0])
        np.testing.assert_allclose(
            engine.run(batch), np.concatenate([engine.run(row[None]) for row in batch]), atol=1e-5
        )

    def test_the_layout_in_memory_does_not_matter_and_the_input_stays(self, make):
        engine = make()
        batch = self.random(engine, 3)
        batch.flags.writeable = False
        expected = engine.run(batch)
        np.testing.assert_array_equal(batch, self.random(engine, 3))
        np.testing.assert_array_equal(engine.run(np.asfortranarray(batch)), expected)
        np.testing.assert_array_equal(engine.run(np.repeat(batch, 2, axis=0)[::2]), expected)
        again = engine.run(255 - batch)
        assert not np.shares_memory(again, expected)
        np.testing.assert_array_equal(engine.run(batch), expected)

    def test_other_pixels_are_refused(self, make):
        engine = make()
        good = self.random(engine, 1)
        for bad in (good.astype(np.float32), good[0], good[:, :-1], good.transpose(0, 3, 1, 2)):
            with pytest.raises(EngineError, match=f"takes uint8 .n, {engine.spec.height}, {engine.spec.width}, 3."):
                engine.run(bad)

    def test_it_says_what_it_is(self, make):
        engine = make()
        assert len(engine.id) == 64
        assert engine.default_batch_size >= 1
        assert engine.spec.name
        assert engine.device


def test_the_demo_engine_is_the_one_that_was_measured(demo, pixels):
    """Golden values: another graph, other weights or other preprocessing would change them."""
    vectors = demo.run(pixels)
    golden = np.load(__file__.replace("test_engines.py", "golden_demo.npy"))
    np.testing.assert_allclose(vectors[:, :8], golden, atol=2e-4)
    assert demo.spec.parity["cosine_min"] > 0.99999
    assert demo.id == file_sha256(DEMO_ENGINE)


def test_threads_do_not_change_the_bits(demo, pixels):
    np.testing.assert_array_equal(load_engine("demo", threads=1).run(pixels), demo.run(pixels))


def stamped(path, change):
    """A copy of the demo engine with another specification."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(DEMO_ENGINE)
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = json.dumps(change(json.loads(entry.value)))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda spec: {**spec, "height": 512}, r"the graph of .* is .*224, 224.* says .*512, 224"),
        (lambda spec: {**spec, "dim": 128}, "says"),
        (lambda spec: {**spec, "version": 99}, "version 99 and this isc-fast reads version 1"),
        (lambda spec: {**spec, "preprocessing": "magic-7"}, "prepared by 'magic-7'"),
        (lambda spec: {key: value for key, value in spec.items() if key != "arch"}, "incomplete"),
        (lambda spec: [1, 2], "damaged"),
    ],
)
def test_a_specification_that_does_not_fit_is_refused(tmp_path, change, words):
    with pytest.raises(EngineError, match=words):
        load_engine(stamped(tmp_path / "x.onnx", change))


def test_what_is_no_engine(tmp_path, demo):
    whole = DEMO_ENGINE.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "noise.onnx").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("cut", "noise", "empty"):
        with pytest.raises(EngineError, match=f"{name}.onnx is not an ONNX file, or it is damaged"):
            load_engine(tmp_path / f"{name}.onnx")
    onnx = pytest.importorskip("onnx")
    model = onnx.load(DEMO_ENGINE)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(EngineError, match="without an isc-fast specification"):
        load_engine(tmp_path / "foreign.onnx")
    for name in ("v107.pth", "isc_ft_v107.pth.tar"):
        (tmp_path / name).write_bytes(b"PK")
        with pytest.raises(
            EngineError, match=f"checkpoint, not an engine; run: isc-fast export --ckpt .*{name} -o .*onnx"
        ):
            load_engine(tmp_path / name)
    with pytest.raises(EngineError, match="there is no engine"):
        load_engine(tmp_path / "absent.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(EngineError, match="is not a file"):
        load_engine(tmp_path / "folder.onnx")
    (tmp_path / "model.trt").write_bytes(b"")
    with pytest.raises(EngineError, match=r"expected a name that ends in \.onnx"):
        load_engine(tmp_path / "model.trt")
    with pytest.raises(EngineError, match="no device 'tpu'"):
        load_engine("demo", device="tpu")


def test_a_device_that_is_missing_is_an_error_and_no_slow_run():
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has it")
    with pytest.raises(EngineError, match=r"CUDAExecutionProvider.*isc-fast\[gpu\]"):
        load_engine("demo", device="cuda")


def test_a_file_called_demo_comes_before_the_one_inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(DEMO_ENGINE, "demo")
    with pytest.raises(EngineError, match="expected a name that ends in"):
        load_engine("demo")


def test_the_specification_travels(demo):
    text = demo.spec.to_json()
    assert isc_fast.EngineSpec.from_json(text) == demo.spec
    assert dataclasses.asdict(demo.spec)["preprocessing"] == "rgb8-pillow-bilinear-1"


@pytest.mark.parametrize("name", ["gpu", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda:0,1", "cuda:all", "cuda:²", ""])
def test_a_device_that_is_none_is_named(name):
    with pytest.raises(EngineError, match=r"there is no device '.*'; choose cpu, cuda, cuda:N"):
        load_engine("demo", device=name or " ")


def test_a_part_takes_its_share_of_the_threads(monkeypatch):
    """Three processes on seven threads; the batch is for all of them what it is for one."""
    from isc_fast.engines import ort

    taken = []

    class Watched(ort.OrtEngine):
        def __init__(self, path, *, threads=None, **options):
            taken.append(threads)
            super().__init__(path, threads=threads, **options)

    monkeypatch.setattr(ort, "OrtEngine", Watched)
    engines = [load_engine("demo", threads=7, part=Part(number, 3)) for number in range(3)]
    assert taken == [3, 2, 2]
    assert len({engine.default_batch_size for engine in engines}) == 1
    assert Part(5, 8).share(2) == 1
    load_engine("demo")
    assert taken[-1] is None


def test_a_part_is_run_as_the_whole_was_tuned(tmp_path):
    """What decides over bytes and plans stays: runtime, images of a request, batch. Threads and streams are shared."""
    pytest.importorskip("openvino")
    path = tmp_path / "x.onnx"
    shutil.copy(DEMO_ENGINE, path)
    whole = load_engine(path)
    save_setting(path, whole.id, Setting("openvino", 4, 3, 2, 24), 1.0)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 224, 224, 3), dtype=np.uint8)
    tuned = load_engine(path)
    engines = [load_engine(path, part=Part(number, 2)) for number in range(2)]
    assert [len(engine._requests) for engine in (tuned, *engines)] == [3, 2, 1]
    for engine in engines:
        assert (engine.device, engine._size, engine.default_batch_size) == ("OpenVINO CPU", 2, 24)
        np.testing.assert_array_equal(engine.run(pixels), tuned.run(pixels))
