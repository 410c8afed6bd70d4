"""OpenVINO's own benchmark_app beside our compute stage, on the same file, shape and threads.

What is asked: within 5 %, by the median of the rounds.

    python -m benchmarks.bare_engine MODEL.onnx [--shape 1x320x480] [--threads 2] [--rounds 7]

The two take turns. What is compared is the median call: benchmark_app's synchronous one, its input
filled once, and ``backend.infer``, which ``fcnkit bench latency`` calls infer.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.options import parser_of, save
from benchmarks.timing import median_ratio
from fcnkit.runtime import open_backend
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from fcnkit.runtime.artifacts.precisions import NUMBER_TYPES, Compute, full_name
from fcnkit.runtime.artifacts.spec import Shape, parse_shape
from fcnkit.runtime.bench.calls import Effort
from fcnkit.runtime.bench.latency import measure_latency

_CODE = "from openvino.tools.benchmark.main import main; main()"


def benchmark_app(
    model: Path, shape: Shape, *, threads: int, compute: str, seconds: float
) -> tuple[float, float]:
    """Run benchmark_app; return the milliseconds of its median call and its calls per second."""
    spec = read_onnx_file(model).spec(where=str(model))
    count, height, width = shape
    dims = (count, 3, height, width) if spec.input.layout == "NCHW" else (count, height, width, 3)
    options = {
        "-m": str(model),
        "-d": "CPU",
        "-data_shape": str(list(dims)),
        "-hint": "none",
        "-nstreams": "1",
        "-nireq": "1",
        "-nthreads": str(threads),
        "-api": "sync",
        "-infer_precision": str(NUMBER_TYPES[compute].openvino),
        "-t": str(max(1, round(seconds))),
    }
    arguments = [word for pair in options.items() for word in pair]
    command = [sys.executable, "-c", _CODE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Median:\s+([\d.]+) (ms|us)", done.stdout)
    rate = re.search(r"Throughput:\s+([\d.]+) FPS", done.stdout)
    if done.returncode or not found or not rate:
        raise RuntimeError(f"benchmark_app failed: {done.stdout[-800:]} {done.stderr[-800:]}")
    return float(found[1]) / {"ms": 1, "us": 1000}[found[2]], float(rate[1])


def agreement(
    model: Path, shape: Shape, *, threads: int, compute: Compute, rounds: int, seconds: float
) -> dict[str, Any]:
    """Let both measure in turn; a ratio above 1 means that ours is slower."""
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(rounds):

        def measure_ours() -> None:
            # Opened anew each time, as benchmark_app does, so that memory lies elsewhere.
            with open_backend(
                model, backend="openvino", threads=threads, compute=compute
            ) as backend:
                series = measure_latency(backend, shape, Effort(duration=seconds))
            ours.append(1000 * float(np.median(series.seconds)))

        def measure_theirs() -> None:
            found = benchmark_app(model, shape, threads=threads, compute=compute, seconds=seconds)
            theirs.append(found[0])

        pair = (measure_ours, measure_theirs)
        for measure in pair if number % 2 else pair[::-1]:
            measure()
    return {
        "model": model.name,
        "shape": "x".join(map(str, shape)),
        "threads": threads,
        "compute": compute,
        "ours_ms": ours,
        "benchmark_app_ms": theirs,
        "ours_median_ms": statistics.median(ours),
        "benchmark_app_median_ms": statistics.median(theirs),
        "ratio": median_ratio(ours, theirs),
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--shape", default="1x320x480")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compute", action="append", type=full_name)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    shape = parse_shape(options.shape, "--shape")
    rows = [
        agreement(
            options.model,
            shape,
            threads=options.threads,
            compute=compute,
            rounds=options.rounds,
            seconds=options.seconds,
        )
        for compute in options.compute or ["fp32"]
    ]
    for row in rows:
        print(
            f"{row['model']} {row['shape']} {row['compute']} {row['threads']} threads: ours "
            f"{row['ours_median_ms']:.2f} ms, benchmark_app {row['benchmark_app_median_ms']:.2f} "
            f"ms, median ratio {row['ratio']:.3f}"
            f"{'' if 1 / 1.05 <= row['ratio'] <= 1.05 else ', not within 5 %'}"
        )
    save(rows, options.json)


if __name__ == "__main__":
    main()
