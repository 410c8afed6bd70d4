"""Streams of every backend: the same results as single calls, in order, bounded, through errors."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fcnkit.errors import FcnkitError
from fcnkit.runtime import open_backend
from fcnkit.runtime.artifacts.spec import Head, Shape
from fcnkit.runtime.backends.base import CheckedBackend
from fcnkit.runtime.backends.inflight import keep_in_flight
from fcnkit.runtime.backends.onnxruntime import calls_at_a_time
from tests.refusal import refusal
from tests.runtime.models import make_spec, noise_batch, write_model

SHAPES: tuple[Shape, ...] = ((1, 32, 32), (2, 64, 96), (1, 96, 32), (3, 32, 64))
Opener = Callable[..., CheckedBackend]


def open_torch(path: Path, *, head: Head, threads: int) -> CheckedBackend:
    torch = pytest.importorskip("torch")
    from fcnkit.train.backend import TorchBackend

    class Shift(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: object) -> object:
            return torch.cat([x, x[:, :1] * 2], 1)  # type: ignore[index]

    spec = make_spec("logits")
    return TorchBackend(Shift(), spec, device=torch.device("cpu"), threads=threads)


def open_onnx(name: str) -> Opener:
    def opener(path: Path, *, head: Head, threads: int) -> CheckedBackend:
        model = write_model(path / "m.onnx", make_spec(head))
        return open_backend(model, backend=name, threads=threads)

    return opener


OPENERS = {"onnxruntime": open_onnx("onnxruntime"), "openvino": open_onnx("openvino")}
OPENERS["torch"] = open_torch


@pytest.fixture(params=OPENERS)
def opener(request: pytest.FixtureRequest) -> Opener:
    return OPENERS[request.param]


def batches_of(backend: CheckedBackend, count: int) -> list[np.ndarray]:
    shapes = [SHAPES[index % len(SHAPES)] for index in range(count)]
    return [
        np.roll(noise_batch(backend.spec, shape), 7 * index, 2)
        for index, shape in enumerate(shapes)
    ]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("head", ["logits", "scores", "labels"])
def test_a_stream_gives_what_single_calls_give(
    tmp_path: Path, opener: Opener, head: Head, threads: int
) -> None:
    with opener(tmp_path, head=head, threads=threads) as backend:
        batches = batches_of(backend, 13)
        expected = [backend.infer(batch) for batch in batches]
        for _ in range(2):  # the second stream finds what the first left
            results = list(backend.stream(iter(batches)))
            for result, wanted in zip(results, expected, strict=True):
                assert (result.dtype, result.shape) == (wanted.dtype, wanted.shape)
                # Other threads sum in another order.
                np.testing.assert_allclose(result, wanted, atol=0 if head == "labels" else 1e-5)
            results[0][:] = 0  # each is the caller's own
            assert not np.shares_memory(results[0], results[4])
        assert list(backend.stream([])) == []


def test_a_stream_asks_for_a_few_batches_ahead_and_no_more(tmp_path: Path, opener: Opener) -> None:
    pulled = 0

    def source(backend: CheckedBackend) -> Iterator[np.ndarray]:
        nonlocal pulled
        for batch in batches_of(backend, 40):
            pulled += 1
            yield batch

    with opener(tmp_path, head="logits", threads=2) as backend:
        stream = backend.stream(source(backend))
        assert pulled == 0
        most = 0
        for taken, _ in enumerate(stream):
            most = max(most, pulled - taken)
        assert 1 <= most <= 4
        assert pulled == 40


def test_a_batch_that_openvino_reads_stays_alive(tmp_path: Path) -> None:
    """A source may drop its batches, and OpenVINO holds none of the memory that it reads."""
    given: list[weakref.ref[np.ndarray]] = []

    def source(backend: CheckedBackend) -> Iterator[np.ndarray]:
        for index in range(12):
            batch = np.roll(noise_batch(backend.spec, SHAPES[index % len(SHAPES)]), index, 2)
            given.append(weakref.ref(batch))
            yield batch
            del batch

    with OPENERS["openvino"](tmp_path, head="logits", threads=2) as backend:
        for taken, _ in enumerate(backend.stream(source(backend))):
            assert all(ref() is not None for ref in given[taken + 1 :])


def test_single_calls_and_other_streams_meanwhile(tmp_path: Path, opener: Opener) -> None:
    with opener(tmp_path, head="logits", threads=2) as backend:
        batches = batches_of(backend, 8)
        expected = [backend.infer(batch) for batch in batches]
        one, other = backend.stream(batches), backend.stream(batches[::-1])
        for index in range(8):
            np.testing.assert_allclose(next(one), expected[index], atol=1e-5)
            np.testing.assert_allclose(backend.infer(batches[0]), expected[0], atol=1e-5)
            np.testing.assert_allclose(next(other), expected[7 - index], atol=1e-5)


@pytest.mark.parametrize("good", [0, 1, 5])
def test_results_come_before_an_error_of_the_source(
    tmp_path: Path, opener: Opener, good: int
) -> None:
    with opener(tmp_path, head="logits", threads=2) as backend:
        batches = batches_of(backend, good + 3)

        def source() -> Iterator[np.ndarray]:
            yield from batches[:good]
            raise OSError("the disk is gone")

        got = []
        with refusal(OSError, "the disk is gone"):
            got.extend(backend.stream(source()))
            got += [None]  # never reached
        # list.extend keeps what came before the error.
        assert len(got) == good
        assert len(list(backend.stream(batches))) == good + 3


@pytest.mark.parametrize("good", [0, 1, 5])
def test_results_come_before_the_refusal_of_a_wrong_batch(
    tmp_path: Path, opener: Opener, good: int
) -> None:
    with opener(tmp_path, head="logits", threads=2) as backend:
        batches = batches_of(backend, good)
        wrong = np.zeros((1, 3, 33, 32), np.float32)
        got = []
        text = (
            f"{backend.name}.stream: the model takes NxHxW from 1x32x32 to 16x2048x2048 with sides "
            "in steps of 32, got 1x33x32; the nearest legal shape is 1x64x32"
        )
        with refusal(ValueError, text):
            for result in backend.stream([*batches, wrong, *batches]):
                got.append(result)  # noqa: PERF402 - what came before the error is looked at
        assert len(got) == good


def test_leaving_a_stream_early_leaves_the_backend_open(tmp_path: Path, opener: Opener) -> None:
    with opener(tmp_path, head="logits", threads=2) as backend:
        batches = batches_of(backend, 10)
        stream = backend.stream(batches)
        first = next(stream)
        stream.close()  # type: ignore[attr-defined]
        np.testing.assert_allclose(first, backend.infer(batches[0]), atol=1e-5)
        assert len(list(backend.stream(batches))) == 10


def test_a_closed_backend_streams_nothing(tmp_path: Path, opener: Opener) -> None:
    backend = opener(tmp_path, head="logits", threads=2)
    batches = batches_of(backend, 10)
    running = backend.stream(batches)
    next(running)
    backend.close()
    text = f"{backend.name}.stream: the backend must be open, got a closed one; open it"
    with refusal(ValueError, text):
        list(running)
    with refusal(ValueError, text):
        next(iter(backend.stream(batches)))


def test_onnx_runtime_holds_one_large_image_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OPENERS["onnxruntime"](tmp_path, head="logits", threads=4) as backend:
        shapes: list[Shape] = [(1, 768, 768), (1, 32, 32), (1, 768, 800), (1, 64, 32)]
        batches = [noise_batch(backend.spec, shape) for shape in shapes * 2]
        expected = [backend.infer(batch) for batch in batches]
        running, most = 0, 0
        lock, call = threading.Lock(), backend._call  # type: ignore[attr-defined]

        def counted(session: object, batch: np.ndarray) -> np.ndarray:
            nonlocal running, most
            large = batch.shape[2] >= 768
            with lock:
                running += large
                most = max(most, running)
            result: np.ndarray = call(session, batch)
            with lock:
                running -= large
            return result

        monkeypatch.setattr(backend, "_call", counted)
        for result, wanted in zip(backend.stream(batches), expected, strict=True):
            np.testing.assert_allclose(result, wanted, atol=1e-5)
        assert most == 1


# --- keeping in flight ---------------------------------------------------------------------------


class Tickets:
    """A library that counts what is started and what is waited for."""

    def __init__(self, *, submits: int = 100, collects: int = 100) -> None:
        self.left = {"submit": submits, "collect": collects}
        self.flying: list[int] = []
        self.most = 0

    def _use(self, call: str) -> None:
        self.left[call] -= 1
        if self.left[call] < 0:
            raise FcnkitError(f"no {call}")

    def submit(self, batch: np.ndarray) -> int:
        self._use("submit")
        self.flying.append(int(batch[0]))
        self.most = max(self.most, len(self.flying))
        return self.flying[-1]

    def collect(self, ticket: int) -> np.ndarray:
        self.flying.remove(ticket)
        self._use("collect")
        return np.array([ticket])

    def run(self, count: int, depth: int) -> tuple[list[int], str]:
        batches = (np.array([index]) for index in range(count))
        got: list[int] = []
        try:
            for result in keep_in_flight(
                batches, submit=self.submit, collect=self.collect, depth=depth
            ):
                got.append(int(result[0]))  # noqa: PERF401 - what came before the error counts
        except FcnkitError as error:
            return got, str(error)
        return got, ""


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_order_and_depth(count: int, depth: int) -> None:
    library = Tickets()
    assert library.run(count, depth) == (list(range(count)), "")
    assert library.most == min(count, depth)


@pytest.mark.parametrize("failing", range(7))
def test_nothing_flies_on_after_an_error(failing: int) -> None:
    library = Tickets(submits=failing)
    assert library.run(7, 3) == (list(range(failing)), "no submit")
    assert library.flying == []
    library = Tickets(collects=failing)
    assert library.run(7, 3) == (list(range(failing)), "no collect")
    assert library.flying == []


def test_calls_of_a_stream_use_every_thread_and_no_more() -> None:
    assert [calls_at_a_time(threads) for threads in range(1, 13)] == [
        *(1, 2, 3, 4, 1, 3, 1, 4, 3, 2, 1, 4)
    ]
