"""The p99 of ``fcnkit bench latency --budget`` against a stopwatch around the same 1,000 calls.

``python -m benchmarks.budget MODEL [--shape 320x480]`` prints both, and fails where they are more
than 2 % apart. The stopwatch runs inside the clock of ``bench``, around each call of the segmenter,
so both time the same calls, one by one.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from fcnkit.cli.options import parse_size
from fcnkit.runtime import Segmenter, load
from fcnkit.runtime.bench.budget import Budget
from fcnkit.runtime.bench.calls import Effort
from fcnkit.runtime.bench.latency import measure_case

CALLS, WARMUP = 1000, 10
MOST = 0.02


class Watched:
    """A segmenter with a stopwatch around every call."""

    def __init__(self, inner: Segmenter) -> None:
        self._inner = inner
        self.nanoseconds: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __call__(self, *args: Any) -> Any:
        start = time.perf_counter_ns()
        labels = self._inner(*args)
        self.nanoseconds.append(time.perf_counter_ns() - start)
        return labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--shape")
    options = parser.parse_args()
    with load(options.model) as segmenter:
        watched: Any = Watched(segmenter)
        size = segmenter.spec.shapes.opt[1:]
        if options.shape is not None:
            size = parse_size(options.shape, "--shape")
        case = measure_case(
            watched,
            (1, *size),
            Effort(runs=CALLS, warmup=WARMUP),
            opened=(None, 0.0),
            stages=False,
            # Nothing keeps it, so that the search for a larger shape ends at once.
            budget=Budget(seconds=1e-9),
        )
    assert case.call is not None
    assert case.budget is not None
    # The search for a larger shape adds calls at the end.
    same = np.array(watched.nanoseconds[WARMUP : WARMUP + CALLS]) / 1e6
    behind = 1000 * case.call.seconds[:, 0] - same
    stopwatch, reported = float(np.percentile(same, 99)), 1000 * case.budget.seconds
    apart = abs(reported / stopwatch - 1)
    print(
        f"p99 of {len(behind)} calls: reported {reported:.4f} ms, stopwatch {stopwatch:.4f} ms, "
        f"{100 * apart:.3f} % apart; call by call, at most {behind.max():.4f} ms apart"
    )
    if apart > MOST:
        raise SystemExit(f"more than {100 * MOST:.0f} % apart")


if __name__ == "__main__":
    main()
