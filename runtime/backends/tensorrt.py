"""TensorRT and TensorRT-RTX: a prebuilt engine on the GPU, with nothing but CUDA below it.

Opening checks, in this order: the sidecar, the plan's hash and header, the installed version, the
driver, TensorRT-RTX's own verdict on the plan, and only then deserializes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from fcnkit.errors import (
    ArtifactError,
    BackendUnavailableError,
    BadValueError,
    FcnkitError,
    message,
    warn_of_model,
)
from fcnkit.runtime.artifacts.engine_file import EngineFile, check_installed, read_engine_file
from fcnkit.runtime.artifacts.onnx_file import TensorInfo
from fcnkit.runtime.artifacts.signature import check_signature
from fcnkit.runtime.artifacts.spec import ModelSpec, Shape, ShapeRange, hull
from fcnkit.runtime.backends.base import BackendInfo, output_places
from fcnkit.runtime.backends.cuda import CudaDriver, open_driver, release
from fcnkit.runtime.backends.cuda_backend import GRAPHS, CudaBackend
from fcnkit.runtime.backends.cuda_slot import Dims, Work
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.backends.settings import check_options, int_option, one_of, refuse_compute
from fcnkit.runtime.backends.tensorrt_cache import RuntimeCache
from fcnkit.runtime.backends.tensorrt_library import (
    TENSOR_DTYPES,
    import_library,
    library_name,
    logger_of,
)

__all__ = ["CACHE", "HOST_CODE", "TensorRtExecutor", "open_engine"]

_STRATEGIES: Final = {
    "cuda_graph_strategy": ("CudaGraphStrategy", "WHOLE_GRAPH_CAPTURE"),
    "dynamic_shapes_kernel_specialization_strategy": (
        "DynamicShapesKernelSpecializationStrategy",
        "EAGER",
    ),
}
"""TensorRT-RTX's runtime options: the enumeration of each, and the member taken by default. It
captures graphs itself: only it knows when a shape's kernels are compiled. LAZY compiles them on
threads that go on while a context is dropped."""

CACHE: Final = "runtime_cache"
"""The option that keeps TensorRT-RTX's compiled kernels beside the engine (1), or does not (0)."""

_CONTEXTS: Final = 4
"""Contexts that a slot keeps for TensorRT-RTX, one per shape: a graph is captured for one shape."""

HOST_CODE: Final = "engine_host_code_allowed"
"""The option, by TensorRT's name, that lets an engine bring its own code."""


def open_engine(path: Path, request: BackendRequest) -> CudaBackend:
    """Open an engine on a GPU.

    Args:
        path: The .engine file.
        request: ``backend="auto"`` is the library that built the engine. ``threads`` are those
            around the network. ``compute`` is ``auto`` or the precision that the engine was built
            in. ``options`` are ``device_id``; for TensorRT ``cuda_graphs``, how many are kept per
            batch in flight, and ``engine_host_code_allowed`` (1), without which no
            version-compatible engine is opened, because it brings code that runs on the host; for
            TensorRT-RTX ``cuda_graph_strategy``, ``dynamic_shapes_kernel_specialization_strategy``,
            ``runtime_cache`` (0 to keep no compiled kernels beside the engine) and ``contexts``,
            how many are kept per batch in flight, each for one shape.

    Returns:
        The opened backend.

    Raises:
        ArtifactError: Engine or sidecar is missing, broken, of another version, or not what the
            sidecar says.
        MissingExtraError: TensorRT or cuda-bindings is not installed.
        BackendUnavailableError: There is no GPU for it, the precision is another, or it is
            version-compatible and not allowed to.
        ValueError: The engine is of the other flavor, or an option is wrong.
    """
    options = request.options
    file = read_engine_file(path, spec_from=request.spec_from)
    if request.backend not in ("auto", file.flavor):
        rule = f"backend {request.backend} runs its own engines only"
        got = f"{path.name}, built by {file.flavor}"
        raise BadValueError(message("open_backend", rule, got, f"use backend={file.flavor!r}"))
    precision = file.spec.precision
    if request.compute not in ("auto", precision):
        raise refuse_compute(
            request.compute,
            name=file.flavor,
            computes=f"an engine built in {precision}",
            remedy="leave compute out, or use the ONNX file with backend='onnxruntime-cuda'",
        )
    rtx = file.flavor == "tensorrt-rtx"
    own = (*_STRATEGIES, CACHE, "contexts") if rtx else ("cuda_graphs", HOST_CODE)
    check_options(options, ("device_id", *own), taken={}, name=file.flavor)
    graphs = int_option(options, "cuda_graphs", GRAPHS)
    device = int_option(options, "device_id", 0)
    if file.needs_host_code and not int_option(options, HOST_CODE, 0):
        rule = f"a version-compatible engine brings its own code and needs {HOST_CODE}=1"
        remedy = "add the option if you trust whoever built it"
        raise BackendUnavailableError(message(str(path), rule, "an engine without it", remedy))
    _, trt = import_library(file.flavor, what="open_backend")
    check_installed(file, library_name(trt))
    driver = open_driver(device, extra=file.flavor)
    driver.activate()
    executor = TensorRtExecutor(trt, file, driver, options=options)
    info = BackendInfo(
        library=trt.__name__,
        version=trt.__version__,
        device="gpu",
        device_name=f"cuda:{device} {driver.name}",
        threads=request.cpu_threads,
        precision=precision,
        extra={"cuda_graphs": graphs if executor.capturable else executor.graph_strategy},
    )
    return CudaBackend(driver, executor, name=file.flavor, info=info, graphs=graphs)


class TensorRtExecutor:
    """An engine in the memory of a GPU; contexts are made from it."""

    def __init__(
        self,
        trt: Any,
        file: EngineFile,
        driver: CudaDriver,
        *,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Deserialize an engine.

        Args:
            trt: The module ``tensorrt`` or ``tensorrt_rtx``.
            file: The engine.
            driver: The GPU, active on this thread.
            options: TensorRT-RTX's runtime options; what is not one of them is ignored.

        Raises:
            ArtifactError: It cannot be deserialized, or is not what its sidecar says.
            BackendUnavailableError: TensorRT-RTX finds it invalid on this GPU.
            ValueError: The value of an option is wrong.
        """
        self._trt, self._driver = trt, driver
        options = options or {}
        rtx = file.flavor == "tensorrt-rtx"
        self._strategies = {
            attribute: getattr(
                getattr(trt, enumeration),
                one_of(options, attribute, _members(trt, enumeration), default),
            )
            for attribute, (enumeration, default) in _STRATEGIES.items()
            if rtx
        }
        # TensorRT-RTX captures graphs by itself, each shape in its own context.
        self.capturable = not rtx
        self.contexts = max(1, int_option(options, "contexts", _CONTEXTS)) if rtx else 1
        self.stream: int | None = None
        self._logger = logger_of(trt)
        self._logger.first_error = None
        self._runtime: Any = trt.Runtime(self._logger)
        if int_option(options, HOST_CODE, 0):
            self._runtime.engine_host_code_allowed = True
        _check_validity(trt, self._runtime, file, driver, self._logger)
        self._engine: Any = self._runtime.deserialize_cuda_engine(file.plan)
        if self._engine is None:
            rule = f"{library_name(trt)} must be able to load the engine"
            raise ArtifactError(
                message(str(file.path), rule, self._said(), f"build it again: {file.rebuild}")
            )
        inputs, outputs = _tensors(trt, self._engine)
        check_signature(inputs, outputs, file.spec, where=str(file.path))
        self._file = _with_profiles(self._engine, file)
        self.spec = self._file.spec
        self.scratch_bytes = int(self._engine.device_memory_size_v2)
        self._config: Any = self._runtime_config() if rtx else None
        keep = rtx and one_of(options, CACHE, ("0", "1"), "1") == "1"
        self._cache = RuntimeCache(trt, self._config, file) if keep else None

    def _runtime_config(self) -> Any:
        """Return the configuration that every context of TensorRT-RTX is made from."""
        config = self._engine.create_runtime_config()
        for attribute, value in self._strategies.items():
            setattr(config, attribute, value)
        # The contexts of a slot run one at a time and share its memory.
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        config.set_execution_context_allocation_strategy(strategy)
        return config

    @property
    def graph_strategy(self) -> str:
        """How TensorRT-RTX captures graphs by itself; empty for TensorRT."""
        strategy = self._strategies.get("cuda_graph_strategy")
        return "" if strategy is None else str(strategy.name)

    def create(self, scratch: int) -> Work:
        """Create an execution context."""
        how = self._config
        if how is None:
            how = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._engine.create_execution_context(how)
        if context is None:
            raise self._refused("create_execution_context")
        if self.scratch_bytes:
            context.set_device_memory(scratch, self.scratch_bytes)
        if hasattr(context, "nvtx_verbosity"):
            # Engines are built in detail for the inspector, which would cost time at every call.
            context.nvtx_verbosity = self._trt.ProfilingVerbosity.NONE
        return _Context(context, self._file, self._refused)

    def free(self) -> None:
        """Keep the compiled kernels, then drop configuration, engine and runtime, in this order."""
        if self._cache is not None and not self._driver.lost:
            release(self._cache.keep)
        self._config = self._cache = None
        self._engine = None
        self._runtime = None

    def _refused(self, call: str) -> FcnkitError:
        rule = f"{library_name(self._trt)} must do {call}"
        remedy = "see the log of fcnkit.tensorrt, and fcnkit doctor"
        return FcnkitError(message(str(self._file.path), rule, self._said(), remedy))

    def _said(self) -> str:
        return self._logger.first_error or "no message"


class _Context:
    """One execution context with the shape and profile that it was last given."""

    def __init__(self, context: Any, file: EngineFile, refused: Any) -> None:
        self._context, self._file, self._refused = context, file, refused
        self._profile = 0
        self._shape: Dims | None = None

    def enqueue(self, shape: Dims, *, source: int, target: int, stream: int) -> None:
        """Queue the network."""
        spec = self._file.spec
        if shape != self._shape:
            self._shape = None
            profile = self._file.profile_for(_sides(shape, spec))
            if profile != self._profile:
                self._do("set_optimization_profile_async", profile, stream)
                self._profile = profile
            self._do("set_input_shape", spec.input.name, shape)
            self._shape = shape
        self._do("set_tensor_address", spec.input.name, source)
        for one, _, address in output_places(shape, spec, target):
            self._do("set_tensor_address", one.name, address)
        self._do("execute_async_v3", stream)

    def free(self) -> None:
        """Drop the context."""
        self._context = None

    def _do(self, call: str, *arguments: Any) -> None:
        try:
            done = getattr(self._context, call)(*arguments)
        except RuntimeError as error:
            raise self._refused(call) from error
        if not done:
            raise self._refused(call)


def _members(trt: Any, enumeration: str) -> tuple[str, ...]:
    return tuple(getattr(trt, enumeration).__members__)


def _check_validity(
    trt: Any, runtime: Any, file: EngineFile, driver: CudaDriver, logger: Any
) -> None:
    """Ask TensorRT-RTX before deserializing; ordinary TensorRT has no such question."""
    if not hasattr(runtime, "get_engine_validity"):
        return
    validity, bits = runtime.get_engine_validity(file.plan)
    if validity == trt.EngineValidity.VALID:
        return
    flags = trt.EngineInvalidityDiagnostics.__members__.items()
    reasons = ", ".join(name for name, flag in flags if int(bits) & int(flag))
    got = reasons or logger.first_error or "no reason"
    rule = f"the engine must suit {driver.name} and {library_name(trt)}"
    words = message(str(file.path), rule, got, f"build it again: {file.rebuild}")
    # On GPUs of data centers it was seen to call every plan unsupported, those too that then run:
    # deserializing decides.
    unsupported = int(bits) == int(trt.EngineInvalidityDiagnostics.UNSUPPORTED_CC)
    if validity == trt.EngineValidity.SUBOPTIMAL or unsupported:
        warn_of_model(words)
    else:
        raise BackendUnavailableError(words)


def _tensors(trt: Any, engine: Any) -> tuple[list[TensorInfo], list[TensorInfo]]:
    """Return what the engine takes and gives, in the words of the spec."""
    inputs: list[TensorInfo] = []
    outputs: list[TensorInfo] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = engine.get_tensor_dtype(name).name
        info = TensorInfo(
            name=name,
            dtype=TENSOR_DTYPES.get(dtype, dtype),
            dims=tuple("?" if side < 0 else int(side) for side in engine.get_tensor_shape(name)),
        )
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        (inputs if is_input else outputs).append(info)
    return inputs, outputs


def _with_profiles(engine: Any, file: EngineFile) -> EngineFile:
    """Check the profiles of the sidecar against the engine's, or take them from there."""
    spec = file.spec
    found = []
    for index in range(engine.num_optimization_profiles):
        low, opt, high = (
            _sides(tuple(map(int, dims)), spec)
            for dims in engine.get_tensor_profile_shape(spec.input.name, index)
        )
        found.append(ShapeRange(min=low, opt=opt, max=high))
    profiles = tuple(found)
    if file.profiles and file.profiles != profiles:
        rule, got = f"its profiles must be {file.profiles}, as its sidecar says", repr(profiles)
        raise ArtifactError(message(str(file.path), rule, got, f"build it again: {file.rebuild}"))
    return replace(file, profiles=profiles, spec=replace(spec, shapes=hull(profiles)))


def _sides(dims: Dims, spec: ModelSpec) -> Shape:
    """Take (N, H, W) out of the dimensions of an input."""
    if spec.input.layout == "NCHW":
        return dims[0], dims[2], dims[3]
    return dims[0], dims[1], dims[2]
