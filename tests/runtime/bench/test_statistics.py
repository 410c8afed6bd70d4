"""What a series of times is reduced to, and when it is called unstable."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from fcnkit.runtime.bench.calls import Effort, collect, warm_up
from fcnkit.runtime.bench.latency import measure_latency
from fcnkit.runtime.bench.statistics import QUANTILES, check_stability, summarize
from fcnkit.runtime.machine import LoadMeter, MachineLoad
from tests.refusal import refusal
from tests.runtime.bench.synthetic import Clock, SyntheticBackend

SHAPE = (1, 32, 32)
IDLE = MachineLoad(other_cores=0.02, stolen_cores=0.0)


def test_a_known_distribution_comes_out_with_its_true_percentiles() -> None:
    # Sleeps of 5 ms plus an exponential one of 10 ms on average: the quantiles are a formula.
    clock = Clock()
    seconds = 0.005 + np.random.default_rng(3).exponential(0.010, 40_000)
    backend = SyntheticBackend(clock, itertools.chain([0.5, 0.5], seconds))
    effort = Effort(runs=40_000, warmup=2)
    series = measure_latency(backend, SHAPE, effort, clock=clock)
    found = summarize(series.seconds)
    assert found.samples == 40_000
    for name, percent in QUANTILES.items():
        true_ms = 5 - 10 * math.log(1 - percent / 100)
        assert getattr(found, f"{name}_ms") == pytest.approx(true_ms, rel=0.06), name
        exact = 1000 * float(np.percentile(seconds, percent))
        assert getattr(found, f"{name}_ms") == pytest.approx(exact, rel=1e-9), name
    assert found.mean_ms == pytest.approx(15, rel=0.02)
    assert found.std_ms == pytest.approx(10, rel=0.03)
    assert found.cv == pytest.approx(found.std_ms / found.mean_ms)
    assert found.min_ms == pytest.approx(1000 * seconds.min())


def test_one_slow_call_is_not_clipped() -> None:
    clock = Clock()
    seconds = [0.010] * 999 + [3.0]
    backend = SyntheticBackend(clock, np.random.default_rng(1).permutation(seconds).tolist())
    series = measure_latency(backend, SHAPE, Effort(runs=1000, warmup=0), clock=clock)
    found = summarize(series.seconds)
    assert (found.p50_ms, found.p99_ms) == (pytest.approx(10), pytest.approx(10))
    assert found.p99_9_ms == pytest.approx(10 + 0.001 * 2990)
    assert found.max_ms == pytest.approx(3000)
    assert found.mean_ms == pytest.approx(12.99)


def test_one_sample_and_none() -> None:
    found = dataclasses.asdict(summarize([0.002]))
    assert (found.pop("samples"), found.pop("std_ms"), found.pop("cv")) == (1, 0.0, 0.0)
    assert set(found.values()) == {2.0}
    with refusal(ValueError, "samples: must be at least 1, got 0; measure first"):
        summarize([])


def test_a_quiet_series_has_no_warning() -> None:
    seconds = np.random.default_rng(0).normal(0.030, 0.001, 300)
    found = check_stability(seconds, IDLE)
    assert found.warnings == ()
    assert len(found.windows_ms) == 10
    assert found.spread is not None
    assert found.spread < 0.05
    assert found.cv == pytest.approx(1 / 30, rel=0.1)
    assert found.other_cores == 0.02


def test_drift_is_seen_though_the_variation_is_small() -> None:
    # A processor that gets hot: 15 % slower at the end than at the beginning.
    seconds = 0.030 * np.linspace(1, 1.15, 200)
    warnings = check_stability(seconds, IDLE).warnings
    assert warnings == ("medians of ten windows lie 13 % apart: the speed drifted",)


def test_a_second_process_that_burns_a_core_is_seen() -> None:
    # The scheduler shares fairly, so windows can agree well: the cores in use give it away.
    seconds = np.random.default_rng(0).normal(0.060, 0.003, 200)
    busy = MachineLoad(other_cores=0.98, stolen_cores=0.0)
    assert check_stability(seconds, busy).warnings == (
        "other programs used 0.98 cores meanwhile: the machine was not idle",
    )
    stolen = MachineLoad(other_cores=0.0, stolen_cores=0.4)
    assert check_stability(seconds, stolen).warnings == (
        "the hypervisor took 0.40 cores away meanwhile",
    )


def test_a_core_that_burns_is_measured() -> None:
    """Not by this process or its ended children, which are its own work."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as burner:
        try:
            time.sleep(0.5)  # until it has started
            meter = LoadMeter()
            time.sleep(1.5)
            load = meter.stop()
        finally:
            burner.kill()
    if load.other_cores is None:
        pytest.skip("this system does not say what its processors do")
    # Two cores that are busy anyway still give a third process a fair share.
    assert load.other_cores > 0.3
    (warning,) = check_stability(
        np.full(50, 0.01), dataclasses.replace(load, stolen_cores=0.0)
    ).warnings
    assert re.fullmatch(r"other programs used \d\.\d\d cores meanwhile: .*", warning)


def test_outliers_warn_about_the_mean() -> None:
    seconds = np.where(np.arange(300) % 10 == 9, 0.1, 0.01)
    assert check_stability(seconds, None).warnings == (
        "coefficient of variation 1.42: look at the percentiles, not the mean",
    )


def test_too_few_samples_say_so() -> None:
    found = check_stability([0.01] * 19, IDLE)
    assert found.windows_ms == ()
    assert found.spread is None
    assert found.warnings == ("19 samples are too few to see drift; take 20 or more",)


# --- the loop ------------------------------------------------------------------------------------


def test_warm_up_goes_on_until_the_times_are_level() -> None:
    # Fallback kernels for a second, then halfway, then the real ones.
    clock = Clock()
    times = itertools.chain([0.1] * 10, [0.06, 0.05, 0.04, 0.03], itertools.repeat(0.02))
    backend = SyntheticBackend(clock, times)
    done = warm_up(lambda: backend.infer(np.zeros((1, 32, 32, 3), np.uint8)), Effort(), clock=clock)
    assert done.stable is True
    assert done.calls >= 14 + 3 * 5
    assert done.seconds == pytest.approx(clock.now)
    series = collect(lambda: (clock(),), Effort(runs=3), clock=clock)
    assert series.shape == (3, 1)


def test_a_warm_up_that_never_gets_level_ends_and_says_so() -> None:
    clock = Clock()
    # Every call 2 % slower than the one before.
    times = (0.01 * 1.02**number for number in itertools.count())

    def call() -> None:
        clock.sleep(next(times))

    done = warm_up(call, Effort(warmup_seconds=(0.1, 5.0)), clock=clock)
    assert done.stable is False
    assert 5.0 <= done.seconds < 5.2


def test_a_counted_warm_up_counts() -> None:
    clock, calls = Clock(), []
    done = warm_up(lambda: calls.append(1), Effort(warmup=7), clock=clock)
    assert (done.calls, done.stable, len(calls)) == (7, None, 7)


def test_duration_ends_the_loop() -> None:
    clock = Clock()

    def call() -> tuple[float, ...]:
        clock.sleep(0.1)
        return (0.1,)

    assert len(collect(call, Effort(duration=1.0), clock=clock)) in (10, 11)
    assert len(collect(call, Effort(duration=1e-9), clock=clock)) == 1
    assert len(collect(call, Effort(), clock=clock)) == 200


def test_wrong_efforts() -> None:
    with refusal(ValueError, "bench: runs must be at least 1, got 0; leave it out for 200"):
        Effort(runs=0)
    text = "bench: runs and duration exclude each other, got 3 and 1.0; give one of them"
    with refusal(ValueError, text):
        Effort(runs=3, duration=1.0)
    text = "bench: warmup must be at least 0, got -1; leave it out to go on until stable"
    with refusal(ValueError, text):
        Effort(warmup=-1)
    for duration in (0.0, math.inf, math.nan):
        text = f"bench: duration must be positive seconds, got {duration}; give --duration 10"
        with refusal(ValueError, text):
            Effort(duration=duration)
