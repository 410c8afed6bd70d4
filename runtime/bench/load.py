"""Requests that come when they come: latency against load, so that a machine can be sized.

An open loop. The next request does not wait for the last answer, and a latency counts from the
moment a request should have been taken, so waiting in the queue is in it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import message
from fcnkit.runtime.bench.calls import Clock
from fcnkit.runtime.bench.statistics import Stability, check_stability
from fcnkit.runtime.machine import LoadMeter

__all__ = ["LoadResult", "in_threads", "poisson_arrivals", "run_load"]


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """What became of all requests, in order of arrival."""

    rate: float
    """Requests per second that were offered."""
    latency: NDArray[np.float64]
    """Seconds from arrival to answer; every request counts."""
    waited: NDArray[np.float64]
    """The part of it spent before a server took the request."""
    finished_rate: float
    """Answers per second from the first arrival to the last answer."""
    busy: float
    """Share of the servers' time that was spent serving."""
    stability: Stability
    """Of the time the requests were served in, waiting left out."""

    @property
    def keeps_up(self) -> bool:
        """Whether the queue did not grow: the servers could serve more than arrived.

        They are busy for ``busy`` of the time and answer ``finished_rate``, so that what they
        could answer is ``finished_rate / busy``. And the last tenth waited for ten services at
        most. A queue that grows gives latencies that depend on how long one measures.
        """
        service = self.latency - self.waited
        last = self.waited[-max(1, len(self.waited) // 10) :]
        enough = self.rate * self.busy < self.finished_rate
        return bool(enough and np.median(last) <= 10 * np.median(service))


def poisson_arrivals(rate: float, seconds: float, *, seed: int = 0) -> NDArray[np.float64]:
    """Draw the arrival times of a Poisson process.

    Args:
        rate: Requests per second.
        seconds: Length of the process.
        seed: Of the draws.

    Returns:
        Ascending seconds from 0; at least one arrival, those after ``seconds`` left out.

    Raises:
        ValueError: rate or seconds is not positive.
    """
    if not (0 < rate < float("inf") and 0 < seconds < float("inf")):
        got = f"{rate} per second for {seconds} s"
        raise ValueError(message("load", "rate and seconds must be positive", got, "raise them"))
    random = np.random.default_rng(seed)
    expected = rate * seconds
    gaps = random.exponential(1 / rate, int(expected + 6 * expected**0.5 + 10))
    arrivals: NDArray[np.float64] = np.cumsum(gaps) - gaps[0]
    return arrivals[arrivals < seconds]


def run_load(
    servers: Sequence[Callable[[int], object]],
    arrivals: NDArray[np.float64],
    *,
    rate: float,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> LoadResult:
    """Serve requests first come, first served, one thread per server.

    Args:
        servers: Each is called with a request's number by one thread of its own.
        arrivals: Ascending seconds from the start.
        rate: What the arrivals were drawn with, for the result.
        clock: Returns seconds.
        sleep: Waits for seconds.

    Returns:
        The result.

    Raises:
        Exception: Whatever a server raised first.
    """
    count = len(arrivals)
    taken, done = np.zeros(count), np.zeros(count)
    numbers = iter(range(count))
    lock, failed = threading.Lock(), threading.Event()
    start = clock()

    def work(server: Callable[[int], object]) -> None:
        while not failed.is_set():
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            early = start + arrivals[number] - clock()
            if early > 0:
                sleep(early)
            taken[number] = clock() - start
            try:
                server(number)
            except BaseException:
                failed.set()
                raise
            done[number] = clock() - start

    meter = LoadMeter()
    in_threads([partial(work, server) for server in servers])
    waited, service = np.maximum(0, taken - arrivals), done - taken
    end = float(done.max())
    return LoadResult(
        rate=rate,
        latency=done - arrivals,
        waited=waited,
        finished_rate=count / end if end else float("inf"),
        busy=float(service.sum() / (len(servers) * end)) if end else 1.0,
        stability=check_stability(service, meter.stop()),
    )


def in_threads(tasks: Sequence[Callable[[], object]]) -> None:
    """Run all tasks side by side, one of them here where it is the only one.

    Args:
        tasks: Each is called once.

    Raises:
        BaseException: What one of them raised first, once all have ended.
    """
    if len(tasks) == 1:
        tasks[0]()
        return
    errors: list[BaseException] = []

    def run(task: Callable[[], object]) -> None:
        try:
            task()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
