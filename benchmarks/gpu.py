"""Everything that needs an NVIDIA GPU, in one command: the tests marked gpu, and the times.

    python -m benchmarks.gpu -o gpu.json [CHECKPOINT] [--shape NxHxW]... [--seconds S]

Nobody has run this yet: the project has had no GPU. It is here so that the first who has one
learns in one go what works. What fails is written down with its error and does not stop the rest.

For every head and shape it times the backends that open: a single call, and a stream of the same
batches. TensorRT engines are built on the spot, one of each flavour that is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from itertools import repeat
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from benchmarks.backends import HEADS, noise, untrained
from fcnkit.errors import FcnkitError
from fcnkit.export.engine import build_engine
from fcnkit.export.to_onnx import export_onnx
from fcnkit.runtime import list_backends, open_backend
from fcnkit.runtime.artifacts.engine_header import Flavor
from fcnkit.runtime.artifacts.spec import Head, Shape, format_shape, parse_shape
from fcnkit.runtime.backends.base import CheckedBackend
from fcnkit.runtime.backends.cuda import open_driver
from fcnkit.train.backend import open_checkpoint

FLAVORS: tuple[Flavor, ...] = ("tensorrt", "tensorrt-rtx")
ROOT = Path(__file__).resolve().parent.parent


def run_tests(folder: Path) -> dict[str, Any]:
    """Run ``pytest -m gpu`` and return its counts and the names of what failed."""
    report = folder / "gpu.xml"
    command = [sys.executable, "-m", "pytest", "-m", "gpu", f"--junitxml={report}", "-q"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if not report.exists():
        raise RuntimeError(f"pytest left no report: {done.stdout[-4000:]} {done.stderr[-4000:]}")
    cases = list(ET.parse(report).iter("testcase"))
    failed = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    skipped = sum(case.find("skipped") is not None for case in cases)
    passed = len(cases) - len(failed) - skipped
    return {
        "exit_code": done.returncode,
        "passed": passed,
        "skipped": skipped,
        "failed": failed,
        "output": done.stdout[-20000:],
    }


def openers(checkpoint: Path, model: Path, head: Head) -> dict[str, Callable[[], CheckedBackend]]:
    """What can run a head, by name; opening may fail."""

    def engine(flavor: Flavor) -> CheckedBackend:
        path = model.with_name(f"{model.stem}-{flavor}.engine")
        build_engine(model, path, flavor=flavor)
        return open_backend(path)

    found: dict[str, Callable[[], CheckedBackend]] = {
        flavor: lambda flavor=flavor: engine(flavor)  # type: ignore[misc]
        for flavor in FLAVORS
    }
    for name in ("onnxruntime-tensorrt", "onnxruntime-cuda"):
        found[name] = lambda name=name: open_backend(model, backend=name)  # type: ignore[misc]
    if head == "logits":
        found["torch"] = lambda: open_checkpoint(checkpoint, device="cuda")
    return found


def measure(backend: CheckedBackend, shape: Shape, seconds: float) -> dict[str, Any]:
    """Time single calls one by one, then a stream as a whole."""
    batch = noise(backend, shape)
    # Graphs are captured at a shape's second call; TensorRT-RTX compiles its kernels meanwhile.
    warm_until = time.perf_counter() + seconds / 2
    while time.perf_counter() < warm_until:
        backend.infer(batch)
    calls = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        backend.infer(batch)
        calls.append(1000 * (time.perf_counter() - start))
    count = max(8, int(1000 * seconds / statistics.median(calls)))
    for _ in backend.stream(repeat(batch, 16)):
        pass
    start = time.perf_counter()
    for _ in backend.stream(repeat(batch, count)):
        pass
    rate = count * shape[0] / (time.perf_counter() - start)
    return {
        "call_ms": {"median": statistics.median(calls), "min": min(calls), "max": max(calls)},
        "calls": len(calls),
        "stream_images_per_second": rate,
        "details": backend.details,
    }


def attempt(work: Callable[[], Any]) -> Any:
    """Return what came of it, or the error: one that fails must not cost the others."""
    try:
        return work()
    except Exception as error:
        trace = traceback.format_exc()
        return {"error": f"{type(error).__name__}: {error}", "trace": trace}


Keep = Callable[[str, Any], None]


def times(checkpoint: Path, folder: Path, shapes: list[Shape], seconds: float, keep: Keep) -> None:
    """Time everything; what is found is kept at once, for a library may end the process."""
    for head in HEADS:
        model = folder / f"{head}.onnx"
        exported = attempt(lambda: export_onnx(checkpoint, model, head=head))  # noqa: B023
        if isinstance(exported, dict):
            keep(head, exported)
            continue
        for name, opener in openers(checkpoint, model, head).items():
            print(f"{head} on {name}", file=sys.stderr)
            backend = attempt(opener)
            if isinstance(backend, dict):
                keep(f"{head} {name}", backend)
                continue
            for shape in shapes:
                if head == "scene" and shape[0] > 1:
                    continue
                key = f"{head} {name} {format_shape(shape)}"
                keep(key, attempt(lambda: measure(backend, shape, seconds)))  # noqa: B023
            closed = attempt(backend.close)
            if closed is not None:
                keep(f"{head} {name} close", closed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--shape", action="append")
    parser.add_argument("--seconds", type=float, default=5.0, help="per way and shape")
    options = parser.parse_args()
    texts = options.shape or ["1x320x480", "8x320x480", "1x1024x1024"]
    shapes = [parse_shape(text, "--shape") for text in texts]
    try:  # before anything takes minutes
        driver = open_driver(extra="tensorrt")
    except FcnkitError as error:
        parser.exit(2, f"error: {error}\n")
    found: dict[str, Any] = {
        "gpu": driver.name,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "backends": [asdict(status) for status in list_backends()],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found["tests"], found["times"] = attempt(lambda: run_tests(folder)), {}

        def keep(key: str, value: Any) -> None:
            found["times"][key] = value
            options.out.write_text(json.dumps(found, indent=2), encoding="utf-8")

        checkpoint = options.checkpoint or untrained(folder)
        times(checkpoint, folder, shapes, options.seconds, keep)
    for key, value in found["times"].items():
        line = value.get("error") if isinstance(value, dict) else value
        if isinstance(value, dict) and "call_ms" in value:
            line = (
                f"{value['call_ms']['median']:.3f} ms a call, "
                f"{value['stream_images_per_second']:.1f} images/s in a stream"
            )
        print(f"{key:44} {line}")


if __name__ == "__main__":
    main()
