"""The latency report: exact on a clock of our own, sane on the real one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fcnkit.runtime import open_backend
from fcnkit.runtime.backends import CheckedBackend
from fcnkit.runtime.bench import example_batch, measure_latency
from fcnkit.runtime.spec import Head
from tests.refusal import refusal
from tests.runtime.models import make_spec, write_model


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckedBackend]:
    path = write_model(tmp_path_factory.mktemp("models") / "m.onnx", make_spec("labels"))
    with open_backend(path, threads=1) as opened:
        yield opened


def clock_of(seconds: list[float]) -> Callable[[], float]:
    """A clock on which the n-th measured call takes the n-th of these times."""
    now = 0.0
    left = iter(seconds)
    measuring = False

    def clock() -> float:
        nonlocal now, measuring
        if measuring:
            now += next(left)
        measuring = not measuring
        return now

    return clock


def test_every_sample_counts(backend: CheckedBackend) -> None:
    # Read twice per sample when the number of runs is fixed; one outlier must not be clipped.
    seconds = [0.001 * i for i in range(1, 100)] + [10.0]
    report = measure_latency(backend, (2, 32, 64), warmup=0, runs=100, clock=clock_of(seconds))
    times = 1000 * np.array(seconds)
    expected = {
        "mean_ms": times.mean(),
        "min_ms": 1.0,
        "p50_ms": 50.5,
        "p90_ms": np.percentile(times, 90),
        "p95_ms": np.percentile(times, 95),
        "p99_ms": np.percentile(times, 99),
        "max_ms": 10_000.0,
        "images_per_second": 200 / sum(seconds),
    }
    for name, value in expected.items():
        assert getattr(report, name) == pytest.approx(value), name
    assert (report.shape, report.warmup, report.samples) == ("2x32x64", 0, 100)


def test_a_real_run(backend: CheckedBackend) -> None:
    report = measure_latency(backend, (1, 32, 32), warmup=2, runs=20)
    assert report.samples == 20
    ordered = [report.min_ms, report.p50_ms, report.p90_ms, report.p95_ms, report.p99_ms]
    assert ordered == sorted(ordered)
    assert 0 < report.min_ms <= report.mean_ms <= report.max_ms
    assert report.images_per_second == pytest.approx(1000 / report.mean_ms)


def test_duration_ends_the_run(backend: CheckedBackend) -> None:
    report = measure_latency(backend, (1, 32, 32), warmup=0, duration=0.05)
    assert report.samples * report.mean_ms + 50 >= 50
    assert report.samples >= 2
    assert measure_latency(backend, (1, 32, 32), warmup=0, duration=1e-9).samples == 1


def test_the_report_is_json_and_says_what_ran(backend: CheckedBackend) -> None:
    report = measure_latency(backend, (1, 32, 32), warmup=0, runs=1)
    data = json.loads(json.dumps(report.to_dict()))
    assert set(data) == {field.name for field in dataclasses.fields(report)}
    environment = data["environment"]
    assert environment["backend"] == "onnxruntime"
    assert environment["provider"] == "CPUExecutionProvider"
    assert environment["threads"] == 1
    assert environment["precision"] == "fp32"
    assert environment["numpy"] == np.__version__
    assert environment["library"].startswith("onnxruntime 1.")
    assert environment["cpu"]
    assert environment["cores"] >= 1


@pytest.mark.parametrize("head", ["logits", "labels", "scene"])
def test_example_batches_are_what_the_model_takes(tmp_path: Path, head: Head) -> None:
    with open_backend(write_model(tmp_path / "m.onnx", make_spec(head))) as opened:
        batch = example_batch(opened.spec, (1, 64, 32))
        assert opened.infer(batch).shape[-2:] == (64, 32)
    assert np.array_equal(batch, example_batch(opened.spec, (1, 64, 32)))


def test_wrong_requests(backend: CheckedBackend) -> None:
    shape = (1, 32, 32)
    with refusal(ValueError, "bench latency: runs must be at least 1, got 0; leave it out for 100"):
        measure_latency(backend, shape, runs=0)
    text = "bench latency: runs and duration exclude each other, got 3 and 1.0; give one of them"
    with refusal(ValueError, text):
        measure_latency(backend, shape, runs=3, duration=1.0)
    text = "bench latency: warmup must be at least 0, got -1; leave it out for 10"
    with refusal(ValueError, text):
        measure_latency(backend, shape, warmup=-1)
    for duration in (0.0, float("inf"), float("nan")):
        text = (
            f"bench latency: duration must be positive seconds, got {duration}; give --duration 10"
        )
        with refusal(ValueError, text):
            measure_latency(backend, shape, duration=duration)
    text = (
        "onnxruntime.infer: the model takes NxHxW from 1x32x32 to 16x2048x2048 with sides in "
        "steps of 32, got 1x320x481; the nearest legal shape is 1x320x512"
    )
    with refusal(ValueError, text):
        measure_latency(backend, (1, 320, 481), warmup=0)
