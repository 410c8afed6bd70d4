"""Timing several ways of one task so that they can be compared on a noisy machine."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping

__all__ = ["alternate", "median_ratio"]


def alternate(
    tasks: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 2,
    settle: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Run every task once per round, so that a slow moment hits all of them alike.

    The order changes from round to round: a task pays for what the one before it left in the
    caches, and for the threads of that task's library, which still wait for work.

    Args:
        tasks: What to time, by name.
        rounds: Counted rounds.
        warmup: Rounds before them.
        settle: Calls of a task right before each counted one.
        clock: Returns seconds.

    Returns:
        Seconds of every counted run, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    order, shuffle = list(tasks.items()), random.Random(0).shuffle
    for number in range(warmup + rounds):
        shuffle(order)
        for name, task in order:
            for _ in range(settle):
                task()
            start = clock()
            task()
            if number >= warmup:
                seconds[name].append(clock() - start)
    return seconds


def median_ratio(slower: list[float], faster: list[float]) -> float:
    """Return the median over rounds of how many times longer one took than the other."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))
