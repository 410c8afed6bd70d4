"""The subset of CUDA that the GPU backends use, behind a protocol that tests can fake.

Handles and addresses are plain integers, which TensorRT and ONNX Runtime take too.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import sys
from collections.abc import Callable
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import BackendUnavailableError, FcnkitError, message, missing_extra
from fcnkit.runtime.backends.settings import version_of

__all__ = [
    "RESTART",
    "BindingsDriver",
    "CudaDriver",
    "GpuLostError",
    "gpu_count",
    "has_driver",
    "host_view",
    "open_driver",
    "release",
]

RESTART: Final = "start a new process"
"""The only remedy after an error that CUDA repeats until the process ends."""

_log = logging.getLogger("fcnkit.cuda")


class GpuLostError(FcnkitError):
    """This process can no longer use the GPU."""


class CudaDriver(Protocol):
    """One GPU. Whatever is created must be destroyed, and nothing while it is in use.

    Every method may raise FcnkitError, also those that release something: CUDA reports errors of
    earlier work at any later call. ``release`` is how to give back.
    """

    lost: str
    """The first error after which this process can no longer use the GPU; empty before."""
    device: int
    """The GPU's index."""

    @property
    def name(self) -> str:
        """The GPU's name."""

    def activate(self) -> None:
        """Make this GPU the calling thread's; needed once per thread before anything else."""

    def free_bytes(self) -> int:
        """Return the free bytes of device memory."""

    def malloc_host(self, size: int) -> int:
        """Return the address of page-locked host memory of this many bytes."""

    def free_host(self, address: int) -> None:
        """Give host memory back."""

    def malloc(self, size: int) -> int:
        """Return the address of device memory of this many bytes."""

    def free(self, address: int) -> None:
        """Give device memory back."""

    def create_stream(self) -> int:
        """Return a stream that does not wait for the default stream."""

    def destroy_stream(self, stream: int) -> None:
        """Destroy an idle stream."""

    def create_event(self) -> int:
        """Return an event whose waiting thread sleeps."""

    def create_timer(self) -> int:
        """Return an event that also keeps the time at which it happened."""

    def elapsed(self, first: int, second: int) -> float:
        """Return the seconds between two timers that have happened."""

    def destroy_event(self, event: int) -> None:
        """Destroy an event that nothing waits for."""

    def upload(self, target: int, source: int, size: int, stream: int) -> None:
        """Queue a copy of this many bytes from the host to the device."""

    def download(self, target: int, source: int, size: int, stream: int) -> None:
        """Queue a copy of this many bytes from the device to the host."""

    def record(self, event: int, stream: int) -> None:
        """Let an event happen when everything queued so far is done."""

    def wait(self, stream: int, event: int) -> None:
        """Let what is queued next on a stream wait for an event."""

    def synchronize(self, event: int) -> None:
        """Block until an event has happened."""

    def drain(self, stream: int) -> None:
        """Block until a stream is empty."""

    def begin_capture(self, stream: int) -> None:
        """Collect what this thread queues on a stream into a graph instead of running it."""

    def end_capture(self, stream: int) -> int:
        """End the collecting and return the graph, ready to be launched."""

    def launch(self, graph: int, stream: int) -> None:
        """Queue a graph."""

    def destroy_graph(self, graph: int) -> None:
        """Destroy a graph that is not running."""


def release(step: Callable[..., object], *arguments: Any) -> None:
    """Release something, and log a failure: the rest must still be released.

    Args:
        step: Such as ``driver.destroy_stream``.
        arguments: Its arguments.
    """
    try:
        step(*arguments)
    except Exception as error:  # libraries' own exceptions too
        # After the loss of the GPU every step fails, and the loss itself has been reported.
        level = logging.DEBUG if isinstance(error, GpuLostError) else logging.WARNING
        _log.log(level, "something was not given back: %s", error)


def host_view(address: int, size: int) -> NDArray[np.uint8]:
    """Return this many bytes of host memory as an array, which does not keep them alive."""
    memory = (ctypes.c_uint8 * size).from_address(address)
    return np.ctypeslib.as_array(memory)


def open_driver(device: int = 0, *, extra: str) -> BindingsDriver:
    """Open a GPU through cuda-bindings.

    Args:
        device: Its index.
        extra: The extra of fcnkit that installs cuda-bindings together with the library.

    Returns:
        The driver.

    Raises:
        MissingExtraError: cuda-bindings is not installed.
        BackendUnavailableError: There is no such GPU, no driver for it, or cuda-bindings is older
            than 12.9.1.
    """
    try:
        runtime = importlib.import_module("cuda.bindings.runtime")
    except ImportError:
        raise missing_extra("open_backend", "cuda.bindings", extra) from None
    _check_bindings(extra)
    code, count = runtime.cudaGetDeviceCount()
    if code != runtime.cudaError_t.cudaSuccess:
        remedy = "install the NVIDIA driver, or use an ONNX file with backend='onnxruntime'"
        got = _error_text(runtime, code)
        raise BackendUnavailableError(
            message("open_backend", "a CUDA driver and a GPU are needed", got, remedy)
        )
    if not 0 <= device < count:
        rule, got = f"GPU {device} must be one that CUDA sees", f"{count} GPUs"
        remedy = "choose another with the option device_id"
        raise BackendUnavailableError(message("open_backend", rule, got, remedy))
    return BindingsDriver(runtime, device)


_OLDEST_BINDINGS: Final = "12.9.1"


def _check_bindings(extra: str) -> None:
    """Refuse bindings that hold Python's lock in every call, while waiting for the GPU too."""
    version = str(importlib.import_module("cuda.bindings").__version__)
    if version_of(version) < version_of(_OLDEST_BINDINGS):
        rule = f"cuda-bindings must be {_OLDEST_BINDINGS} or later, which waits without stopping "
        rule += "the other threads"
        remedy = f"pip install --upgrade 'fcnkit[{extra}]'"
        raise BackendUnavailableError(message("open_backend", rule, version, remedy))


def has_driver() -> bool:
    """Whether NVIDIA's driver is installed; a first look that imports and starts nothing."""
    return _driver() is not None


def gpu_count() -> int:
    """Return how many GPUs NVIDIA's driver shows to this process; starts the driver."""
    driver, count = _driver(), ctypes.c_int(0)
    if driver is None or driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def _driver() -> Any:
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


_REMEDIES: Final = {
    "cudaErrorMemoryAllocation": "free memory on the GPU, or use smaller pictures or batches",
    "cudaErrorInsufficientDriver": "install a newer NVIDIA driver",
}

_STICKY: Final = frozenset(
    {
        "cudaErrorAssert",
        "cudaErrorContained",
        "cudaErrorECCUncorrectable",
        "cudaErrorExternalDevice",
        "cudaErrorHardwareStackError",
        "cudaErrorIllegalAddress",
        "cudaErrorIllegalInstruction",
        "cudaErrorInvalidAddressSpace",
        "cudaErrorInvalidPc",
        "cudaErrorLaunchFailure",
        "cudaErrorLaunchTimeout",
        "cudaErrorMisalignedAddress",
        "cudaErrorMpsClientTerminated",
        "cudaErrorNvlinkUncorrectable",
        "cudaErrorTensorMemoryLeak",
    }
)
"""Errors that leave the process without a usable GPU, as the CUDA runtime's reference says."""


class BindingsDriver:
    """The real thing: every method is one call of the CUDA runtime."""

    def __init__(self, runtime: Any, device: int) -> None:
        """Wrap a GPU that is known to be there.

        Args:
            runtime: The module cuda.bindings.runtime.
            device: The GPU's index.
        """
        self._cuda = runtime
        self.device, self.lost = device, ""

    @property
    def name(self) -> str:
        """The GPU's name."""
        properties = self._call("cudaGetDeviceProperties", self.device)
        return bytes(properties.name).split(b"\0")[0].decode(errors="replace")

    def activate(self) -> None:
        """Make this GPU the calling thread's."""
        self._call("cudaSetDevice", self.device)

    def free_bytes(self) -> int:
        """Return the free bytes of device memory."""
        return int(self._call("cudaMemGetInfo"))

    def malloc_host(self, size: int) -> int:
        """Return the address of page-locked host memory."""
        return int(self._call("cudaMallocHost", size))

    def free_host(self, address: int) -> None:
        """Give host memory back."""
        self._call("cudaFreeHost", address)

    def malloc(self, size: int) -> int:
        """Return the address of device memory."""
        return int(self._call("cudaMalloc", size))

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._call("cudaFree", address)

    def create_stream(self) -> int:
        """Return a stream that does not wait for the default stream."""
        return int(self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking))

    def destroy_stream(self, stream: int) -> None:
        """Destroy an idle stream."""
        self._call("cudaStreamDestroy", self._cuda.cudaStream_t(stream))

    def create_event(self) -> int:
        """Return an event whose waiting thread sleeps, which leaves its core to the decoding."""
        flags = self._cuda.cudaEventDisableTiming | self._cuda.cudaEventBlockingSync
        return int(self._call("cudaEventCreateWithFlags", flags))

    def create_timer(self) -> int:
        """Return an event that also keeps the time at which it happened."""
        return int(self._call("cudaEventCreateWithFlags", self._cuda.cudaEventDefault))

    def elapsed(self, first: int, second: int) -> float:
        """Return the seconds between two timers that have happened."""
        pair = self._cuda.cudaEvent_t(first), self._cuda.cudaEvent_t(second)
        return float(self._call("cudaEventElapsedTime", *pair)) / 1000

    def destroy_event(self, event: int) -> None:
        """Destroy an event that nothing waits for."""
        self._call("cudaEventDestroy", self._cuda.cudaEvent_t(event))

    def upload(self, target: int, source: int, size: int, stream: int) -> None:
        """Queue a copy from the host to the device."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", target, source, size, kind, self._cuda.cudaStream_t(stream))

    def download(self, target: int, source: int, size: int, stream: int) -> None:
        """Queue a copy from the device to the host."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", target, source, size, kind, self._cuda.cudaStream_t(stream))

    def record(self, event: int, stream: int) -> None:
        """Let an event happen when everything queued so far is done."""
        cuda = self._cuda
        self._call("cudaEventRecord", cuda.cudaEvent_t(event), cuda.cudaStream_t(stream))

    def wait(self, stream: int, event: int) -> None:
        """Let what is queued next on a stream wait for an event."""
        cuda = self._cuda
        self._call("cudaStreamWaitEvent", cuda.cudaStream_t(stream), cuda.cudaEvent_t(event), 0)

    def synchronize(self, event: int) -> None:
        """Block until an event has happened."""
        self._call("cudaEventSynchronize", self._cuda.cudaEvent_t(event))

    def drain(self, stream: int) -> None:
        """Block until a stream is empty."""
        self._call("cudaStreamSynchronize", self._cuda.cudaStream_t(stream))

    def begin_capture(self, stream: int) -> None:
        """Collect what this thread queues on a stream into a graph instead of running it."""
        # Of this thread only: others, such as a training one, go on using CUDA meanwhile.
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._cuda.cudaStream_t(stream), mode)

    def end_capture(self, stream: int) -> int:
        """End the collecting and return the graph, ready to be launched."""
        graph = self._call("cudaStreamEndCapture", self._cuda.cudaStream_t(stream))
        try:
            return int(self._call("cudaGraphInstantiate", graph, 0))
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        """Queue a graph."""
        cuda = self._cuda
        self._call("cudaGraphLaunch", cuda.cudaGraphExec_t(graph), cuda.cudaStream_t(stream))

    def destroy_graph(self, graph: int) -> None:
        """Destroy a graph that is not running."""
        self._call("cudaGraphExecDestroy", self._cuda.cudaGraphExec_t(graph))

    def _call(self, function: str, *arguments: Any) -> Any:
        """Call the CUDA runtime; return its first result, if it has one."""
        code, *results = getattr(self._cuda, function)(*arguments)
        if code != self._cuda.cudaError_t.cudaSuccess:
            what, rule = f"GPU {self.device}", f"{function} must succeed"
            got = _error_text(self._cuda, code)
            if code.name in _STICKY:
                self.lost = self.lost or got
                raise GpuLostError(message(what, rule, got, RESTART))
            remedy = _REMEDIES.get(code.name, "see fcnkit doctor")
            raise FcnkitError(message(what, rule, got, remedy))
        return results[0] if results else None


def _error_text(runtime: Any, code: Any) -> str:
    _, text = runtime.cudaGetErrorString(code)
    return f"{code.name} ({bytes(text).decode(errors='replace')})"
