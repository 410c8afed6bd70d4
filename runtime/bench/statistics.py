"""What a series of times says: every sample counts, nothing is clipped.

Times are in seconds where they are measured and in milliseconds where they are reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.machine import MachineLoad

__all__ = ["QUANTILES", "Stability", "Summary", "check_stability", "summarize"]

QUANTILES: Final = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99_9": 99.9}
"""Name of a reported percentile and its percent."""

_WINDOWS: Final = 10
_FEWEST: Final = 20
"""Samples below which windows say nothing."""
_SPREAD_LIMIT: Final = 0.10
_CV_LIMIT: Final = 0.25
_CORES_LIMIT: Final = 0.15
"""Cores that the rest of the machine may use before the run is called disturbed."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Figures over all samples of one series, in milliseconds."""

    samples: int
    mean_ms: float
    std_ms: float
    """Standard deviation of the samples (n - 1)."""
    cv: float
    """Coefficient of variation: standard deviation divided by mean."""
    min_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p99_9_ms: float
    """Close to the maximum with fewer than 1000 samples."""
    max_ms: float


@dataclass(frozen=True, kw_only=True)
class Stability:
    """Whether the machine was stable while a series was measured."""

    windows_ms: tuple[float, ...]
    """Medians of ten stretches of the series, in order; empty with fewer than 20 samples."""
    spread: float | None
    """Slowest window less fastest, divided by their median."""
    cv: float
    other_cores: float | None
    """Cores that other programs used meanwhile, on average; None where it is not known."""
    stolen_cores: float | None
    """Cores that the hypervisor gave to others."""
    warnings: tuple[str, ...]
    """Reasons to doubt the figures; empty if there are none."""


def summarize(seconds: ArrayLike) -> Summary:
    """Reduce a series to its figures; percentiles interpolate linearly between samples.

    Args:
        seconds: One time per sample, one sample at least.

    Returns:
        The figures.

    Raises:
        ValueError: There is no sample.
    """
    times = _milliseconds(seconds)
    mean = float(times.mean())
    std = float(times.std(ddof=1)) if len(times) > 1 else 0.0
    percentiles = np.percentile(times, list(QUANTILES.values()))
    p50, p90, p95, p99, p99_9 = (float(value) for value in percentiles)
    return Summary(
        samples=len(times),
        mean_ms=mean,
        std_ms=std,
        cv=std / mean if mean else 0.0,
        min_ms=float(times.min()),
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        p99_9_ms=p99_9,
        max_ms=float(times.max()),
    )


def check_stability(
    seconds: ArrayLike, load: MachineLoad | None = None, *, drift: bool = True
) -> Stability:
    """Judge a series: drift between windows, variation, and what else ran on the machine.

    Args:
        seconds: One time per sample, in the order of measuring.
        load: What the machine did meanwhile, where it is known.
        drift: Compare windows of the series; False where there are few samples by design.

    Returns:
        The judgment; a warning for each limit that is exceeded: windows more than 10 % apart, a
        coefficient of variation above 0.25, more than 0.15 cores used by others or stolen.

    Raises:
        ValueError: There is no sample.
    """
    times = _milliseconds(seconds)
    cv = float(times.std(ddof=1) / times.mean()) if len(times) > 1 and times.mean() else 0.0
    windows: list[float] = []
    if drift and len(times) >= _FEWEST:
        windows = [float(np.median(part)) for part in np.array_split(times, _WINDOWS)]
    spread = (max(windows) - min(windows)) / float(np.median(windows)) if windows else None
    other = None if load is None else load.other_cores
    stolen = None if load is None else load.stolen_cores
    return Stability(
        windows_ms=tuple(windows),
        spread=spread,
        cv=cv,
        other_cores=other,
        stolen_cores=stolen,
        warnings=tuple(_warnings(len(times) if drift else None, spread, cv, other, stolen)),
    )


def _warnings(
    count: int | None, spread: float | None, cv: float, other: float | None, stolen: float | None
) -> Sequence[str]:
    found = []
    if count is not None and count < _FEWEST:
        found.append(f"{count} samples are too few to see drift; take {_FEWEST} or more")
    if spread is not None and spread > _SPREAD_LIMIT:
        found.append(f"medians of ten windows lie {100 * spread:.0f} % apart: the speed drifted")
    if cv > _CV_LIMIT:
        found.append(f"coefficient of variation {cv:.2f}: look at the percentiles, not the mean")
    if other is not None and other > _CORES_LIMIT:
        found.append(f"other programs used {other:.2f} cores meanwhile: the machine was not idle")
    if stolen is not None and stolen > _CORES_LIMIT:
        found.append(f"the hypervisor took {stolen:.2f} cores away meanwhile")
    return found


def _milliseconds(seconds: ArrayLike) -> NDArray[np.float64]:
    times = 1000 * np.asarray(seconds, np.float64).ravel()
    if not len(times):
        raise BadValueError(message("samples", "must be at least 1", 0, "measure first"))
    return times
