"""The small programs with which `isc_fast.runs.doctor` tries out what is installed, each run in a process of its own.

Each does a tiny piece of the real work and prints one line of what it saw. They are text, not functions, so that nothing
is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trial:
    """One thing to try out.

    Attributes:
        group: ``"decoders"``, ``"engines"`` or ``"search"``.
        name: of the row.
        code: Python; its last line of output is shown.
        repair: the line that installs it.
        needs_gpu: without a GPU its failing is no fault.
        shares: the folder of `isc_fast.runs.doctor` that several packages may fight for, or "".
    """

    group: str
    name: str
    code: str
    repair: str
    needs_gpu: bool = False
    shares: str = ""


GPUS = """
import json
def by_nvml():
    import pynvml as nvml
    nvml.nvmlInit()
    text = lambda value: value.decode() if isinstance(value, bytes) else value
    version = nvml.nvmlSystemGetCudaDriverVersion()
    gpus = []
    for index in range(nvml.nvmlDeviceGetCount()):
        gpu = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(gpu)
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(gpu)
        gpus.append(f"{text(nvml.nvmlDeviceGetName(gpu))}, compute capability {major}.{minor}, "
                    f"{memory.free / 2**30:.0f} of {memory.total / 2**30:.0f} GiB free")
    driver = text(nvml.nvmlSystemGetDriverVersion())
    return f"{driver}, up to CUDA {version // 1000}.{version % 1000 // 10}", gpus
def by_cuda():
    from cuda.bindings import runtime
    error, count = runtime.cudaGetDeviceCount()
    if int(error):
        raise RuntimeError(f"CUDA finds no GPU: {runtime.cudaGetErrorName(error)[1].decode()}")
    error, version = runtime.cudaDriverGetVersion()
    gpus = []
    for index in range(count):
        error, gpu = runtime.cudaGetDeviceProperties(index)
        gpus.append(f"{gpu.name.decode()}, compute capability {gpu.major}.{gpu.minor}, "
                    f"{gpu.totalGlobalMem / 2**30:.0f} GiB")
    return f"up to CUDA {version // 1000}.{version % 1000 // 10}", gpus
try:
    driver, gpus = by_nvml()
except ImportError:
    driver, gpus = by_cuda()
print(json.dumps({"driver": driver, "gpus": gpus}))
"""

_DECODER = """
import numpy as np
from isc_fast.assets import demo_photos
from isc_fast.decoders.base import make_decoder
from isc_fast.decoders.preprocessing import Preprocessing
photo = str(demo_photos()[0])
def decode(name):
    batch = next(make_decoder(name, 1).batches([[photo]], Preprocessing(64, 64)))
    if batch.problems[0]:
        raise RuntimeError(f"a good photo was refused: {batch.problems[0].reason}")
    return batch.pixels[0].astype(int)
pixels, expected = decode(NAME), decode("pillow")
print(f"a photo decoded; pixels differ from pillow's by {abs(pixels - expected).max()} at most")
"""

_DALI = """
import numpy as np
from isc_fast.assets import demo_photos
import nvidia.dali as dali
kind = KIND
data = np.frombuffer(demo_photos()[0].read_bytes(), np.uint8)
pipe = dali.Pipeline(batch_size=1, num_threads=1, device_id=0 if kind == "mixed" else None)
with pipe:
    photo = dali.fn.decoders.image(dali.fn.external_source(lambda: [data], batch=True), device=kind)
    pipe.set_outputs(dali.fn.resize(photo, size=(64, 64), interp_type=dali.types.INTERP_LINEAR, antialias=True))
pipe.build()
(found,) = pipe.run()
found = found.as_cpu() if kind == "mixed" else found
pixels = np.array(found.at(0))
assert pixels.shape == (64, 64, 3) and pixels.std() > 0, pixels.shape
print(f"DALI {dali.__version__}, a photo decoded by its {kind} decoder")
"""

_ENGINE = """
import numpy as np
from isc_fast.engines.base import load_engine
engine = load_engine("demo", OPTIONS)
vectors = engine.run(np.zeros((2, engine.spec.height, engine.spec.width, 3), np.uint8))
assert abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-4, "descriptors are not of unit length"
import MODULE as library
print(f"MODULE {library.__version__}, the demo's engine run")
"""

# One Relu over four numbers, as ONNX: TensorRT builds it in seconds, the demo's network takes a minute.
_ORT_TENSORRT = """
import base64, contextlib, importlib
import numpy as np
import onnxruntime as ort
if "TensorrtExecutionProvider" not in ort.get_available_providers():
    raise SystemExit("this ONNX Runtime has no TensorRT provider; run: "
                     "pip uninstall -y onnxruntime && pip install 'isc-fast[gpu]'")
ort.preload_dlls()
with contextlib.suppress(ImportError, OSError):
    importlib.import_module("tensorrt")
graph = base64.b64decode("CAg6OwoMCgF4EgF5IgRSZWx1EgFnWhMKAXgSDgoMCAESCAoCCAEKAggEYhMKAXkSDgoMCAESCAoCCAEKAggEQgQKABAR")
session = ort.InferenceSession(graph, providers=["TensorrtExecutionProvider", "CUDAExecutionProvider"], enable_fallback=0)
if session.get_providers()[0] != "TensorrtExecutionProvider":
    raise SystemExit("its libraries do not load: it needs TensorRT 10 (libnvinfer.so.10), CUDA 13 and cuDNN 9; run: "
                     "pip install 'tensorrt-cu13>=10.13.2,<11'")
(found,) = session.run(None, {"x": np.array([[-1, 2, 3, 4]], np.float32)})
assert found.tolist() == [[0, 2, 3, 4]], found
print(f"onnxruntime {ort.__version__}, a small graph run by TensorRT")
"""

# A runtime without a driver ends the process, so CUDA is asked first.
_TENSORRT = """
import tensorrt as trt
from cuda.bindings import runtime
error, count = runtime.cudaGetDeviceCount()
if int(error) or not count:
    raise SystemExit(f"TensorRT {trt.__version__} is installed, and CUDA finds no GPU (error {int(error)}); "
                     "run: pip install 'isc-fast[gpu]', after an update of NVIDIA's driver")
logger = trt.Logger(trt.Logger.ERROR)
builder = trt.Builder(logger)
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
entry = network.add_input("x", trt.float32, (1, 4))
network.mark_output(network.add_activation(entry, trt.ActivationType.RELU).get_output(0))
plan = builder.build_serialized_network(network, builder.create_builder_config())
assert plan is not None, "TensorRT builds no plan"
assert trt.Runtime(logger).deserialize_cuda_engine(plan) is not None, "TensorRT loads no plan"
print(f"TensorRT {trt.__version__}, a plan built and loaded")
"""

_AOTI = """
import shutil
import torch
from torch._C._aoti import AOTIModelPackageLoader
import torch._inductor.package
assert (torch.ones(2, 2) @ torch.ones(2, 2)).sum() == 8
where = torch.cuda.get_device_name() if torch.cuda.is_available() else "the processor only"
compiler = next((name for name in ("g++", "clang++", "c++") if shutil.which(name)), None)
makes = f"compiles with {compiler}" if compiler else "makes none: no C++ compiler (apt-get install g++)"
print(f"torch {torch.__version__} on {where}, loads .pt2 packages, {makes}")
"""

_AOTI_GPU = """
import torch
if not torch.cuda.is_available():
    raise SystemExit(f"torch {torch.__version__} sees no GPU (built for CUDA {torch.version.cuda})")
assert (torch.ones(2, 2, device="cuda") @ torch.ones(2, 2, device="cuda")).sum().item() == 8
print(f"torch {torch.__version__}, a product on {torch.cuda.get_device_name()}")
"""

_FAISS = """
import faiss
import numpy as np
rows = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)
index = faiss.IndexFlatL2(16)
index.add(rows)
_, found = index.search(rows, 1)
assert found[:, 0].tolist() == list(range(64)), "the nearest neighbours are wrong"
print(f"faiss {faiss.__version__}, 64 rows found again")
"""

_FAISS_GPU = """
from isc_fast.matching.gpu_probe import try_gpus
count, _ = try_gpus("cuda:all")
import faiss
print(f"faiss {faiss.__version__}, neighbours found on {count} GPU{'s' * (count > 1)}")
"""


def _engine(options: str, module: str) -> str:
    return _ENGINE.replace("OPTIONS", options).replace("MODULE", module)


_CPU, _GPU = "pip install 'isc-fast[cpu]'", "pip install 'isc-fast[gpu]'"

TRIALS = (
    Trial("decoders", "pillow", _DECODER.replace("NAME", "'pillow'"), "pip install isc-fast"),
    Trial("decoders", "turbo", _DECODER.replace("NAME", "'turbo'"), "pip install simplejpeg cykooz-resizer"),
    Trial("decoders", "DALI, processor", _DALI.replace("KIND", repr("cpu")), "pip install nvidia-dali-cuda130"),
    Trial("decoders", "DALI, GPU", _DALI.replace("KIND", repr("mixed")), _GPU, needs_gpu=True),
    Trial("engines", "ONNX Runtime", _engine('device="cpu"', "onnxruntime"), _CPU, shares="onnxruntime"),
    Trial(
        "engines",
        "ONNX Runtime, CUDA",
        _engine('device="cuda"', "onnxruntime"),
        _GPU,
        needs_gpu=True,
        shares="onnxruntime",
    ),
    Trial("engines", "ONNX Runtime, TensorRT", _ORT_TENSORRT, _GPU, needs_gpu=True, shares="onnxruntime"),
    Trial("engines", "OpenVINO", _engine('runtime="openvino"', "openvino"), "pip install 'isc-fast[openvino]'"),
    Trial("engines", "TensorRT (.plan)", _TENSORRT, _GPU, needs_gpu=True),
    Trial(
        "engines",
        "TensorRT-RTX (.plan)",
        _TENSORRT.replace("import tensorrt as", "import tensorrt_rtx as").replace("TensorRT ", "TensorRT-RTX "),
        "pip install tensorrt-rtx-cu13",
        needs_gpu=True,
    ),
    Trial("engines", "torch (.pt2)", _AOTI, "pip install 'isc-fast[compiled]'"),
    Trial("engines", "torch (.pt2), GPU", _AOTI_GPU, "pip install 'isc-fast[compiled]'", needs_gpu=True),
    Trial("search", "faiss", _FAISS, _CPU, shares="faiss"),
    Trial("search", "faiss, GPU", _FAISS_GPU, _GPU, needs_gpu=True, shares="faiss"),
)
"""In the order in which they are shown."""
