"""Compiling a network ahead of time with torch (AOTInductor): one ``.pt2`` file for one kind of machine."""

from __future__ import annotations

import copy
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from ... import __version__
from ...engines.aoti import AotiEngine
from ...engines.aoti_file import GRAPH_KEY, MadeFor, graph_name, vector_instructions, write_package
from ...engines.spec import EngineSpec
from ...errors import EngineError, ParityError
from ...networks.model import DescribingNet
from ..agree import agree
from ..operating_point import measure_operating_point
from ..origin import Origin
from ..request import Request
from ..verify import as_standard
from .base import Draft, Making, Verdict
from .fold import fold_norms
from .graph import PixelGraph, quiet

MIN_COSINE = {"fp32": 0.99999, "fp16": 0.999, "bf16": 0.99}
"""Lowest cosine of any photo with the network in fp32. fp16 has eleven bits and bf16 eight; what that loses depends on the
network. On random weights it was 0.99998 and 0.998 for a ResNet-18, 0.9993 and 0.968 for an EfficientNetV2-B0."""
MAX_BATCH = 256
"""Images in one call at most; the package is compiled for any number up to it."""

_REMEDIES = {"bf16": "try --precision fp16", "fp16": "try --precision fp32"}
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class _Lowered(nn.Module):
    """A backbone in half precision that takes images and gives feature maps in fp32."""

    def __init__(self, backbone: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.backbone, self.dtype = backbone, dtype

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [maps.float() for maps in self.backbone(images.to(self.dtype))]


def lower_backbone(net: DescribingNet, precision: str) -> None:
    """Put the backbone's weights into half precision, in place; pooling, head and length stay in fp32.

    A batch normalisation that could not be folded away keeps its statistics in fp32, because fp16 may not hold them.

    Raises:
        EngineError: a weight is beyond what the precision can hold.
    """
    dtype = _DTYPES[precision]
    for prefix, module in net.backbone.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            continue
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if not tensor.is_floating_point():
                continue
            tensor.data = tensor.data.to(dtype)
            if not bool(torch.isfinite(tensor).all()):
                raise EngineError(
                    f"{prefix}.{name} holds values beyond the range of {precision}; export with --precision bf16 or fp32"
                )
    net.backbone = _Lowered(net.backbone, dtype)


def compile_package(net: DescribingNet, spec: EngineSpec, device: str, path: Path) -> MadeFor:
    """Compile the network into a package of torch's, and say what it was compiled for.

    Args:
        net: the network, in evaluation mode and in the precision that it computes in; it is moved to the device.
        spec: the engine's specification; its input and output are compiled into the package.
        device: ``"cpu"`` or ``"cuda"``.
        path: where the package is written; it has to end in ``.pt2``.

    Raises:
        EngineError: torch cannot compile it, or finds no compiler.
    """
    graph = PixelGraph(net).eval().to(device).to(memory_format=torch.channels_last)
    example = torch.zeros(
        2, spec.height, spec.width, 3, dtype=torch.uint8, device=device
    )  # a batch of 1 would become a constant
    options: dict[str, Any] = {"aot_inductor.metadata": {GRAPH_KEY: graph_name(spec)}}
    if device == "cpu":
        options["cpp.dynamic_threads"] = True  # else the number of this machine's threads would be compiled in
    if hasattr(torch._inductor.config.aot_inductor, "enable_line_tables"):
        options["aot_inductor.enable_line_tables"] = False  # they name files of this machine
    inductor: Any = torch._inductor
    try:
        # The cache is its own and goes with the folder; torch's would keep a second copy of all weights.
        with quiet(), torch.no_grad(), inductor.utils.fresh_cache(dir=str(path.parent)):
            program = torch.export.export(
                graph, (example,), dynamic_shapes=({0: torch.export.Dim("n", min=1, max=MAX_BATCH)},)
            )
            inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=options)
    except Exception as error:  # torch's errors share no base class here and fill a screen
        text = " ".join(str(error).split())
        if "CxxCompiler" in type(error).__name__ or "No working C++ compiler" in text:
            raise EngineError(
                "torch needs a C++ compiler to make a .pt2 engine and found none; install one, for example: "
                "apt-get install g++"
            ) from error
        raise EngineError(
            f"torch {torch.__version__} cannot compile {net.arch} for {device}: {text[:200] or type(error).__name__}; try "
            "another version of torch, or an .onnx engine"
        ) from error
    on_gpu = device == "cuda"
    return MadeFor(
        device=device,
        torch=torch.__version__,
        machine=platform.machine(),
        instructions=vector_instructions(),
        cuda=str(torch.version.cuda) if on_gpu else "",
        gpu=torch.cuda.get_device_name() if on_gpu else "",
        capability="{}.{}".format(*torch.cuda.get_device_capability()) if on_gpu else "",
        max_batch=MAX_BATCH,
    )


class AotiMaking(Making):
    """One ``.pt2`` engine while it is made from a network.

    Args:
        origin: the network; torch has the number of threads that suits it.
        request: its options name the device; `isc_fast.export.targets.aoti_package.AotiTarget.check` filled it in.
        path: where the candidate is written.
    """

    def __init__(self, origin: Origin, request: Request, path: Path) -> None:
        self.origin, self.request, self.path = origin, request, path
        self.device: str = request.options.device
        precision = request.precision
        self.spec = replace(origin.spec, precision=precision, runtime="aoti", weights_as=precision, tools=_tools())
        self._compiled = path.with_name("compiled.pt2")
        self._made_for: MadeFor | None = None

    def build(self, draft: Draft) -> None:
        """Compile the network, its backbone in the precision that was asked for."""
        spec, precision = self.spec, self.request.precision
        lowered = copy.deepcopy(self.origin.net)
        if precision != "fp32":
            lowered = fold_norms(self.origin.net, self.origin.pixels)
            lower_backbone(lowered, precision)
        self.request.say(
            f"compiling {spec.arch} at {spec.height} pixels for {self.device} in {precision}; this takes a minute or more"
        )
        self._made_for = compile_package(lowered, spec, self.device, self._compiled)
        self._write(spec)

    def gate(self, draft: Draft) -> Verdict:
        """Compare what was compiled with the network in fp32 on every photo."""
        precision, request = self.request.precision, self.request
        standard = as_standard(
            self.origin.net,
            min_cosine=min(request.min_cosine, MIN_COSINE[precision]),
            remedy=_REMEDIES.get(precision),
        )
        engine = self._load()
        parity = agree(engine, standard, request.photos, request.say)
        point = measure_operating_point(engine, request.photos, request.say)
        return Verdict({"parity": parity, "operating_point": point})

    def stamp(self, verdict: Verdict) -> EngineSpec:
        """Put the figures into the package: the same code in another wrapping, so that it loads is all there is to see."""
        spec = replace(self.spec, **verdict.figures)
        self._write(spec)
        if self._load().spec != spec:
            raise ParityError(
                f"{self.request.output} changed when its parity was written into it; nothing was published"
            )
        return spec

    def _write(self, spec: EngineSpec) -> None:
        if self._made_for is None:
            raise ValueError("nothing was compiled")
        self.path.unlink(missing_ok=True)  # an engine that is still open keeps the old file
        write_package(self._compiled, spec, self._made_for, self.path)

    def _load(self) -> AotiEngine:
        """Open the candidate with the threads that torch has now: here its threads spin, and another number is slower."""
        return AotiEngine(self.path, device=self.device, threads=torch.get_num_threads())


def _tools() -> dict[str, str]:
    """Versions of what made the file."""
    return {"isc-fast": __version__, "torch": torch.__version__, "timm": timm.__version__}
