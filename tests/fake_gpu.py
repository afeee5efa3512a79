"""An imitation of CUDA and TensorRT for tests on machines without a GPU.

It imitates what engines depend on. Work is queued in streams and done late, only when somebody waits for it. Code that
forgets to wait, or that writes to memory which a copy still has to read, therefore gets wrong numbers. The imitation
checks recording, events, addresses outside an allocation, calls that are forbidden while recording, and leaks. TensorRT
plans contain the real ONNX graph; ONNX Runtime executes it on the processor. `tests/engines/test_trt.py` compares names
and parameters with the real bindings.
"""

from __future__ import annotations

import enum
import json
from collections import Counter, deque
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

MAGIC = b"ftrt"


class Code(enum.IntEnum):
    SUCCESS = 0
    INVALID_VALUE = 1
    OUT_OF_MEMORY = 2
    INSUFFICIENT_DRIVER = 35
    NO_DEVICE = 100
    INVALID_HANDLE = 400
    ILLEGAL_ADDRESS = 700
    CAPTURE_UNSUPPORTED = 900
    CAPTURE_INVALIDATED = 901


class Handle:
    """A handle like those of the bindings: an object that ``int()`` turns into a number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __int__(self) -> int:
        return self.number


class Marker:
    def __init__(self, stream: int) -> None:
        self.stream, self.done = stream, False


class FakeCuda(ModuleType):
    """The module ``cuda.bindings.runtime``.

    Attributes:
        late: whether queued work is done only when somebody waits for it. If false, it is done at once.
        driver: version of the driver as CUDA counts it, 0 for no driver.
        devices: (name, major, minor) of each GPU.
        fail: the functions that fail, by name: (code, number of calls that succeed first).
        calls: the number of calls of each function.
    """

    def __init__(self, late: bool = True) -> None:
        super().__init__("cuda.bindings.runtime")
        self.late, self.driver, self.runtime = late, 13000, 13000
        self.devices = [("Fake H100", 9, 0)]
        self.capacity = 1 << 30
        self.fail: dict[str, tuple[int, int]] = {}
        self.calls: Counter[str] = Counter()
        self.memory: dict[int, tuple[str, np.ndarray]] = {}
        self.streams: dict[int, deque[Any]] = {}
        self.events: dict[int, Marker | None] = {}
        self.graphs: dict[int, list[Any]] = {}
        self.executables: dict[int, list[Any]] = {}
        self.capturing: dict[int, list[Any]] = {}
        self.sticky = Code.SUCCESS
        self.ran = 0
        self._next = 1000
        self.cudaMemcpyKind = SimpleNamespace(
            cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3
        )
        self.cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
        self.cudaStreamNonBlocking, self.cudaEventDisableTiming, self.cudaEventBlockingSync = 1, 2, 1

    # --- for tests to look at and to call

    @property
    def held(self) -> dict[str, int]:
        """Count what was made and not freed, by kind. Kinds with a count of 0 are left out."""
        kinds = Counter(kind for kind, _ in self.memory.values())
        made = {
            **kinds,
            "streams": len(self.streams),
            "events": len(self.events),
            "graphs": len(self.graphs) + len(self.executables),
        }
        return {kind: count for kind, count in made.items() if count}

    def put(self, array: np.ndarray) -> int:
        """Allocate device memory with this content, as a decoder does, and return its address."""
        _, pointer = self.cudaMalloc(array.nbytes)
        self._bytes(pointer, array.nbytes, "device")[:] = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
        return int(pointer)

    # --- machinery

    def _number(self) -> int:
        self._next += 1
        return self._next

    def _enter(self, name: str) -> Code:
        self.calls[name] += 1
        if not self.driver:
            return Code.INSUFFICIENT_DRIVER
        if self.sticky:
            return self.sticky
        code, after = self.fail.get(name, (0, 0))
        return Code(code) if code and self.calls[name] > after else Code.SUCCESS

    def _bytes(self, pointer: int, size: int, kind: str) -> np.ndarray:
        for start, (found, array) in self.memory.items():
            if start <= pointer and pointer + size <= start + array.nbytes:
                assert found == kind, f"{kind} memory was expected at an address of {found} memory"
                return array[pointer - start : pointer - start + size]
        raise AssertionError(f"{size} bytes at {pointer:#x} are outside every allocation of {kind} memory")

    def enqueue(self, stream: Any, work: Any) -> None:
        handle = int(stream)
        if handle in self.capturing:
            self.capturing[handle].append(work)
            return
        self.streams[handle].append(work)
        if not self.late:
            self._drain(handle)

    def _drain(self, handle: int, until: Marker | None = None) -> None:
        queue = self.streams[handle]
        while queue and not (until and until.done):
            work = queue.popleft()
            if isinstance(work, Marker):
                work.done = True
            elif isinstance(work, tuple):  # ("wait", marker)
                if not work[1].done:
                    self._drain(work[1].stream, work[1])
            elif isinstance(work, list):  # a graph
                for part in work:
                    part()
            else:
                work()

    # --- devices

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        if self.driver < self.runtime:
            return Code.INSUFFICIENT_DRIVER, None
        return (Code.SUCCESS, len(self.devices)) if self.devices else (Code.NO_DEVICE, None)

    def cudaDriverGetVersion(self) -> tuple[Any, ...]:
        return Code.SUCCESS, self.driver

    def cudaRuntimeGetVersion(self) -> tuple[Any, ...]:
        return Code.SUCCESS, self.runtime

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        name, major, minor = self.devices[device]
        found = SimpleNamespace(name=name.encode(), major=major, minor=minor, totalGlobalMem=self.capacity)
        return self._enter("cudaGetDeviceProperties"), found

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:
        return (self._enter("cudaSetDevice"),)

    def cudaGetErrorString(self, error: Any) -> tuple[Any, ...]:
        return Code.SUCCESS, Code(error).name.lower().replace("_", " ").encode()

    def cudaGetLastError(self) -> tuple[Any, ...]:
        return (Code.SUCCESS,)

    # --- memory

    def _allocate(self, name: str, kind: str, size: int) -> tuple[Any, ...]:
        code = self._enter(name)
        if self.capturing:
            code = Code.CAPTURE_UNSUPPORTED
        used = sum(array.nbytes for found, array in self.memory.values() if found == kind)
        if not code and used + size > self.capacity:
            code = Code.OUT_OF_MEMORY
        if code:
            return code, None
        array = np.full(size, 0xA5, np.uint8)  # real memory is not cleared either
        pointer = array.ctypes.data
        self.memory[pointer] = (kind, array)
        return Code.SUCCESS, pointer

    def _release(self, kind: str, pointer: int) -> tuple[Any, ...]:
        assert self.memory.pop(int(pointer))[0] == kind
        return (Code.SUCCESS,)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        return self._allocate("cudaMalloc", "device", size)

    def cudaMallocHost(self, size: int) -> tuple[Any, ...]:
        return self._allocate("cudaMallocHost", "pinned", size)

    def cudaFree(self, devPtr: int) -> tuple[Any, ...]:
        return self._release("device", devPtr)

    def cudaFreeHost(self, ptr: int) -> tuple[Any, ...]:
        return self._release("pinned", ptr)

    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: int, stream: Any) -> tuple[Any, ...]:
        code = self._enter("cudaMemcpyAsync")
        if code:
            return (code,)
        target, source = {1: ("device", "pinned"), 2: ("pinned", "device"), 3: ("device", "device")}[kind]
        self._bytes(dst, count, target), self._bytes(src, count, source)

        def work() -> None:
            self._bytes(dst, count, target)[:] = self._bytes(src, count, source)

        self.enqueue(stream, work)
        return (code,)

    def cudaMemsetAsync(self, devPtr: int, value: int, count: int, stream: Any) -> tuple[Any, ...]:
        code = self._enter("cudaMemsetAsync")

        def work() -> None:
            self._bytes(devPtr, count, "device")[:] = value

        if not code:
            self.enqueue(stream, work)
        return (code,)

    # --- streams and events

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        code = self._enter("cudaStreamCreateWithFlags")
        if code:
            return code, None
        assert flags == self.cudaStreamNonBlocking
        number = self._number()
        self.streams[number] = deque()
        return code, Handle(number)

    def cudaStreamDestroy(self, stream: Any) -> tuple[Any, ...]:
        del self.streams[int(stream)]
        return (Code.SUCCESS,)

    def cudaStreamSynchronize(self, stream: Any) -> tuple[Any, ...]:
        code = self._enter("cudaStreamSynchronize")
        if int(stream) in self.capturing:
            return (Code.CAPTURE_UNSUPPORTED,)
        if not code:
            self._drain(int(stream))
        return (code or self.sticky,)

    def cudaStreamWaitEvent(self, stream: Any, event: Any, flags: int) -> tuple[Any, ...]:
        code = self._enter("cudaStreamWaitEvent")
        marker = self.events[int(event)]
        if not code and marker is not None:
            self.enqueue(stream, ("wait", marker))
        return (code,)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        code = self._enter("cudaEventCreateWithFlags")
        if code:
            return code, None
        number = self._number()
        self.events[number] = None
        return code, Handle(number)

    def cudaEventRecord(self, event: Any, stream: Any) -> tuple[Any, ...]:
        code = self._enter("cudaEventRecord")
        if not code:
            marker = self.events[int(event)] = Marker(int(stream))
            self.enqueue(stream, marker)
        return (code,)

    def cudaEventSynchronize(self, event: Any) -> tuple[Any, ...]:
        code = self._enter("cudaEventSynchronize")
        marker = self.events[int(event)]
        if not code and marker is not None:
            self._drain(marker.stream, marker)
        return (code or self.sticky,)

    def cudaEventDestroy(self, event: Any) -> tuple[Any, ...]:
        del self.events[int(event)]
        return (Code.SUCCESS,)

    # --- graphs

    def cudaStreamBeginCapture(self, stream: Any, mode: Any) -> tuple[Any, ...]:
        code = self._enter("cudaStreamBeginCapture")
        assert not self.streams[int(stream)], "recording begins in a stream that still works"
        if not code:
            self.capturing[int(stream)] = []
        return (code,)

    def cudaStreamEndCapture(self, stream: Any) -> tuple[Any, ...]:
        code = self._enter("cudaStreamEndCapture")
        recorded = self.capturing.pop(int(stream))
        if code:
            return code, None
        number = self._number()
        self.graphs[number] = recorded
        return code, Handle(number)

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[Any, ...]:
        code = self._enter("cudaGraphInstantiate")
        if code:
            return code, None
        number = self._number()
        self.executables[number] = list(self.graphs[int(graph)])
        return code, Handle(number)

    def cudaGraphLaunch(self, graphExec: Any, stream: Any) -> tuple[Any, ...]:
        code = self._enter("cudaGraphLaunch")
        if not code:
            self.enqueue(stream, list(self.executables[int(graphExec)]))
        return (code,)

    def cudaGraphDestroy(self, graph: Any) -> tuple[Any, ...]:
        del self.graphs[int(graph)]
        return (Code.SUCCESS,)

    def cudaGraphExecDestroy(self, graphExec: Any) -> tuple[Any, ...]:
        del self.executables[int(graphExec)]
        return (Code.SUCCESS,)


class _Logger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        self.ready = True

    def log(self, severity: int, msg: str) -> None:
        raise NotImplementedError


class _DataType(enum.Enum):
    UINT8 = "uint8"
    FLOAT = "float"


# The keys are the values of onnx.TensorProto.UINT8 and FLOAT. They are written as numbers, because tests of devices
# import this file where onnx is not installed.
_ELEMENTS = {2: _DataType.UINT8, 1: _DataType.FLOAT}


class FakeTensorRT(ModuleType):
    """The module ``tensorrt``, on a `FakeCuda`.

    Attributes:
        refuse: if set, building fails with this text.
        recordable: whether executions can be recorded.
        seen: the pixels of each execution.
        spoil: called with the descriptors of each execution; the plan gives what it returns, which may be wrong.
    """

    def __init__(self, cuda: FakeCuda, version: str = "11.4.0.12") -> None:
        super().__init__("tensorrt")
        self.__version__ = version
        self.cuda = cuda
        self.refuse: str | None = None
        self.recordable = True
        self.spoil: Callable[[np.ndarray], np.ndarray] = lambda rows: rows
        self.seen: list[np.ndarray] = []
        self.alive: Counter[str] = Counter()
        self.configs: list[Any] = []
        self.contexts_fit = 99
        self.ILogger = _Logger
        self.DataType = _DataType
        self.TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=0)
        self.BuilderFlag = enum.Enum("BuilderFlag", "TF32 VERSION_COMPATIBLE EXCLUDE_LEAN_RUNTIME")
        self.HardwareCompatibilityLevel = enum.Enum("HardwareCompatibilityLevel", "NONE AMPERE_PLUS")
        for name, kind in {
            "Builder": _Builder,
            "OnnxParser": _Parser,
            "Runtime": _Runtime,
        }.items():
            setattr(self, name, self._bound(kind))

    def _bound(self, kind: Any) -> Any:
        return lambda *given: kind(self, *given)

    def seal(self, content: bytes, **facts: Any) -> bytes:
        """Return the bytes of a TensorRT plan that holds this content."""
        version = self.__version__
        header = {"version": version, "gpu": self.cuda.devices[0], "size": len(content), **facts}
        return MAGIC + json.dumps(header).encode() + b"\n" + content


class _Counted:
    """An object of TensorRT. `FakeTensorRT.alive` counts it until it is collected."""

    def __init__(self, trt: FakeTensorRT) -> None:
        self.trt = trt
        trt.alive[type(self).__name__] += 1

    def __del__(self) -> None:
        self.trt.alive[type(self).__name__] -= 1


class _Config(_Counted):
    def __init__(self, trt: FakeTensorRT) -> None:
        super().__init__(trt)
        self.flags = {trt.BuilderFlag.TF32}
        self.profiles: list[Any] = []
        self.cache: Any = None
        self.hardware_compatibility_level = trt.HardwareCompatibilityLevel.NONE
        trt.configs.append(self)

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag)

    def add_optimization_profile(self, profile: Any) -> int:
        fewest, best, most = (shape[0] for shape in profile.shapes)
        if not fewest <= best <= most:
            return -1
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
        return SimpleNamespace(content=serialized_timing_cache, serialize=lambda: b"times of Fake H100")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache.content not in (b"", b"times of Fake H100"):
            return False
        self.cache = cache
        return True


class _Profile:
    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self.shapes = (min, opt, max)


class _Network:
    def __init__(self) -> None:
        self.name = ""
        self.graph: bytes = b""
        self.model: Any = None

    def get_input(self, index: int) -> Any:
        value = self.model.graph.input[index]
        dims = tuple(d.dim_value or -1 for d in value.type.tensor_type.shape.dim)
        return SimpleNamespace(name=value.name, shape=dims)


class _Builder(_Counted):
    def __init__(self, trt: FakeTensorRT, logger: Any) -> None:
        super().__init__(trt)
        assert trt.cuda.driver, "a builder without a driver crashes"
        self.logger = logger

    def create_network(self, flags: int = 0) -> _Network:
        assert flags == 1, "strongly typed"
        return _Network()

    def create_builder_config(self) -> _Config:
        return _Config(self.trt)

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> Any:
        if self.trt.refuse:
            self.logger.log(_Logger.ERROR, self.trt.refuse)
            return None
        batch = [shape[0] for shape in config.profiles[0].shapes]
        trt = self.trt
        compatible = config.hardware_compatibility_level == trt.HardwareCompatibilityLevel.AMPERE_PLUS
        code = trt.BuilderFlag.VERSION_COMPATIBLE in config.flags
        return trt.seal(network.graph, name=network.name, batch=batch, any_gpu=compatible, code=code)


class _Parser:
    def __init__(self, trt: FakeTensorRT, network: _Network, logger: Any) -> None:
        self.network, self.errors = network, []  # type: ignore[var-annotated]

    def parse(self, model: bytes, path: str | None = None) -> bool:
        try:
            import onnx

            self.network.model = onnx.load_from_string(model)
            onnx.checker.check_model(self.network.model)
        except Exception as error:
            text = str(error)
            self.errors.append(
                SimpleNamespace(desc=lambda: text, node_name=lambda: "conv_7", node_operator=lambda: "Conv")
            )
            return False
        self.network.graph = model
        return True

    @property
    def num_errors(self) -> int:
        return len(self.errors)

    def get_error(self, index: int) -> Any:
        return self.errors[index]


class _Runtime(_Counted):
    def __init__(self, trt: FakeTensorRT, logger: Any) -> None:
        super().__init__(trt)
        assert trt.cuda.driver, "a runtime without a driver crashes"
        assert logger.ready, "a logger that did not call ILogger.__init__ crashes"
        self.logger = logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        trt = self.trt
        if not serialized_engine.startswith(MAGIC):
            said = "Error Code 1: Serialization (Serialization assertion magicTag == kEXPECTED_MAGIC_TAG failed.)"
        else:
            line, _, content = serialized_engine[len(MAGIC) :].partition(b"\n")
            header = json.loads(line)
            if header["size"] != len(content):
                said = "Serialization assertion plan.header.size == blobSize failed."
            elif header["version"] != trt.__version__ and not header["code"]:
                said = "Version tag does not match. Note: Current Version: 1, Serialized Engine Version: 2"
            elif tuple(header["gpu"]) != trt.cuda.devices[0] and not header["any_gpu"]:
                said = "The engine plan file is generated on an incompatible device"
            elif header["code"] and not self.engine_host_code_allowed:
                said = "engine_host_code_allowed is not set"
            else:
                return _Engine(trt, self, header, content)
        self.logger.log(_Logger.ERROR, said)
        return None


class _Engine(_Counted):
    def __init__(self, trt: FakeTensorRT, runtime: _Runtime, header: Any, content: bytes) -> None:
        super().__init__(trt)
        self.runtime, self.header = runtime, header
        self.name = header["name"]
        import onnx

        graph = onnx.load_from_string(content).graph
        self.tensors = [("output", value) for value in graph.output] + [("input", value) for value in graph.input]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.contexts = 0

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return str(self.tensors[index][1].name)

    def _tensor(self, name: str) -> tuple[str, Any]:
        return next(entry for entry in self.tensors if entry[1].name == name)

    def get_tensor_mode(self, name: str) -> str:
        return self._tensor(name)[0]

    def get_tensor_dtype(self, name: str) -> Any:
        return _ELEMENTS[self._tensor(name)[1].type.tensor_type.elem_type]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(d.dim_value or -1 for d in self._tensor(name)[1].type.tensor_type.shape.dim)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert profile_index == 0
        return [(count, *self.get_tensor_shape(name)[1:]) for count in self.header["batch"]]

    def create_execution_context(self) -> Any:
        if self.contexts >= self.trt.contexts_fit:
            self.runtime.logger.log(_Logger.ERROR, "Error Code 2: OutOfMemory (no further information)")
            return None
        self.contexts += 1
        return _Context(self.trt, self, self.contexts)


class _Context(_Counted):
    def __init__(self, trt: FakeTensorRT, engine: _Engine, number: int) -> None:
        super().__init__(trt)
        self.engine = engine
        self.active_optimization_profile = 0 if number == 1 else -1
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}
        self.warm = False

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self.active_optimization_profile = profile_index
        return profile_index == 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self.active_optimization_profile == 0
        fewest, _, most = self.engine.header["batch"]
        self.shape = tuple(shape)
        return bool(fewest <= shape[0] <= most) and tuple(shape[1:]) == self.engine.get_tensor_shape(name)[1:]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        trt, cuda = self.engine.trt, self.engine.trt.cuda
        code = cuda._enter("execute_async_v3")
        if code:
            self.engine.runtime.logger.log(_Logger.ERROR, "Error Code 1: Cuda Runtime (launch failed)")
            return False
        if stream_handle in cuda.capturing and not (self.warm and trt.recordable):
            return False
        self.warm = True
        sides = {side: value.name for side, value in self.engine.tensors}
        size = int(np.prod(self.shape))
        source, target = self.addresses[sides["input"]], self.addresses[sides["output"]]
        dim = self.engine.get_tensor_shape(sides["output"])[1]
        shape = self.shape
        session = self.engine.session

        def work() -> None:
            pixels = cuda._bytes(source, size, "device").reshape(shape)
            trt.seen.append(pixels.copy())
            (rows,) = session.run([sides["output"]], {sides["input"]: pixels})
            rows = np.ascontiguousarray(trt.spoil(rows), np.float32)
            cuda._bytes(target, shape[0] * dim * 4, "device")[:] = rows.view(np.uint8).reshape(-1)
            cuda.ran += 1

        cuda.enqueue(stream_handle, work)
        return True
