"""Files to files: one and several processes that share a folder of pictures and the GPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

from benchmarks.gpu.context import Context
from benchmarks.gpu.networks import exported, label_exports, pictures

__all__ = ["files", "measure_folder"]

WAYS: Final = ((1, 16, 8), (1, 8, 8), (2, 8, 8), (4, 4, 8), (4, 4, 16), (1, 4, 8))
"""Processes, workers of each, and images per batch; the most telling first."""
DRY_WAYS: Final = ((1, 2, 2), (2, 1, 2))


def files(context: Context) -> None:
    """Measure ``fcnkit predict``'s own function in fp32 and fp16."""
    for export in label_exports(context):
        path = context.opened(export.name, partial(exported, context.folder, export))
        if path is not None:
            measure_folder(context, path, context.backend, export.name)


def measure_folder(context: Context, model: Path, backend: str, name: str) -> None:
    """Time every split of the work over processes and workers."""
    count = 16 if context.dry else 3000
    pictures(context.folder, count)
    for processes, workers, batch in DRY_WAYS if context.dry else WAYS:
        key = f"{name}, {processes} processes x {workers} workers, batch {batch}"
        words = [str(model), backend, str(context.folder), str(count), str(workers), str(batch)]
        context.attempt(key, partial(_together, processes, words))


def _together(processes: int, words: list[str]) -> dict[str, Any]:
    """Start the processes, let them open and warm up, and time what they do at once."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu.folder_worker", *words]
    started = time.perf_counter()
    running = [
        subprocess.Popen(
            [*command, str(index), str(processes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(processes)
    ]
    try:
        for process in running:
            _line(process.stdout, "ready")
        opened = time.perf_counter() - started
        start = time.perf_counter()
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        found = [json.loads(_line(process.stdout, "{")) for process in running]
        spent = time.perf_counter() - start
    finally:
        for process in running:
            process.kill()
            process.wait()
    done = sum(item["done"] for item in found)
    return {
        "processes": processes,
        "workers": int(words[4]),
        "batch": int(words[5]),
        "done": done,
        "images_per_second": done / spent,
        "cpu_ms_per_image": 1000 * sum(item["cpu_seconds"] for item in found) / max(1, done),
        "open_seconds": opened,
    }


def _line(pipe: IO[str] | None, beginning: str) -> str:
    assert pipe is not None
    for line in pipe:  # libraries print too
        if line.startswith(beginning):
            return line
    raise RuntimeError("a process ended before it was done; its output says why")
