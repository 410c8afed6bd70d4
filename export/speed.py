"""How much faster one exported model is than another, on this machine."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Final

import numpy as np

from fcnkit.runtime.backends.opening import open_backend

__all__ = ["measure_speedup"]

_ROUNDS: Final = 9


def measure_speedup(slow: Path, fast: Path, *, rounds: int = _ROUNDS) -> float:
    """Run two ONNX files of one head in turn in ONNX Runtime, at the spec's typical shape.

    Args:
        slow: The file to compare with.
        fast: The file in question.
        rounds: Counted runs of each; two more come before them.

    Returns:
        The median over the rounds of how many times longer the first one took.
    """
    with (
        open_backend(slow, backend="onnxruntime") as first,
        open_backend(fast, backend="onnxruntime") as second,
    ):
        given, (batch, height, width) = first.spec.input, first.spec.shapes.opt
        shape = {"N": batch, "C": 3, "H": height, "W": width}
        axes = [shape[axis] for axis in given.layout]
        random = np.random.default_rng(0)
        image = random.integers(0, 256, axes, np.uint8)
        if given.dtype == "float32":
            image = random.standard_normal(axes, np.float32)
        ratios = []
        for number in range(rounds + 2):
            seconds = []
            for backend in (first, second):
                start = time.perf_counter()
                backend.infer(image)
                seconds.append(time.perf_counter() - start)
            if number >= 2:
                ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)
