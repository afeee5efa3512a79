from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("timm")
pytest.importorskip("torchvision")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from helpers_export import ReferenceNet, calibrated, cosines, describe, published, published_file, read, written_once
from onnx import numpy_helper

from isc_fast.decoders.rules import load_input
from isc_fast.descriptors.comparing import compare
from isc_fast.descriptors.store import load_descriptors
from isc_fast.engines.base import load_engine
from isc_fast.engines.spec import METADATA_KEY, EngineSpec
from isc_fast.errors import (
    CheckpointError,
    DownloadError,
    EngineError,
    InputError,
    MismatchError,
    OutputError,
    ParityError,
)
from isc_fast.export import ExportReport, export_engine
from isc_fast.export.agree import agree
from isc_fast.export.targets import to_onnx as graphs
from isc_fast.export.targets.fold import fold_norms
from isc_fast.export.targets.threads import best_threads
from isc_fast.export.telling import say_nothing
from isc_fast.export.verify import as_standard
from isc_fast.extraction.pipeline import extract
from isc_fast.networks.checkpoint import save_checkpoint
from isc_fast.networks.model import DescriptorNet

ARCH = "test_resnet"  # timm's smallest: with it torch's exporter is what takes the time
SIZE = 64
DIM = 32
CHANNELS = 96  # of its last feature map


@pytest.fixture(scope="module", autouse=True)
def exported_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "to_onnx", written_once(graphs.to_onnx))
        yield


@pytest.fixture(scope="module")
def net(photos: Sequence[Path]) -> ReferenceNet:
    return calibrated(ARCH, photos[:8], SIZE, DIM)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def checkpoint(net: ReferenceNet, folder: Path) -> Path:
    return published_file(folder, net, ARCH, SIZE)


@pytest.fixture(scope="module")
def report(checkpoint: Path, photos: Sequence[Path]) -> ExportReport:
    out = checkpoint.parent / "fp32"
    out.mkdir()
    return export_engine(checkpoint, out / "v107.onnx", photos=photos[:6])


def run(engine: Any, paths: Sequence[Path]) -> np.ndarray:
    pixels = np.stack([load_input(str(path), engine.spec.height, engine.spec.width) for path in paths])
    return np.asarray(engine.run(pixels))


def nothing_in(folder: Path) -> None:
    assert os.listdir(folder) == []


# --- the engine


def test_the_engine_gives_what_the_reference_gives_for_the_files(
    report: ExportReport, net: ReferenceNet, photos: Sequence[Path]
) -> None:
    """From the files on: other decoding, other normalisation, another network, none of it ours."""
    found = run(load_engine(report.path), photos[:12])
    expected = describe(net, photos[:12], SIZE)
    assert cosines(found, expected).min() > 0.99999
    assert abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5
    assert (expected @ expected.T)[~np.eye(12, dtype=bool)].max() < 0.95  # else anything would agree


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_the_batch_is_free(report: ExportReport, photos: Sequence[Path], n: int) -> None:
    engine = load_engine(report.path)
    assert run(engine, photos[:n]) == pytest.approx(run(engine, photos[:7])[:n], abs=1e-5)


def test_the_engine_explains_itself(report: ExportReport, checkpoint: Path) -> None:
    spec = load_engine(report.path).spec
    assert spec == report.spec
    assert (spec.name, spec.arch, spec.height, spec.width, spec.dim) == ("v107", ARCH, SIZE, SIZE, DIM)
    assert (spec.gem_p, spec.precision, spec.weights_as) == (1.0, "fp32", "fp32")
    assert spec.checkpoint_sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert spec.tools["torch"] == torch.__version__
    assert {"isc-fast", "timm", "onnx", "onnxruntime", "opset"} <= set(spec.tools)


def test_the_parity_is_measured(report: ExportReport) -> None:
    parity = report.parity
    assert parity["photos"] == 6
    assert 0.99999 <= parity["cosine_min"] <= parity["cosine_p01"] <= parity["cosine_p50"] <= 1 + 1e-9
    assert parity["cosine_min"] <= parity["cosine_mean"]
    assert 0 < parity["max_abs_difference"] < 1e-4
    assert 0 <= parity["unit_length_deviation"] < 1e-5
    assert 0 <= parity["batch_max_abs_difference"] < 1e-4
    assert parity["cosine_between_photos"] < 0.9
    assert "original_cosine_min" not in parity


def test_the_report_is_a_short_table(report: ExportReport) -> None:
    text = str(report)
    assert report.size_bytes == report.path.stat().st_size
    for part in (str(report.path), ARCH, "(n, 64, 64, 3)", "(n, 32)", "6 photos", report.spec.checkpoint_sha256[:16]):
        assert part in text
    assert max(len(line) for line in text.replace(str(report.path), "").splitlines()) < 100


def test_one_file_with_a_lean_graph_and_nothing_of_this_machine(report: ExportReport) -> None:
    assert os.listdir(report.path.parent) == [report.path.name]
    content = report.path.read_bytes()
    for private in (b"site-packages", b'File "', str(Path(__file__).parents[2]).encode()):
        assert private not in content
    model = onnx.load(report.path)
    ops = Counter(node.op_type for node in model.graph.node)
    assert ops["BatchNormalization"] == 0
    assert ops["Conv"] == 15
    assert [entry.key for entry in model.metadata_props] == [METADATA_KEY]
    (pixels,), (descriptors,) = model.graph.input, model.graph.output
    assert (pixels.name, descriptors.name) == ("pixels", "descriptors")
    assert pixels.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert pixels.type.tensor_type.shape.dim[0].dim_param
    assert next(node.op_type for node in model.graph.node if "pixels" in node.input) == "Cast"


@pytest.mark.parametrize("arch", ["tf_efficientnet_lite0", "test_efficientnet"])
def test_other_networks(arch: str, photos: Sequence[Path], tmp_path: Path) -> None:
    other = calibrated(arch, photos[:8], 96, DIM)
    torch.save(published(other, arch, 96), tmp_path / "c.pth")
    report = export_engine(tmp_path / "c.pth", tmp_path / "c.onnx", photos=photos[:4])
    assert cosines(run(load_engine(report.path), photos[:8]), describe(other, photos[:8], 96)).min() > 0.99999
    assert report.spec.name == "c"


# --- options


def test_half_precision_weights_halve_the_file(
    report: ExportReport, checkpoint: Path, net: ReferenceNet, photos: Sequence[Path], tmp_path: Path
) -> None:
    half = export_engine(checkpoint, tmp_path / "v107.onnx", photos=photos[:6], weights_as="fp16")
    assert half.size_bytes < 0.51 * report.size_bytes
    assert half.spec.weights_as == "fp16"
    assert half.spec.precision == "fp32"
    assert half.parity["cosine_min"] >= 0.99999
    assert 0.999 < half.parity["original_cosine_min"] < 1 - 1e-9  # rounding is seen, and small
    assert "rounding" in str(half)
    found = run(load_engine(half.path), photos[:6])
    assert cosines(found, describe(net, photos[:6], SIZE)).min() == pytest.approx(half.parity["original_cosine_min"])
    graph = onnx.load(half.path).graph
    stored = {i.name: i.data_type for i in graph.initializer if len(i.dims) >= 2 and np.prod(i.dims) >= 1024}
    assert set(stored.values()) == {onnx.TensorProto.FLOAT16}
    readers = {node.op_type for node in graph.node if set(node.input) & set(stored)}
    assert readers == {"Cast"}  # every one is widened before it is used


def test_the_rounding_loses_nothing_of_the_rounded_network(net: ReferenceNet, photos: Sequence[Path]) -> None:
    ours = DescriptorNet(ARCH, DIM).eval()
    ours.load_state_dict(net.state_dict())
    pixels = np.stack([load_input(str(path), SIZE, SIZE) for path in photos[:3]])
    folded = fold_norms(ours, pixels)
    graphs.round_weights(folded)
    model = graphs.to_onnx(folded, SIZE)
    before = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    graphs.store_as_fp16(model)
    half = [i for i in model.graph.initializer if i.data_type == onnx.TensorProto.FLOAT16]
    assert len(half) == 15  # all convolutions but the first, whose weights are too few, and the head
    for tensor in half:
        widened = numpy_helper.to_array(tensor).astype(np.float32)
        assert np.array_equal(widened, before[tensor.name.removesuffix(".fp16")])


def test_weights_beyond_float16_are_refused(net: ReferenceNet, photos: Sequence[Path], tmp_path: Path) -> None:
    content = published(net, ARCH, SIZE)
    content["state_dict"]["module.fc.weight"] = content["state_dict"]["module.fc.weight"] * 1e7
    torch.save(content, tmp_path / "c.pth")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(EngineError, match=r"fc\.weight holds values beyond the range of float16"):
        export_engine(tmp_path / "c.pth", out / "c.onnx", photos=photos[:2], weights_as="fp16")
    nothing_in(out)


def test_folding_is_left_alone_where_it_would_be_wrong(photos: Sequence[Path]) -> None:
    class Twice(torch.nn.Module):
        """A convolution whose output goes to a normalisation and around it."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = torch.nn.Conv2d(3, CHANNELS, 3), torch.nn.BatchNorm2d(CHANNELS)
            torch.nn.init.uniform_(self.norm.running_mean, 1, 2)

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            y = self.conv(x)
            return [self.norm(y) * y]

    ours = DescriptorNet(ARCH, DIM).eval()
    ours.backbone = Twice().eval()
    pixels = np.stack([load_input(str(path), SIZE, SIZE) for path in photos[:2]])
    assert float(fold_norms(ours, pixels).backbone.norm.running_mean.abs().min()) >= 1


def test_pooling_power_size_and_name(
    checkpoint: Path, net: ReferenceNet, photos: Sequence[Path], tmp_path: Path
) -> None:
    report = export_engine(checkpoint, tmp_path / "x.onnx", photos=photos[:3], gem_p=3.0, size=96, name="mine")
    assert (report.spec.name, report.spec.gem_p, report.spec.height) == ("mine", 3.0, 96)
    powered = ReferenceNet(ARCH, DIM, 3.0)
    powered.load_state_dict(net.state_dict())
    assert cosines(run(load_engine(report.path), photos[:4]), describe(powered, photos[:4], 96)).min() > 0.99999
    # Without being told, it pools as the network was trained, as far as the checkpoint says.
    save_checkpoint(tmp_path / "own.pth", net, arch=ARCH, input_size=SIZE, epoch=1, args={"gem_p": 2.0})
    assert export_engine(tmp_path / "own.pth", tmp_path / "own.onnx", photos=photos[:3]).spec.gem_p == 2.0


def test_a_name_does_not_overrule_a_power_without_a_word(
    net: ReferenceNet, photos: Sequence[Path], tmp_path: Path
) -> None:
    """The published code trains with ``gem_p`` and evaluates with ``gem_eval_p``."""
    args = argparse.Namespace(input_size=SIZE, gem_p=3.0, gem_eval_p=4.0)
    file = tmp_path / "my_v107.pth.tar"
    torch.save(published(net, ARCH, SIZE, args=args), file)
    lines: list[str] = []
    report = export_engine(file, tmp_path / "x.onnx", photos=photos[:2], log=lines.append)
    assert report.spec.gem_p == 1.0
    warned = [line for line in lines if line.startswith("warning: ")]
    assert len(warned) == 1
    assert "named like v107, which pools with the power 1, but its own arguments say 4" in warned[0]
    assert "--gem-p" in warned[0]
    lines.clear()
    assert export_engine(file, tmp_path / "x.onnx", photos=photos[:2], gem_p=4.0, log=lines.append).spec.gem_p == 4.0
    assert not any("warning" in line for line in lines)
    assert (
        export_engine(shutil.copy(file, tmp_path / "mine.pth"), tmp_path / "y.onnx", photos=photos[:2]).spec.gem_p
        == 4.0
    )


@pytest.mark.parametrize("weights_as", ["fp32", "fp16"])
def test_test_time_augmentation(
    checkpoint: Path, net: ReferenceNet, photos: Sequence[Path], tmp_path: Path, weights_as: str
) -> None:
    """The published script reads a photo at √2 times the size, and adds the descriptors of three scales and their mirrors."""
    report = export_engine(checkpoint, tmp_path / "x.onnx", photos=photos[:3], tta=True, weights_as=weights_as)
    spec = report.spec
    assert (spec.name, spec.height, spec.width, spec.augmentation) == ("v107-tta", 90, 90, "3-scales-mirror")
    assert "3-scales-mirror" in str(report)
    large = read(net, photos[:8], 90)
    middle = torch.nn.functional.interpolate(large, size=64, mode="bilinear", align_corners=False)
    small = torch.nn.functional.interpolate(middle, scale_factor=0.5**0.5, mode="bilinear", align_corners=False)
    assert small.shape[-1] == 45
    with torch.inference_mode():
        total = sum(net(image) + net(torch.flip(image, [3])) for image in (large, middle, small))
    expected = (total / total.norm(dim=1, keepdim=True)).numpy()
    found = run(load_engine(report.path), photos[:8])
    assert cosines(found, expected).min() > (0.99999 if weights_as == "fp32" else 0.999)
    assert cosines(found, describe(net, photos[:8], SIZE)).min() < 0.999
    assert abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5


def test_augmented_descriptors_do_not_pass_for_plain_ones(
    checkpoint: Path, photos: Sequence[Path], tmp_path: Path
) -> None:
    """Both engines take 90 × 90 pixels and come from one checkpoint."""
    sides = []
    for name, options in (("tta", {"tta": True}), ("plain", {"size": 90})):
        report = export_engine(checkpoint, tmp_path / f"{name}.onnx", photos=photos[:2], **options)
        assert ("augmentation" in report.spec.to_json()) == (name == "tta")
        made = extract([str(path) for path in photos[:3]], str(report.path), tmp_path / f"{name}.h5", decoder="pillow")
        sides.append(load_descriptors(made.path))
    with pytest.raises(MismatchError, match="augmentation differs"):
        compare(*sides).require()


def test_the_shipped_photos_are_the_default(checkpoint: Path, photos: Sequence[Path], tmp_path: Path) -> None:
    assert export_engine(checkpoint, tmp_path / "x.onnx").parity["photos"] == len(photos)


def test_an_older_engine_is_replaced_and_the_user_sees_no_chatter(
    checkpoint: Path, photos: Sequence[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "x.onnx"
    target.write_text("older")
    lines: list[str] = []
    report = export_engine(str(checkpoint), str(target), photos=photos[:2], log=lines.append)
    assert load_engine(target).spec == report.spec
    assert os.listdir(tmp_path) == ["x.onnx"]
    assert capfd.readouterr() == ("", "")
    assert [line.split()[0] for line in lines] == ["reading", "exporting", "verifying:"]


def test_published_weights_by_name(
    checkpoint: Path, photos: Sequence[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    shutil.copy(checkpoint, cache / "isc_selfsup_v98.pth.tar")
    monkeypatch.setenv("ISC_FAST_CACHE", str(cache))
    monkeypatch.setenv("ISC_FAST_RELEASE_URL", "no://where")
    assert export_engine("isc_selfsup_v98", tmp_path / "x.onnx", photos=photos[:2]).spec.name == "v98"
    with pytest.raises(DownloadError, match="isc_ft_v107"):
        export_engine("isc_ft_v107", tmp_path / "y.onnx", photos=photos[:2])


# --- refusals


@pytest.mark.parametrize("name", ["x.engine", "x"])
def test_other_kinds_of_engine_are_not_made(checkpoint: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(EngineError, match=r"writes \.onnx, .* engines only; run again with -o .*x\.onnx"):
        export_engine(checkpoint, tmp_path / name)
    nothing_in(tmp_path)


def test_requests_that_cannot_be_met(
    checkpoint: Path, net: ReferenceNet, photos: Sequence[Path], tmp_path: Path
) -> None:
    target = tmp_path / "x.onnx"
    with pytest.raises(EngineError, match="choose one of fp32, fp16"):
        export_engine(checkpoint, target, weights_as="int8")
    with pytest.raises(InputError, match="size 8"):
        export_engine(checkpoint, target, size=8)
    with pytest.raises(InputError, match="no photos"):
        export_engine(checkpoint, target, photos=[])
    with pytest.raises(InputError, match="power"):
        export_engine(checkpoint, target, gem_p=0.0)
    with pytest.raises(OutputError, match="does not exist"):
        export_engine(checkpoint, tmp_path / "no" / "x.onnx")
    with pytest.raises(CheckpointError, match=r"does not exist; expected a file, or published weights: isc_ft_v107"):
        export_engine(tmp_path / "c.pth", target)
    nothing_in(tmp_path)


def test_a_checkpoint_without_its_size_asks_for_it(net: ReferenceNet, photos: Sequence[Path], tmp_path: Path) -> None:
    torch.save(published(net, ARCH, None), tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match="--size 512"):
        export_engine(tmp_path / "c.pth", tmp_path / "x.onnx", photos=photos[:2])
    assert export_engine(tmp_path / "c.pth", tmp_path / "x.onnx", photos=photos[:2], size=SIZE).spec.height == SIZE


def test_an_arch_of_fixed_size_says_so(photos: Sequence[Path], tmp_path: Path) -> None:
    arch = "vit_tiny_patch16_224"
    torch.save(published(ReferenceNet(arch, DIM), arch, 96), tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=f"{arch} does not run at 96 pixels"):
        export_engine(tmp_path / "c.pth", tmp_path / "x.onnx", photos=photos[:2])


def test_a_photo_that_is_none_is_named(checkpoint: Path, photos: Sequence[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("no image")
    with pytest.raises(InputError, match=r"bad\.jpg"):
        export_engine(checkpoint, tmp_path / "x.onnx", photos=[*photos[:5], bad])
    assert os.listdir(tmp_path) == ["bad.jpg"]


def spoil(monkeypatch: pytest.MonkeyPatch, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Let the exporter write one wrong weight."""
    honest = graphs.to_onnx

    def wrong(net: DescriptorNet, size: int) -> Any:
        model = honest(net, size)
        tensor = next(i for i in model.graph.initializer if list(i.dims) == [CHANNELS, CHANNELS, 3, 3])
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), tensor.name))
        return model

    monkeypatch.setattr(graphs, "to_onnx", wrong)


def test_an_engine_that_disagrees_is_not_published(
    checkpoint: Path, photos: Sequence[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x.onnx"
    target.write_text("older")
    spoil(monkeypatch, lambda weight: weight * np.linspace(0.9, 1.1, CHANNELS, dtype=np.float32)[:, None, None, None])
    with pytest.raises(ParityError) as caught:
        export_engine(checkpoint, target, photos=photos[:4])
    message = str(caught.value)
    assert "\n" not in message
    assert any(photo.name in message for photo in photos[:4])
    assert "expected at least 0.99999" in message
    assert target.read_text() == "older"
    assert os.listdir(tmp_path) == ["x.onnx"]
    lenient = export_engine(checkpoint, target, photos=photos[:4], min_cosine=0.5)
    assert 0.5 < lenient.parity["cosine_min"] < 0.99999


def test_an_engine_with_nan_is_not_published(
    checkpoint: Path, photos: Sequence[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(
        monkeypatch, lambda weight: np.where(np.arange(CHANNELS)[:, None, None, None] == 7, np.float32("nan"), weight)
    )
    with pytest.raises(ParityError, match="not finite, for 2 of 2 photos"):
        export_engine(checkpoint, tmp_path / "x.onnx", photos=photos[:2])
    nothing_in(tmp_path)


class Fake:
    """An engine that is the network itself, with one thing wrong."""

    device = "fake"

    def __init__(self, net: DescriptorNet, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self.spec = EngineSpec("fake", ARCH, SIZE, SIZE, DIM, 1.0)
        self.net, self.change = net, change

    def run(self, pixels: np.ndarray) -> np.ndarray:
        from isc_fast.export.verify import describe as own

        return self.change(own(self.net, pixels))


def lone_is_other(rows: np.ndarray) -> np.ndarray:
    return rows if len(rows) > 1 else np.roll(rows, 1, axis=1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows, None),
        (lambda rows: rows * 1.01, "unit length"),
        (lambda rows: np.roll(rows, 1, axis=0), "does not agree"),
        (lone_is_other, "alone and in a batch"),
        (lambda rows: rows * np.float32("inf"), "not finite"),
    ],
)
def test_what_verifying_sees(net: ReferenceNet, photos: Sequence[Path], change: Any, said: str | None) -> None:
    ours = DescriptorNet(ARCH, DIM).eval()
    ours.load_state_dict(net.state_dict())
    fake: Any = Fake(ours, change)
    standard = as_standard(ours, min_cosine=0.99999)
    if said is None:
        assert agree(fake, standard, photos[:6], say_nothing)["cosine_min"] == pytest.approx(1)
        return
    with pytest.raises(ParityError, match=said):
        agree(fake, standard, photos[:6], say_nothing)


def test_a_network_that_sees_nothing_is_reported(photos: Sequence[Path], tmp_path: Path) -> None:
    blind = ReferenceNet(ARCH, DIM)
    torch.nn.init.zeros_(blind.fc.weight)
    torch.nn.init.ones_(blind.bn.bias)
    torch.save(published(blind, ARCH, SIZE), tmp_path / "c.pth")
    lines: list[str] = []
    export_engine(tmp_path / "c.pth", tmp_path / "x.onnx", photos=photos[:3], log=lines.append)
    assert any("describes all photos nearly alike" in line for line in lines)


@pytest.mark.parametrize("stage", ["exporting", "verifying"])
def test_a_kill_leaves_nothing_under_the_name(
    checkpoint: Path, photos: Sequence[Path], tmp_path: Path, stage: str
) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from isc_fast.export import export_engine\n"
        "ckpt, out, stage, *photos = sys.argv[1:]\n"
        "def log(line):\n"
        "    if line.startswith(stage): os.kill(os.getpid(), signal.SIGKILL)\n"
        "export_engine(ckpt, out, photos=[Path(p) for p in photos], log=log)\n"
    )
    target = tmp_path / "x.onnx"
    command = [sys.executable, "-c", code, str(checkpoint), str(target), stage, *map(str, photos[:2])]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert not target.exists()
    export_engine(checkpoint, target, photos=photos[:2])  # and what is left does not stand in the way
    assert load_engine(target).spec.name == "v107"


def test_importing_the_exporter_needs_no_torch() -> None:
    code = "import sys, isc_fast.export, isc_fast.networks.weights; print({'torch', 'timm', 'onnx'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_torch_gets_its_threads_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    inside = []
    try:
        with best_threads(lambda: inside.append(torch.get_num_threads())):
            inside.append(torch.get_num_threads())
        assert inside == [1, 1]  # it was fast, so more were not even tried
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_the_published_arch(photos: Sequence[Path], tmp_path: Path) -> None:
    arch, size = "tf_efficientnetv2_m_in21ft1k", 128
    real = calibrated(arch, photos[:16], size, 256)
    torch.save(published(real, arch, size), tmp_path / "isc_ft_v107.pth.tar")
    report = export_engine(tmp_path / "isc_ft_v107.pth.tar", tmp_path / "v107.onnx", photos=photos[:6])
    assert report.spec.dim == 256
    assert report.spec.arch == arch
    assert 205e6 < report.size_bytes < 215e6
    found = run(load_engine(report.path), photos[:8])
    assert cosines(found, describe(real, photos[:8], size)).min() > 0.9999
