"""From a checkpoint to a published engine: build the network, write the graph, verify it, rename it into place."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .. import __version__
from ..assets import demo_photos
from ..engines.base import SUFFIXES
from ..engines.spec import PLAN_PRECISIONS, PRECISIONS, RUNTIMES, EngineSpec, uses_bf16
from ..errors import CheckpointError, EngineError, InputError, OutputError, ParityError, require
from ..files.atomic import replacing
from ..networks.presets import preset_in_name
from ..networks.weights import RELEASES, DownloadCallback, fetch_weights
from .report import ExportReport

WEIGHTS_AS = ("fp32", "fp16")
_LARGEST_SIZE = 4096
_SLOW_INT8 = (
    "ONNX Runtime computes int8 hardly faster than fp32 between layers that stay in fp32; OpenVINO does: "
    "pip install 'isc-fast[cpu,openvino]'"
)
_SAME_FOR_ALL = 0.999  # mean cosine between different photos from which on a comparison says little


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


def _check_request(
    output: Path, size: int | None, weights_as: str, precision: str, runtime: str | None, photos: Sequence[Path]
) -> None:
    if output.suffix.lower() not in SUFFIXES:
        raise EngineError(
            f"cannot export {output.name!r}: this version writes {', '.join(SUFFIXES)} engines only; run again with "
            f"-o {output.with_suffix('.onnx')}"
        )
    if output.suffix.lower() == ".plan":
        if precision not in PLAN_PRECISIONS:
            raise EngineError(
                f"a .plan computes in {', '.join(PLAN_PRECISIONS)}, not in {precision}; choose one of them"
            )
        if runtime not in (None, "tensorrt"):
            raise EngineError(f"a .plan is run by TensorRT, not by {runtime}; leave out the runtime")
        runtime = None
    if weights_as not in WEIGHTS_AS:
        raise EngineError(f"cannot store weights as {weights_as!r}; choose one of {', '.join(WEIGHTS_AS)}")
    if precision not in PRECISIONS:
        raise EngineError(f"there is no precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    if runtime is not None and (runtime not in RUNTIMES or precision == "fp32"):
        raise EngineError(
            f"the runtime {runtime!r} cannot be chosen here: an fp32 engine is run by any of {', '.join(RUNTIMES)}"
            if precision == "fp32"
            else f"there is no runtime {runtime!r}; choose one of {', '.join(RUNTIMES)}"
        )
    if precision != "fp32" and weights_as != "fp32":
        raise EngineError(f"weights are stored as {weights_as} in fp32 engines only; leave out one of the two")
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


def _load_network(
    ckpt: str | os.PathLike[str],
    name: str | None,
    size: int | None,
    gem_p: float | None,
    weights_as: str,
    say: Callable[[str], None],
    progress: DownloadCallback | None,
) -> tuple[Any, EngineSpec]:
    """The network of a checkpoint, in evaluation mode, and the specification of an fp32 engine of it."""
    from ..networks.checkpoint import build_network, load_checkpoint

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
    return net, spec


def export_engine(
    ckpt: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    name: str | None = None,
    size: int | None = None,
    gem_p: float | None = None,
    weights_as: str = "fp32",
    precision: str | None = None,
    runtime: str | None = None,
    device: str | None = None,
    photos: Sequence[str | os.PathLike[str]] | None = None,
    min_cosine: float = 0.99999,
    batch: Sequence[int] | None = None,
    timing_cache: str | os.PathLike[str] | None = None,
    version_compatible: bool = False,
    hardware_compatible: bool = False,
    log: Callable[[str], None] | None = None,
    progress: DownloadCallback | None = None,
) -> ExportReport:
    """Make an engine from a checkpoint. It is verified on photos first; until then nothing stands under its name.

    Args:
        ckpt: a checkpoint in the published format; or the name of published weights, which are then fetched; or, for
            another precision or a ``.plan``, an fp32 engine: then no torch is needed.
        output: the engine; its suffix picks the kind: ``.onnx``, ``.pt2`` for the network compiled by torch for one kind
            of machine, or ``.plan`` for one compiled by TensorRT for this GPU. An older one is replaced.
        name: what the engine calls itself; by default the preset that the checkpoint's name mentions, or its stem.
        size: side of the input in pixels; by default what the checkpoint was trained with.
        gem_p: power of the pooling; by default that of the preset, or what it was trained with, or 1.
        weights_as: ``"fp32"``, or ``"fp16"``, which halves the file; the arithmetic stays fp32.
        precision: ``"fp32"`` (the default), ``"bf16"``, ``"int8"`` or ``"int8-bf16"``; for a ``.pt2`` on a GPU ``"fp32"``,
            ``"fp16"`` or ``"bf16"``; for a ``.plan`` ``"fp16"`` (the default), ``"fp32"``, ``"bf16"``, ``"int8"`` or
            ``"fp8"``, where those with eight bits leave in fp16 what does not bear them. Reduced, an ``.onnx`` engine is
            calibrated with every second photo and measured on edited copies of the others; layers that do not bear it are
            kept in fp32.
        runtime: what an engine in reduced precision is measured with, and will be run by: by default ``"openvino"``; for int8
            alone ``"onnxruntime"`` where OpenVINO is not installed.
        device: for a ``.pt2``: what it is compiled for, ``"cpu"`` or ``"cuda"``; by default a GPU if torch sees one.
        photos: real images to verify on; by default those that ship with the package.
        min_cosine: every photo has to agree with the network at least this well; a ``.pt2`` in fp16 or bf16 has bounds of
            its own, `isc_fast.export.targets.to_aoti.MIN_COSINE`, and so has a
            ``.plan``, `isc_fast.export.targets.to_plan.MIN_COSINE`.
        batch: for a ``.plan``: images in one execution, fewest, what it is tuned for, most; or one number for a plan of just
            that; by default 1, 16, 64.
        timing_cache: for a ``.plan``: file that keeps measured kernels between builds; its name is extended by the GPU's
            and TensorRT's.
        version_compatible: for a ``.plan``: let later versions of TensorRT run it; it then holds program code.
        hardware_compatible: for a ``.plan``: let other GPUs, from Ampere on, run it.
        log: is told in one line what is being done.
        progress: is told how far a download is: (bytes here, bytes in all).

    Raises:
        CheckpointError: the checkpoint cannot be used.
        DownloadError: published weights cannot be fetched.
        InputError: the size or a photo cannot be used.
        EngineError: this kind of engine cannot be made, or the exporter failed.
        ParityError: the engine does not agree with the network, or loses more by its precision than
            `isc_fast.export.precision.gate` allows; nothing is published.
        OutputError: the engine cannot be written.
        MissingExtraError: torch, timm, onnx or ONNX Runtime is not installed.
    """
    began = time.monotonic()
    say = log or (lambda line: None)
    target = Path(output)
    paths = [Path(photo) for photo in photos] if photos is not None else demo_photos()
    kind = target.suffix.lower()
    precision = precision or ("fp16" if kind == ".plan" else "fp32")
    _check_request(target, size, weights_as, precision, runtime, paths)
    if kind == ".plan":
        if device not in (None, "cuda"):
            raise EngineError(f"a .plan runs on an NVIDIA GPU only; leave out the device {device}")
        for module, extra in (("onnx", "export"), ("onnxruntime", "cpu")):
            require(module, extra)
        from .targets.to_plan import export_plan, plan_options

        options = plan_options(batch, timing_cache, version_compatible, hardware_compatible)
        with fp32_engine(ckpt, paths, name, size, gem_p, min_cosine, log, progress) as source:
            spec = export_plan(source, target, precision=precision, options=options, photos=paths, name=name, say=say)
        return ExportReport(target, spec, target.stat().st_size, time.monotonic() - began)
    if batch is not None or timing_cache is not None or version_compatible or hardware_compatible:
        raise EngineError(
            "a batch, a timing cache and compatibility are chosen for TensorRT plans only; leave them out, or run again with "
            f"-o {target.with_suffix('.plan')}"
        )
    if kind == ".pt2":
        for module in ("torch", "timm"):
            require(module, "export")
        from .targets.to_aoti import check_request, export_aoti

        chosen_device = check_request(target, Path(ckpt), precision, weights_as, runtime, device)
        net, spec = _load_network(ckpt, name, size, gem_p, weights_as, say, progress)
        spec = export_aoti(
            net, spec, target, precision=precision, device=chosen_device, photos=paths, min_cosine=min_cosine, say=say
        )
        return ExportReport(target, spec, target.stat().st_size, time.monotonic() - began)
    if device is not None:
        raise EngineError(f"an .onnx engine is made for any device; leave out the device {device}")
    require("onnx", "export")
    require("onnxruntime", "cpu")
    if precision in ("fp16", "fp8"):
        raise EngineError(
            f"an .onnx engine is not made in {precision}, in which no processor computes; run again with "
            f"-o {target.with_suffix('.plan')}"
            + (f" or -o {target.with_suffix('.pt2')}" if precision == "fp16" else "")
        )
    if precision != "fp32":
        from .photos import split_photos
        from .precision.reduce import check_possible, reduce_engine

        chosen = runtime or ("openvino" if uses_bf16(precision) or find_spec("openvino") else "onnxruntime")
        if chosen == "onnxruntime" and precision == "int8":
            say(f"note: {_SLOW_INT8}")
        check_possible(precision, chosen)  # before minutes of exporting to fp32
        require(chosen, "openvino" if chosen == "openvino" else "cpu")
        split = split_photos(paths)
        with (
            replacing(target) as temporary,
            fp32_engine(ckpt, paths, name, size, gem_p, min_cosine, log, progress) as source,
        ):
            spec = reduce_engine(
                source, temporary, precision=precision, runtime=chosen, photos=split, name=name, say=say
            )
            size_bytes = temporary.stat().st_size
        return ExportReport(target, spec, size_bytes, time.monotonic() - began)
    if Path(ckpt).suffix.lower() == ".onnx":
        raise EngineError(
            f"{ckpt} is not a checkpoint but, by its name, an engine; give a checkpoint, or for an engine another --precision: "
            "bf16, int8 or int8-bf16"
        )
    for module in ("torch", "timm", "onnxscript"):
        require(module, "export")
    net, spec = _load_network(ckpt, name, size, gem_p, weights_as, say, progress)
    with replacing(target) as temporary:
        spec = _make(net, spec, temporary, paths, min_cosine, say)
        size_bytes = temporary.stat().st_size
    return ExportReport(target, spec, size_bytes, time.monotonic() - began)


@contextlib.contextmanager
def fp32_engine(
    ckpt: str | os.PathLike[str],
    photos: Sequence[Path],
    name: str | None,
    size: int | None,
    gem_p: float | None,
    min_cosine: float,
    log: Callable[[str], None] | None,
    progress: DownloadCallback | None,
) -> Iterator[Path]:
    """The fp32 ``.onnx`` engine that another one is made from: the given one, or one made for the time being.

    Raises:
        as `export_engine`.
    """
    if Path(ckpt).suffix.lower() == ".onnx":
        if size is not None or gem_p is not None:
            raise EngineError(f"{ckpt} is an engine; its size and pooling are in it and cannot be changed")
        yield Path(ckpt)
        return
    with tempfile.TemporaryDirectory(prefix="isc-fast-") as scratch:
        made = Path(scratch, "fp32.onnx")
        export_engine(
            ckpt,
            made,
            name=name,
            size=size,
            gem_p=gem_p,
            photos=photos,
            min_cosine=min_cosine,
            log=log,
            progress=progress,
        )
        yield made


def _make(
    net: Any, spec: EngineSpec, temporary: Path, photos: Sequence[Path], min_cosine: float, say: Callable[[str], None]
) -> EngineSpec:
    """Write the engine to the temporary path, verify it there, and return the specification with the parity in it."""
    from ..engines.ort import OrtEngine
    from .photos import load_photos
    from .targets.fold import fold_norms
    from .targets.model_file import check_graph, write_engine
    from .targets.threads import best_threads
    from .targets.to_onnx import round_weights, store_as_fp16, to_onnx
    from .verify import check_runs, counting_photos, describe, verify

    first = load_photos(photos[:4], spec.height, spec.width)
    check_runs(net, spec, first)
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
        parity = verify(
            engine, expected, photos, min_cosine=min_cosine, original=original, progress=counting_photos(say)
        )
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
