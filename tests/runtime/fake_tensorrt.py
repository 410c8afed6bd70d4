"""TensorRT's Python module as far as the backend calls it, over an ONNX session and a FakeCuda.

It refuses what the library refuses: a context made with the other flavor's argument, memory that
the user manages and has not given, and a runtime cache that nobody holds any more.

The real module cannot deserialize an engine without a GPU; the tests marked ``gpu`` use it.
"""

from __future__ import annotations

import enum
import weakref
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from fcnkit.runtime.artifacts.spec import ModelSpec, Shape, ShapeRange
from tests.runtime.fake_cuda import FakeCuda, run_at

DataType = enum.Enum("DataType", ["FLOAT", "HALF", "UINT8"])
TensorIOMode = enum.Enum("TensorIOMode", ["INPUT", "OUTPUT"])
EngineValidity = enum.Enum("EngineValidity", ["VALID", "SUBOPTIMAL", "INVALID"])
Strategy = enum.Enum("Strategy", ["STATIC", "USER_MANAGED"])
CudaGraphStrategy = enum.Enum("CudaGraphStrategy", ["DISABLED", "WHOLE_GRAPH_CAPTURE"])
Specialization = enum.Enum("Specialization", ["LAZY", "EAGER", "NONE"])


class Diagnostics(enum.IntEnum):
    VERSION_MISMATCH = 1
    UNSUPPORTED_CC = 2


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


@dataclass
class FakeTensorRt:
    """The module."""

    session: Any
    spec: ModelSpec
    profiles: tuple[ShapeRange, ...]
    cuda: FakeCuda
    rtx: bool = False
    validity: EngineValidity = EngineValidity.VALID
    diagnostics: int = 0
    loads: bool = True
    refuse: str = ""
    """The context's method that answers False."""
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    runtimes: list[Any] = field(default_factory=list)

    compiled: bytes = b"kernels"
    """What the runtime cache holds after a run."""
    environment: bytes = b"this GPU"
    """What a runtime cache must begin with to be taken."""

    ILogger = ILogger
    DataType, TensorIOMode, EngineValidity = DataType, TensorIOMode, EngineValidity
    ExecutionContextAllocationStrategy = Strategy
    CudaGraphStrategy = CudaGraphStrategy
    DynamicShapesKernelSpecializationStrategy = Specialization
    EngineInvalidityDiagnostics = Diagnostics

    def __post_init__(self) -> None:
        self.__name__ = "tensorrt_rtx" if self.rtx else "tensorrt"
        self.__version__ = "1.7.1.116" if self.rtx else "10.9.0.34"

    def Runtime(self, logger: Any) -> Any:
        runtime = SimpleNamespace()
        self.runtimes.append(runtime)
        if self.rtx:
            runtime.get_engine_validity = lambda _plan: (self.validity, self.diagnostics)

        def load(_plan: bytes) -> Any:
            if self.loads:
                return FakeEngine(self)
            logger.log(ILogger.ERROR, "the plan is from another planet")
            return None

        runtime.deserialize_cuda_engine = load
        return runtime


class FakeEngine:
    def __init__(self, trt: FakeTensorRt) -> None:
        self.trt = trt
        self.num_io_tensors = 2
        self.num_optimization_profiles = len(trt.profiles)
        self.device_memory_size_v2 = 4096

    def _tensor(self, name: str) -> Any:
        spec = self.trt.spec
        return spec.input if name == spec.input.name else spec.output

    def create_engine_inspector(self) -> None:
        """None, as of a lean runtime."""

    def get_tensor_name(self, index: int) -> str:
        spec = self.trt.spec
        return (spec.input.name, spec.output.name)[index]

    def get_tensor_dtype(self, name: str) -> DataType:
        return {"float32": DataType.FLOAT, "uint8": DataType.UINT8}[self._tensor(name).dtype]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == self.trt.spec.input.name else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        channels = 3 if name == self.trt.spec.input.name else self.trt.spec.num_classes
        return tuple(channels if axis == "C" else -1 for axis in self._tensor(name).layout)

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        profile = self.trt.profiles[index]
        return [self._full(shape) for shape in (profile.min, profile.opt, profile.max)]

    def _full(self, shape: Shape) -> tuple[int, ...]:
        batch, height, width = shape
        if self.trt.spec.input.layout == "NCHW":
            return batch, 3, height, width
        return batch, height, width, 3

    def create_runtime_config(self) -> Any:
        assert self.trt.rtx
        return FakeConfig(self.trt)

    def create_execution_context(self, how: Any) -> Any:
        wanted: type[Any] = FakeConfig if self.trt.rtx else Strategy
        if not isinstance(how, wanted):
            raise TypeError("create_execution_context(): incompatible function arguments")
        self.trt.calls.append(("create_execution_context", how))
        if self.trt.refuse == "create_execution_context":
            return None
        return FakeTrtContext(self.trt, how)


class FakeCache:
    """IRuntimeCache."""

    def __init__(self, trt: FakeTensorRt) -> None:
        self.trt, self.held = trt, b""

    def deserialize(self, blob: bytes) -> bool:
        if not blob.startswith(self.trt.environment):
            return False
        self.held = blob
        return True

    def serialize(self) -> bytes:
        return self.held


class FakeConfig:
    """IRuntimeConfig, which does not keep its cache alive."""

    def __init__(self, trt: FakeTensorRt) -> None:
        self.trt = trt
        self.cuda_graph_strategy = CudaGraphStrategy.DISABLED
        self.dynamic_shapes_kernel_specialization_strategy = Specialization.LAZY
        self.strategy = Strategy.STATIC
        self.cache: Any = None

    def create_runtime_cache(self) -> FakeCache:
        return FakeCache(self.trt)

    def set_runtime_cache(self, cache: FakeCache) -> bool:
        if self.trt.refuse == "set_runtime_cache":
            return False
        self.cache = weakref.ref(cache)
        return True

    def set_execution_context_allocation_strategy(self, strategy: Strategy) -> None:
        self.strategy = strategy


class FakeTrtContext:
    """Answers False like the library where a call is refused or out of order."""

    def __init__(self, trt: FakeTensorRt, how: Any) -> None:
        self.trt, self.profile, self.shape = trt, 0, None
        self.config = how if trt.rtx else None
        strategy = how.strategy if trt.rtx else how
        self.managed = strategy == Strategy.USER_MANAGED
        self.shapes: list[tuple[int, ...]] = []
        self.addresses: dict[str, int] = {}
        self.memory = 0

    def _call(self, *call: Any) -> bool:
        self.trt.calls.append(call)
        return call[0] != self.trt.refuse

    def set_device_memory(self, memory: int, size: int) -> None:
        assert len(self.trt.cuda.memory[memory]) == size
        self.memory = memory

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.profile, self.shape = index, None
        if not self._call("set_optimization_profile_async", index, stream):
            raise RuntimeError("Error in set optimization profile async.")
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "image"
        self.shape = shape
        self.shapes.append(shape)
        spec, profile = self.trt.spec, self.trt.profiles[self.profile]
        sides = (shape[0], *(shape[2:] if spec.input.layout == "NCHW" else shape[1:3]))
        limits = zip(profile.min, sides, profile.max, strict=True)
        fits = all(low <= side <= high for low, side, high in limits)
        return self._call("set_input_shape", shape) and fits

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return self._call("set_tensor_address", name)

    def execute_async_v3(self, stream: int) -> bool:
        if not self._call("execute_async_v3", stream) or self.shape is None:
            return False
        if self.managed and not self.memory:
            return False
        if self.config is not None:
            self._compile()
        spec = self.trt.spec
        source, target = self.addresses[spec.input.name], self.addresses[spec.output.name]
        work = run_at(self.trt.session, spec, self.shape, source, target)
        uses = (source, target, *([self.memory] if self.managed else []))
        self.trt.cuda.queue(stream, work, uses=uses)
        return True

    def _compile(self) -> None:
        """Put kernels into the configuration's cache, which must still be alive."""
        if self.config.cache is None:
            return
        cache = self.config.cache()
        assert cache is not None, "the library would use a cache that was freed"
        cache.held = self.trt.environment + self.trt.compiled
