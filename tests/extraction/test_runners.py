"""The seam of the runners: any runner gives the same bytes, and which one runs is chosen in one place."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from fakes import FakeEngine
from toy_runner import Toy

from isc_fast.decoders.base import AUTO, DECODERS, choose_decoder
from isc_fast.decoders.threads import ThreadedDecoder
from isc_fast.engines.base import load_engine
from isc_fast.errors import EngineError, InputError, MismatchError
from isc_fast.extraction import pipeline
from isc_fast.extraction.job import Request, Settings, name_decoder
from isc_fast.extraction.pipeline import extract, extract_with
from isc_fast.extraction.runners.base import Facts
from isc_fast.extraction.runners.choose import choose_runner
from isc_fast.extraction.runners.here import Here
from isc_fast.extraction.runners.processes import Processes

SIZES = {"batch_size": 2, "shard_size": 4}
REQUEST = Request(batch_size=2, shard_size=4)


@pytest.fixture
def inputs(tmp_path, folder_of) -> Path:
    """22 photos and two files that are none: six shards."""
    folder = folder_of(tmp_path / "in", 22)
    for name in ("0bad.jpg", "zbad.jpg"):
        (folder / name).write_text("no picture")
    return folder


@pytest.fixture
def whole(tmp_path, inputs) -> bytes:
    extract(inputs, FakeEngine(), tmp_path / "whole.h5", **SIZES)
    return (tmp_path / "whole.h5").read_bytes()


@pytest.mark.parametrize("seed", range(5))
def test_another_order_and_deaths_give_the_same_bytes(tmp_path, inputs, whole, seed):
    toy, steps = Toy(FakeEngine(), seed, deaths=seed), []
    made = extract_with(toy, inputs, tmp_path / "o.h5", REQUEST, lambda *step: steps.append(step))
    assert (tmp_path / "o.h5").read_bytes() == whole
    assert (made.count, made.computed, len(made.failures)) == (22, 24, 2)
    assert sorted(toy.computed) == list(range(6)), "no shard is stored twice"
    assert (steps[0], steps[-1]) == ((0, 24, 0), (24, 24, 2))


def test_the_toy_really_changes_the_order_and_dies(tmp_path, inputs):
    toys = [Toy(FakeEngine(), seed, deaths=4) for seed in range(3)]
    for toy in toys:
        extract_with(toy, inputs, tmp_path / f"{toy.seed}.h5", REQUEST)
    assert all(toy.died for toy in toys)
    assert len({tuple(toy.computed) for toy in toys} | {tuple(range(6))}) == 4


@pytest.mark.parametrize("seed", range(2))
def test_what_one_runner_leaves_another_one_finishes(tmp_path, inputs, whole, seed):
    output = tmp_path / "o.h5"
    toy = Toy(FakeEngine(), seed, poison=2)
    with pytest.raises(EngineError, match=r"2 processes ended over the images .*; all else is done"):
        extract_with(toy, inputs, output, REQUEST)
    assert sorted(toy.computed) == [0, 1, 3, 4, 5]
    assert extract(inputs, FakeEngine(), output).computed == 4
    assert output.read_bytes() == whole
    assert extract_with(Toy(FakeEngine(), seed), inputs, output, Request()).computed == 0
    with pytest.raises(MismatchError, match="by another engine"):
        extract_with(Toy(FakeEngine(seed=1), seed), inputs, output, Request())


def test_a_runner_is_asked_for_nothing_where_all_parts_are_there(tmp_path, inputs, whole, monkeypatch):
    """As after a kill between the last part and the output."""
    output, real = tmp_path / "o.h5", pipeline.assemble_parts

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "assemble_parts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract_with(Toy(FakeEngine(), 0), inputs, output, REQUEST)
    monkeypatch.setattr(pipeline, "assemble_parts", real)
    again, steps = Toy(FakeEngine(), 1), []
    assert extract_with(again, inputs, output, Request(), lambda *step: steps.append(step)).computed == 0
    assert (again.computed, steps) == ([], [(24, 24, 0)])
    assert output.read_bytes() == whole


# --- which runner


def test_which_runner_is_chosen():
    engine = FakeEngine()
    given = choose_runner(engine)
    assert isinstance(given, Here)
    assert given.facts == Facts(engine.id, engine.spec, 4, takes_gpu_pixels=False)
    for devices in (None, "cpu", ["cpu"]):
        assert isinstance(choose_runner("demo", devices), Here)
    several = choose_runner("demo", "cpu,cpu", {"threads": 2}, 3)
    assert several == Processes("demo", ("cpu", "cpu"), {"threads": 2}, 3)


def test_choosing_loads_nothing_and_facts_load_once(monkeypatch):
    loads = []
    monkeypatch.setattr(
        "isc_fast.extraction.runners.choose.load_engine", lambda *a, **k: loads.append((a, k)) or load_engine(*a, **k)
    )
    runner = choose_runner("demo", "cpu", {"threads": 1})
    assert loads == []
    assert runner.facts is runner.facts
    assert loads == [(("demo",), {"device": "cpu", "threads": 1})]


@pytest.mark.parametrize("workers", [0, -1])
def test_threads_are_refused_before_anything_is_listed_or_loaded(tmp_path, workers):
    with pytest.raises(InputError, match="workers must be at least 1"):
        extract(tmp_path / "gone", "gone.onnx", tmp_path / "o.h5", workers=workers)


# --- which decoder

FACTS = Facts("e" * 64, FakeEngine().spec, 4, takes_gpu_pixels=False)


def test_the_decoder_is_a_name_before_the_run():
    earlier = Settings(batch_size=2, shard_size=4, decoder="dali")
    assert name_decoder(AUTO, FACTS, None) == choose_decoder()
    assert name_decoder(AUTO, FACTS, earlier) == "dali"
    for name in DECODERS:
        assert name_decoder(name, FACTS, earlier) == name


@pytest.mark.parametrize("decoder", ["auto", "pillow", "turbo"])
def test_one_extraction_makes_one_decoder(tmp_path, inputs, monkeypatch, decoder):
    made, real = [], ThreadedDecoder.__init__
    monkeypatch.setattr(
        ThreadedDecoder, "__init__", lambda self, workers=None: made.append(self.name) or real(self, workers)
    )
    extract(inputs, FakeEngine(), tmp_path / "o.h5", decoder=decoder, **SIZES)
    assert len(made) == 1
    extract(inputs, FakeEngine(), tmp_path / "o.h5", decoder=decoder)
    assert len(made) == 1, "an output that is complete needs none"


def test_a_decoder_that_does_not_exist_is_refused_before_anything_is_listed(tmp_path):
    with pytest.raises(InputError, match="there is no decoder 'none'"):
        extract(tmp_path / "gone", FakeEngine(), tmp_path / "o.h5", decoder="none")


# --- the shape of the pipeline


def test_the_pipeline_knows_no_runner_by_its_kind():
    tree = ast.parse(inspect.getsource(pipeline))
    text = ast.unparse(tree)
    for word in ("cuda", "Here", "Processes", "make_decoder", "load_engine", "DeviceEngine"):
        assert word not in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}, word
    asked = {
        ast.unparse(node.args[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance"
    }
    assert not asked, text
