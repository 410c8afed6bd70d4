"""``Segmenter.live`` with a clock and a camera that move only when the test says so."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fcnkit.runtime import Segmenter
from fcnkit.runtime.backends.base import CheckedBackend
from fcnkit.runtime.predict.live import LiveResult
from tests.refusal import refusal
from tests.runtime.bench.synthetic import Clock
from tests.runtime.models import make_info, make_spec

WAIT = 20.0
"""Seconds after which a test that hangs fails."""


class Camera:
    """Gives a frame whenever the test says so; the red of all its pixels is its number."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._asked = threading.Semaphore(0)
        self.shown = 0
        self.ready = threading.Event()
        """Set once the first frame has arrived."""
        self.ended = threading.Event()

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        try:
            while True:
                self._asked.release()
                order = self._orders.get(timeout=WAIT)
                if isinstance(order, StopIteration):
                    return
                if order is not None:
                    raise order
                yield np.full((32, 32, 3), self.shown, np.uint8)
                self.shown += 1
        finally:
            self.ended.set()

    def await_reader(self) -> None:
        """Wait until the reader wants a frame: all before it have arrived then."""
        assert self._asked.acquire(timeout=WAIT)

    def show(self, count: int) -> None:
        """Give frames, and return when all have arrived."""
        for _ in range(count):
            self._orders.put(None)
            self.await_reader()

    def end(self, error: Exception | None = None) -> None:
        self._orders.put(error or StopIteration())


class Model(CheckedBackend):
    """Takes a second of the clock, during which frames arrive. Its labels are the red of each."""

    def __init__(self, clock: Clock, camera: Camera, arriving: list[int]) -> None:
        super().__init__(make_spec("labels"), name="model", info=make_info())
        self._clock, self._camera, self._arriving = clock, camera, arriving
        self.newest: list[int] = []
        """The newest frame that had arrived, at the beginning of each inference."""

    def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
        assert self._camera.ready.wait(WAIT)
        self.newest.append(self._camera.shown - 1)
        self._clock.sleep(0.25)
        if self._arriving:
            self._camera.show(self._arriving.pop(0))
        self._clock.sleep(0.75)
        return batch[..., 0] % 4

    def _free(self) -> None:
        pass


def started(arriving: list[int]) -> tuple[Camera, Model, Segmenter, Any]:
    """A camera whose first frame has arrived, and the results of the live model."""
    clock, camera = Clock(), Camera()
    model = Model(clock, camera, arriving)
    segmenter = Segmenter(model)
    results = segmenter.live(camera.frames(), clock=clock)

    def show_first() -> None:
        camera.await_reader()
        camera.show(1)
        camera.ready.set()

    threading.Thread(target=show_first).start()
    return camera, model, segmenter, results


@settings(max_examples=40)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_each_result_is_of_the_newest_frame_and_drops_are_counted(arriving: list[int]) -> None:
    camera, model, _, live = started(list(arriving))
    results: list[LiveResult] = []
    with closing(live):
        results.extend(next(live) for _ in range(1 + len(arriving)))
        camera.end()
        results += live
    assert camera.ended.is_set()
    # One result per inference, each of the newest frame of that moment.
    assert [one.index for one in results] == model.newest
    assert all((one.labels_hw == one.index % 4).all() for one in results)
    assert all((one.frame == one.index).all() for one in results)
    # Frames that are neither labeled nor dropped would be missing here.
    assert sum(one.dropped + 1 for one in results) == camera.shown == 1 + sum(arriving)
    assert results[0].dropped == 0
    assert [one.dropped for one in results[1:]] == [count - 1 for count in arriving]
    assert [b.index - a.index - 1 for a, b in pairwise(results)] == [o.dropped for o in results[1:]]
    # The frames came a quarter into an inference, and waited until its end.
    assert [one.age for one in results] == [1.0] + [1.75] * len(arriving)


def test_closing_stops_the_thread_and_closes_the_source() -> None:
    camera, _, segmenter, live = started([3])
    next(live)
    threads = [one for one in threading.enumerate() if one.name == "fcnkit-live"]
    assert len(threads) == 1
    camera._orders.put(None)  # the frame that the thread waits for
    live.close()
    assert not threads[0].is_alive()
    assert camera.ended.is_set()
    assert list(live) == []
    # The segmenter is free again.
    assert segmenter(np.full((32, 32, 3), 2, np.uint8)).max() == 2


def test_an_error_of_the_source_comes_once_after_the_last_frame() -> None:
    camera, _, _, live = started([2])
    error = OSError("unplugged")
    assert next(live).index == 0
    camera.end(error)
    assert camera.ended.wait(WAIT)
    assert next(live).index == 2  # the newest frame before the error
    with pytest.raises(OSError) as caught:
        next(live)
    assert caught.value is error
    assert list(live) == []


def test_nothing_starts_before_the_first_step() -> None:
    camera = Camera()
    live = Segmenter(Model(Clock(), camera, [])).live(camera.frames())
    live.close()
    assert "fcnkit-live" not in {one.name for one in threading.enumerate()}


def test_an_error_of_the_model_ends_it_and_the_thread() -> None:
    images = [np.zeros((32, 32, 3), np.float32)]
    live = Segmenter(Model(Clock(), Camera(), [])).live(images)  # type: ignore[arg-type]
    rule = "Segmenter: image must be a numpy array of uint8, got array of float32; "
    remedy = "pass np.asarray(picture.convert('RGB')) of a Pillow picture"
    with refusal(TypeError, rule + remedy):
        next(live)
    assert "fcnkit-live" not in {one.name for one in threading.enumerate()}


def test_bgr_frames_give_the_labels_of_rgb_frames(segmenter: Segmenter) -> None:
    rgb = np.random.default_rng(3).integers(0, 256, (40, 70, 3), np.uint8)
    live = list(segmenter.live([rgb[..., ::-1]], color="BGR", confidence=True))
    wanted = segmenter(rgb, confidence=True)
    assert len(live) == 1
    assert np.array_equal(live[0].labels_hw, wanted.labels)
    assert live[0].prediction is not None
    assert np.array_equal(live[0].prediction.confidence, wanted.confidence)


@pytest.mark.parametrize(
    ("source", "kind", "text"),
    [
        (
            np.zeros((3, 32, 32, 3), np.uint8),
            TypeError,
            "source must be an iterable of frames, the number of a camera, an address or a path, "
            "got ndarray; pass the frames as they come, such as a generator",
        ),
        (
            True,
            TypeError,
            "source must be an iterable of frames, the number of a camera, an address or a path, "
            "got bool; pass the frames as they come, such as a generator",
        ),
        (
            1.5,
            TypeError,
            "source must be an iterable of frames, the number of a camera, an address or a path, "
            "got float; pass a generator of frames",
        ),
        (
            -1,
            ValueError,
            "source must be an iterable of frames, the number of a camera, an address or a path, "
            "got -1; the first camera is 0",
        ),
    ],
)
def test_what_is_no_source_is_refused(
    segmenter: Segmenter, source: Any, kind: type[Exception], text: str
) -> None:
    with refusal(kind, f"Segmenter.live: {text}"):
        segmenter.live(source)


def test_color_is_for_arrays(segmenter: Segmenter) -> None:
    text = "Segmenter.live: cameras, addresses and files give RGB, got color='BGR'; leave color out"
    with refusal(ValueError, text):
        segmenter.live(0, color="BGR")


def test_a_camera_that_is_not_there_says_so(segmenter: Segmenter, tmp_path: Path) -> None:
    live = segmenter.live(str(tmp_path / "none.mp4"))
    text = f"{tmp_path / 'none.mp4'}: must be a video file, got no such file; check the path"
    with refusal(ValueError, text):
        next(live)
