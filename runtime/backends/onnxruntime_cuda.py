"""ONNX Runtime on the GPU, by its CUDA or its TensorRT provider, fed through IOBinding.

ONNX Runtime computes on one stream that it is given; copies go on the streams of the slots, so
that they run meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np

from fcnkit.errors import BackendUnavailableError, FcnkitError, message
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.backends.base import output_shape
from fcnkit.runtime.backends.cuda import CudaDriver, open_driver
from fcnkit.runtime.backends.cuda_backend import CudaBackend
from fcnkit.runtime.backends.cuda_slot import Dims, Work
from fcnkit.runtime.backends.onnxruntime import (
    PROVIDERS,
    check_graph_compute,
    check_provider,
    check_session,
    create_session,
    import_onnxruntime,
)
from fcnkit.runtime.backends.settings import (
    Compute,
    check_threads,
    int_option,
    refuse_compute,
)

__all__ = ["OnnxRuntimeExecutor", "check_assignment", "open_onnxruntime_cuda"]

_HEAVY: Final = frozenset(
    {"Conv", "ConvTranspose", "FusedConv", "Gemm", "MatMul", "QLinearConv", "ArgMax"}
)
"""What must run on the GPU. Small integer arithmetic on shapes belongs on the CPU."""


def open_onnxruntime_cuda(
    path: Path,
    *,
    name: str,
    threads: int | None = None,
    compute: Compute = "auto",
    options: Mapping[str, str] | None = None,
) -> CudaBackend:
    """Open an ONNX file on a GPU.

    Args:
        path: An ONNX file that fcnkit exported.
        name: ``onnxruntime-cuda`` or ``onnxruntime-tensorrt``.
        threads: CPU threads of what stays on the CPU; every core by default.
        compute: ``auto`` or the precision of the graph.
        options: Session options, session config entries and provider options of ONNX Runtime,
            such as ``device_id``.

    Returns:
        The opened backend.

    Raises:
        ArtifactError: The file is missing, broken or without a fitting spec.
        MissingExtraError: onnxruntime or cuda-bindings is not installed.
        BackendUnavailableError: The provider does not run here, leaves the network on the CPU, or
            computes in another precision.
        ValueError: An option is unknown.
    """
    options = options or {}
    spec = read_onnx_file(path).spec(where=str(path))
    count = check_threads(threads, what="open_backend")
    precision = _precision(compute, spec, name=name)
    device = int_option(options, "device_id", 0)
    check_provider(name)
    driver = open_driver(device, extra="gpu")
    driver.activate()
    with ExitStack() as stack:
        stream = driver.create_stream()
        stack.callback(driver.destroy_stream, stream)
        session = create_session(
            str(path),
            name=name,
            threads=count,
            where=str(path),
            options=options,
            provider_options={"device_id": str(device), "user_compute_stream": str(stream)},
        )
        check_session(session, spec, where=str(path))
        check_assignment(session, name=name)
        stack.pop_all()
    executor = OnnxRuntimeExecutor(
        session, spec, driver, stream=stream, kind="cuda", where=str(path)
    )
    details: dict[str, str | int] = {
        "library": f"onnxruntime {import_onnxruntime().__version__}",
        "provider": f"{session.get_providers()[0]} on cuda:{device} {driver.name}",
        "threads": count,
        "compute": precision,
    }
    return CudaBackend(driver, executor, name=name, details=details)


def _precision(compute: Compute, spec: ModelSpec, *, name: str) -> str:
    """Return what is computed in; TensorRT takes TensorFloat-32 for float32, and cannot be told."""
    if name == "onnxruntime-cuda" or spec.precision != "fp32":
        return check_graph_compute(compute, spec, name=name)
    if compute != "auto":
        remedy = "leave compute out, or use backend='onnxruntime-cuda'"
        raise refuse_compute(compute, name=name, computes="a graph run in tf32", remedy=remedy)
    return "tf32"


class OnnxRuntimeExecutor:
    """A session whose inputs and outputs lie where the slots say."""

    capturable = False
    """ONNX Runtime captures graphs by itself or not at all."""
    scratch_bytes = 0

    def __init__(
        self,
        session: Any,
        spec: ModelSpec,
        driver: CudaDriver,
        *,
        stream: int,
        kind: str,
        where: str,
    ) -> None:
        """Take over a session and the stream that it computes on.

        Args:
            session: The onnxruntime.InferenceSession.
            spec: The model's promises.
            driver: The GPU.
            stream: The session's ``user_compute_stream``.
            kind: ONNX Runtime's name for where the buffers lie, ``cuda``.
            where: The file, for errors.
        """
        self._session, self._spec, self._driver = session, spec, driver
        self._stream, self._kind, self._where = stream, kind, where

    @property
    def spec(self) -> ModelSpec:
        """What the model promises."""
        return self._spec

    @property
    def stream(self) -> int | None:
        """The stream that the session computes on."""
        return self._stream

    def create(self, scratch: int) -> Work:  # noqa: ARG002 - the session has its own memory
        """Create a binding."""
        return _Binding(
            self._session,
            self._spec,
            kind=self._kind,
            device=self._driver.device,
            where=self._where,
        )

    def free(self) -> None:
        """Drop the session, then its stream."""
        self._driver.drain(self._stream)
        self._session = None
        self._driver.destroy_stream(self._stream)


class _Binding:
    """One IOBinding; what it queues runs after the call returns."""

    def __init__(
        self, session: Any, spec: ModelSpec, *, kind: str, device: int, where: str
    ) -> None:
        self._session, self._spec, self._where = session, spec, where
        self._kind, self._device = kind, device
        self._binding = session.io_binding()
        self._options = import_onnxruntime().RunOptions()
        # Not to wait for the GPU is the point: the slot's events say when it is done.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def enqueue(self, shape: Dims, *, source: int, target: int, stream: int) -> None:  # noqa: ARG002 - the session's own
        """Queue the network."""
        spec, binding = self._spec, self._binding
        result = output_shape(shape, spec)
        place = (self._kind, self._device)
        binding.bind_input(spec.input.name, *place, np.dtype(spec.input.dtype), shape, source)
        binding.bind_output(spec.output.name, *place, np.dtype(spec.output.dtype), result, target)
        try:
            self._session.run_with_iobinding(binding, self._options)
        except Exception as error:  # onnxruntime's exceptions share no base class but Exception
            rule, remedy = "onnxruntime must run the model", "see fcnkit doctor"
            raise FcnkitError(message(self._where, rule, str(error), remedy)) from error

    def free(self) -> None:
        """Drop the binding."""
        self._binding = None
        self._session = None


def check_assignment(session: Any, *, name: str) -> None:
    """Refuse a session that leaves part of the network to the CPU.

    Args:
        session: The onnxruntime.InferenceSession, made with the entry RECORD_ASSIGNMENT.
        name: The backend.

    Raises:
        BackendUnavailableError: A heavy operator runs on the CPU.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return  # before ONNX Runtime 1.24 there is no way to ask
    left = {
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == PROVIDERS["onnxruntime"]
        for node in part.get_nodes()
    } & _HEAVY
    if left:
        rule = f"backend {name} must run the whole network on {PROVIDERS[name]}"
        got = f"{', '.join(sorted(left))} on {PROVIDERS['onnxruntime']}"
        remedy = "use backend='onnxruntime' or another onnxruntime-gpu"
        raise BackendUnavailableError(message("open_backend", rule, got, remedy))
