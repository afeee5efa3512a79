"""From a checkpoint to a published engine: build the network, write the graph, verify it, rename it into place."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..assets import demo_photos
from ..atomic import replacing
from ..errors import CheckpointError, EngineError, InputError, OutputError, ParityError, require
from ..presets import preset_in_name
from ..spec import EngineSpec
from ..weights import RELEASES, DownloadCallback, fetch_weights

WEIGHTS_AS = ("fp32", "fp16")
_LARGEST_SIZE = 4096
_SAME_FOR_ALL = 0.999  # mean cosine between different photos from which on a comparison says little


@dataclass(frozen=True)
class ExportReport:
    """What `export_engine` made.

    Attributes:
        path: of the engine.
        spec: the specification that is in it.
        size_bytes: of the file.
        seconds: that the whole export took.
    """

    path: Path
    spec: EngineSpec
    size_bytes: int
    seconds: float

    @property
    def parity(self) -> dict[str, Any]:
        """What was measured against the network, see `isc_fast.export.verify.verify`."""
        return dict(self.spec.parity)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"path": str(self.path), "size_bytes": self.size_bytes, "seconds": self.seconds, **asdict(self.spec)}

    def __str__(self) -> str:
        spec, parity = self.spec, self.parity
        stored = "fp32" if spec.weights_as == spec.precision else f"stored as {spec.weights_as}"
        rows = [
            ("engine", f"{self.path}  {self.size_bytes / 1e6:.1f} MB, made in {self.seconds:.0f} s"),
            ("network", f"{spec.name}: {spec.arch}, GeM p = {spec.gem_p:g}"),
            ("input", f"uint8 (n, {spec.height}, {spec.width}, 3)"),
            ("output", f"float32 (n, {spec.dim}), unit length"),
            ("weights", f"{stored}, from {spec.checkpoint_sha256[:16]}…"),
            ("verified", f"{parity['photos']} photos against torch, bound {parity['min_cosine']:g}"),
            ("cosine", f"min {parity['cosine_min']:.8f}, median {parity['cosine_p50']:.8f}"),
            (
                "difference",
                f"at most {parity['max_abs_difference']:.1e}; batch {parity['batch_max_abs_difference']:.1e}",
            ),
        ]
        if "original_cosine_min" in parity:
            rows.append(("rounding", f"cosine with the fp32 weights: min {parity['original_cosine_min']:.8f}"))
        return "\n".join(f"{key:<11}{value}" for key, value in rows)


def _find_checkpoint(ckpt: str | os.PathLike[str], progress: DownloadCallback | None) -> Path:
    path = Path(ckpt)
    if path.is_file():
        return path
    name = os.fspath(ckpt)
    if name in RELEASES:
        return fetch_weights(name, progress=progress)
    found = "is a folder" if path.is_dir() else "does not exist"
    raise CheckpointError(
        f"the checkpoint {path} {found}; expected a file, or published weights: {', '.join(RELEASES)}"
    )


def _check_request(output: Path, size: int | None, weights_as: str, photos: Sequence[Path]) -> None:
    if output.suffix.lower() != ".onnx":
        raise EngineError(
            f"cannot export {output.name!r}: this version writes .onnx engines only; run again with "
            f"-o {output.with_suffix('.onnx')}"
        )
    if weights_as not in WEIGHTS_AS:
        raise EngineError(f"cannot store weights as {weights_as!r}; choose one of {', '.join(WEIGHTS_AS)}")
    if size is not None and not 32 <= size <= _LARGEST_SIZE:
        raise InputError(f"the input size {size} cannot be used; expected 32 to {_LARGEST_SIZE} pixels")
    if not output.parent.is_dir():
        raise OutputError(f"cannot write {output}: the folder {output.parent} does not exist; make it first")
    if not photos:
        raise InputError("there are no photos to verify the engine on; pass some, for example --photos FOLDER")


def _tools(model: Any) -> dict[str, str]:
    import onnx
    import onnxruntime
    import timm
    import torch

    return {
        "isc-fast": __version__,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "opset": str(model.opset_import[0].version),
    }


def export_engine(
    ckpt: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    name: str | None = None,
    size: int | None = None,
    gem_p: float | None = None,
    weights_as: str = "fp32",
    photos: Sequence[str | os.PathLike[str]] | None = None,
    min_cosine: float = 0.99999,
    log: Callable[[str], None] | None = None,
    progress: DownloadCallback | None = None,
) -> ExportReport:
    """Make an engine from a checkpoint. It is verified on photos first; until then nothing stands under its name.

    Args:
        ckpt: a checkpoint in the published format, or the name of published weights, which are then fetched.
        output: the engine; its suffix picks the kind, and this version writes ``.onnx``. An older one is replaced.
        name: what the engine calls itself; by default the preset that the checkpoint's name mentions, or its stem.
        size: side of the input in pixels; by default what the checkpoint was trained with.
        gem_p: power of the pooling; by default that of the preset, or what it was trained with, or 1.
        weights_as: ``"fp32"``, or ``"fp16"``, which halves the file; the arithmetic stays fp32.
        photos: real images to verify on; by default those that ship with the package.
        min_cosine: every photo has to agree with the network at least this well.
        log: is told in one line what is being done.
        progress: is told how far a download is: (bytes here, bytes in all).

    Raises:
        CheckpointError: the checkpoint cannot be used.
        DownloadError: published weights cannot be fetched.
        InputError: the size or a photo cannot be used.
        EngineError: this kind of engine cannot be made, or the exporter failed.
        ParityError: the engine does not agree with the network; nothing is published.
        OutputError: the engine cannot be written.
        MissingExtraError: torch, timm, onnx or ONNX Runtime is not installed.
    """
    began = time.monotonic()
    say = log or (lambda line: None)
    target = Path(output)
    paths = [Path(photo) for photo in photos] if photos is not None else demo_photos()
    _check_request(target, size, weights_as, paths)
    for module in ("torch", "timm", "onnx", "onnxscript"):
        require(module, "export")
    require("onnxruntime", "cpu")
    from ..training.checkpoint import build_network, load_checkpoint

    file = _find_checkpoint(ckpt, progress)
    say(f"reading {file}")
    checkpoint = load_checkpoint(file)
    side = size or checkpoint.input_size
    if side is None:
        raise CheckpointError(f"{file} does not say the size of its input; pass it, for example --size 512")
    preset = preset_in_name(file.name) or preset_in_name(name or "")
    # The published networks were evaluated as their presets say; any other as it was trained.
    power = next(p for p in (gem_p, preset.gem_p if preset else None, checkpoint.gem_p, 1.0) if p is not None)
    if not power > 0:
        raise InputError(f"the power of the pooling is {power}; expected a number above 0")
    net = build_network(checkpoint, gem_p=power)
    spec = EngineSpec(
        name=name or (preset.name if preset else file.name.partition(".")[0]),
        arch=checkpoint.arch,
        height=side,
        width=side,
        dim=net.dim,
        gem_p=power,
        weights_as=weights_as,
        checkpoint_sha256=checkpoint.sha256,
    )
    with replacing(target) as temporary:
        spec = _make(net, spec, temporary, paths, min_cosine, say)
        size_bytes = temporary.stat().st_size
    return ExportReport(target, spec, size_bytes, time.monotonic() - began)


def _make(
    net: Any, spec: EngineSpec, temporary: Path, photos: Sequence[Path], min_cosine: float, say: Callable[[str], None]
) -> EngineSpec:
    """Write the engine to the temporary path, verify it there, and return the specification with the parity in it."""
    from ..engines.ort import OrtEngine
    from .fold import fold_norms
    from .threads import best_threads
    from .to_onnx import check_graph, round_weights, store_as_fp16, to_onnx, write_engine
    from .verify import describe, load_photos, verify

    def tell(done: int, total: int) -> None:
        if done == total or done % 20 == 0:
            say(f"verifying: {done} of {total} photos")

    first = load_photos(photos[:4], spec.height, spec.width)
    try:
        describe(net, first[:1])
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(
            f"{spec.arch} does not run at {spec.height} pixels: {reason}; try another --size"
        ) from error
    with best_threads(lambda: describe(net, first)):
        say(f"exporting {spec.arch} at {spec.height} pixels")
        expected = net
        if spec.weights_as == "fp16":
            expected = fold_norms(net, first)
            round_weights(expected)
        model = to_onnx(expected, spec.height)
        if spec.weights_as == "fp16":
            store_as_fp16(model)
        check_graph(model)
        spec = replace(spec, tools=_tools(model))
        write_engine(model, spec, temporary)

        engine = OrtEngine(temporary)
        original = net if expected is not net else None
        parity = verify(engine, expected, photos, min_cosine=min_cosine, original=original, progress=tell)
    if parity.get("cosine_between_photos", 0.0) > _SAME_FOR_ALL:
        say("warning: the network describes all photos nearly alike, so verifying says little; is it trained?")

    # The numbers go into the file, so the file that is published is read back once more.
    spec = replace(spec, parity=parity)
    write_engine(model, spec, temporary)
    stamped = OrtEngine(temporary)
    difference = float(abs(stamped.run(first) - engine.run(first)).max())
    if stamped.spec != spec or not difference < 1e-5:
        raise ParityError(f"{temporary} changed when its parity was written into it; nothing was published")
    return spec
