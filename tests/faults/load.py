"""Long use: mixed sizes for minutes, and many threads around one model each or shared."""

from __future__ import annotations

import ast
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np

import fcnkit
from fcnkit.runtime.spec import Head
from tests.faults.guarded import guarded
from tests.faults.table import Setting, Trial, promise
from tests.runtime.models import make_spec, write_model

GROWTH = 32e6
"""Bytes by which memory may differ between the second quarter of a run and the last: allocators
keep some of what they got."""


def soak(path: Path, seconds: float) -> dict[str, float]:
    """Label pictures of mixed sizes for so long; return what grew meanwhile.

    Returns:
        ``pictures``, ``wrong`` (results other than the first of the same picture), ``growth`` in
        bytes, ``slope`` in bytes per hour, ``files`` and ``threads`` more than after warming up.
    """
    random = np.random.default_rng(4)
    sizes = random.integers(1, 700, (40, 2)).tolist()
    pictures = [random.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    count = wrong = 0
    with fcnkit.load(path, threads=1) as segmenter:
        expected = [segmenter(picture) for picture in pictures]
        counts = _files(), threading.active_count()
        times, memory = [], []
        start = time.monotonic()
        while (now := time.monotonic() - start) < seconds or count < 2 * len(pictures):
            at = int(random.integers(len(pictures)))
            wrong += not np.array_equal(segmenter(pictures[at]), expected[at])
            count += 1
            times.append(now)
            memory.append(_resident())
        more = _files() - counts[0], threading.active_count() - counts[1]
    quarter = len(memory) // 4
    steady = slice(quarter, None)
    slope = np.polyfit(np.array(times[steady]), np.array(memory[steady], float), 1)[0]
    return {
        "pictures": count,
        "wrong": wrong,
        "growth": float(np.mean(memory[-quarter:]) - np.mean(memory[quarter : 2 * quarter])),
        "slope": float(slope * 3600),
        "files": more[0],
        "threads": more[1],
    }


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def _files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@promise("Long use keeps memory, open files and threads flat, and every result the same.")
def long_use(setting: Setting) -> Iterator[Trial]:
    place = setting.scratch("load")
    heads: tuple[Head, ...] = ("logits", "labels", "scene")
    for head in heads:
        path = write_model(place / f"{head}.onnx", make_spec(head))
        seconds = setting.soak / len(heads)
        answer = guarded(soak, path, seconds, seconds=seconds + 120)
        if answer.kind != "value":
            yield Trial(head, "hung" if answer.kind == "hung" else "wrong", answer.text)
            continue
        found = ast.literal_eval(answer.text)
        flat = found["growth"] < GROWTH and found["files"] <= 0 and found["threads"] <= 0
        same = found["wrong"] == 0
        text = f"{found['pictures']} pictures, {found['slope'] / 1e6:.1f} MB per hour"
        if setting.full:
            print(f"    {head}: {text}, {found['growth'] / 1e6:.2f} MB grown", flush=True)
        yield Trial(f"{head}: {text}", "kept" if flat and same else "wrong", answer.text)


def together(path: Path, threads: int, rounds: int, shared: bool) -> int:
    """Let threads label pictures with one model, or one each; return the wrong results."""
    random = np.random.default_rng(5)
    pictures = [random.integers(0, 256, (90 + 7 * i, 200, 3), np.uint8) for i in range(threads)]
    with fcnkit.load(path, threads=1) as segmenter:
        expected = [segmenter(picture) for picture in pictures]

        def work(number: int) -> int:
            wrong = 0
            with nullcontext(segmenter) if shared else fcnkit.load(path, threads=1) as own:
                for turn in range(rounds):
                    at = (number + turn) % threads
                    wrong += not np.array_equal(own(pictures[at]), expected[at])
            return wrong

        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(work, range(threads)))


@promise("Sixteen threads with a segmenter each, or one of ONNX Runtime's, give what one gives.")
def many_threads(setting: Setting) -> Iterator[Trial]:
    place = setting.scratch("threads")
    for head in ("logits", "labels", "scene"):
        path = write_model(place / f"{head}.onnx", make_spec(head))
        for shared in (False, True):
            rounds = 200 if setting.full else 10
            answer = guarded(together, path, 16, rounds, shared, seconds=300)
            right = (answer.kind, answer.text) == ("value", "0")
            case = f"{head}, {'one for all' if shared else 'one each'}"
            yield Trial(case, "kept" if right else "wrong", str(answer))
