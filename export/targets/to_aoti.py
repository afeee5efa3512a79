"""Compiling a network ahead of time with torch (AOTInductor): one ``.pt2`` file for one kind of machine."""

from __future__ import annotations

import copy
import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ... import __version__
from ...engines.aoti import GRAPH_KEY, AotiEngine, MadeFor, graph_name, vector_instructions, write_package
from ...engines.spec import EngineSpec
from ...errors import EngineError, ParityError
from ...files.atomic import replacing
from ...networks.model import DescriptorNet
from ..photos import load_photos
from ..verify import check_runs, counting_photos, describe, verify
from .fold import fold_norms
from .graph import PixelGraph, quiet
from .threads import best_threads

MIN_COSINE = {"fp32": 0.99999, "fp16": 0.999, "bf16": 0.99}
"""Lowest cosine of any photo with the network in fp32. fp16 has eleven bits, bf16 eight, and what that loses depends on the
network: on random weights 0.99998 and 0.998 for a ResNet-18, 0.9993 and 0.968 for an EfficientNetV2-B0."""
MAX_BATCH = 256
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def check_request(
    target: Path, ckpt: Path, precision: str, weights_as: str, runtime: str | None, device: str | None
) -> str:
    """What a ``.pt2`` will be compiled for, ``"cpu"`` or ``"cuda"``; before any work.

    Raises:
        EngineError: these wishes cannot be met, or not on this machine.
    """
    if ckpt.suffix.lower() in (".onnx", ".plan", ".pt2"):
        raise EngineError(f"{ckpt} is an engine already; a .pt2 is compiled from a checkpoint: give that")
    if precision not in _DTYPES:
        raise EngineError(f"a .pt2 engine computes in {', '.join(_DTYPES)}, not in {precision}; choose one of them")
    if weights_as != "fp32":
        raise EngineError(f"a .pt2 engine stores its weights as it computes, not as {weights_as}; leave that out")
    if runtime is not None:
        raise EngineError(f"a .pt2 engine is run by torch, not by {runtime}; leave out the runtime")
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if chosen not in ("cpu", "cuda"):
        raise EngineError(f"there is no device {chosen!r}; choose one of cpu, cuda")
    if chosen == "cuda" and not torch.cuda.is_available():
        raise EngineError(
            f"{target} cannot be compiled for cuda here: torch {torch.__version__} sees no GPU; look at: isc-fast doctor"
        )
    if chosen == "cpu" and precision != "fp32":
        raise EngineError(
            f"a .pt2 engine in {precision} is for a GPU; for a processor export with --precision fp32, or an .onnx engine "
            "with --precision bf16"
        )
    return chosen


class _Lowered(nn.Module):
    """A backbone in half precision between images and feature maps in fp32."""

    def __init__(self, backbone: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.backbone, self.dtype = backbone, dtype

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [maps.float() for maps in self.backbone(images.to(self.dtype))]


def lower_backbone(net: DescriptorNet, precision: str) -> None:
    """Put the backbone's weights into half precision, in place; pooling, head and length stay in fp32.

    A batch normalisation keeps its fp32 statistics: where it could not be folded away they may exceed what fp16 holds.

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


def compile_package(net: DescriptorNet, spec: EngineSpec, device: str, path: Path) -> MadeFor:
    """Compile the network into a package of torch's, and say what it was compiled for.

    Args:
        net: in evaluation mode, in the precision it is to compute in; moved to the device.
        spec: of the engine; its input and output are compiled into the package.
        device: ``"cpu"`` or ``"cuda"``.
        path: of the package; has to end in ``.pt2``.

    Raises:
        EngineError: torch cannot compile it, or finds no compiler.
    """
    graph = PixelGraph(net).eval().to(device).to(memory_format=torch.channels_last)
    example = torch.zeros(2, spec.height, spec.width, 3, dtype=torch.uint8, device=device)  # 1 would become a constant
    options: dict[str, Any] = {"aot_inductor.metadata": {GRAPH_KEY: graph_name(spec)}}
    if device == "cpu":
        options["cpp.dynamic_threads"] = True  # else the threads of this machine would be compiled in
    if hasattr(torch._inductor.config.aot_inductor, "enable_line_tables"):
        options["aot_inductor.enable_line_tables"] = False  # of this machine's files
    inductor: Any = torch._inductor
    try:
        # A cache of its own: it would keep a second copy of all weights in the temporary folder otherwise.
        with quiet(), torch.no_grad(), inductor.utils.fresh_cache(dir=str(path.parent)):
            program = torch.export.export(
                graph, (example,), dynamic_shapes=({0: torch.export.Dim("n", min=1, max=MAX_BATCH)},)
            )
            inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=options)
    except Exception as error:  # torch's errors here share no base class and fill a screen
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


def export_aoti(
    net: DescriptorNet,
    spec: EngineSpec,
    target: Path,
    *,
    precision: str,
    device: str,
    photos: Sequence[Path],
    min_cosine: float = MIN_COSINE["fp32"],
    say: Callable[[str], None] = lambda line: None,
) -> EngineSpec:
    """Compile a network, verify what was compiled against the network in fp32, and publish it.

    Args:
        net: in evaluation mode, on the processor.
        spec: of an fp32 engine of it.
        target: the ``.pt2`` file; an older one is replaced.
        precision: of the backbone: ``"fp32"``, ``"fp16"`` or ``"bf16"``.
        device: ``"cpu"`` or ``"cuda"``.
        photos: real images to verify on.
        min_cosine: every photo has to agree at least this well; for fp16 and bf16 it is `MIN_COSINE` at most.
        say: is told in one line what is being done.

    Returns:
        the specification in the file, with what was measured.

    Raises:
        CheckpointError: the network does not run at this size.
        EngineError: torch cannot compile it.
        ParityError: what was compiled does not agree with the network; nothing is published.
        OutputError: the file cannot be written.
    """

    first = load_photos(photos[:4], spec.height, spec.width)
    check_runs(net, spec, first)
    bound = min(min_cosine, MIN_COSINE[precision])
    spec = replace(spec, precision=precision, runtime="aoti", weights_as=precision, tools=_tools())
    with best_threads(lambda: describe(net, first)), tempfile.TemporaryDirectory(prefix="isc-fast-") as scratch:
        threads = torch.get_num_threads()  # as found best: here torch is loaded, and its threads spin
        lowered = copy.deepcopy(net)
        if precision != "fp32":
            lowered = fold_norms(net, first)
            lower_backbone(lowered, precision)
        say(f"compiling {spec.arch} at {spec.height} pixels for {device} in {precision}; this takes a minute or more")
        compiled = Path(scratch, "engine.pt2")
        made_for = compile_package(lowered, spec, device, compiled)
        trial = Path(scratch, "trial.pt2")
        write_package(compiled, spec, made_for, trial)
        parity = verify(
            AotiEngine(trial, device=device, threads=threads),
            net,
            photos,
            min_cosine=bound,
            progress=counting_photos(say),
            remedy={"bf16": "try --precision fp16", "fp16": "try --precision fp32"}.get(precision),
        )
        spec = replace(spec, parity=parity)
        with replacing(target) as temporary:
            write_package(compiled, spec, made_for, temporary)
            published = Path(scratch, "published.pt2")  # torch looks at the suffix
            published.symlink_to(temporary.absolute())
            stamped = AotiEngine(published, device=device, threads=threads)
            # The same code in another wrapping; that it loads and knows what it is is all that has to be seen.
            if stamped.spec != spec:
                raise ParityError(f"{target} changed when its parity was written into it; nothing was published")
    return spec


def _tools() -> dict[str, str]:
    import timm

    return {"isc-fast": __version__, "torch": torch.__version__, "timm": timm.__version__}
