"""Labels of the newest frame of a camera: a thread reads the frames, and old ones are dropped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import BadTypeError, BadValueError, message
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.predict.frames import Color
from fcnkit.runtime.predict.video_in import is_address, open_camera, open_video

__all__ = ["Arrived", "LiveResult", "LiveSource", "Newest", "frames_of", "live_labels"]

LiveSource = Iterable[NDArray[np.uint8]] | int | str | Path
"""Frames as they come, the number of a camera, an address, or a video file."""

T = TypeVar("T")

_WAKE: Final = 0.2
"""Seconds between two looks at ``halted`` while no frame comes. Where Python cannot interrupt a
wait, as on Windows, Ctrl-C takes effect then."""

_GRACE: Final = 2.0
"""Seconds that ``stop`` waits for a source that is about to give a frame."""


@dataclass(frozen=True)
class LiveResult:
    """The labels of one frame, and how current they are."""

    labels_hw: NDArray[np.uint8]
    """uint8 (H, W), the caller's own."""
    frame: NDArray[np.uint8]
    """The frame, as the source gave it."""
    index: int
    """Number of the frame in the source, from 0."""
    dropped: int
    """Frames between the previous result's frame and this one, which were not labeled."""
    age: float
    """Seconds from the arrival of the frame to this result."""
    prediction: Prediction | None = None
    """The labels with confidence and margin, where confidence was wanted."""


@dataclass(frozen=True)
class Arrived(Generic[T]):
    """A frame of a source."""

    item: T
    index: int
    """Its number in the source, from 0."""
    dropped: int
    """Frames before it that were not labeled."""
    time: float
    """When it arrived, by the reader's clock."""


class Newest(Generic[T]):
    """Reads a source on a thread and keeps its newest item."""

    def __init__(self, source: Iterable[T], *, clock: Callable[[], float]) -> None:
        """Start the thread.

        Args:
            source: Iterated on the thread, never more than one item ahead.
            clock: Returns seconds.
        """
        self._source, self._clock = iter(source), clock
        self._changed = threading.Condition()
        self._newest: tuple[T, int, float] | None = None
        self._error: BaseException | None = None
        self._ended = self._stopped = False
        self._taken = -1
        self._thread = threading.Thread(target=self._read, name="fcnkit-live", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            self._read_all()
        except BaseException as raised:
            error = raised
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify()

    def _read_all(self) -> None:
        try:
            for index, item in enumerate(self._source):
                now = self._clock()
                with self._changed:
                    if self._stopped:
                        return
                    self._newest = (item, index, now)
                    self._changed.notify()
        finally:
            # Here and not when it is collected: a camera has to be free for the next program.
            if isinstance(self._source, Generator):
                self._source.close()

    def take(self, halted: Callable[[], bool] = lambda: False) -> Arrived[T] | None:
        """Wait for an item that was not taken yet, and return the newest.

        Args:
            halted: Once true, the wait ends.

        Returns:
            The item; None after the last one, or where the wait was halted.

        Raises:
            BaseException: What the source raised; once, after its last item was taken.
        """
        with self._changed:
            while self._newest is None and not self._ended:
                if halted():
                    return None
                self._changed.wait(_WAKE)
            if self._newest is None:
                error, self._error = self._error, None
                if error is not None:
                    raise error
                return None
            item, index, now = self._newest
            self._newest = None
            dropped, self._taken = index - self._taken - 1, index
            return Arrived(item, index, dropped, now)

    def stop(self) -> None:
        """End the thread. One that waits in its source ends with the next item of the source."""
        with self._changed:
            self._stopped, self._newest = True, None
        self._thread.join(_GRACE)


def frames_of(source: Any, color: Color) -> Iterable[NDArray[np.uint8]]:
    """Return what gives the frames of a source; a camera is opened when the first is needed.

    Args:
        source: What the frames come from.
        color: Order of the channels of arrays.

    Returns:
        The source itself where it gives frames.

    Raises:
        TypeError: source is something else.
        ValueError: It is the number of no camera, or gives RGB and color says otherwise.
    """
    if isinstance(source, int | str | Path) and color != "RGB":
        rule, remedy = "cameras, addresses and files give RGB", "leave color out"
        raise BadValueError(message("Segmenter.live", rule, f"color={color!r}", remedy))
    rule = "source must be an iterable of frames, the number of a camera, an address or a path"
    if isinstance(source, np.ndarray | bytes | bool):
        got, remedy = type(source).__name__, "pass the frames as they come, such as a generator"
        raise BadTypeError(message("Segmenter.live", rule, got, remedy))
    if isinstance(source, int):
        if source < 0:
            remedy = "the first camera is 0"
            raise BadValueError(message("Segmenter.live", rule, source, remedy))
        return _camera(source)
    if isinstance(source, str | Path):
        address = str(source)
        return _camera(address) if is_address(address) else _played(Path(source))
    if not isinstance(source, Iterable):
        got, remedy = type(source).__name__, "pass a generator of frames"
        raise BadTypeError(message("Segmenter.live", rule, got, remedy))
    return source


def _camera(source: int | str) -> Iterator[NDArray[np.uint8]]:
    for frame in open_camera(source).read():
        yield frame.image_hwc


def _played(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a file at the times that its time stamps say, as a camera would."""
    source = open_video(path)
    start: float | None = None
    for frame in source.read():
        seconds = frame.ticks / source.rate
        if start is None:
            start = time.monotonic() - seconds
        time.sleep(max(0.0, start + seconds - time.monotonic()))
        yield frame.image_hwc


def live_labels(
    label: Callable[[Any], Prediction],
    source: Iterable[NDArray[np.uint8]],
    *,
    sure: bool,
    clock: Callable[[], float],
) -> Generator[LiveResult, None, None]:
    """Label the newest frame again and again; see ``Segmenter.live``.

    Args:
        label: Labels a frame.
        source: Gives frames as they arrive.
        sure: Whether results have the prediction too.
        clock: Returns seconds.

    Returns:
        A generator that starts the thread when it is first asked, and ends it when it is closed.
    """
    frames = Newest(source, clock=clock)
    try:
        while (arrived := frames.take()) is not None:
            made = label(arrived.item)
            yield LiveResult(
                labels_hw=made.labels,
                frame=arrived.item,
                index=arrived.index,
                dropped=arrived.dropped,
                age=clock() - arrived.time,
                prediction=made if sure else None,
            )
    finally:
        frames.stop()
