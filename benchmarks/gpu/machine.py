"""Stages about the machine: what it is, copies and waiting, and the tests that need a GPU."""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from benchmarks.gpu.context import Context
from fcnkit.runtime.backends.cuda import CudaDriver, open_driver
from fcnkit.runtime.bench.environment import describe_environment

PACKAGES = (
    "torch",
    "torchvision",
    "cuda-bindings",
    "numpy",
    "pillow",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt_rtx_cu12_libs",
    "tensorrt_rtx_cu13_libs",
    "nvidia-cudnn-cu13",
    "fcnkit",
)
COPIED = 64 << 20
ROOT = Path(__file__).resolve().parents[2]


def environment(context: Context) -> None:
    """Name the machine and everything installed that matters."""
    context.attempt("fcnkit's own report", describe_environment)
    context.attempt("packages", lambda: {name: _version(name) for name in PACKAGES})
    context.attempt("doctor", lambda: _doctor(context))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _doctor(context: Context) -> str:
    """What ``fcnkit doctor`` says; in another process, for a library may crash."""
    code = "import sys; from fcnkit.cli import main; sys.argv[1:] = ['doctor']; main()"
    return context.printed(sys.executable, "-W", "ignore", "-c", code)


def copies(context: Context) -> None:
    """Measure copies, what waiting costs, and whether it stops other threads."""
    driver = open_driver(extra="gpu")
    driver.activate()
    lane = _Lane(driver, COPIED)
    context.attempt("host to device", lambda: lane.rate(lane.upload))
    context.attempt("device to host", lambda: lane.rate(lane.download))
    context.attempt("wait for an event", lambda: lane.waiting(lane.synchronize))
    context.attempt("wait for a stream", lambda: lane.waiting(lane.drain))
    context.attempt("speed of another thread while one waits", lane.untouched)


class _Lane:
    """A stream with page-locked memory at one end and the device's at the other."""

    def __init__(self, driver: CudaDriver, size: int) -> None:
        self.driver, self.size = driver, size
        self.host, self.device = driver.malloc_host(size), driver.malloc(size)
        self.stream, self.event = driver.create_stream(), driver.create_event()

    def upload(self, size: int | None = None) -> None:
        self.driver.upload(self.device, self.host, size or self.size, self.stream)

    def download(self) -> None:
        self.driver.download(self.host, self.device, self.size, self.stream)

    def synchronize(self) -> None:
        self.driver.record(self.event, self.stream)
        self.driver.synchronize(self.event)

    def drain(self) -> None:
        self.driver.drain(self.stream)

    def rate(self, copy: Callable[[], None], times: int = 10) -> dict[str, float]:
        """GB/s by the device's own clock."""
        first, last = self.driver.create_timer(), self.driver.create_timer()
        for _ in range(3):
            copy()
        self.driver.record(first, self.stream)
        for _ in range(times):
            copy()
        self.driver.record(last, self.stream)
        self.drain()
        return {"gb_per_second": times * self.size / self.driver.elapsed(first, last) / 1e9}

    def waiting(self, wait: Callable[[], None], times: int = 300) -> dict[str, float]:
        """Microseconds of a 4 KiB copy and the wait for it."""
        spent = []
        for _ in range(times):
            start = time.perf_counter()
            self.upload(4096)
            wait()
            spent.append(1e6 * (time.perf_counter() - start))
        return {"median_us": statistics.median(spent), "p99_us": sorted(spent)[int(times * 0.99)]}

    def untouched(self) -> dict[str, float]:
        """A Python thread's speed while this one waits, as a share of its speed alone.

        Below 0.5, waiting holds the interpreter's lock and stops the decoding threads.
        """
        counts = [0]
        stop = threading.Event()

        def count() -> None:
            while not stop.is_set():
                counts[0] += 1

        thread = threading.Thread(target=count)
        thread.start()
        try:
            busy = _speed(counts, self._copy_and_wait)
            alone = _speed(counts, lambda: time.sleep(0.3))
        finally:
            stop.set()
            thread.join()
        return {"share": busy / alone}

    def _copy_and_wait(self) -> None:
        for _ in range(20):
            for _ in range(20):
                self.upload()
            self.synchronize()


def _speed(counts: list[int], work: Callable[[], None]) -> float:
    before, start = counts[0], time.perf_counter()
    work()
    return (counts[0] - before) / (time.perf_counter() - start)


def tests(context: Context) -> None:
    """Run ``pytest -m gpu``, in the files that hold such a test."""
    context.attempt("pytest -m gpu", lambda: _pytest(context))


def _pytest(context: Context) -> dict[str, Any]:
    marked = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "pytest.mark.gpu" in path.read_text(encoding="utf-8")
    ]
    report = context.folder / "gpu-tests.xml"
    # Warnings are not errors here: the machine's versions are not those of constraints.txt.
    calm = ("-W", "default", "-o", "filterwarnings=", "-p", "no:cacheprovider")
    command = (
        sys.executable,
        "-m",
        "pytest",
        "-v",
        "-m",
        "gpu",
        *calm,
        f"--junitxml={report}",
        *marked,
    )
    # Its output goes to the stage's own, which says where it was if a library ends the process.
    done = subprocess.run(command, cwd=ROOT, check=False)
    if not report.exists():
        raise RuntimeError(f"pytest ended with {done.returncode} and left no report")
    return _counts(report)


def _counts(report: Path) -> dict[str, Any]:
    cases = list(ET.parse(report).iter("testcase"))
    named = {f"{case.get('classname')}::{case.get('name')}": case for case in cases}

    def having(*tags: str) -> list[str]:
        return [n for n, case in named.items() if any(case.find(t) is not None for t in tags)]

    failed, skipped = having("failure", "error"), having("skipped")
    passed = len(named) - len(failed) - len(skipped)
    return {"passed": passed, "failed": failed, "skipped": skipped}
