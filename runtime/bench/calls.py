"""Calling something again and again: until it is warm, then for the samples."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import BadValueError, message

__all__ = ["Clock", "Effort", "Warmup", "collect", "warm_up"]

Clock = Callable[[], float]
"""Returns seconds, never backwards."""

_WINDOW_CALLS: Final = 5
_WINDOW_SECONDS: Final = 0.05
_TOLERANCE: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much to measure."""

    runs: int | None = None
    """Samples; 200 where no duration is given."""
    duration: float | None = None
    """Seconds to go on for, instead of runs; one sample at least."""
    warmup: int | None = None
    """Calls before the first sample; None warms up until stable."""
    warmup_seconds: tuple[float, float] = (0.3, 10.0)
    """Shortest and longest warm-up where it goes on until stable."""

    def __post_init__(self) -> None:
        """Refuse what cannot be done.

        Raises:
            ValueError: A count or time is too small, or both runs and duration are given.
        """
        what = "bench"
        if self.warmup is not None and self.warmup < 0:
            rule = "warmup must be at least 0"
            raise BadValueError(
                message(what, rule, self.warmup, "leave it out to go on until stable")
            )
        if self.runs is not None and self.duration is not None:
            rule, got = "runs and duration exclude each other", f"{self.runs} and {self.duration}"
            raise BadValueError(message(what, rule, got, "give one of them"))
        if self.runs is not None and self.runs < 1:
            remedy = "leave it out for 200"
            raise BadValueError(message(what, "runs must be at least 1", self.runs, remedy))
        if self.duration is not None and not 0 < self.duration < math.inf:
            rule = "duration must be positive seconds"
            raise BadValueError(message(what, rule, self.duration, "give --duration 10"))


@dataclass(frozen=True, kw_only=True)
class Warmup:
    """What came before the first sample."""

    calls: int
    seconds: float
    stable: bool | None
    """Whether the last three windows agreed within 5 %; None where calls were counted."""


def warm_up(
    call: Callable[[], object], effort: Effort, *, clock: Clock = time.perf_counter
) -> Warmup:
    """Call until three windows in a row have medians within 5 %, or the longest time is over.

    A window has five calls at least and lasts 50 milliseconds at least.

    Args:
        call: What is measured later.
        effort: Its warmup and warmup_seconds count.
        clock: Returns seconds.

    Returns:
        What was done.
    """
    start = clock()
    if effort.warmup is not None:
        for _ in range(effort.warmup):
            call()
        return Warmup(calls=effort.warmup, seconds=clock() - start, stable=None)
    least, most = effort.warmup_seconds
    medians: list[float] = []
    calls, stable = 0, False
    while not stable and clock() - start < most:
        times: list[float] = []
        while len(times) < _WINDOW_CALLS or sum(times) < _WINDOW_SECONDS:
            before = clock()
            call()
            times.append(clock() - before)
            if clock() - start >= most:
                break
        calls += len(times)
        medians.append(statistics.median(times))
        last = medians[-3:]
        level = len(last) == 3 and max(last) <= (1 + _TOLERANCE) * min(last)
        stable = level and clock() - start >= least
    return Warmup(calls=calls, seconds=clock() - start, stable=stable)


def collect(
    call: Callable[[], tuple[float, ...]], effort: Effort, *, clock: Clock = time.perf_counter
) -> NDArray[np.float64]:
    """Call for the samples.

    Args:
        call: Returns the seconds of each of its stages.
        effort: Its runs or duration count.
        clock: Returns seconds.

    Returns:
        Array of shape (samples, stages), in seconds; every call is in it.
    """
    most = (effort.runs or 200) if effort.duration is None else math.inf
    end = math.inf if effort.duration is None else clock() + effort.duration
    rows: list[tuple[float, ...]] = []
    while not rows or (len(rows) < most and clock() < end):
        rows.append(call())
    return np.array(rows, np.float64)
