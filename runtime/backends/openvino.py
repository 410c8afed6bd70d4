"""OpenVINO on the CPU.

Left to itself OpenVINO computes in bfloat16 on CPUs that have it: fast, and not what the file says.
Here the file's own precision is the default and anything less is requested and recorded.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import ArtifactError, message, missing_extra, warn_of_model
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from fcnkit.runtime.artifacts.precisions import NUMBER_TYPES, PRECISIONS, full_name
from fcnkit.runtime.backends.base import BackendInfo, CheckedBackend, output_shape
from fcnkit.runtime.backends.inflight import keep_in_flight
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.backends.settings import Compute, check_options, refuse_compute
from fcnkit.runtime.backends.tiny import TINY_MODEL, check_doubled, ones
from fcnkit.runtime.checks import PROCESSORS

__all__ = ["OpenVinoBackend", "compile_model", "cpu_capabilities", "int8_overflows", "probe"]

_TAKEN: Final = {
    "INFERENCE_NUM_THREADS": "threads",
    "INFERENCE_PRECISION_HINT": "compute",
    "EXECUTION_MODE_HINT": "compute",
}
"""OpenVINO's properties that have their own argument."""


_ONE: Final = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
_MANY: Final = {"PERFORMANCE_HINT": "THROUGHPUT"}
_CORE_LOCK: Final = threading.Lock()


_Ticket: TypeAlias = tuple[Any, NDArray[Any], NDArray[Any]]
"""A request in flight, its result, and its batch, whose memory OpenVINO reads and does not hold."""


class OpenVinoBackend(CheckedBackend):
    """An ONNX file opened in OpenVINO on the CPU."""

    def __init__(self, path: str | Path, request: BackendRequest) -> None:
        """Open a file.

        Args:
            path: An ONNX file that fcnkit exported.
            request: ``compute="auto"`` is the file's own precision, and float32 where this CPU
                does not compute in that. ``options`` are properties of OpenVINO's CPU device, such
                as ``ENABLE_CPU_PINNING``.

        Raises:
            ArtifactError: The file is missing, broken or without a fitting spec.
            MissingExtraError: openvino is not installed.
            BackendUnavailableError: The CPU does not compute in this precision.
            ValueError: An option is unknown.

        A ModelWarning says if the file is in int8 and the processor may overflow in it.
        """
        spec = read_onnx_file(path).spec(where=str(path))
        threads, options = request.cpu_threads, request.options
        compute = request.compute
        facts = PRECISIONS[spec.precision]
        if compute == "auto":
            needed = NUMBER_TYPES[facts.compute].cpu_capability
            able = needed is None or needed in cpu_capabilities()
            compute = facts.compute if able else "fp32"
        self._compile = partial(
            compile_model,
            str(path),
            threads=threads,
            compute=compute,
            where=str(path),
            options=options,
        )
        compiled = self._compile()
        if facts.quantized and int8_overflows():
            rule = "openvino computes int8 exactly on processors with VNNI"
            got = "one without it, where large products overflow"
            remedy = (
                "use --backend onnxruntime, or try it: fcnkit verify FP32 INT8 --backend openvino"
            )
            warn_of_model(message(str(path), rule, got, remedy))
        info = BackendInfo(
            library="openvino",
            version=_version(),
            device="cpu",
            device_name=" ".join(compiled.get_property("EXECUTION_DEVICES")),
            threads=int(compiled.get_property("INFERENCE_NUM_THREADS")),
            # OpenVINO's hint is about the layers that are not quantized.
            precision=spec.precision if facts.quantized else _precision(compiled),
        )
        super().__init__(spec, name="openvino", info=info)
        self._request: Any = compiled.create_infer_request()
        self._turn = threading.Lock()
        """Callers' threads take turns: there is one request, and it holds what is bound to it."""
        both = threads == 1 or _chooses_streams(options)
        self._many: Any = compiled if both else None
        self._idle: list[Any] = []

    def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
        with self._turn:
            result = self._bind(self._request, batch)
            self._request.infer()
        return result

    def _bind(self, request: Any, batch: NDArray[Any]) -> NDArray[Any]:
        """Let a request read the batch and write a new result in place."""
        import openvino

        result = np.empty(output_shape(batch.shape, self._spec), self._spec.output.dtype)
        request.set_input_tensor(0, openvino.Tensor(batch, shared_memory=True))
        parts = result if self._spec.confidence is not None else [result]
        for place, part in enumerate(parts):
            request.set_output_tensor(place, openvino.Tensor(part, shared_memory=True))
        return result

    def _stream(self, batches: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Run several requests at a time, each on fewer threads: less waiting at every layer."""
        if self._many is None:
            self._many = self._compile(many=True)
        requests = int(self._many.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        # One more, so that the next one starts while the caller looks at a result.
        yield from keep_in_flight(
            batches, submit=self._submit, collect=self._collect, depth=requests + 1
        )

    def _submit(self, batch: NDArray[Any]) -> _Ticket:
        request = self._idle.pop() if self._idle else self._many.create_infer_request()
        result = self._bind(request, batch)
        request.start_async()
        return request, result, batch

    def _collect(self, ticket: _Ticket) -> NDArray[Any]:
        request, result, _ = ticket
        request.wait()
        self._idle.append(request)
        return result

    def _free(self) -> None:
        self._request = self._many = None
        self._idle = []


def compile_model(
    model: str | bytes,
    *,
    threads: int,
    compute: Compute,
    where: str,
    options: Mapping[str, str] | None = None,
    many: bool = False,
) -> Any:
    """Compile a model for the CPU in exactly the requested precision.

    Args:
        model: A path, or the bytes of an ONNX model.
        threads: Threads of one call.
        compute: The precision; ``auto`` leaves it to OpenVINO.
        where: The file, for the error.
        options: Further properties of the CPU device.
        many: For many requests at a time instead of one that is done soonest.

    Returns:
        The openvino.CompiledModel.

    Raises:
        ArtifactError: OpenVINO cannot load the model.
        MissingExtraError: openvino is not installed.
        BackendUnavailableError: The CPU does not compute in this precision.
        ValueError: An option is unknown or taken.
    """
    core = _core()
    options = options or {}
    properties = core.get_property("CPU", "SUPPORTED_PROPERTIES")
    writable = [key for key, access in properties.items() if "W" in access]
    check_options(options, writable, taken=_TAKEN, name="openvino")
    config: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads}
    if threads < PROCESSORS:
        # Pinned, every model of fewer threads than cores would sit on the first of them, and two
        # models of one thread each share one core.
        config["ENABLE_CPU_PINNING"] = False
    if not _chooses_streams(options):
        config |= _MANY if many else _ONE
    if compute != "auto":
        config["INFERENCE_PRECISION_HINT"] = NUMBER_TYPES[compute].openvino
    config.update(options)
    try:
        compiled = core.compile_model(core.read_model(model), "CPU", config)
    except RuntimeError as error:
        rule = "openvino must be able to load the model"
        remedy = "export it again with fcnkit export onnx, or try another backend"
        raise ArtifactError(message(where, rule, str(error), remedy)) from error
    if compute != "auto" and _precision(compiled) != compute:
        raise refuse_compute(
            compute,
            name="openvino",
            computes=f"a CPU where it takes {_precision(compiled)}",
            remedy="use compute='fp32' or compute='auto'",
        )
    return compiled


def probe(name: str) -> str:  # noqa: ARG001 - every prober takes its backend's name
    """Run the tiny model.

    Returns:
        The library's version, the device, and the precisions it can compute in besides float32.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    compiled = compile_model(TINY_MODEL, threads=1, compute="fp32", where="a tiny model")
    check_doubled(compiled([ones()])[0])
    able = cpu_capabilities()
    less = [kind.name for kind in NUMBER_TYPES.values() if kind.cpu_capability in able]
    also = f", faster in {' or '.join(less)} with --compute" if less else ""
    return f"openvino {_version()}, CPU{also}"


@cache
def int8_overflows() -> bool:
    """Say whether OpenVINO's int8 convolutions overflow on this processor.

    Without VNNI, x86 processors add two products of uint8 and int8 in 16 bits, which holds sums up
    to 32767. A convolution of the largest numbers shows whether that happens.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    core = _core()
    from openvino import Model, opset8

    size, largest = (16, 16, 3, 3), np.float32(255)
    image = opset8.parameter([1, 16, 3, 3], np.float32)
    quantized = opset8.fake_quantize(image, np.float32(0), largest, np.float32(0), largest, 256)
    float32 = NUMBER_TYPES["fp32"].openvino
    weights = opset8.convert(opset8.constant(np.full(size, 127, np.int8)), float32)
    weights = opset8.multiply(weights, np.ones((16, 1, 1, 1), np.float32))
    sums = opset8.convolution(quantized, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    config = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": float32}
    compiled = core.compile_model(Model([sums], [image]), "CPU", config)
    result = compiled([np.full((1, 16, 3, 3), largest)])[0]
    return not np.array_equal(result.ravel(), np.full(16, 255.0 * 127 * 16 * 9))


def _chooses_streams(options: Mapping[str, str]) -> bool:
    """Whether the user sets what is tuned here; then one model serves calls and streams."""
    return not {"NUM_STREAMS", "PERFORMANCE_HINT"}.isdisjoint(options)


def _core() -> Any:
    try:
        import openvino
    except ImportError:
        raise missing_extra("open_backend", "openvino", "openvino") from None
    with _CORE_LOCK:  # a cache lets two threads make two
        return _core_of(openvino)


@cache
def _core_of(openvino: Any) -> Any:
    """Return the one Core of this process, which is never let go.

    With the last of its objects the CPU plugin frees a signal stack that it gave to the thread that
    loaded it, and takes it away from the thread that happens to be the last. Where these are two
    threads, or another Core came in between, the next signal ends the process (seen in OpenVINO
    2026.4).
    """
    return openvino.Core()


def cpu_capabilities() -> list[str]:
    """Return what OpenVINO says that this CPU can compute in, such as ``BF16``."""
    return list(_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def _precision(compiled: Any) -> str:
    return full_name(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())


def _version() -> str:
    import openvino

    return str(openvino.__version__).split("-", maxsplit=1)[0]
