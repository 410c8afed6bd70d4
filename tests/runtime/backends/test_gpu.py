"""Every backend on a real GPU, and what the fake one cannot tell. Together well below 70 seconds.

Each test skips with the reason that opening gives: no driver, no GPU, or a library that is missing.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcnkit.errors import BackendUnavailableError, FcnkitError, MissingExtraError
from fcnkit.runtime import open_backend
from fcnkit.runtime.artifacts.engine_header import Flavor
from fcnkit.runtime.artifacts.spec import Head, Shape
from fcnkit.runtime.backends.base import CheckedBackend
from fcnkit.runtime.backends.cuda import BindingsDriver, open_driver
from fcnkit.runtime.backends.onnxruntime import check_provider
from fcnkit.runtime.backends.registry import BACKENDS
from fcnkit.runtime.backends.tensorrt_cache import cache_path
from fcnkit.runtime.backends.tensorrt_library import import_library
from fcnkit.runtime.bench.stages import DeviceTimed
from tests.runtime.models import make_spec, noise_batch, write_model, write_scene

pytestmark = [
    pytest.mark.gpu,
    # TensorRT-RTX calls plans unsupported on GPUs of data centers and runs them all the same.
    pytest.mark.filterwarnings("default::fcnkit.errors.ModelWarning"),
]

UNFIT = (BackendUnavailableError, MissingExtraError)
HEADS: tuple[Head, ...] = ("labels", "logits", "scores", "scene")
OF_ONNX = ("onnxruntime-cuda", "onnxruntime-tensorrt")
OF_ENGINES = [pytest.param("tensorrt", marks=pytest.mark.tensorrt), "tensorrt-rtx"]


def shapes_of(head: Head) -> list[Shape]:
    """More shapes than a slot keeps contexts, each again often enough to become a graph."""
    if head == "scene":
        return [(1, 64, 64), (1, 47, 65), (1, 32, 90), (1, 64, 64), (1, 33, 33), (1, 47, 65)] * 3
    return [(1, 32, 32), (2, 64, 96), (4, 128, 64), (1, 96, 96), (1, 32, 64), (1, 32, 32)] * 3


def write(folder: Path, head: Head) -> Path:
    path = folder / f"{head}.onnx"
    return write_scene(path) if head == "scene" else write_model(path, make_spec(head))


def compare(gpu: CheckedBackend, cpu: CheckedBackend, head: Head) -> None:
    """Streams, single calls and timed calls give what the CPU gives."""
    batches = [noise_batch(cpu.spec, shape) for shape in shapes_of(head)]
    wanted = [cpu.infer(batch) for batch in batches]
    for result, expected in zip(gpu.stream(batches), wanted, strict=True):
        agree(result, expected)
    for batch, expected in zip(batches, wanted, strict=True):
        agree(gpu.infer(batch), expected)
    assert isinstance(gpu, DeviceTimed)
    result, seconds = gpu.infer_timed(batches[0])
    agree(result, wanted[0])
    assert all(part >= 0 for part in seconds)
    assert sum(seconds) > 0


def agree(result: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    if result.ndim == 4:
        np.testing.assert_allclose(result, expected, atol=0.02)
    else:
        assert (result == expected).mean() > 0.999


@pytest.fixture
def driver() -> Iterator[BindingsDriver]:
    try:
        opened = open_driver(extra="gpu")
    except UNFIT as error:
        pytest.skip(str(error))
    opened.activate()
    yield opened
    assert opened.lost == ""


@pytest.mark.parametrize("name", OF_ONNX)
@pytest.mark.parametrize("head", HEADS)
def test_onnxruntime_gives_what_the_cpu_gives(tmp_path: Path, name: str, head: Head) -> None:
    path = write(tmp_path, head)
    options = {}
    if name == "onnxruntime-tensorrt":
        # A small profile, for the engine is built here and now.
        sides = "3x{0}x{0}" if head in ("logits", "scores") else "{0}x{0}x3"
        batch = 1 if head == "scene" else 4
        low, high = sides.format(32), sides.format(128)
        options = {
            "trt_profile_min_shapes": f"image:1x{low}",
            "trt_profile_opt_shapes": f"image:1x{low}",
            "trt_profile_max_shapes": f"image:{batch}x{high}",
        }
    try:
        check_provider(name)
        open_driver(extra=BACKENDS[name].extra)
        gpu = open_backend(path, backend=name, options=options)
    except UNFIT as error:
        if "must run the whole network" in str(error):
            raise
        pytest.skip(str(error))
    with gpu, open_backend(path, backend="onnxruntime") as cpu:
        assert "cuda:0" in gpu.info.device_name
        compare(gpu, cpu, head)


@pytest.mark.parametrize("flavor", OF_ENGINES)
@pytest.mark.parametrize("head", HEADS)
def test_an_engine_gives_what_the_cpu_gives(tmp_path: Path, flavor: Flavor, head: Head) -> None:
    try:
        open_driver(extra=flavor)
        import_library(flavor, what="test")
    except UNFIT as error:
        pytest.skip(str(error))
    from fcnkit.export.engine import build_engine
    from fcnkit.export.engine_profiles import ProfileRequest

    model, path = write(tmp_path, head), tmp_path / "m.engine"
    largest = (1 if head == "scene" else 4, 128, 128)
    report = build_engine(model, path, flavor=flavor, profiles=[ProfileRequest(max=largest)])
    assert report.check.verified is not None, report.check.reason
    assert not cache_path(path).exists()
    with open_backend(model, backend="onnxruntime") as cpu:
        for _ in range(2):  # the second time with the kernels that the first has kept
            with open_backend(path) as engine:
                assert engine.name == flavor
                compare(engine, cpu, head)
            assert cache_path(path).exists() is (flavor == "tensorrt-rtx")


def test_an_engine_for_the_gpu_that_is_here(tmp_path: Path) -> None:
    try:
        open_driver(extra="tensorrt-rtx")
        import_library("tensorrt-rtx", what="test")
    except UNFIT as error:
        pytest.skip(str(error))
    from fcnkit.export.engine import build_engine
    from fcnkit.runtime.artifacts.engine_file import BuilderOptions

    model, path = write(tmp_path, "labels"), tmp_path / "m.engine"
    options = BuilderOptions(compute_capability=("current",))
    report = build_engine(model, path, flavor="tensorrt-rtx", options=options)
    assert report.check.verified is not None, report.check.reason


def test_another_thread_runs_a_backend_that_this_one_opened(tmp_path: Path) -> None:
    path = write(tmp_path, "labels")
    try:
        check_provider("onnxruntime-cuda")
        gpu = open_backend(path, backend="onnxruntime-cuda")
    except UNFIT as error:
        pytest.skip(str(error))
    found: list[Any] = []
    with gpu, open_backend(path, backend="onnxruntime") as cpu:
        batches = [noise_batch(cpu.spec, (1, 32, 32))] * 5
        stream = gpu.stream(batches)
        found.append(next(stream))
        thread = threading.Thread(target=lambda: found.extend([*stream, gpu.infer(batches[0])]))
        thread.start()
        thread.join()
        assert len(found) == 6
        for result in found:
            agree(result, cpu.infer(batches[0]))


def test_a_spoiled_capture_leaves_the_stream_usable(driver: BindingsDriver) -> None:
    stream, device, host = driver.create_stream(), driver.malloc(64), driver.malloc_host(64)
    driver.begin_capture(stream)
    driver.upload(device, host, 64, stream)
    with pytest.raises(FcnkitError, match="cudaStreamSynchronize must succeed"):
        driver.drain(stream)
    with pytest.raises(FcnkitError, match="cudaErrorStreamCaptureInvalidated"):
        driver.end_capture(stream)
    driver.upload(device, host, 64, stream)
    driver.drain(stream)
    driver.free(device)
    driver.free_host(host)
    driver.destroy_stream(stream)


def test_memory_that_is_not_there_costs_only_the_call(driver: BindingsDriver) -> None:
    free = driver.free_bytes()
    assert free > 0
    with pytest.raises(FcnkitError, match=r"cudaErrorMemoryAllocation .*; free memory on the GPU"):
        driver.malloc(1 << 50)
    assert driver.lost == ""
    address = driver.malloc(256)
    assert address % 256 == 0  # as TensorRT's contexts need it
    driver.free(address)


def test_only_timers_have_a_time(driver: BindingsDriver) -> None:
    stream = driver.create_stream()
    plain, first, second = driver.create_event(), driver.create_timer(), driver.create_timer()
    for event in (plain, first, second):
        driver.record(event, stream)
    driver.drain(stream)
    assert driver.elapsed(first, second) >= 0
    with pytest.raises(FcnkitError, match="cudaEventElapsedTime must succeed"):
        driver.elapsed(plain, second)
    for event in (plain, first, second):
        driver.destroy_event(event)
    driver.destroy_stream(stream)


_LOSE_THE_GPU = """
    import sys
    from fcnkit.runtime import open_backend
    from fcnkit.runtime.backends.cuda import GpuLostError
    from tests.runtime.models import noise_batch

    backend = open_backend(sys.argv[1], backend="onnxruntime-cuda")
    batch = noise_batch(backend.spec, (1, 32, 32))
    backend.infer(batch)
    slot = backend._take()
    slot._work_for(batch.shape).enqueue(
        batch.shape, source=1 << 12, target=1 << 12, stream=slot._stream
    )
    backend._idle.append(slot)
    for _ in range(2):
        try:
            backend.infer(batch)
        except GpuLostError as error:
            print(error)
        else:
            raise SystemExit("the GPU read an address that is none, and did not mind")
    backend.close()
    print("closed")
"""


def test_a_gpu_that_is_lost_is_said_and_closing_goes_on(tmp_path: Path) -> None:
    """In another process, which cannot use the GPU afterwards."""
    path = write(tmp_path, "labels")
    try:
        check_provider("onnxruntime-cuda")
        open_driver(extra="gpu")
    except UNFIT as error:
        pytest.skip(str(error))
    code = textwrap.dedent(_LOSE_THE_GPU)
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code, path], cwd=root, capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert all(line.endswith("; start a new process") for line in lines[:2])
    assert lines[2] == "closed"
