"""Whether a model keeps a time per frame, and the largest frame for which it does.

What counts is the call: array in, labels out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.backends.base import nearest_legal
from fcnkit.runtime.bench.calls import Clock, Effort, collect
from fcnkit.runtime.bench.stages import example_picture
from fcnkit.runtime.predict.segmenter import Segmenter

__all__ = ["Budget", "BudgetAnswer", "Fitting", "call_of", "largest_fitting", "parse_budget"]

_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_FIRST_CALLS: Final = 3
"""Calls at a new shape before the samples. Where none of them is within the budget, no sample is
taken."""
_STEP: Final = 32
"""Step of the tried sides where a model takes any size."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A time per frame, and which share of the calls must keep it."""

    seconds: float
    percentile: float = 99.0
    """The calls' percentile that is compared."""

    def __post_init__(self) -> None:
        """Refuse what cannot be a budget.

        Raises:
            ValueError: seconds is not above 0, or percentile not above 0 and up to 100.
        """
        if not 0 < self.seconds < math.inf:
            rule, remedy = "a budget is above 0", "write --budget 33ms"
            raise BadValueError(message("bench", rule, f"{self.seconds} s", remedy))
        if not 0 < self.percentile <= 100:
            rule, remedy = "percentile must be above 0 and up to 100", "leave it out for 99"
            raise BadValueError(message("bench", rule, self.percentile, remedy))

    def measured(self, seconds: NDArray[np.float64]) -> float:
        """Return the percentile of a series that is compared with the budget, in seconds."""
        return float(np.percentile(seconds, self.percentile))


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """A size at which the budget is kept."""

    size: tuple[int, int]
    """Height and width."""
    seconds: float
    """The percentile of its calls."""

    @property
    def pixels(self) -> int:
        """Pixels of a frame."""
        return self.size[0] * self.size[1]


@dataclass(frozen=True, kw_only=True)
class BudgetAnswer:
    """Whether a model keeps a budget at one size."""

    budget: Budget
    seconds: float
    """The percentile of the calls."""
    samples: int
    largest: Fitting | None
    """The largest frame of about the same proportions that keeps it; None where none does."""

    @property
    def fits(self) -> bool:
        """Whether the budget is kept."""
        return self.seconds <= self.budget.seconds


def parse_budget(text: str) -> float:
    """Read ``33ms`` as seconds.

    Args:
        text: A number and ``us``, ``ms`` or ``s``.

    Returns:
        Seconds.

    Raises:
        ValueError: text is anything else.
    """
    for unit, factor in _UNITS.items():
        number = text.strip().removesuffix(unit)
        if number != text.strip() and _is_number(number.strip()):
            return float(number) * factor
    rule, remedy = "a budget is a number and us, ms or s", "write 33ms"
    raise BadValueError(message("--budget", rule, repr(text), remedy))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text[-1:].isdigit() or text[-1:] == "."


def call_of(
    segmenter: Segmenter, size: tuple[int, int], *, clock: Clock = time.perf_counter
) -> Callable[[], tuple[float, ...]]:
    """Return a function that labels one frame and returns the seconds that the call took.

    Args:
        segmenter: The model.
        size: Height and width of the frame.
        clock: Returns seconds.
    """
    image_hwc = np.asarray(example_picture(*size))

    def call() -> tuple[float, ...]:
        start = clock()
        segmenter(image_hwc)
        return (clock() - start,)

    return call


def largest_fitting(
    segmenter: Segmenter,
    size: tuple[int, int],
    effort: Effort,
    budget: Budget,
    *,
    clock: Clock = time.perf_counter,
) -> Fitting | None:
    """Find the largest frame that keeps a budget, by halving.

    Larger frames are taken to be slower.

    Args:
        segmenter: The model.
        size: Height and width whose proportions are kept, up to the model's step.
        effort: How much to measure at each size that may fit.
        budget: What is to be kept.
        clock: Returns seconds.

    Returns:
        The largest of the model's sizes that keeps it; None where the smallest does not.
    """
    sizes = _sizes(segmenter.spec, size)
    best: Fitting | None = None
    low, high = 0, len(sizes)
    while low < high:
        middle = (low + high) // 2
        seconds = _kept(call_of(segmenter, sizes[middle], clock=clock), effort, budget, clock)
        if seconds is None:
            high = middle
        else:
            best, low = Fitting(size=sizes[middle], seconds=seconds), middle + 1
    return best


def _sizes(spec: ModelSpec, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the sizes of about the same proportions that one pass covers, smallest first."""
    step = max(_STEP, spec.input.multiple)
    ratio = max(size) / min(size)
    found: dict[tuple[int, int], None] = {}
    for shorter in range(step, max(spec.shapes.max[1:]) + 1, step):
        longer = step * max(1, round(shorter * ratio / step))
        height, width = (shorter, longer) if size[0] <= size[1] else (longer, shorter)
        if nearest_legal((1, height, width), spec)[1:] == (height, width):
            found[height, width] = None
    return list(found) or [spec.shapes.opt[1:]]


def _kept(
    call: Callable[[], tuple[float, ...]], effort: Effort, budget: Budget, clock: Clock
) -> float | None:
    """Return the percentile of a size's calls; None as soon as it is above the budget."""
    if min(call()[0] for _ in range(_FIRST_CALLS)) > budget.seconds:
        return None
    if effort.duration is not None:
        seconds = budget.measured(collect(call, effort, clock=clock)[:, 0])
        return seconds if seconds <= budget.seconds else None
    count = effort.runs or 200
    # With more slow calls than this, the percentile is above the budget, however fast the rest is.
    most = count - 1 - math.floor((count - 1) * budget.percentile / 100)
    times: list[float] = []
    slow = 0
    while len(times) < count and slow <= most:
        times.append(call()[0])
        slow += times[-1] > budget.seconds
    seconds = budget.measured(np.array(times))
    return seconds if slow <= most and seconds <= budget.seconds else None
