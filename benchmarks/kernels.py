"""How fast the kernels are: every one at several sizes against its peers, in one run.

    python -m benchmarks.kernels [--json FILE] [--only decode,argmax] [--quick]

Everything runs on one thread. The candidates of a case take turns, so that whatever else the
machine does hits them alike; a ratio is the median over the rounds of the peer's time over ours
in the same round. ``limit`` is what the
memory allows: ``copy`` moves as many bytes as the kernel has to move, ``read`` reads its input.
Peers come with the extra ``bench``; one that is missing is named, never left out in silence.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.kernels_cases import CASES
from benchmarks.kernels_peers import MISSING, limit_seconds_call
from benchmarks.timing import median_ratio
from fcnkit.runtime import build_info

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.kernels_cases import Case

SHORT = 0.002
"""Seconds: a faster call is repeated until it fills this time, and averaged."""


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Time one call, averaged over repeats in a row."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def take_turns(calls: dict[str, Callable[[], object]], budget: float) -> dict[str, list[float]]:
    """Time all calls in turn, for about budget seconds, at least five rounds."""
    first = {name: seconds(call, 1) for name, call in calls.items()}  # also warms up
    first = {name: min(first[name], seconds(call, 1)) for name, call in calls.items()}
    repeats = {name: max(1, int(SHORT / first[name])) for name in calls}
    per_round = sum(max(time, SHORT) for time in first.values())
    rounds = min(40, max(5, int(budget / per_round)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(seconds(call, repeats[name]))
    return found


def measure(case: Case, budget: float) -> dict[str, Any]:
    """Run one case; plain data for the table and the JSON file."""
    calls = {"fcnkit": case.ours, **case.peers}
    if case.limit:
        calls["limit"] = limit_seconds_call(case.limit, case.bytes)
    times = take_turns(calls, budget)
    ours = statistics.median(times["fcnkit"])
    return {
        "kernel": case.kernel,
        "size": case.size,
        "seconds": ours,
        "pixels_per_second": case.pixels / ours,
        "peers": {
            name: {
                "seconds": statistics.median(times[name]),
                "ratio": median_ratio(times[name], times["fcnkit"]),
            }
            for name in case.peers
        },
        "limit": case.limit,
        "limit_fraction": median_ratio(times["limit"], times["fcnkit"]) if case.limit else None,
    }


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    ratios = ", ".join(f"{name} {peer['ratio']:.1f}x" for name, peer in row["peers"].items())
    limit = f"{row['limit_fraction']:.2f} of {row['limit']}" if row["limit"] else ""
    speed = row["pixels_per_second"] / 1e6
    return (
        f"| {row['kernel']:<17} | {row['size']:<9} | {row['seconds'] * 1e3:8.3f} "
        f"| {speed:7.0f} | {limit:<12} | {ratios}"
    )


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "build": build_info(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "missing_peers": MISSING,
    }


def main() -> None:
    """Run the cases that were requested and print them as they come."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--only", default="", metavar="NAMES", help="kernels, joined by commas")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args()
    names = [name for name in options.only.split(",") if name]
    unknown = sorted(set(names) - {kernel for kernel, _ in CASES})
    if unknown:
        sys.exit(f"--only: no kernel {', '.join(unknown)}")
    info = machine()
    print(f"{info['build']['active']} of {info['build']['variants']}, one thread, numpy "
          f"{info['numpy']}; missing peers: {', '.join(MISSING) or 'none'}")  # fmt: skip
    print(
        "| kernel            | size      |       ms |    Mpx/s | limit        | beats\n"
        + "|---" * 6
    )
    rows = []
    for kernel, make in CASES:
        if not names or kernel in names:
            rows.append(measure(make(), 0.5 if options.quick else 3.0))
            print(line(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": info, "kernels": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
