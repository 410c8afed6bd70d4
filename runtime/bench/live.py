"""A camera of a fixed rate in front of a model: age of the results, drops, jitter."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.bench.calls import Clock
from fcnkit.runtime.bench.stages import example_picture
from fcnkit.runtime.bench.statistics import check_stability, summarize
from fcnkit.runtime.machine import LoadMeter
from fcnkit.runtime.predict.segmenter import Segmenter

__all__ = ["LiveRun", "live_figures", "measure_live"]

_PICTURES: Final = 8
"""Different frames, shown in turn."""
_WARMUP_CALLS: Final = 5


@dataclass(frozen=True, kw_only=True)
class LiveRun:
    """What became of the frames of one run, a number per result."""

    rate: float
    """Frames per second."""
    frames: int
    """Frames that the camera gave."""
    index: NDArray[np.int64]
    """Numbers of the frames that were labeled."""
    done: NDArray[np.float64]
    """When each result was there, in seconds from the first frame."""
    late: float
    """Seconds that the slowest frame came later than it should have."""

    @property
    def age(self) -> NDArray[np.float64]:
        """Seconds from the moment a frame should have come to its result."""
        return self.done - self.index / self.rate


def measure_live(
    segmenter: Segmenter,
    size: tuple[int, int],
    *,
    rate: float,
    duration: float,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> dict[str, Any]:
    """Show frames to ``segmenter.live`` at a fixed rate.

    Args:
        segmenter: The model.
        size: Height and width of the frames.
        rate: Frames per second.
        duration: Seconds.
        clock: Returns seconds.
        sleep: Waits for seconds.

    Returns:
        Plain data: see ``live_figures``.

    Raises:
        ValueError: rate or duration is not positive, or the model takes no such size.
    """
    if not (0 < rate < float("inf") and 0 < duration < float("inf")):
        got = f"{rate} per second for {duration} s"
        rule, remedy = "rate and duration must be positive", "raise them"
        raise BadValueError(message("bench live", rule, got, remedy))
    frames = max(1, round(rate * duration))
    images = [np.asarray(example_picture(*size, seed=seed)) for seed in range(_PICTURES)]
    for image_hwc in images[:_WARMUP_CALLS]:
        segmenter(image_hwc)
    index: list[int] = []
    done: list[float] = []
    camera = _Camera(images, frames, rate, clock, sleep)
    meter = LoadMeter()
    with closing(segmenter.live(camera, clock=clock)) as results:
        for result in results:
            done.append(clock() - camera.start)
            index.append(result.index)
    run = LiveRun(
        rate=rate, frames=frames, index=np.array(index), done=np.array(done), late=camera.late
    )
    # Only of the load: ages differ by nature where frames wait for the one before.
    return live_figures(run, check_stability(run.age[:1], meter.stop(), drift=False).warnings)


class _Camera:
    """Gives frames at fixed moments, whatever becomes of them."""

    def __init__(
        self,
        images: Sequence[NDArray[np.uint8]],
        frames: int,
        rate: float,
        clock: Clock,
        sleep: Callable[[float], object],
    ) -> None:
        self._images, self._frames, self._rate = images, frames, rate
        self._clock, self._sleep = clock, sleep
        self.start = self.late = 0.0

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        self.start = self._clock()
        for number in range(self._frames):
            due = self.start + number / self._rate
            early = due - self._clock()
            if early > 0:
                self._sleep(early)
            self.late = max(self.late, self._clock() - due)
            yield self._images[number % len(self._images)]


def live_figures(run: LiveRun, warnings: Sequence[str] = ()) -> dict[str, Any]:
    """Reduce a run to its figures.

    Args:
        run: The run, with one result at least.
        warnings: Reasons to doubt it.

    Returns:
        Plain data for JSON: frames, results, drops and their share, results per second, the age of
        results and the time between two (in ms), and the jitter: the standard deviation of that
        time.
    """
    between = np.diff(run.done)
    found = list(warnings)
    if run.late > 0.5 / run.rate:
        found.append(
            f"a frame came {1000 * run.late:.1f} ms late: this machine cannot keep the rate"
        )
    span = float(run.done[-1])
    return {
        "rate": run.rate,
        "frames": run.frames,
        "results": len(run.index),
        "dropped": run.frames - len(run.index),
        "results_per_second": len(run.index) / span if span > 0 else None,
        "age": asdict(summarize(run.age)),
        "interval": asdict(summarize(between)) if len(between) else None,
        "jitter_ms": float(1000 * between.std(ddof=1)) if len(between) > 1 else None,
        "late_ms": 1000 * run.late,
        "warnings": found,
    }
