"""From a checkpoint to a published engine, by whichever target makes the file that a user asks for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..assets import demo_photos
from ..networks.weights import DownloadCallback
from .loop import make
from .publishing import publish, scratch_folder, try_to_write
from .report import ExportReport
from .request import MIN_COSINE, Request, check_request
from .targets.base import Target
from .targets.table import FP32, choose_target, options_for
from .telling import say_nothing

if TYPE_CHECKING:
    from typing import Unpack

    from .targets.table import TargetOptions


def export_engine(
    ckpt: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    name: str | None = None,
    size: int | None = None,
    gem_p: float | None = None,
    precision: str | None = None,
    photos: Sequence[str | os.PathLike[str]] | None = None,
    min_cosine: float = MIN_COSINE,
    log: Callable[[str], None] | None = None,
    progress: DownloadCallback | None = None,
    **options: Unpack[TargetOptions],
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
        precision: for an ``.onnx`` engine ``"fp32"`` (the default), ``"bf16"``, ``"int8"`` or ``"int8-bf16"``; for a ``.pt2``
            ``"fp32"`` (the default), and on a GPU also ``"fp16"`` or ``"bf16"``; for a ``.plan`` ``"fp16"`` (the default),
            ``"fp32"``, ``"bf16"``, ``"int8"`` or ``"fp8"``. A lower precision is calibrated with every second photo and
            measured on edited copies of the others. Layers that lose too much in it stay in fp32, in a ``.plan`` of eight
            bits in fp16.
        photos: real images to verify on; by default those that ship with the package.
        min_cosine: every photo has to agree with the network at least this well; a ``.pt2`` in fp16 or bf16 has bounds of
            its own, `isc_fast.export.targets.to_aoti.MIN_COSINE`, and so has a
            ``.plan``, `isc_fast.export.targets.to_plan.MIN_COSINE`.
        log: gets one line for each thing that begins.
        progress: gets (bytes here, bytes in all) of a download.
        **options: of one kind of engine; another kind refuses them.

            - ``weights_as``, for an ``.onnx`` engine in fp32: ``"fp32"`` (the default), or ``"fp16"``, which halves the file;
              the arithmetic stays fp32.
            - ``tta``, for an ``.onnx`` engine in fp32: sum the descriptors of six views (√2, 1 and 1/√2 of the size, each with
              its mirror image), as the published script does with ``--tta``; 7 times the arithmetic, an input √2 times as large.
            - ``preprocess``, where ``ckpt`` is an ONNX file of another tool: how a photo becomes its input, in the words of
              `isc_fast.export.preparing`.
            - ``runtime``, for an ``.onnx`` engine in a lower precision: what measures it and will run it; by default
              ``"openvino"``; for int8 alone ``"onnxruntime"`` where OpenVINO is not installed.
            - ``device``, for a ``.pt2``: what it is compiled for, ``"cpu"`` or ``"cuda"``; by default a GPU if torch sees one.
            - ``batch``, for a ``.plan``: images in one execution, fewest, what it is tuned for, most; or one number for a
              plan of just that; by default 1, 16, 64.
            - ``timing_cache``, for a ``.plan``: file that keeps measured kernels between builds; its name is extended by the
              GPU's and TensorRT's.
            - ``version_compatible``, for a ``.plan``: let later versions of TensorRT run it; it then holds program code.
            - ``hardware_compatible``, for a ``.plan``: let other GPUs, from Ampere on, run it.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        DownloadError: published weights cannot be fetched.
        InputError: the size or a photo cannot be used.
        EngineError: this kind of engine cannot be made, an option belongs to another kind, or the exporter failed.
        ParityError: the engine does not agree with the network, or loses more by its precision than
            `isc_fast.export.precision.gate` allows; nothing is published.
        OutputError: the engine cannot be written.
        MissingExtraError: torch, timm, onnx or ONNX Runtime is not installed.
    """
    began = time.monotonic()
    target, chosen_precision = choose_target(Path(output), precision)
    request = Request(
        ckpt=ckpt,
        output=Path(output),
        precision=chosen_precision,
        photos=[Path(photo) for photo in photos] if photos is not None else demo_photos(),
        name=name,
        size=size,
        gem_p=gem_p,
        min_cosine=min_cosine,
        options=options_for(target, options, Path(output)),
        say=log or say_nothing,
        progress=progress,
    )
    return run_export(target, request, began)


def run_export(target: Target, request: Request, began: float) -> ExportReport:
    """Check a request, make what it asks for, and publish it.

    Args:
        target: the kind of engine.
        request: with the target's options.
        began: the time of `time.monotonic` from which the report counts.

    Raises:
        IscFastError: as `export_engine`.
    """
    check_request(request)
    steps = _steps(target, target.check(request))
    files = target.files(request.output)
    try_to_write(files)
    with scratch_folder() as scratch:
        ckpt = request.ckpt
        for number, (step, asked) in enumerate(steps, 1):
            made = scratch / f"{number}-{asked.precision}{step.suffix}"
            spec = make(step, replace(asked, ckpt=ckpt), made)
            ckpt = made
        publish(target.files(made), files)
    return ExportReport(request.output, spec, request.output.stat().st_size, time.monotonic() - began)


def _steps(target: Target, request: Request) -> list[tuple[Target, Request]]:
    """What is made one after the other: the engine; before it an fp32 engine, if it starts from one and none was given."""
    steps = [(target, request)]
    if target.from_engine and request.given_engine != ".onnx":
        fp32 = replace(request, precision=FP32.default_precision, options=FP32.options())
        steps.insert(0, (FP32, FP32.check(fp32)))
    return steps
