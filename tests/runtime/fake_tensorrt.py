"""TensorRT's Python module as far as the backend calls it, over an ONNX session and a FakeCuda.

The real module cannot deserialise an engine without a GPU; the tests marked ``gpu`` use it.
"""

from __future__ import annotations

import enum
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

    ILogger = ILogger
    DataType, TensorIOMode, EngineValidity = DataType, TensorIOMode, EngineValidity
    ExecutionContextAllocationStrategy = Strategy
    CudaGraphStrategy = CudaGraphStrategy
    DynamicShapesKernelSpecializationStrategy = Specialization
    EngineInvalidityDiagnostics = Diagnostics
    __version__ = "10.9.0.34"

    @property
    def __name__(self) -> str:
        return "tensorrt_rtx" if self.rtx else "tensorrt"

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
        return SimpleNamespace()

    def create_execution_context(self, how: Any) -> Any:
        self.trt.calls.append(("create_execution_context", how))
        return None if self.trt.refuse == "create_execution_context" else FakeTrtContext(self.trt)


class FakeTrtContext:
    """Answers False like the library where a call is refused or out of order."""

    def __init__(self, trt: FakeTensorRt) -> None:
        self.trt, self.profile, self.shape = trt, 0, None
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
        spec = self.trt.spec
        source, target = self.addresses[spec.input.name], self.addresses[spec.output.name]
        work = run_at(self.trt.session, spec, self.shape, source, target)
        uses = (source, target) if self.trt.rtx else (source, target, self.memory)
        self.trt.cuda.queue(stream, work, uses=uses)
        return True
