"""The open loop: waiting counts, and a queue that grows is called by its name."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fcnkit.errors import DataError
from fcnkit.runtime import Segmenter, open_backend
from fcnkit.runtime.artifacts.spec import Head
from fcnkit.runtime.bench.environment import describe_environment
from fcnkit.runtime.bench.host import Replay, measure_host
from fcnkit.runtime.bench.load import LoadResult, poisson_arrivals, run_load
from fcnkit.runtime.bench.stages import example_picture
from fcnkit.runtime.bench.throughput import measure_folder, measure_load, throughput_report
from fcnkit.runtime.predict.folder import find_jobs
from tests.refusal import refusal
from tests.runtime.bench.synthetic import Clock
from tests.runtime.models import make_spec, noise_batch, write_model


def test_arrivals_are_a_poisson_process() -> None:
    arrivals = poisson_arrivals(50, 400, seed=2)
    gaps = np.diff(arrivals)
    assert arrivals[0] == 0
    assert arrivals[-1] < 400
    assert len(arrivals) == pytest.approx(20_000, rel=0.03)
    # An exponential distribution: its standard deviation is its mean, 1/e of it lies above.
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 50, rel=0.03)
    assert (gaps > 1 / 50).mean() == pytest.approx(np.exp(-1), rel=0.03)
    assert np.array_equal(arrivals, poisson_arrivals(50, 400, seed=2))
    assert len(poisson_arrivals(0.001, 1)) == 1
    text = "load: rate and seconds must be positive, got 0 per second for 1 s; raise them"
    with refusal(ValueError, text):
        poisson_arrivals(0, 1)


def served(arrivals: NDArray[np.float64], *, rate: float) -> LoadResult:
    """One server, 10 ms a request."""
    clock = Clock()
    server = [lambda _: clock.sleep(0.010)]
    return run_load(server, arrivals, rate=rate, clock=clock, sleep=clock.sleep)


def test_waiting_counts_from_the_arrival() -> None:
    # Three requests at once, served one after the other in 10 ms each: 10, 20 and 30 ms.
    arrivals = np.array([0.0, 0.0, 0.0, 1.0])
    result = served(arrivals, rate=3)
    assert result.latency.tolist() == pytest.approx([0.01, 0.02, 0.03, 0.01])
    assert result.waited.tolist() == pytest.approx([0, 0.01, 0.02, 0])
    assert result.finished_rate == pytest.approx(4 / 1.01)
    assert result.busy == pytest.approx(0.04 / 1.01)
    assert result.keeps_up


def test_the_mean_wait_is_that_of_queueing_theory() -> None:
    # One server, 10 ms each, 70 % busy: Pollaczek and Khinchine give s * rho / (2 * (1 - rho)).
    arrivals = poisson_arrivals(70, 600, seed=5)
    result = served(arrivals, rate=70)
    assert result.busy == pytest.approx(0.7, abs=0.02)
    assert result.waited.mean() == pytest.approx(0.010 * 0.7 / (2 * 0.3), rel=0.1)
    assert result.keeps_up


def test_a_queue_that_grows_is_seen() -> None:
    arrivals = poisson_arrivals(120, 60, seed=1)
    result = served(arrivals, rate=120)
    assert not result.keeps_up
    assert result.finished_rate == pytest.approx(100, rel=0.02)
    assert result.latency.max() > 5


def test_two_servers_serve_two_at_a_time() -> None:
    # Each waits for the other: with fewer than two at work at once this would never end.
    together = threading.Barrier(2, timeout=600)
    result = run_load([lambda _: together.wait()] * 2, np.zeros(6), rate=1)
    assert len(result.latency) == 6
    assert (result.latency > 0).all()


def test_real_sleeps_take_at_least_as_long() -> None:
    result = run_load([lambda _: time.sleep(0.002)], np.array([0.0, 0.01, 0.02]), rate=100)
    assert (result.latency >= 0.002).all()


def test_an_error_of_a_server_comes_out() -> None:
    def broken(number: int) -> None:
        if number == 1:
            raise ValueError("no")

    with refusal(ValueError, "no"):
        run_load([broken], np.zeros(3), rate=1)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        example_picture(40, 50, seed=number).save(folder / f"{number}.jpg")
    return folder


def test_a_folder_is_labeled_and_timed(pictures: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", make_spec("labels"))
    jobs = find_jobs([pictures], tmp_path / "none")
    segmenters = [Segmenter(open_backend(model, threads=1)) for _ in range(2)]
    run = measure_folder(segmenters, jobs, rounds=2)
    assert (run["streams"], run["pictures"], len(run["seconds"])) == (2, 6, 2)
    assert run["images_per_second"] == pytest.approx(6 / np.median(run["seconds"]))
    load = measure_load(segmenters, jobs, rate=40, duration=0.5)
    assert load["requests"] == len(load["latency_ms"]) == load["latency"]["samples"]
    assert load["latency"]["min_ms"] > 0
    assert load["latency"]["max_ms"] >= load["waited"]["max_ms"]
    report = throughput_report(
        model,
        "0" * 64,
        data="pictures",
        runs=[{"title": "a", **run}],
        loads=[{"title": "a", **load}],
        host=measure_host(segmenters[0], jobs, rounds=1),
        environment=describe_environment(),
    )
    assert report["format"] == "fcnkit-bench-throughput-1"
    assert not (tmp_path / "none").exists()
    text = "bench throughput: rounds must be at least 1, got 0; leave it out for 3"
    with refusal(ValueError, text):
        measure_folder(segmenters, jobs, rounds=0)


def test_the_host_is_measured_without_the_model(pictures: Path, tmp_path: Path) -> None:
    """Each round labels every image, and the model runs in the first one only."""
    model = write_model(tmp_path / "m.onnx", make_spec("labels"))
    jobs = find_jobs([pictures], tmp_path / "none")
    calls: list[tuple[int, ...]] = []
    with Segmenter(open_backend(model, threads=1)) as segmenter:
        infer = segmenter.backend.infer

        def counted(batch: NDArray[np.uint8]) -> NDArray[np.uint8]:
            calls.append(batch.shape)
            labels: NDArray[np.uint8] = infer(batch)
            return labels

        segmenter.backend.infer = counted  # type: ignore[method-assign]
        walls, busy = (
            iter([0.0, 9.0, 10.0, 12.0, 20.0, 23.0]),
            iter([0.0, 9.0, 10.0, 11.0, 20.0, 25.0]),
        )
        found = measure_host(
            segmenter,
            jobs,
            rounds=2,
            clock=lambda: next(walls),
            processor_clock=lambda: next(busy),
        )
    assert calls == [(1, 64, 64, 3)]
    # Two and three seconds, one and five of processors, for six images.
    assert found["images_per_second"] == pytest.approx(6 / 2.5)
    assert found["processor_ms"] == pytest.approx(1000 * 3 / 6)
    assert found["pictures"] == 6
    assert set(found["codecs"]) == {"jpeg"}


@pytest.mark.parametrize(
    ("head", "confidence"), [("labels", False), ("labels", True), ("logits", False)]
)
def test_a_replayed_answer_is_the_model_s(head: Head, confidence: bool, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", make_spec(head, confidence=confidence))
    with open_backend(model, threads=1) as backend:
        replay = Replay(backend)
        batch = noise_batch(backend.spec, (3, 64, 32))
        answers = replay.infer(batch)
        expected = backend.infer(batch)[:1].repeat(3, axis=0)
        np.testing.assert_array_equal(answers, expected)
        answers[:] = 0  # the caller's own
        np.testing.assert_array_equal(replay.infer(batch[:2]), expected[:2])


@pytest.mark.parametrize("streams", [1, 2])
def test_a_broken_picture_ends_the_measurement(
    streams: int, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "3.jpg").write_bytes(b"no picture")
    model = write_model(tmp_path / "m.onnx", make_spec("labels"))
    jobs = find_jobs([pictures], tmp_path / "none")
    segmenters = [Segmenter(open_backend(model, threads=1)) for _ in range(streams)]
    with pytest.raises(DataError, match="every picture must be labeled to be timed"):
        measure_folder(segmenters, jobs, rounds=1)
    with pytest.raises(DataError, match="must be a picture file"):
        measure_load(segmenters, jobs, rate=1000, duration=0.05)
