"""What ``isc-fast doctor`` tries out to learn which engines run here.

`isc_fast.machine.trial_run` calls each function in a process of its own, because some libraries end the whole process where
a driver is missing. So this module is light, and every function imports what it tries.
"""

from __future__ import annotations

from typing import Any

from ..machine.trial_run import Trial

_CPU, _GPU = "pip install 'isc-fast[cpu]'", "pip install 'isc-fast[gpu]'"
_COMPILED = "pip install 'isc-fast[compiled]'"

# One Relu over four numbers, as ONNX: TensorRT builds it in seconds, the demo's network takes a minute.
_RELU = "CAg6OwoMCgF4EgF5IgRSZWx1EgFnWhMKAXgSDgoMCAESCAoCCAEKAggEYhMKAXkSDgoMCAESCAoCCAEKAggEQgQKABAR"


def try_onnxruntime(device: str) -> str:
    """Run the demo's engine by ONNX Runtime on ``"cpu"`` or ``"cuda"``."""
    from ..assets import DEMO_ENGINE
    from .ort import OrtEngine

    return _describe_black(OrtEngine(DEMO_ENGINE, device=device), "onnxruntime")


def try_openvino() -> str:
    """Run the demo's engine by OpenVINO."""
    from ..assets import DEMO_ENGINE
    from .ov import OvEngine

    return _describe_black(OvEngine(DEMO_ENGINE), "openvino")


def _describe_black(engine: Any, library: str) -> str:
    import importlib

    import numpy as np

    vectors = engine.run(np.zeros((2, engine.spec.height, engine.spec.width, 3), np.uint8))
    if not abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-4:
        raise RuntimeError("descriptors are not of unit length")
    return f"{library} {importlib.import_module(library).__version__}, the demo's engine run"


def try_onnxruntime_tensorrt() -> str:
    """Run a small graph by TensorRT through ONNX Runtime."""
    import base64
    import contextlib
    import importlib

    import numpy as np

    ort: Any = importlib.import_module("onnxruntime")
    if "TensorrtExecutionProvider" not in ort.get_available_providers():
        raise SystemExit(
            "this ONNX Runtime has no TensorRT provider; run: pip uninstall -y onnxruntime && pip install 'isc-fast[gpu]'"
        )
    ort.preload_dlls()
    with contextlib.suppress(ImportError, OSError):
        importlib.import_module("tensorrt")
    providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    session = ort.InferenceSession(base64.b64decode(_RELU), providers=providers, enable_fallback=0)
    if session.get_providers()[0] != "TensorrtExecutionProvider":
        raise SystemExit(
            "its libraries do not load: it needs TensorRT 10 (libnvinfer.so.10), CUDA 13 and cuDNN 9; run: "
            "pip install 'tensorrt-cu13>=10.13.2,<11'"
        )
    (found,) = session.run(None, {"x": np.array([[-1, 2, 3, 4]], np.float32)})
    if found.tolist() != [[0, 2, 3, 4]]:
        raise RuntimeError(f"TensorRT computed {found.tolist()}, expected [[0, 2, 3, 4]]")
    return f"onnxruntime {ort.__version__}, a small graph run by TensorRT"


def try_tensorrt(module: str) -> str:
    """Build and load a small plan by ``"tensorrt"`` or ``"tensorrt_rtx"``."""
    import importlib

    name = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}[module]
    trt: Any = importlib.import_module(module)
    runtime: Any = importlib.import_module("cuda.bindings.runtime")
    error, count = runtime.cudaGetDeviceCount()  # first: TensorRT ends the process where there is no driver
    if int(error) or not count:
        raise SystemExit(
            f"{name} {trt.__version__} is installed, and CUDA finds no GPU (error {int(error)}); "
            "run: pip install 'isc-fast[gpu]', after an update of NVIDIA's driver"
        )
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    entry = network.add_input("x", trt.float32, (1, 4))
    network.mark_output(network.add_activation(entry, trt.ActivationType.RELU).get_output(0))
    plan = builder.build_serialized_network(network, builder.create_builder_config())
    if plan is None:
        raise RuntimeError(f"{name} builds no plan")
    if trt.Runtime(logger).deserialize_cuda_engine(plan) is None:
        raise RuntimeError(f"{name} loads no plan")
    return f"{name} {trt.__version__}, a plan built and loaded"


def try_torch() -> str:
    """Multiply by torch, and look for its loader of packages and for a compiler that can make them."""
    import importlib
    import shutil

    torch: Any = importlib.import_module("torch")
    for module in ("torch._C._aoti", "torch._inductor.package"):
        importlib.import_module(module)
    if (torch.ones(2, 2) @ torch.ones(2, 2)).sum() != 8:
        raise RuntimeError("torch multiplies wrongly")
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "the processor only"
    compiler = next((name for name in ("g++", "clang++", "c++") if shutil.which(name)), None)
    makes = f"compiles with {compiler}" if compiler else "makes none: no C++ compiler (apt-get install g++)"
    return f"torch {torch.__version__} on {where}, loads .pt2 packages, {makes}"


def try_torch_gpu() -> str:
    """Multiply by torch on a GPU."""
    import importlib

    torch: Any = importlib.import_module("torch")
    if not torch.cuda.is_available():
        raise SystemExit(f"torch {torch.__version__} sees no GPU (built for CUDA {torch.version.cuda})")
    if (torch.ones(2, 2, device="cuda") @ torch.ones(2, 2, device="cuda")).sum().item() != 8:
        raise RuntimeError("torch multiplies wrongly on the GPU")
    return f"torch {torch.__version__}, a product on {torch.cuda.get_device_name()}"


ONNX_TRIALS = (
    Trial("engines", "ONNX Runtime", try_onnxruntime, _CPU, ("cpu",), shares="onnxruntime"),
    Trial("engines", "ONNX Runtime, CUDA", try_onnxruntime, _GPU, ("cuda",), needs_gpu=True, shares="onnxruntime"),
    Trial("engines", "ONNX Runtime, TensorRT", try_onnxruntime_tensorrt, _GPU, needs_gpu=True, shares="onnxruntime"),
    Trial("engines", "OpenVINO", try_openvino, "pip install 'isc-fast[openvino]'"),
)
AOTI_TRIALS = (
    Trial("engines", "torch (.pt2)", try_torch, _COMPILED),
    Trial("engines", "torch (.pt2), GPU", try_torch_gpu, _COMPILED, needs_gpu=True),
)
PLAN_TRIALS = (
    Trial("engines", "TensorRT (.plan)", try_tensorrt, _GPU, ("tensorrt",), needs_gpu=True),
    Trial(
        "engines",
        "TensorRT-RTX (.plan)",
        try_tensorrt,
        "pip install tensorrt-rtx-cu13",
        ("tensorrt_rtx",),
        needs_gpu=True,
    ),
)
