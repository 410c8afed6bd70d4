"""A clock of our own, and a backend that takes the times it is told on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.artifacts.spec import Head
from fcnkit.runtime.backends.base import CheckedBackend
from tests.runtime.models import make_spec


class Clock:
    """Time that passes only when something is said to take some."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class SyntheticBackend(CheckedBackend):
    """Answers with zeros after as many seconds as come next."""

    def __init__(self, clock: Clock, seconds: Iterable[float], *, head: Head = "labels") -> None:
        details: dict[str, str | int] = {
            "library": "none 1.0",
            "provider": "clock",
            "threads": 1,
            "compute": "fp32",
        }
        super().__init__(make_spec(head), name="synthetic", details=details)
        self._clock = clock
        self._seconds = iter(seconds)

    def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
        self._clock.sleep(next(self._seconds))
        if self.spec.head == "logits":
            count, _, height, width = batch.shape
            return np.zeros((count, self.spec.num_classes, height, width), np.float32)
        return np.zeros(batch.shape[:3], np.uint8)

    def _free(self) -> None:
        pass


class DeviceBackend(SyntheticBackend):
    """Takes 1 ms up, 5 ms of compute and 2 ms down, and can tell."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, iter(lambda: 0.008, None))

    def infer_timed(self, batch: NDArray[Any]) -> tuple[NDArray[Any], tuple[float, float, float]]:
        return self.infer(batch), (0.001, 0.005, 0.002)
