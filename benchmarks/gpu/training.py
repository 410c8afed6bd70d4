"""A training step of FCN-32s: ours in bfloat16 against that of the d2l.ai chapter."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from benchmarks.gpu.context import Context

__all__ = ["training"]


def training(context: Context) -> None:
    """Run ``python -m benchmarks.training``; on the GPU at two batch sizes."""
    for batch in (1,) if context.dry else (32, 4):
        context.attempt(f"batch {batch}", partial(_measured, context, batch))


def _measured(context: Context, batch: int) -> dict[str, Any]:
    result = context.folder / "training.json"
    size, rounds = ("64x96", "1") if context.dry else ("320x480", "15")
    words = ["-m", "benchmarks.training", "--device", context.device, "--json", str(result)]
    words += ["--batch", str(batch), "--size", size, "--rounds", rounds]
    context.python(*words, seconds=120)
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    found.pop("seconds")
    return found
