"""Whether a model keeps a budget, with a clock of our own; and a camera of a fixed rate."""

from __future__ import annotations

from itertools import chain, cycle, repeat
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fcnkit.runtime import Segmenter
from fcnkit.runtime.backends.base import CheckedBackend
from fcnkit.runtime.bench.budget import Budget, largest_fitting, parse_budget
from fcnkit.runtime.bench.calls import Effort
from fcnkit.runtime.bench.latency import measure_case
from fcnkit.runtime.bench.live import LiveRun, live_figures, measure_live
from tests.refusal import refusal
from tests.runtime.bench.synthetic import Clock, SyntheticBackend
from tests.runtime.models import make_info, make_spec


class ByPixels(CheckedBackend):
    """Takes a nanosecond per pixel, and now and then ten times as long."""

    def __init__(self, clock: Clock, slow: int) -> None:
        super().__init__(make_spec("labels"), name="by-pixels", info=make_info())
        self._clock, self._factors = clock, cycle([*repeat(1, slow - 1), 10])

    def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
        self._clock.sleep(1e-9 * batch[..., 0].size * next(self._factors))
        return np.zeros(batch.shape[:3], np.uint8)

    def _free(self) -> None:
        pass


@pytest.mark.parametrize(
    ("slow", "percentile", "largest"),
    [(1000, 99.0, (480, 640)), (20, 90.0, (480, 640)), (20, 99.0, (128, 160))],
)
def test_the_largest_shape_that_fits(
    slow: int, percentile: float, largest: tuple[int, int]
) -> None:
    """480x640 takes 307 us. Where one call of 20 takes ten times that, p99 is the slow one."""
    clock = Clock()
    budget = Budget(seconds=310e-6, percentile=percentile)
    with Segmenter(ByPixels(clock, slow)) as segmenter:
        found = largest_fitting(segmenter, (480, 640), Effort(runs=200), budget, clock=clock)
    assert found is not None
    assert found.size == largest
    assert found.seconds <= budget.seconds


def test_nothing_fits() -> None:
    clock = Clock()
    with Segmenter(ByPixels(clock, 50)) as segmenter:
        budget = Budget(seconds=1e-9)
        assert largest_fitting(segmenter, (480, 640), Effort(), budget, clock=clock) is None


def test_the_percentile_of_the_calls_decides() -> None:
    clock = Clock()
    calls = [0.010] * 98 + [0.020, 0.030]
    # First call and 100 of the backend alone, then the calls that count, then the search.
    times = chain(repeat(0.010, 101), calls, repeat(1.0))
    with Segmenter(SyntheticBackend(clock, times)) as segmenter:
        case = measure_case(
            segmenter,
            (1, 32, 64),
            Effort(runs=100, warmup=0),
            opened=(None, 0.0),
            stages=False,
            budget=Budget(seconds=0.0202),
            clock=clock,
        )
    assert case.call is not None
    assert case.budget is not None
    assert np.allclose(case.call.seconds[:, 0], calls)
    assert case.budget.seconds == pytest.approx(np.percentile(calls, 99))
    assert case.budget.fits
    # Larger frames are slower here; the shape itself keeps it.
    assert case.budget.largest is not None
    assert case.budget.largest.size == (32, 64)


@pytest.mark.parametrize(
    ("text", "seconds"), [("33ms", 0.033), ("0.5 s", 0.5), ("900us", 0.0009), ("1e1ms", 0.01)]
)
def test_a_budget_is_read(text: str, seconds: float) -> None:
    assert parse_budget(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["33", "ms", "", "33 fps", "nanms", "infms", "33msms"])
def test_other_budgets_are_refused(text: str) -> None:
    rule = f"--budget: a budget is a number and us, ms or s, got {text!r}; write 33ms"
    with refusal(ValueError, rule):
        parse_budget(text)


def test_a_budget_has_limits() -> None:
    text = "bench: a budget is above 0, got 0.0 s; write --budget 33ms"
    with refusal(ValueError, text):
        Budget(seconds=0.0)
    text = "bench: percentile must be above 0 and up to 100, got 101.0; leave it out for 99"
    with refusal(ValueError, text):
        Budget(seconds=1.0, percentile=101.0)


def test_the_figures_of_a_live_run() -> None:
    run = LiveRun(
        rate=10.0,
        frames=8,
        index=np.array([0, 2, 4, 7]),
        done=np.array([0.15, 0.30, 0.55, 0.80]),
        late=0.06,
    )
    found = live_figures(run)
    assert (found["results"], found["dropped"]) == (4, 4)
    assert found["results_per_second"] == pytest.approx(5.0)
    assert found["age"]["max_ms"] == pytest.approx(150)
    assert found["age"]["min_ms"] == pytest.approx(100)
    assert found["interval"]["mean_ms"] == pytest.approx(650 / 3)
    assert found["jitter_ms"] == pytest.approx(1000 * np.std([0.15, 0.25, 0.25], ddof=1))
    assert found["warnings"] == ["a frame came 60.0 ms late: this machine cannot keep the rate"]


def test_a_live_run_counts_every_frame() -> None:
    with Segmenter(ByPixels(Clock(), 50)) as segmenter:
        found = measure_live(segmenter, (32, 32), rate=200.0, duration=0.1)
    assert found["frames"] == 20 == found["results"] + found["dropped"]
    text = "bench live: rate and duration must be positive, got 0.0 per second for 1.0 s; "
    with refusal(ValueError, text + "raise them"), Segmenter(ByPixels(Clock(), 50)) as segmenter:
        measure_live(segmenter, (32, 32), rate=0.0, duration=1.0)
