"""How long one call of a backend takes, told by every sample."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import message
from fcnkit.runtime.backends.base import Backend
from fcnkit.runtime.spec import ModelSpec, Shape, format_shape

__all__ = ["LatencyReport", "environment", "example_batch", "measure_latency"]


@dataclass(frozen=True, kw_only=True)
class LatencyReport:
    """Times of one call in milliseconds over all samples; nothing is clipped."""

    shape: str
    """NxHxW of the batch."""
    warmup: int
    """Calls before the first sample."""
    samples: int
    mean_ms: float
    min_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    images_per_second: float
    """All pictures of all samples, divided by the sum of their times."""
    environment: dict[str, str | int]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def measure_latency(
    backend: Backend,
    shape: Shape,
    *,
    warmup: int = 10,
    runs: int | None = None,
    duration: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> LatencyReport:
    """Time ``backend.infer`` on one prepared batch, call by call.

    Args:
        backend: The opened model.
        shape: (N, H, W) of the batch.
        warmup: Calls before the first sample.
        runs: Number of samples; 100 where no duration is given.
        duration: Seconds to go on for, instead of runs; one sample at least.
        clock: Returns seconds.

    Returns:
        The report.

    Raises:
        ValueError: The shape is not legal, a count is too small, or both runs and duration are
            given.
    """
    _check_counts(warmup, runs, duration)
    batch = example_batch(backend.spec, shape)
    for _ in range(warmup):
        backend.infer(batch)
    most = (runs or 100) if duration is None else math.inf
    end = math.inf if duration is None else clock() + duration
    seconds: list[float] = []
    now = -math.inf
    while not seconds or (len(seconds) < most and now < end):
        start = clock()
        backend.infer(batch)
        now = clock()
        seconds.append(now - start)
    return _report(np.array(seconds), shape, warmup=warmup, backend=backend)


def example_batch(spec: ModelSpec, shape: Shape) -> NDArray[Any]:
    """Return a batch of fixed noise in the form that a model takes.

    Args:
        spec: The model's promises.
        shape: (N, H, W).

    Returns:
        float32 (N, 3, H, W) of unit variance, or uint8 (N, H, W, 3), as the spec says.
    """
    count, height, width = shape
    random = np.random.default_rng(0)
    if spec.input.dtype == "float32":
        return random.standard_normal((count, 3, height, width), np.float32)
    return random.integers(0, 256, (count, height, width, 3), np.uint8)


def environment(backend: Backend) -> dict[str, str | int]:
    """Return what a latency depends on besides the model: versions, threads, CPU, precision.

    Args:
        backend: The opened model.

    Returns:
        Plain data; the backend's details under its own names.
    """
    return {
        "fcnkit": version("fcnkit"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 0,
        "backend": backend.name,
        "precision": backend.spec.precision,
        **backend.details,
    }


def _check_counts(warmup: int, runs: int | None, duration: float | None) -> None:
    what = "bench latency"
    if warmup < 0:
        raise ValueError(message(what, "warmup must be at least 0", warmup, "leave it out for 10"))
    if runs is not None and duration is not None:
        rule = "runs and duration exclude each other"
        raise ValueError(message(what, rule, f"{runs} and {duration}", "give one of them"))
    if runs is not None and runs < 1:
        raise ValueError(message(what, "runs must be at least 1", runs, "leave it out for 100"))
    if duration is not None and not 0 < duration < float("inf"):
        raise ValueError(
            message(what, "duration must be positive seconds", duration, "give --duration 10")
        )


def _report(
    seconds: NDArray[np.float64], shape: Shape, *, warmup: int, backend: Backend
) -> LatencyReport:
    times = 1000 * seconds
    p50, p90, p95, p99 = (float(value) for value in np.percentile(times, (50, 90, 95, 99)))
    return LatencyReport(
        shape=format_shape(shape),
        warmup=warmup,
        samples=len(times),
        mean_ms=float(times.mean()),
        min_ms=float(times.min()),
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        max_ms=float(times.max()),
        images_per_second=float(shape[0] * len(seconds) / seconds.sum()),
        environment=environment(backend),
    )


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
