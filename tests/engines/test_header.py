"""The specification is read from the file's bytes alone, and no bytes whatever can do more than be refused."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from typing import Any

import pytest
from protobuf import block, varint

from isc_fast.assets import DEMO_ENGINE
from isc_fast.engines.header import metadata, read_spec
from isc_fast.engines.spec import METADATA_KEY, PREPROCESSING, EngineSpec
from isc_fast.errors import EngineError

WHOLE = DEMO_ENGINE.read_bytes()
GOOD = {"version": 1, "name": "x", "arch": "a", "height": 8, "width": 8, "dim": 4, "gem_p": 1.0}


def entry(key: str, value: str) -> bytes:
    return block(14, block(1, key.encode()) + block(2, value.encode()))


def refused(path, content: bytes, words: str | None = None) -> str:
    path.write_bytes(content)
    began = time.monotonic()
    with pytest.raises(EngineError, match=words) as caught:
        read_spec(path)
    assert time.monotonic() - began < 5
    message = str(caught.value)
    assert len(message) < 500
    assert "\n" not in message
    return message


def test_what_it_reads_is_what_the_onnx_library_reads():
    onnx = pytest.importorskip("onnx")
    model = onnx.load(DEMO_ENGINE)
    props = {prop.key: prop.value for prop in model.metadata_props}
    assert metadata(WHOLE) == props
    assert read_spec(DEMO_ENGINE) == EngineSpec.from_json(props[METADATA_KEY])
    # More entries, in any order, with what a file may hold beside them.
    onnx.helper.set_model_props(model, {"a": "b", METADATA_KEY: props[METADATA_KEY], "": "empty", "ä": "ö" * 1000})
    model.training_info.add()
    model.functions.add().name = "f"
    assert metadata(model.SerializeToString()) == {prop.key: prop.value for prop in model.metadata_props}


def test_fields_of_every_wire_type_are_passed_over():
    others = (
        varint(5 << 3)
        + varint(2**64 - 1)
        + varint(20 << 3 | 1)
        + b"\xff" * 8
        + varint(536870911 << 3 | 5)
        + b"\xff" * 4
    )
    assert metadata(others + entry("k", "v") + others) == {"k": "v"}
    assert metadata(b"") == {}


def test_a_file_that_is_cut_is_refused_wherever_that_is(tmp_path):
    places = {
        0,
        1,
        2,
        3,
        len(WHOLE) - 1,
        *range(0, len(WHOLE), len(WHOLE) // 60),
        *range(len(WHOLE) - 3000, len(WHOLE), 97),
    }
    for place in sorted(places):
        words = "not an ONNX file, or it is damaged|without an isc-fast specification"
        assert "export" in refused(tmp_path / "x.onnx", WHOLE[:place], words)


def test_bytes_that_are_changed_give_a_specification_or_an_engine_error(tmp_path):
    """No other exception, no endless loop: 400 random changes in the end of the file, where the specification is."""
    dice = random.Random(5)
    start = WHOLE.rindex(METADATA_KEY.encode()) - 40
    refusals = 0
    for _ in range(400):
        changed = bytearray(WHOLE[start - 2000 :] if dice.random() < 0.3 else WHOLE)
        for _ in range(dice.choice((1, 3, 30))):
            changed[dice.randrange(len(changed) - (len(WHOLE) - start), len(changed))] = dice.randrange(256)
        (tmp_path / "x.onnx").write_bytes(changed)
        try:
            assert read_spec(tmp_path / "x.onnx").preprocessing == PREPROCESSING
        except EngineError:
            refusals += 1
    assert refusals > 100


def test_random_bytes_are_refused(tmp_path):
    dice = random.Random(7)
    for length in (1, 2, 5, 50, 5000) * 40:
        refused(tmp_path / "x.onnx", dice.randbytes(length))


@pytest.mark.parametrize(
    "content",
    [
        b"\0" * 3_000_000,
        b"\xff" * 3_000_000,
        b"\x08" + b"\x80" * 100 + b"\x01",
        varint(14 << 3 | 2) + varint(2**63) + b"x",
        varint(14 << 3 | 2) + varint(2**64 - 1),
        varint(14 << 3 | 2) + b"\xff" * 9 + b"\x01",
        varint(14 << 3 | 2),
        varint(9 << 3 | 1) + b"short",
        varint(9 << 3 | 5) + b"123",
        varint(9 << 3 | 3),
        varint(9 << 3 | 4),
        varint(9 << 3 | 7),
        block(14, b"\xff"),
        block(14, block(1, METADATA_KEY.encode()) + varint(2 << 3 | 2) + varint(99)),
        block(14, block(1, METADATA_KEY.encode()) + block(2, b"\xff\xfe")),
        block(14, block(1, b"\xff\xfe")),
        b"",
        b"PK\x03\x04 something",
        "just notes".encode("utf-16"),
    ],
)
def test_what_is_no_message_is_refused(tmp_path, content):
    assert "damaged" in refused(tmp_path / "x.onnx", content)


def test_what_cannot_be_opened_is_refused(tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    for name in ("folder.onnx", "absent.onnx", "a/b.onnx"):
        with pytest.raises(EngineError, match=r"cannot read .*onnx: "):
            read_spec(tmp_path / name)


def test_a_foreign_onnx_file_is_told_from_a_damaged_one(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(DEMO_ENGINE)
    onnx.helper.set_model_props(model, {"made_by": "somebody"})
    words = "ONNX file without an isc-fast specification; make the engine with isc-fast export"
    refused(tmp_path / "x.onnx", model.SerializeToString(), words)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "7",
        '"version"',
        "[]",
        "{}",
        "[" * 100_000,
        '{"version": ' * 10_000,
        "1" * 10_000,
        '{"version": NaN}',
        '{"version": [1]}',
        '{"version": 2}',
        json.dumps({**GOOD, "height": "8"}),
        json.dumps({**GOOD, "width": 0}),
        json.dumps({**GOOD, "dim": None}),
        json.dumps({**GOOD, "dim": 4.0}),
        json.dumps({**GOOD, "gem_p": "3"}),
        json.dumps({**GOOD, "name": ["x"]}),
        json.dumps({**GOOD, "precision": "fp1"}),
        json.dumps({**GOOD, "precision": ["bf16"]}),
        json.dumps({**GOOD, "runtime": "tensorflow"}),
        json.dumps({**GOOD, "runtime": None}),
        json.dumps({**GOOD, "fp32_layers": None}),
        json.dumps({**GOOD, "fp32_layers": 3}),
        json.dumps({**GOOD, "fp32_layers": "conv"}),
        json.dumps({**GOOD, "tools": ["openvino"]}),
        json.dumps({**GOOD, "accuracy": 1}),
        json.dumps({**GOOD, "parity": None}),
        json.dumps({**GOOD, "preprocessing": "magic" * 10}),
        json.dumps({key: value for key, value in GOOD.items() if key != "gem_p"}),
    ],
)
def test_a_senseless_specification_is_refused_with_the_remedy(tmp_path, text):
    message = refused(tmp_path / "x.onnx", entry(METADATA_KEY, text))
    assert "export" in message or "install" in message


def test_the_least_specification_is_enough(tmp_path):
    (tmp_path / "x.onnx").write_bytes(entry(METADATA_KEY, json.dumps({**GOOD, "of the future": 1})))
    spec = read_spec(tmp_path / "x.onnx")
    assert (spec.precision, spec.runtime, spec.fp32_layers) == ("fp32", "onnxruntime", ())
    layers = entry(METADATA_KEY, json.dumps({**GOOD, "fp32_layers": ["a", "b"], "precision": "bf16"}))
    (tmp_path / "x.onnx").write_bytes(layers)
    spec = read_spec(tmp_path / "x.onnx")
    assert spec.fp32_layers == ("a", "b")
    assert EngineSpec.from_json(spec.to_json()) == spec


def test_no_runtime_is_loaded_for_it():
    code = f"""
import sys
from pathlib import Path
from isc_fast.engines.header import read_spec
assert read_spec(Path({str(DEMO_ENGINE)!r})).dim == 256
print({{name.split('.')[0] for name in sys.modules}} & {{'onnxruntime', 'openvino', 'onnx', 'torch', 'google'}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"


def test_weights_in_another_file_are_refused_wherever_the_graph_names_them(tmp_path):
    """The id of an engine is the hash of its own file, so other weights would pass for the same engine."""
    onnx = pytest.importorskip("onnx")
    outside = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=1)
    outside.external_data.add(key="location", value="../../etc/passwd")
    graph = onnx.GraphProto(initializer=[outside])

    def model() -> Any:
        return onnx.load_model_from_string(WHOLE)

    with_initializer, in_node, in_graph, sparse, function, training = (model() for _ in range(6))
    with_initializer.graph.initializer.append(outside)
    in_node.graph.node.add(op_type="Constant", output=["x"]).attribute.add(name="value", type=4, t=outside)
    in_graph.graph.node.add(op_type="If", output=["x"]).attribute.add(name="then_branch", type=5, g=graph)
    sparse.graph.sparse_initializer.add(values=outside)
    function.functions.add(name="f").node.add(op_type="Constant").attribute.add(name="value", type=4, t=outside)
    training.training_info.add(algorithm=graph)
    for changed in (with_initializer, in_node, in_graph, sparse, function, training):
        refused(tmp_path / "x.onnx", changed.SerializeToString(), "weights lie in another file")
    compiled = model()
    compiled.graph.node.add(op_type="EPContext", domain="com.microsoft", output=["x"])
    refused(tmp_path / "x.onnx", compiled.SerializeToString(), "compiled, and may lie in another file")


def test_graphs_within_graphs_end(tmp_path):
    message = b""
    for _ in range(200):
        message = block(1, block(5, block(6, message)))  # graph → node → attribute → graph
    refused(tmp_path / "x.onnx", WHOLE + block(7, message), "not an ONNX file, or it is damaged")
