"""Engines that torch compiled: made, run, refused. They need torch, timm and a C++ compiler, and take a minute."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("torchvision")
pytest.importorskip("onnx")  # the export package needs it

from helpers_export import ReferenceNet, calibrated, cosines, describe, published_file

import isc_fast
from isc_fast.cli.main import main
from isc_fast.decoders.rules import load_input
from isc_fast.engines import aoti
from isc_fast.engines.aoti import AotiEngine
from isc_fast.engines.aoti_file import MADE_FOR_KEY, read_package, write_package
from isc_fast.engines.base import file_sha256, load_engine
from isc_fast.engines.spec import METADATA_KEY
from isc_fast.errors import EngineError, ParityError
from isc_fast.export import ExportReport, export_engine
from isc_fast.export.loop import first_that_passes
from isc_fast.export.origin import Origin
from isc_fast.export.request import Request
from isc_fast.export.targets import to_aoti
from isc_fast.export.targets.aoti_package import AotiOptions
from isc_fast.export.targets.to_aoti import AotiMaking, lower_backbone
from isc_fast.networks.checkpoint import build_network, load_checkpoint

ARCH, SIZE, DIM = "test_efficientnet", 96, 32  # timm's smallest: with it compiling is what takes the time
HAS_COMPILER = any(shutil.which(name) for name in ("g++", "clang++", "c++", os.environ.get("CXX", "g++")))
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="torch compiles with a C++ compiler and there is none")


@pytest.fixture(scope="module")
def net(photos: Sequence[Path]) -> ReferenceNet:
    return calibrated(ARCH, photos[:8], SIZE, DIM)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("aoti")


@pytest.fixture(scope="module")
def checkpoint(net: ReferenceNet, folder: Path) -> Path:
    return published_file(folder, net, ARCH, SIZE)


@pytest.fixture(scope="module")
def report(checkpoint: Path, folder: Path, photos: Sequence[Path]) -> ExportReport:
    if not HAS_COMPILER:
        pytest.skip("torch compiles with a C++ compiler and there is none")
    (folder / "made").mkdir()
    return export_engine(checkpoint, folder / "made" / "v107.pt2", photos=photos[:6], device="cpu")


@pytest.fixture(scope="module")
def engine(report: ExportReport) -> AotiEngine:
    loaded = load_engine(report.path, threads=1)
    assert isinstance(loaded, AotiEngine)
    return loaded


def pixels_of(paths: Sequence[Path]) -> np.ndarray:
    return np.stack([load_input(str(path), SIZE, SIZE) for path in paths])


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


# --- what is made


def test_it_gives_what_the_reference_gives_for_the_files(
    engine: AotiEngine, net: ReferenceNet, photos: Sequence[Path]
) -> None:
    found = engine.run(pixels_of(photos[:12]))
    expected = describe(net, photos[:12], SIZE)
    assert cosines(found, expected).min() > 0.99999
    assert (expected @ expected.T)[~np.eye(12, dtype=bool)].max() < 0.95  # else anything would agree


def test_the_contract_of_every_engine(engine: AotiEngine) -> None:
    """As in test_engines.py: shapes, unit rows, no dependence on neighbours, refused pixels."""
    for count in (1, 2, 5):
        vectors = engine.run(noise(count))
        assert vectors.shape == (count, DIM)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    batch = noise(4)
    changed = batch.copy()
    changed[1:] = 255 - changed[1:]
    np.testing.assert_array_equal(engine.run(batch)[0], engine.run(changed)[0])
    np.testing.assert_allclose(engine.run(batch), np.concatenate([engine.run(row[None]) for row in batch]), atol=1e-5)
    for bad in (batch.astype(np.float32), batch[0], batch[:, :-1], batch.transpose(0, 3, 1, 2)):
        with pytest.raises(EngineError, match=f"takes uint8 .n, {SIZE}, {SIZE}, 3."):
            engine.run(bad)


def test_more_than_was_compiled_for_is_cut(engine: AotiEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "made_for", dataclasses.replace(engine.made_for, max_batch=3))
    assert engine.run(noise(8)) == pytest.approx(
        np.concatenate([engine.run(noise(8)[i : i + 1]) for i in range(8)]), abs=1e-5
    )
    assert engine.run(noise(0).reshape(0, SIZE, SIZE, 3)).shape == (0, DIM)


def test_arrays_of_any_layout_are_read_and_left_alone(engine: AotiEngine) -> None:
    batch = noise(4)
    expected = engine.run(batch)
    locked = batch.copy()
    locked.flags.writeable = False
    wide = np.repeat(batch, 2, axis=2)[:, :, ::2]
    for same in (locked, wide, batch[::-1].copy()[::-1]):
        np.testing.assert_array_equal(engine.run(same), expected)
        np.testing.assert_array_equal(same, batch)


def test_torchs_settings_are_as_before(engine: AotiEngine) -> None:
    before = torch.get_num_threads(), torch.backends.cudnn.allow_tf32, torch.is_grad_enabled()
    other = AotiEngine(engine.path, threads=2)
    np.testing.assert_allclose(other.run(noise(3)), engine.run(noise(3)), atol=1e-5)
    assert (torch.get_num_threads(), torch.backends.cudnn.allow_tf32, torch.is_grad_enabled()) == before


def test_it_explains_itself(report: ExportReport, engine: AotiEngine, checkpoint: Path) -> None:
    spec = engine.spec
    assert spec == report.spec
    assert (spec.name, spec.arch, spec.height, spec.dim, spec.precision) == ("v107", ARCH, SIZE, DIM, "fp32")
    assert spec.runtime == "aoti"
    assert spec.checkpoint_sha256 == file_sha256(checkpoint)
    assert spec.tools["torch"] == torch.__version__
    assert spec.parity["photos"] == 6
    assert 0.99999 < spec.parity["cosine_min"] <= 1 + 1e-9
    assert engine.id == file_sha256(report.path)
    made = engine.made_for
    assert (made.device, made.torch, made.gpu, made.max_batch) == ("cpu", torch.__version__, "", 256)
    assert os.listdir(report.path.parent) == ["v107.pt2"]
    for part in ("v107.pt2", ARCH, "fp32, compiled by torch", "torch CPU"):
        assert part in str(report)


def test_info_does_not_run_it(
    report: ExportReport, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aoti, "AotiEngine", None)
    assert main(["info", str(report.path), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["arch"], about["made_for"]["device"], about["id"]) == (ARCH, "cpu", file_sha256(report.path))


def test_a_name_in_capitals(report: ExportReport, engine: AotiEngine, tmp_path: Path) -> None:
    """The case of the suffix does not matter to torch either."""
    path = tmp_path / "V107.PT2"
    shutil.copy(report.path, path)
    loaded = load_engine(path, threads=1)
    assert (loaded.path, loaded.id) == (path, engine.id)
    np.testing.assert_array_equal(loaded.run(noise(2)), engine.run(noise(2)))


def test_nothing_of_this_machine_but_the_program(report: ExportReport) -> None:
    with zipfile.ZipFile(report.path) as package:
        names = package.namelist()
        plain = b"".join(package.read(name) for name in names if not name.endswith(".so"))
    assert not [name for name in names if name.endswith(".cpp")]
    assert str(Path(__file__).parents[2]).encode() not in plain
    assert b"site-packages" not in plain
    assert all(name.startswith("engine/") for name in names)


def test_extraction_with_it(report: ExportReport, folder_of: Callable[[Path, int], Path], tmp_path: Path) -> None:
    made = isc_fast.extract(folder_of(tmp_path / "in", 5), load_engine(report.path, threads=1), tmp_path / "o.h5")
    assert (made.count, len(made.failures)) == (5, 0)
    assert isc_fast.read_descriptors(tmp_path / "o.h5").meta["engine"]["runtime"] == "aoti"


# --- half precision: for GPUs, and what torch computes on a processor is the same graph


@needs_compiler
def test_half_precision_keeps_pooling_and_head_in_fp32(
    checkpoint: Path, report: ExportReport, net: ReferenceNet, photos: Sequence[Path], tmp_path: Path
) -> None:
    network = build_network(load_checkpoint(checkpoint))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    request = Request(checkpoint, tmp_path / "h.pt2", "fp16", photos[:6], options=AotiOptions("cpu"))
    origin = Origin(network, report.spec, pixels_of(photos[:4]))
    spec = first_that_passes(AotiMaking(origin, request, request.output))
    assert (spec.precision, spec.parity["min_cosine"]) == ("fp16", 0.999)
    found = load_engine(tmp_path / "h.pt2", threads=1).run(pixels_of(photos[:6]))
    assert 0.999 < cosines(found, describe(net, photos[:6], SIZE)).min() < 1 - 1e-9  # it is another precision
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_what_is_lowered_and_what_is_not(checkpoint: Path) -> None:
    network = build_network(load_checkpoint(checkpoint))
    lower_backbone(network, "bf16")
    kinds = {name: tensor.dtype for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    assert {kinds[name] for name in kinds if name.startswith(("fc.", "bn."))} == {torch.float32}
    convolutions = [name for name in kinds if "conv" in name]
    assert len(convolutions) > 10
    assert {kinds[name] for name in convolutions} == {torch.bfloat16}
    assert {kinds[name] for name in kinds if "running_var" in name} == {torch.float32}
    with torch.no_grad():
        assert network(torch.zeros(2, 3, SIZE, SIZE)).dtype == torch.float32


def test_weights_beyond_fp16_are_refused(checkpoint: Path) -> None:
    network = build_network(load_checkpoint(checkpoint))
    with torch.no_grad():
        next(network.backbone.parameters()).fill_(1e6)
    with pytest.raises(EngineError, match=r"conv_stem.weight holds values beyond the range of fp16; .* bf16 or fp32"):
        lower_backbone(network, "fp16")


# --- what is refused when it is made


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "fp16", "device": "cpu"}, "in fp16 is for a GPU"),
        ({"precision": "int8"}, "computes in fp32, fp16, bf16, not in int8"),
        ({"weights_as": "fp16"}, "stores its weights as it computes"),
        ({"device": "tpu"}, "no device 'tpu'"),
    ],
)
def test_wishes_that_cannot_be_met(checkpoint: Path, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(EngineError, match=words):
        export_engine(checkpoint, tmp_path / "x.pt2", **options)
    assert os.listdir(tmp_path) == []


def test_other_wishes(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="an engine already"):
        export_engine("x.onnx", tmp_path / "x.pt2")
    with pytest.raises(EngineError, match="made for any device"):
        export_engine(checkpoint, tmp_path / "x.onnx", device="cuda")
    with pytest.raises(EngineError, match="not made in fp16"):
        export_engine(checkpoint, tmp_path / "x.onnx", precision="fp16")
    if not torch.cuda.is_available():
        with pytest.raises(
            EngineError, match=r"compiled for cuda here: torch .* sees no GPU; look at: isc-fast doctor"
        ):
            export_engine(checkpoint, tmp_path / "x.pt2", device="cuda")
    assert os.listdir(tmp_path) == []


def test_what_does_not_agree_is_not_published(
    checkpoint: Path, engine: AotiEngine, photos: Sequence[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate sees the compiled engine, not the network it came from."""
    (tmp_path / "v107.pt2").write_bytes(b"an older one")
    monkeypatch.setattr(
        to_aoti, "compile_package", lambda net, spec, device, path: shutil.copy(engine.path, path) and engine.made_for
    )
    monkeypatch.setattr(
        to_aoti, "write_package", lambda compiled, spec, made_for, target: shutil.copy(compiled, target)
    )
    monkeypatch.setattr(AotiEngine, "run", lambda self, pixels: np.eye(DIM, dtype=np.float32)[: len(pixels)])
    with pytest.raises(ParityError, match=r"does not agree with the network it came from.* nothing was published"):
        export_engine(checkpoint, tmp_path / "v107.pt2", photos=photos[:4], device="cpu")
    assert os.listdir(tmp_path) == ["v107.pt2"]
    assert (tmp_path / "v107.pt2").read_bytes() == b"an older one"


def test_without_a_compiler(
    checkpoint: Path, tmp_path: Path, photos: Sequence[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor import cpp_builder, exc

    def none() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    with pytest.raises(EngineError, match=r"needs a C\+\+ compiler .* found none; install one, for example: apt-get"):
        export_engine(checkpoint, tmp_path / "x.pt2", photos=photos[:4], device="cpu")
    assert os.listdir(tmp_path) == []


# --- what is refused when it is loaded, before anything in it runs


def changed(report: ExportReport, target: Path, **values: Any) -> Path:
    """The same program that says it was made for something else."""
    spec, made_for = read_package(report.path)
    with zipfile.ZipFile(report.path) as package:
        kept = [(entry, package.read(entry)) for entry in package.infolist() if "isc_fast." not in entry.filename]
    plain = target.with_suffix(".zip")
    with zipfile.ZipFile(plain, "w") as package:
        for entry, data in kept:
            package.writestr(entry, data)
    write_package(plain, spec, dataclasses.replace(made_for, **values), target)
    plain.unlink()
    return target


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"torch": "2.3.1+cu121"}, r"compiled by torch 2.3.1.cu121, and this is torch .* pip install 'torch==2.3.\*'"),
        (
            {"device": "cuda", "cuda": "13.0", "capability": "9.0"},
            "compiled for cuda, not for cpu; run it with --device cuda",
        ),
        ({"machine": "pdp11"}, "compiled for pdp11, and this is .*; export it again on this machine with -o x.pt2"),
        ({"instructions": ("avx2048", "avx4096")}, "processors with avx2048, avx4096, and this one .* has no such"),
        ({"device": "abacus"}, "says it was compiled for is damaged"),
        ({"max_batch": 0}, "says it was compiled for is damaged"),
    ],
)
def test_another_machine(
    report: ExportReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(AotiEngine, "_load", lambda self: pytest.fail("it was loaded"))
    with pytest.raises(EngineError, match=words) as raised:
        load_engine(changed(report, tmp_path / "x.pt2", **values))
    assert "\n" not in str(raised.value)


def test_a_device_that_it_is_not_compiled_for(report: ExportReport) -> None:
    with pytest.raises(EngineError, match="compiled for cpu, not for cuda; run it with --device cpu, or export"):
        load_engine(report.path, device="cuda")
    with pytest.raises(EngineError, match="not run by onnxruntime; leave out the runtime"):
        load_engine(report.path, runtime="onnxruntime")
    with pytest.raises(EngineError, match="has no providers"):
        load_engine(report.path, device="cuda", provider="tensorrt")


def test_a_gpu_package_where_there_is_no_gpu(report: ExportReport, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    path = changed(report, tmp_path / "x.pt2", device="cuda", cuda="13.0", capability="9.0", gpu="H100")
    with pytest.raises(EngineError, match=r"needs a GPU, and torch .* sees none; look at: isc-fast doctor"):
        load_engine(path, device="cuda")


def test_another_gpu(report: ExportReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: [(8, 6), (7, 5)][index])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: ["RTX 3090", "T4"][index])
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    path = changed(report, tmp_path / "x.pt2", device="cuda", cuda="13.1", capability="9.0", gpu="H100")
    with pytest.raises(EngineError, match=r"for H100 \(compute capability 9.0\), and this is RTX 3090 \(8.6\)"):
        load_engine(path, device="cuda")
    with pytest.raises(EngineError, match=r"and this is T4 \(7.5\)"):
        load_engine(path, device="cuda:1")
    with pytest.raises(EngineError, match="there is no GPU 2: this process sees 2, counted from 0"):
        load_engine(path, device="cuda:2")
    path = changed(report, tmp_path / "y.pt2", device="cuda", cuda="12.8", capability="8.6", gpu="RTX 3090")
    with pytest.raises(EngineError, match=r"compiled for CUDA 12.8, and this torch brings CUDA 13.0"):
        load_engine(path, device="cuda")


def test_a_specification_that_promises_another_input(report: ExportReport, tmp_path: Path) -> None:
    """The compiled code would read beyond the array."""
    spec, made_for = read_package(report.path)
    with zipfile.ZipFile(report.path) as package, zipfile.ZipFile(tmp_path / "plain.zip", "w") as plain:
        for entry in package.infolist():
            if "isc_fast." not in entry.filename:
                plain.writestr(entry, package.read(entry))
    write_package(tmp_path / "plain.zip", dataclasses.replace(spec, height=32), made_for, tmp_path / "x.pt2")
    with pytest.raises(
        EngineError, match=r"the code in .* is uint8 96x96x3 to float32 32 and its specification says uint8 32x96"
    ):
        load_engine(tmp_path / "x.pt2")


def test_what_is_no_engine(report: ExportReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aoti.AotiEngine, "run", lambda self, pixels: pytest.fail("it was run"))
    whole = report.path.read_bytes()
    (tmp_path / "cut.pt2").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "noise.pt2").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "empty.pt2").write_bytes(b"")
    for name in ("cut", "noise", "empty"):
        with pytest.raises(EngineError, match=f"{name}.pt2 is not a .pt2 package, or it is damaged"):
            load_engine(tmp_path / f"{name}.pt2")
    with zipfile.ZipFile(report.path) as package, zipfile.ZipFile(tmp_path / "foreign.pt2", "w") as foreign:
        for entry in package.infolist():
            if not entry.filename.endswith(METADATA_KEY):
                foreign.writestr(entry, package.read(entry))
    with pytest.raises(EngineError, match="without an isc-fast specification, and nothing in it was executed"):
        load_engine(tmp_path / "foreign.pt2")
    at = whole.index(b"\x7fELF") + 5000
    (tmp_path / "flipped.pt2").write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    with pytest.raises(EngineError, match=r"flipped.pt2 is damaged in engine/.*\.so"):
        load_engine(tmp_path / "flipped.pt2")
    with zipfile.ZipFile(tmp_path / "hollow.pt2", "w") as hollow:
        hollow.writestr(f"engine/extra/{METADATA_KEY}", report.spec.to_json())
        hollow.writestr(f"engine/extra/{MADE_FOR_KEY}", read_package(report.path)[1].to_json())
    with pytest.raises(EngineError, match=r"torch cannot load .*hollow.pt2: .*; export it again"):
        load_engine(tmp_path / "hollow.pt2")


def test_threads_do_not_wait_in_a_spin(report: ExportReport) -> None:
    """Torch reads the wish when it is loaded, so this is seen in a process of its own; the environment is as before."""
    code = "import os, sys; from isc_fast.engines.base import load_engine; load_engine(sys.argv[1]); print(os.environ)"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(report.path)],
        env={**environment, "OMP_DISPLAY_ENV": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr
    assert "OMP_WAIT_POLICY" not in done.stdout
    assert "Warning" not in done.stderr
    assert "CUDA" not in done.stderr


def test_torch_is_asked_for_only_when_it_is_run(report: ExportReport, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(module: str, extra: str) -> Any:
        raise isc_fast.errors.MissingExtraError(f"run: pip install 'isc-fast[{extra}]'")

    monkeypatch.setattr(aoti, "require", absent)
    assert read_package(report.path)[0].arch == ARCH
    with pytest.raises(isc_fast.errors.MissingExtraError, match=r"isc-fast\[compiled\]"):
        load_engine(report.path)


class Pretended:
    """Torch, whose GPU is the processor: page-locked memory is plain and the device cuda stays where it is."""

    def __init__(self) -> None:
        self.allocated: list[int] = []
        self.used: set[int] = set()
        self.cuda = SimpleNamespace(device=self._use)

    @contextlib.contextmanager
    def _use(self, index: int) -> Iterator[None]:
        self.used.add(index)
        yield

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def empty(self, shape: tuple[int, ...], *, dtype: torch.dtype, pin_memory: bool) -> torch.Tensor:
        assert pin_memory
        self.allocated.append(shape[0])
        return torch.empty(shape, dtype=dtype)


def test_the_way_over_a_gpu(engine: AotiEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but the transfer itself: what is copied where, which buffers are kept, which settings hold."""
    expected = {n: engine.run(noise(n)) for n in (3, 2, 5)}
    pretended = Pretended()
    during = []
    model, real_to = engine._model, torch.Tensor.to

    def watched(pixels: torch.Tensor) -> torch.Tensor:
        during.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
        return model(pixels)

    def to(tensor: torch.Tensor, target: Any, **options: Any) -> torch.Tensor:
        return tensor.clone() if target == "cuda:1" else real_to(tensor, target, **options)

    monkeypatch.setattr(engine, "_torch", pretended)
    monkeypatch.setattr(engine, "_model", watched)
    monkeypatch.setattr(engine, "_host", None)
    monkeypatch.setattr(engine, "gpu", 1)
    monkeypatch.setattr(engine, "made_for", dataclasses.replace(engine.made_for, device="cuda", max_batch=4))
    monkeypatch.setattr(torch.Tensor, "to", to)
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    for n in (3, 2, 5, 3):
        np.testing.assert_allclose(engine.run(noise(n)), expected[n], atol=1e-5)
    assert pretended.used == {1}
    assert pretended.allocated == [3, 4]  # kept, until one is larger
    assert set(during) == {(False, False)}  # else convolutions would be computed in TF32
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before


# --- on a GPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch sees")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_on_a_gpu(checkpoint: Path, net: ReferenceNet, photos: Sequence[Path], tmp_path: Path, precision: str) -> None:
    made = export_engine(checkpoint, tmp_path / "g.pt2", photos=photos[:6], precision=precision, device="cuda")
    loaded = load_engine(made.path, device="cuda")
    found = loaded.run(pixels_of(photos[:12]))
    assert cosines(found, describe(net, photos[:12], SIZE)).min() > to_aoti.MIN_COSINE[precision]
    np.testing.assert_array_equal(loaded.run(pixels_of(photos[:12])), found)
    assert loaded.run(noise(300)).shape == (300, DIM)
    with pytest.raises(EngineError, match="compiled for cuda, not for cpu"):
        load_engine(made.path)
