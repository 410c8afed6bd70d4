"""Stages about the network alone: ONNX Runtime, and PyTorch with CUDA graphs beside it."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu.context import Context
from benchmarks.gpu.networks import DRY_EXPORTS, EXPORTS, Export, checkpoint, exported
from fcnkit.runtime import open_backend
from fcnkit.runtime.artifacts.spec import Shape, format_shape
from fcnkit.runtime.backends.base import CheckedBackend
from fcnkit.runtime.backends.onnxruntime_options import PROVIDER_OPTIONS
from fcnkit.runtime.bench.stages import example_batch

__all__ = ["agreement", "measure", "measure_all", "onnxruntime", "pytorch"]

NHWC: Final = {"prefer_nhwc": "1"}


def onnxruntime(context: Context) -> None:
    """Run each export: agreement with the CPU, speed by batch, and what stays on the CPU."""
    if context.dry:
        ways: list[tuple[Export, dict[str, str]]] = [(export, {}) for export in DRY_EXPORTS]
    else:
        ways = [(export, {}) for export in EXPORTS]
        ways.insert(2, (Export("labels", "fp16"), NHWC))
    for export, options in ways:
        name = " ".join([export.name, *(f"{key}={value}" for key, value in options.items())])
        path = context.opened(name, partial(exported, context.folder, export))
        if path is None:
            continue
        _run_way(context, name, path, options)


def _run_way(context: Context, name: str, path: Path, options: dict[str, str]) -> None:
    backend = context.opened(
        f"{name}, open", lambda: open_backend(path, backend=context.backend, options=options)
    )
    if backend is None:
        return
    measure_all(context, name, backend, path)
    if not context.dry:
        context.attempt(f"{name}, operators", lambda: assignment(path, options))
    context.attempt(f"{name}, close", backend.close)


def measure_all(context: Context, name: str, backend: CheckedBackend, path: Path) -> None:
    """Compare a backend with the CPU and time it at every batch."""
    context.attempt(f"{name}, agreement", lambda: agreement(backend, path, context.shape(1)))
    for images in context.batches:
        if backend.spec.head == "scene" and images > 1:
            continue
        shape = context.shape(images)
        key = f"{name} {format_shape(shape)}"
        context.attempt(key, partial(measure, backend, shape, context.seconds))


def agreement(backend: CheckedBackend, path: Path, shape: Shape) -> dict[str, Any]:
    """Compare a result with that of ONNX Runtime on the CPU."""
    import numpy as np

    with open_backend(path, backend="onnxruntime") as cpu:
        batch = example_batch(cpu.spec, shape)
        wanted, got = cpu.infer(batch), backend.infer(batch)
    if wanted.dtype == np.uint8:
        return {"same_labels": float((got == wanted).mean())}
    gap = float(np.abs(got.astype(np.float64) - wanted).max())
    return {
        "largest_difference": gap,
        "relative_to_largest": gap / max(float(np.abs(wanted).max()), 1e-30),
        "same_labels": float((got.argmax(1) == wanted.argmax(1)).mean()),
    }


def measure(backend: CheckedBackend, shape: Shape, seconds: float) -> dict[str, Any]:
    """Time single calls, a stream, and the network alone by the device's clock.

    Args:
        backend: What runs it.
        shape: Images, rows and columns.
        seconds: For the calls, and about as long again for the stream.

    Returns:
        Milliseconds of a call, images per second of the stream, and of the network alone where
        the device has clocks.
    """
    batch = example_batch(backend.spec, shape)
    first = [_milliseconds(lambda: backend.infer(batch)) for _ in range(3)]
    _ = list(_calls(lambda: backend.infer(batch), seconds / 2))  # graphs, kernels: not counted
    calls = sorted(_calls(lambda: backend.infer(batch), seconds))
    count = max(8, int(1000 * seconds / calls[len(calls) // 2]))
    for _ in backend.stream(repeat(batch, 8)):
        pass
    start = time.perf_counter()
    for _ in backend.stream(repeat(batch, count)):
        pass
    rate = count * shape[0] / (time.perf_counter() - start)
    found = {
        "shape": format_shape(shape),
        "compute": backend.info.precision,
        "first_calls_ms": first,
        "call_ms": calls[len(calls) // 2],
        "call_p95_ms": calls[int(len(calls) * 0.95)],
        "calls": len(calls),
        "stream_images_per_second": rate,
    }
    return found | _parts(backend, batch)


def _parts(backend: CheckedBackend, batch: Any) -> dict[str, float]:
    timed: Callable[[Any], Any] | None = getattr(backend, "infer_timed", None)
    if timed is None:
        return {}
    parts = [timed(batch)[1] for _ in range(15)][5:]
    up, network, down = (statistics.median(part[i] for part in parts) for i in range(3))
    rate = {"network_images_per_second": len(batch) / network}
    return {"up_ms": 1000 * up, "network_ms": 1000 * network, "down_ms": 1000 * down, **rate}


def _calls(call: Callable[[], object], seconds: float) -> Iterator[float]:
    end = time.perf_counter() + seconds
    yield _milliseconds(call)
    while time.perf_counter() < end:
        yield _milliseconds(call)


def _milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def assignment(path: Path, options: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Count the operators by the provider that runs them, the small ones too."""
    import onnxruntime as library

    settings = library.SessionOptions()
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    chosen = PROVIDER_OPTIONS["onnxruntime-cuda"] | dict(options)
    session = library.InferenceSession(
        str(path), settings, providers=[("CUDAExecutionProvider", chosen)]
    )
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for part in session.get_provider_graph_assignment_info():
        found[part.ep_name].update(node.op_type for node in part.get_nodes())
    return {name: dict(counts) for name, counts in found.items()}


def pytorch(context: Context) -> None:
    """Replay a CUDA graph of the network and argmax, in three precisions.

    On a CPU there are no graphs: eager calls stand for them.
    """
    import torch

    precisions = (("fp32", False, torch.float32), ("tf32", True, torch.float32))
    for name, tf32, dtype in (*precisions, ("fp16", False, torch.float16)):
        if context.dry and name != "fp32":
            continue
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        for images in (*context.batches, *(() if context.dry else (32,))):
            shape = context.shape(images)
            key = f"{name} {format_shape(shape)}"
            context.attempt(key, partial(_replayed, context, shape, dtype, name))


def _replayed(context: Context, shape: Shape, dtype: Any, compute: str) -> dict[str, Any]:
    import torch

    from fcnkit.train.checkpoint import load_model

    net = load_model(checkpoint(context.folder))[0].eval().to(context.device, dtype)
    net = net.to(memory_format=torch.channels_last)
    count, height, width = shape
    batch = torch.rand(count, 3, height, width, device=context.device, dtype=dtype)
    batch = batch.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        run = graph_of(lambda: net(batch).argmax(1).to(torch.uint8), cuda=not context.dry)
        run()
        done, start = 0, time.perf_counter()
        while time.perf_counter() - start < context.seconds / 2:
            for _ in range(1 if context.dry else 10):
                run()
            if not context.dry:
                torch.cuda.synchronize()
            done += 1 if context.dry else 10
        spent = time.perf_counter() - start
    return {
        "shape": format_shape(shape),
        "compute": compute,
        "call_ms": 1000 * spent / done,
        "network_images_per_second": count * done / spent,
    }


def graph_of(work: Callable[[], Any], *, cuda: bool) -> Callable[[], Any]:
    """Capture work as a CUDA graph and return its replay; without CUDA, the work itself."""
    import torch

    if not cuda:
        return work
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()

    def replay() -> Any:
        graph.replay()
        return result

    return replay
