"""ONNX networks of other tools, wrapped as engines: they give what the file gives by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from isc_fast.engines.base import load_engine
from isc_fast.errors import EngineError, ParityError
from isc_fast.export import export_engine

SIZE, DIM = 32, 24
NORMAL = "mean=0.485,0.456,0.406 std=0.229,0.224,0.225"


def foreign(
    path: Path,
    *,
    first: bool = True,
    dtype: int = TensorProto.FLOAT,
    batch: Any = "batch",
    size: Any = SIZE,
    mixes: bool = False,
    outputs: int = 1,
    flat: bool = True,
) -> Path:
    """A network with a convolution, pooling and a head, written with onnx alone; its vectors have any length."""
    random = np.random.default_rng(5)
    weights = {
        "conv": random.normal(size=(16, 3, 5, 5)),
        "head": random.normal(size=(16, DIM)),
        "bias": random.normal(size=DIM),
    }
    real = np.float16 if dtype == TensorProto.FLOAT16 else np.float32
    shape = [batch, 3, size, size] if first else [batch, size, size, 3]
    nodes, last = [], "pixels"  # the name that our own graph uses too
    if dtype == TensorProto.UINT8:
        nodes.append(helper.make_node("Cast", [last], ["cast"], to=TensorProto.FLOAT))
        last = "cast"
    if not first:
        nodes.append(helper.make_node("Transpose", [last], ["turned"], perm=[0, 3, 1, 2]))
        last = "turned"
    nodes += [
        helper.make_node("Conv", [last, "conv"], ["maps"], strides=[2, 2]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "head", "bias"], ["vectors"]),
    ]
    last = "vectors"
    if mixes:  # what each image gets depends on the others
        nodes += [
            helper.make_node("ReduceMean", [last], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", [last, "mean"], ["apart"]),
        ]
        last = "apart"
    if not flat:
        last = "pooled"
    given = [
        helper.make_tensor_value_info(last, dtype if dtype != TensorProto.UINT8 else 1, [batch, DIM] if flat else None)
    ]
    if not flat:
        given = [helper.make_tensor_value_info(last, 1, [batch, 16, 1, 1])]
    if outputs == 2:
        given.append(helper.make_tensor_value_info("flat", 1, [batch, 16]))
    constants = [numpy_helper.from_array(value.astype(real), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("pixels", dtype, shape)], given, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def by_itself(path: Path, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (vectors,) = session.run(None, {"pixels": images})
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("bgr", [False, True])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8])
def test_a_wrapped_network_gives_what_its_own_runtime_gives(dtype, first, bgr, photos, tmp_path):
    source = foreign(tmp_path / "other.onnx", first=first, dtype=dtype)
    words = ("" if dtype == TensorProto.UINT8 else NORMAL) + (" channels=bgr" if bgr else "")
    made = export_engine(source, tmp_path / "mine.onnx", preprocess=words, photos=photos[:6], min_cosine=0.9999)
    assert (made.spec.name, made.spec.dim, made.spec.height, made.spec.arch) == ("other", DIM, SIZE, None)
    assert "6 photos against the file by itself" in str(made)
    assert "other: an ONNX file of another tool" in str(made)
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB").resize((SIZE, SIZE), 2)) for path in photos[:6]])
    images = pixels if dtype == TensorProto.UINT8 else (pixels / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    images = images[..., ::-1] if bgr else images
    images = images.transpose(0, 3, 1, 2) if first else images
    kind = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.UINT8: np.uint8}[dtype]
    expected = by_itself(source, np.ascontiguousarray(images, kind))
    found = load_engine(tmp_path / "mine.onnx").run(pixels)
    assert (found * expected).sum(1).min() > (0.9999 if dtype == TensorProto.FLOAT16 else 0.999999)


def test_the_words_say_how_a_photo_is_resized(photos, tmp_path):
    source = foreign(tmp_path / "other.onnx", size="side")
    words = f"resize=pad filter=lanczos fill=124,116,104 antialias=no {NORMAL}"
    made = export_engine(source, tmp_path / "mine.onnx", preprocess=words, size=40, photos=photos[:6])
    asked = made.spec.input
    assert (asked.height, asked.width, asked.resize, asked.filter) == (40, 40, "pad", "lanczos")
    assert (asked.fill, asked.antialias) == ((124, 116, 104), False)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ({"batch": 1}, {"preprocess": NORMAL}, "fixes the number of images"),
        ({"outputs": 2}, {"preprocess": NORMAL}, "vectors float (any, 24), flat float (any, 16)"),
        ({"flat": False}, {"preprocess": NORMAL}, "gives pooled float (any, 16, 1, 1)"),
        ({"size": "side"}, {"preprocess": NORMAL}, "--size 224"),
        ({}, {"preprocess": NORMAL, "size": 64}, "not 64 pixels"),
        ({}, {}, "does not say how"),
        ({"dtype": TensorProto.UINT8}, {"preprocess": NORMAL}, "has its mean and std inside"),
        ({"dtype": TensorProto.INT32}, {}, "takes pixels int32 (any, 3, 32, 32)"),
        ({}, {"preprocess": "resize=squash"}, "squash"),
        ({}, {"preprocess": "mean=0.5"}, "mean and std together"),
        ({}, {"preprocess": "mean=0.5,0.5 std=0.5"}, "cannot be read at 'mean=0.5,0.5'"),
        ({}, {"preprocess": "std=0 mean=0"}, "cannot be read at 'std=0'"),
        ({}, {"preprocess": f"{NORMAL} {NORMAL}"}, "at most once"),
        ({}, {"preprocess": NORMAL, "tta": True}, "leave out --tta"),
        ({}, {"preprocess": NORMAL, "weights_as": "fp16"}, "leave out --weights-as"),
        ({}, {"preprocess": NORMAL, "gem_p": 3.0}, "leave out --gem-p"),
    ],
)
def test_what_cannot_be_wrapped_is_refused_in_one_line(kind, options, words, photos, tmp_path):
    source = foreign(tmp_path / "other.onnx", **kind)
    with pytest.raises(EngineError) as caught:
        export_engine(source, tmp_path / "mine.onnx", photos=photos[:4], **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mine.onnx").exists()


def test_a_network_that_compares_images_with_each_other_is_no_engine(photos, tmp_path):
    source = foreign(tmp_path / "other.onnx", mixes=True)
    with pytest.raises(ParityError):
        export_engine(source, tmp_path / "mine.onnx", preprocess=NORMAL, photos=photos[:6])
    assert not (tmp_path / "mine.onnx").exists()


def test_a_file_that_is_no_onnx_is_refused(photos, tmp_path):
    source = tmp_path / "other.onnx"
    source.write_bytes(b"no network")
    with pytest.raises(EngineError, match="cannot be read as ONNX"):
        export_engine(source, tmp_path / "mine.onnx", preprocess=NORMAL, photos=photos[:4])


def test_words_for_a_checkpoint_are_refused(photos, tmp_path):
    (tmp_path / "c.pth").write_bytes(b"PK\3\4")
    with pytest.raises(EngineError, match="leave out --preprocess"):
        export_engine(tmp_path / "c.pth", tmp_path / "mine.onnx", preprocess=NORMAL, photos=photos[:4])
