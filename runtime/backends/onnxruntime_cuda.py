"""ONNX Runtime on the GPU, by its CUDA or its TensorRT provider, fed through IOBinding.

ONNX Runtime computes on one stream that it is given; copies go on the streams of the slots, so
that they run meanwhile.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from fcnkit.errors import BackendUnavailableError, FcnkitError, message
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from fcnkit.runtime.artifacts.onnx_nodes import size_nodes
from fcnkit.runtime.artifacts.precisions import PRECISIONS
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.backends.base import BackendInfo, output_places
from fcnkit.runtime.backends.cuda import CudaDriver, open_driver, release
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
from fcnkit.runtime.backends.onnxruntime import probe as probe_session
from fcnkit.runtime.backends.onnxruntime_nvinfer import tensorrt_options
from fcnkit.runtime.backends.registry import BACKENDS
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.backends.settings import Compute, int_option, refuse_compute, version_of

__all__ = [
    "OnnxRuntimeExecutor",
    "check_assignment",
    "drop_locals",
    "open_onnxruntime_cuda",
    "probe",
]

_ALWAYS_SMALL: Final = frozenset({"Constant", "Shape", "Size"})
"""Operators whose results are few integers, whatever the optimizer called the node."""

_PADS: Final = "1.26"
"""The onnxruntime-gpu from which on every operator of fcnkit's exports has a kernel for the GPU.
Earlier ones have none for the Pad of opset 19 and later, which the head ``scene`` holds."""

_MOST_NAMED: Final = 4

_SHARE_OF_FREE: Final = 0.9
"""Of the GPU's free memory, what ONNX Runtime may take; the rest is for the batches."""


def open_onnxruntime_cuda(path: Path, request: BackendRequest) -> CudaBackend:
    """Open an ONNX file on a GPU.

    Args:
        path: An ONNX file that fcnkit exported.
        request: ``backend`` is ``onnxruntime-cuda`` or ``onnxruntime-tensorrt``. ``threads`` are
            those of the work that stays on the CPU. ``compute`` is ``auto`` or the precision of
            the graph. ``options`` are session options, session config entries and provider
            options of ONNX Runtime, such as ``device_id``.

    Returns:
        The opened backend.

    Raises:
        ArtifactError: The file is missing, broken or without a fitting spec.
        MissingExtraError: onnxruntime or cuda-bindings is not installed.
        BackendUnavailableError: The provider does not run here, leaves the network on the CPU, or
            computes in another precision.
        ValueError: An option is unknown.
    """
    name, options, threads = request.backend, request.options, request.cpu_threads
    spec = read_onnx_file(path).spec(where=str(path))
    precision = _precision(request.compute, spec, name=name)
    device = int_option(options, "device_id", 0)
    check_provider(name)
    driver = open_driver(device, extra=BACKENDS[name].extra)
    driver.activate()
    provider_options = {"device_id": str(device)}
    if name == "onnxruntime-tensorrt":
        spec, more = tensorrt_options(path, spec, options)
        provider_options |= more
    executor = _open_session(path, spec, driver, request, provider_options)
    info = BackendInfo(
        library="onnxruntime",
        version=import_onnxruntime().__version__,
        device="gpu",
        device_name=f"{PROVIDERS[name]} on cuda:{device} {driver.name}",
        threads=threads,
        precision=precision,
    )
    return CudaBackend(driver, executor, name=name, info=info)


def probe(name: str) -> str:
    """Run the tiny model on a GPU; as ``onnxruntime.probe``."""
    check_provider(name)
    open_driver(extra=BACKENDS[name].extra)
    return probe_session(name)


def _open_session(
    path: Path,
    spec: ModelSpec,
    driver: CudaDriver,
    request: BackendRequest,
    given: Mapping[str, str],
) -> OnnxRuntimeExecutor:
    """Create the session on a stream; where that fails, the session goes before its stream."""
    where, session = str(path), None
    limit = int(_SHARE_OF_FREE * driver.free_bytes())
    stream = driver.create_stream()
    try:
        session = create_session(
            where,
            name=request.backend,
            threads=request.cpu_threads,
            where=where,
            options=request.options,
            provider_options={**given, "user_compute_stream": str(stream)},
            cuda_options={"gpu_mem_limit": str(limit)},
        )
        check_session(session, spec, where=where)
        check_assignment(session, path, name=request.backend)
    except BaseException as error:
        session = None
        drop_locals(error)
        release(driver.destroy_stream, stream)
        raise
    return OnnxRuntimeExecutor(session, spec, driver, stream=stream, kind="cuda", where=where)


def drop_locals(error: BaseException) -> None:
    """Clear the variables of the frames that an error went through, so that they are freed."""
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__cause__ or seen.__context__


def _precision(compute: Compute, spec: ModelSpec, *, name: str) -> str:
    """Return what is computed in; TensorRT takes TensorFloat-32 for float32, and cannot be told."""
    if name == "onnxruntime-cuda" or not PRECISIONS[spec.precision].tf32:
        return check_graph_compute(compute, spec, name=name)
    if compute != "auto":
        remedy = "leave compute out, or use backend='onnxruntime-cuda'"
        raise refuse_compute(compute, name=name, computes="a graph run in tf32", remedy=remedy)
    return "tf32"


class OnnxRuntimeExecutor:
    """A session whose inputs and outputs lie where the slots say."""

    capturable = False
    """ONNX Runtime captures graphs by itself or not at all."""
    contexts = 1
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
        self.spec = spec
        self.stream: int | None = stream
        self._session, self._driver = session, driver
        self._kind, self._where = kind, where

    def create(self, scratch: int) -> Work:  # noqa: ARG002 - the session has its own memory
        """Create a binding."""
        return _Binding(
            self._session,
            self.spec,
            kind=self._kind,
            device=self._driver.device,
            where=self._where,
        )

    def free(self) -> None:
        """Drop the session, then its stream."""
        release(self._driver.drain, self.stream)
        self._session = None
        release(self._driver.destroy_stream, self.stream)


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
        place = (self._kind, self._device)
        binding.bind_input(spec.input.name, *place, np.dtype(spec.input.dtype), shape, source)
        for one, dims, address in output_places(shape, spec, target):
            binding.bind_output(one.name, *place, np.dtype(one.dtype), dims, address)
        try:
            self._session.run_with_iobinding(binding, self._options)
        except Exception as error:  # onnxruntime's exceptions share no base class but Exception
            rule, remedy = "onnxruntime must run the model", "see fcnkit doctor"
            raise FcnkitError(message(self._where, rule, str(error), remedy)) from error

    def free(self) -> None:
        """Drop the binding."""
        self._binding = None
        self._session = None


def check_assignment(session: Any, path: Path, *, name: str) -> None:
    """Refuse a session that leaves anything but arithmetic on sizes to the CPU.

    Args:
        session: The onnxruntime.InferenceSession, made with the entry RECORD_ASSIGNMENT.
        path: The ONNX file.
        name: The backend.

    Raises:
        BackendUnavailableError: Another operator runs on the CPU, or this ONNX Runtime cannot say.
    """
    rule = f"backend {name} must run the whole network on {PROVIDERS[name]}"
    library = import_onnxruntime()
    remedy = "use backend='onnxruntime'"
    if version_of(library.__version__) < version_of(_PADS):
        remedy = f"pip install 'onnxruntime-gpu>={_PADS}', or {remedy}"
    if not hasattr(session, "get_provider_graph_assignment_info"):
        got = f"onnxruntime {library.__version__}, which cannot say what runs where"
        raise BackendUnavailableError(message("open_backend", rule, got, remedy))
    sizes = size_nodes(read_onnx_file(path).graph)
    left = [
        f"{node.op_type} {node.name}".strip()
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == PROVIDERS["onnxruntime"]
        for node in part.get_nodes()
        if (node.op_type, node.name) not in sizes and node.op_type not in _ALWAYS_SMALL
    ]
    if left:
        more = f" and {len(left) - _MOST_NAMED} more" if len(left) > _MOST_NAMED else ""
        got = f"{', '.join(left[:_MOST_NAMED])}{more} on {PROVIDERS['onnxruntime']}"
        raise BackendUnavailableError(message("open_backend", rule, got, remedy))
