"""A tiny model through TensorRT, for ``fcnkit doctor``: built, deserialized and run on the GPU."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import BackendUnavailableError, message
from fcnkit.runtime.backends.cuda import CudaDriver, host_view, release
from fcnkit.runtime.backends.tensorrt_library import library_name, logger_of

__all__ = ["run_tiny_engine"]


def run_tiny_engine(trt: Any, model: bytes, driver: CudaDriver) -> NDArray[np.float32]:
    """Build an engine, deserialize it and run it on ones.

    Args:
        trt: The module ``tensorrt`` or ``tensorrt_rtx``.
        model: An ONNX file from ``x`` to ``y``, both float32 (1, 1, 2, 2).
        driver: The GPU, active on this thread.

    Returns:
        ``y``.

    Raises:
        BackendUnavailableError: A step fails; the library's own words are quoted.
    """
    logger = logger_of(trt)
    logger.first_error = None
    builder = trt.Builder(logger)
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    plan = None
    if parser.parse(model):
        plan = builder.build_serialized_network(network, builder.create_builder_config())
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan) if plan is not None else None
    context = engine.create_execution_context() if engine is not None else None
    if context is None:
        rule = f"{library_name(trt)} must build and load a tiny engine on {driver.name}"
        got = logger.first_error or "no message"
        raise BackendUnavailableError(message("open_backend", rule, got, "see its log"))
    with ExitStack() as stack:
        host = driver.malloc_host(16)
        stack.callback(release, driver.free_host, host)
        devices = []
        for _ in range(2):
            devices.append(driver.malloc(16))
            stack.callback(release, driver.free, devices[-1])
        stream = driver.create_stream()
        stack.callback(release, driver.destroy_stream, stream)
        pixels = host_view(host, 16).view(np.float32)
        pixels[:] = 1
        driver.upload(devices[0], host, 16, stream)
        context.set_tensor_address("x", devices[0])
        context.set_tensor_address("y", devices[1])
        context.execute_async_v3(stream)
        driver.download(host, devices[1], 16, stream)
        driver.drain(stream)
        return pixels.reshape(1, 1, 2, 2).copy()
