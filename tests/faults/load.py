"""Long use: mixed sizes for minutes, and many threads around one model each or shared."""

from __future__ import annotations

import ast
import itertools
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np

import fcnkit
from fcnkit.runtime.artifacts.spec import Head
from tests.faults.guarded import guarded
from tests.faults.outputs import save_good
from tests.faults.table import Setting, Trial, promise
from tests.runtime.models import make_spec, write_model

GROWTH = 32e6
"""Bytes by which memory may differ between the second quarter of a run and the last: allocators
keep some of what they got."""


SAMPLES = 500
"""Of the memory, over the whole time."""

HEADS: tuple[Head, ...] = ("logits", "scores", "labels", "scene")
BACKENDS = ("onnxruntime", "openvino")
"""For ONNX files on any machine; PyTorch's runs the checkpoint."""


def soak(path: Path, backend: str, seconds: float) -> dict[str, float]:
    """Label pictures of mixed sizes for so long; return what grew meanwhile.

    Returns:
        ``pictures``, ``wrong`` (results other than the first of the same picture), ``growth`` in
        bytes, ``slope`` in bytes per hour, ``files``, ``threads`` of Python and ``tasks``, the
        system's threads, more than after warming up.
    """
    random = np.random.default_rng(4)
    sizes = random.integers(1, 700, (40, 2)).tolist()
    pictures = [random.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    count = wrong = 0
    with fcnkit.load(path, backend=backend, threads=1) as segmenter:
        expected = [segmenter(picture) for picture in pictures]
        counts = _counts()
        times, memory = [], []
        start = time.monotonic()
        while (now := time.monotonic() - start) < seconds or count < 2 * len(pictures):
            at = int(random.integers(len(pictures)))
            wrong += not np.array_equal(segmenter(pictures[at]), expected[at])
            count += 1
            # A sample per picture would itself be what grows, by tens of megabytes an hour.
            if now >= len(times) * seconds / SAMPLES:
                times.append(now)
                memory.append(_resident())
        more = {name: now - counts[name] for name, now in _counts().items()}
    quarter = len(memory) // 4
    steady = slice(quarter, None)
    slope = np.polyfit(np.array(times[steady]), np.array(memory[steady], float), 1)[0]
    return {
        "pictures": count,
        "wrong": wrong,
        "growth": float(np.mean(memory[-quarter:]) - np.mean(memory[quarter : 2 * quarter])),
        "slope": float(slope * 3600),
        **more,
    }


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def _counts() -> dict[str, int]:
    files, tasks = (len(list(Path(f"/proc/self/{kind}").iterdir())) for kind in ("fd", "task"))
    return {"files": files, "threads": threading.active_count(), "tasks": tasks}


@promise("Long use keeps memory, open files and threads flat, and every result the same.")
def long_use(setting: Setting) -> Iterator[Trial]:
    place = setting.scratch("load")
    for backend, head in itertools.product(BACKENDS, HEADS):
        path = write_model(place / f"{head}.onnx", make_spec(head))
        seconds = setting.soak / len(BACKENDS) / len(HEADS)
        case = f"{backend}, {head}"
        answer = guarded(soak, path, backend, seconds, seconds=seconds + 120)
        if answer.kind != "value":
            yield Trial(case, "hung" if answer.kind == "hung" else "wrong", answer.text)
            continue
        found = ast.literal_eval(answer.text)
        flat = found["growth"] < GROWTH
        none_left = all(found[name] <= 0 for name in ("files", "threads", "tasks"))
        same = found["wrong"] == 0
        text = f"{found['pictures']} pictures, {found['slope'] / 1e6:.1f} MB per hour"
        if setting.full:
            print(f"    {case}: {text}, {found['growth'] / 1e6:.2f} MB grown", flush=True)
        kept = flat and none_left and same
        yield Trial(f"{case}: {text}", "kept" if kept else "wrong", answer.text)


def together(path: Path, backend: str, threads: int, rounds: int, shared: bool) -> int:
    """Let threads label pictures with one model, or one each; return the wrong results."""
    random = np.random.default_rng(5)
    pictures = [random.integers(0, 256, (90 + 7 * i, 200, 3), np.uint8) for i in range(threads)]
    opened = partial(fcnkit.load, path, backend=backend, threads=1)
    with opened() as segmenter:
        expected = [segmenter(picture) for picture in pictures]

        def work(number: int) -> int:
            wrong = 0
            with nullcontext(segmenter) if shared else opened() as own:
                for turn in range(rounds):
                    at = (number + turn) % threads
                    wrong += not np.array_equal(own(pictures[at]), expected[at])
            return wrong

        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(work, range(threads)))


@promise("Sixteen threads give what one gives, with a segmenter each or one for all.")
def many_threads(setting: Setting) -> Iterator[Trial]:
    place = setting.scratch("threads")
    models = [write_model(place / f"{head}.onnx", make_spec(head)) for head in HEADS]
    save_good(place / "best.pt")
    ways = [*itertools.product(BACKENDS, models), ("torch", place / "best.pt")]
    for (backend, path), shared in itertools.product(ways, (False, True)):
        # A whole ResNet, sixteen times over, is slow.
        full, short = ((16, 20), (4, 2)) if backend == "torch" else ((16, 200), (16, 3))
        threads, rounds = full if setting.full else short
        answer = guarded(together, path, backend, threads, rounds, shared, seconds=300)
        right = (answer.kind, answer.text) == ("value", "0")
        case = f"{backend}, {path.stem}, {'one for all' if shared else 'one each'}"
        outcome = "hung" if answer.kind == "hung" else "kept" if right else "wrong"
        yield Trial(case, outcome, str(answer))
