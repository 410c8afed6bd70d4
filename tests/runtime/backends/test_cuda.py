"""The GPU pipeline on a GPU made of numpy, and the real driver as far as it goes without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from fcnkit.errors import BackendUnavailableError, FcnkitError, MissingExtraError
from fcnkit.runtime.artifacts.spec import Head, Shape
from fcnkit.runtime.backends import OnnxRuntimeBackend
from fcnkit.runtime.backends.cuda import BindingsDriver, has_driver, host_view, open_driver
from fcnkit.runtime.backends.cuda_backend import CudaBackend
from fcnkit.runtime.backends.cuda_slot import Slot
from fcnkit.runtime.backends.onnxruntime_cuda import OnnxRuntimeExecutor
from fcnkit.runtime.bench.stages import DeviceTimed
from tests.refusal import refusal
from tests.runtime.fake_cuda import FakeCuda, FakeExecutor
from tests.runtime.models import make_spec, noise_batch, write_model

SHAPES: tuple[Shape, ...] = ((1, 32, 32), (2, 64, 32), (1, 32, 96), (1, 64, 64))


class Bench:
    """A network on a fake GPU beside the same network on the CPU."""

    def __init__(self, folder: Path, head: Head, *, graphs: int = 8, **settings: Any) -> None:
        path = write_model(folder / f"{head}.onnx", make_spec(head))
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.cpu = OnnxRuntimeBackend(path, threads=1)
        self.cuda = FakeCuda(**settings)
        self.cuda.activate()  # whoever opens a backend does
        self.cuda.calls.clear()
        self.executor = FakeExecutor(self.session, self.cpu.spec, self.cuda)
        self.gpu = CudaBackend(self.cuda, self.executor, name="fake", details={}, graphs=graphs)

    def batches(self, shapes: Any) -> list[np.ndarray]:
        batches = [noise_batch(self.cpu.spec, shape) for shape in shapes]
        return [np.roll(batch, index + 1, 1) for index, batch in enumerate(batches)]

    def close(self) -> None:
        self.gpu.close()
        self.cpu.close()
        assert self.cuda.alive == 0
        assert self.executor.freed


@pytest.fixture(params=["labels", "logits"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, request.param)
    yield made
    made.close()


def test_a_batch_gives_what_the_cpu_gives(bench: Bench) -> None:
    for batch in bench.batches(SHAPES * 3):
        result = bench.gpu.infer(batch)
        assert result.dtype == bench.cpu.spec.output.dtype
        np.testing.assert_array_equal(result, bench.cpu.infer(batch))
        result[:] = 0  # the caller's own


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("own_stream", [True, False])
def test_a_stream_gives_the_same_in_any_legal_order_of_the_gpu(
    tmp_path: Path, seed: int, own_stream: bool
) -> None:
    bench = Bench(tmp_path, "labels", seed=seed)
    if own_stream:  # as ONNX Runtime, which computes on a stream that it was given
        bench.executor.stream = bench.cuda.create_stream()
    random = np.random.default_rng(seed)
    batches = bench.batches([SHAPES[i] for i in random.integers(0, len(SHAPES), 24)])
    expected = [bench.cpu.infer(batch) for batch in batches]
    results = list(bench.gpu.stream(iter(batches)))
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, wanted)
    if own_stream:
        assert bench.cuda.calls.count("wait") == 2 * len(batches)
        bench.cuda.destroy_stream(bench.executor.stream or 0)
        assert "launch" not in bench.cuda.calls
    bench.close()


def test_a_missing_wait_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not labels: values that are none would be refused before they could be compared.
    bench = Bench(tmp_path, "logits", seed=1)
    bench.executor.stream = bench.cuda.create_stream()
    monkeypatch.setattr(bench.cuda, "wait", lambda _stream, _event: None)
    batches = bench.batches(SHAPES * 2)
    expected = [bench.cpu.infer(batch) for batch in batches]
    results = list(bench.gpu.stream(batches))
    pairs = zip(results, expected, strict=True)
    assert not all(np.array_equal(result, wanted) for result, wanted in pairs)


def test_copies_of_one_batch_are_queued_before_the_result_of_another_is_waited_for(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, "labels", graphs=0)
    list(bench.gpu.stream(bench.batches([(1, 32, 32)] * 5)))
    wanted = ["upload", "download", "record"]
    order = [call for call in bench.cuda.calls if call in (*wanted, "synchronize")]
    assert order == wanted * 3 + ["synchronize", *wanted] * 2 + ["synchronize"] * 3
    assert len(bench.cuda.streams) == 3
    assert len(bench.executor.alive) == 3
    bench.close()


def test_a_single_call_needs_one_slot(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "labels")
    for batch in bench.batches([(1, 32, 32)] * 4):
        bench.gpu.infer(batch)
    assert len(bench.cuda.streams) == 1
    assert bench.cuda.calls.count("malloc_host") == 2
    bench.close()


@pytest.mark.parametrize("own_stream", [True, False])
def test_timers_lie_between_the_parts_of_a_batch(tmp_path: Path, own_stream: bool) -> None:
    bench = Bench(tmp_path, "labels", seed=3)
    if own_stream:
        bench.executor.stream = bench.cuda.create_stream()
    assert isinstance(bench.gpu, DeviceTimed)
    for batch in bench.batches(SHAPES * 2):
        result, seconds = bench.gpu.infer_timed(batch)
        np.testing.assert_array_equal(result, bench.cpu.infer(batch))
        assert seconds == (1.0, 1.0, 1.0)  # the fake GPU's clock counts copies and networks
    assert "launch" not in bench.cuda.calls
    bench.cuda.fail["download"] = 0
    with refusal(FcnkitError, "GPU 0: download must succeed, got a failure; see the test"):
        bench.gpu.infer_timed(batch)
    bench.cuda.fail.clear()
    np.testing.assert_array_equal(bench.gpu.infer(batch), bench.cpu.infer(batch))
    if own_stream:
        bench.cuda.destroy_stream(bench.executor.stream or 0)
    bench.close()


# --- graphs --------------------------------------------------------------------------------------


def test_the_third_batch_of_a_shape_is_one_launch(bench: Bench) -> None:
    batches = bench.batches([(1, 32, 32)] * 4)
    for index, batch in enumerate(batches):
        bench.cuda.calls.clear()
        np.testing.assert_array_equal(bench.gpu.infer(batch), bench.cpu.infer(batch))
        if index == 1:
            assert bench.cuda.calls.count("begin_capture") == 1
        if index > 1:
            assert [call for call in bench.cuda.calls if call != "activate"] == [
                *("launch", "record", "synchronize"),
            ]


def test_the_least_recently_used_graph_goes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "labels")
    slot = Slot(bench.cuda, bench.executor, graphs=2)
    a, b, c = (noise_batch(bench.cpu.spec, shape) for shape in SHAPES[1:])

    def run(*batches: np.ndarray) -> None:
        for batch in batches:
            slot.submit(batch)
            np.testing.assert_array_equal(slot.collect(), bench.cpu.infer(batch))

    run(a, b, c)
    assert slot.graphs == ()
    run(a, b)
    assert slot.graphs == (a.shape, b.shape)
    run(a)
    assert slot.graphs == (b.shape, a.shape)
    run(c)
    assert slot.graphs == (a.shape, c.shape)
    assert len(bench.cuda.graphs) == 2
    assert len(bench.executor.alive) == 3  # one per graph, for TensorRT wants it so, and one
    run(b, a, c)
    slot.free()
    bench.close()


def test_growing_buffers_drop_the_graphs_that_hold_their_addresses(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "labels")
    small, large = bench.batches([(1, 32, 32), (2, 96, 96)])
    for batch in (small, small, small, large, small, small, large, large, small):
        np.testing.assert_array_equal(bench.gpu.infer(batch), bench.cpu.infer(batch))
    assert bench.cuda.calls.count("malloc_host") == 4
    assert len(bench.cuda.graphs) == 2
    bench.close()


def test_without_graphs_nothing_is_captured(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "labels", graphs=0)
    for batch in bench.batches([(1, 32, 32)] * 4):
        bench.gpu.infer(batch)
    assert "begin_capture" not in bench.cuda.calls
    bench.close()


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [
        *("malloc_host", "malloc", "create_stream", "create_event", "upload", "download"),
        *("record", "launch", "synchronize"),
    ],
)
@pytest.mark.parametrize("succeeding", range(4))
def test_a_failing_driver_leaves_the_backend_usable_and_nothing_behind(
    tmp_path: Path, method: str, succeeding: int
) -> None:
    bench = Bench(tmp_path, "labels", fail={method: succeeding})
    batches = bench.batches([(1, 32, 32)] * 8)
    got = []
    text = f"GPU 0: {method} must succeed, got a failure; see the test"
    with refusal(FcnkitError, text):
        for result in bench.gpu.stream(batches):
            got.append(result)
            if len(got) == 7:  # what is called less often than that fails below
                bench.cuda.fail = {method: 0}
                bench.gpu.infer(batches[0])
                raise FcnkitError(text)
    bench.cuda.fail.clear()
    for batch, result in zip(batches, got, strict=False):
        np.testing.assert_array_equal(result, bench.cpu.infer(batch))
    for batch in batches:
        np.testing.assert_array_equal(bench.gpu.infer(batch), bench.cpu.infer(batch))
    bench.close()


@pytest.mark.parametrize("method", ["begin_capture", "end_capture", "enqueue"])
def test_a_network_that_cannot_be_captured_runs_without_graphs(
    tmp_path: Path, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path, "labels", fail={method: 0})
    batches = bench.batches([(1, 32, 32)] * 2)
    # The second batch runs and is then queued again, to be captured.
    bench.executor.fail_after = 2 if method == "enqueue" else None
    for batch in batches:
        np.testing.assert_array_equal(bench.gpu.infer(batch), bench.cpu.infer(batch))
    bench.executor.fail_after = None
    assert [record.name for record in caplog.records] == ["fcnkit.cuda"]
    assert caplog.messages[0].startswith("no CUDA graphs from here on: ")
    for batch in batches * 2:
        np.testing.assert_array_equal(bench.gpu.infer(batch), bench.cpu.infer(batch))
    assert not bench.cuda.graphs
    bench.close()


@pytest.mark.parametrize("succeeding", range(8))
def test_a_failing_library_is_an_error_after_the_results_before_it(
    tmp_path: Path, succeeding: int
) -> None:
    bench = Bench(tmp_path, "labels", graphs=0)
    bench.executor.fail_after = succeeding
    batches = bench.batches([(1, 32, 32)] * 9)
    got = []
    with refusal(FcnkitError, "the library must run, got a failure; see the test"):
        for result in bench.gpu.stream(batches):
            got.append(result)  # noqa: PERF402 - what came before the error is looked at
    assert len(got) == succeeding
    bench.executor.fail_after = None
    np.testing.assert_array_equal(bench.gpu.infer(batches[0]), bench.cpu.infer(batches[0]))
    bench.close()


def test_closing_in_the_middle_of_a_stream_waits_and_frees(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "labels")
    stream = bench.gpu.stream(bench.batches([(1, 32, 32)] * 8))
    next(stream)
    bench.close()
    with refusal(ValueError, "fake.stream: the backend must be open, got a closed one; open it"):
        next(stream)


# --- ONNX Runtime's binding ----------------------------------------------------------------------


@pytest.mark.parametrize("head", ["labels", "logits"])
def test_onnxruntime_reads_and_writes_where_the_slot_says(tmp_path: Path, head: Head) -> None:
    """The real IOBinding, on a CPU session whose device memory is the fake GPU's."""
    bench = Bench(tmp_path, head)
    cuda = FakeCuda(eager=True)  # a CPU session does not queue
    cuda.activate()
    stream = cuda.create_stream()
    executor = OnnxRuntimeExecutor(
        bench.session, bench.cpu.spec, cuda, stream=stream, kind="cpu", where="m.onnx"
    )
    with CudaBackend(cuda, executor, name="onnxruntime-cuda", details={}) as backend:
        batches = bench.batches(SHAPES * 2)
        for batch, result in zip(batches, backend.stream(batches), strict=True):
            np.testing.assert_array_equal(result, bench.cpu.infer(batch))
    assert cuda.alive == 0
    bench.close()


# --- the real driver -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def driver() -> BindingsDriver:
    try:
        return open_driver(extra="gpu")
    except (BackendUnavailableError, MissingExtraError) as error:
        pytest.skip(str(error))


def test_without_a_gpu_opening_the_driver_says_so() -> None:
    pytest.importorskip("cuda.bindings.runtime")
    if has_driver():
        pytest.skip("this machine has a CUDA driver")
    text = (
        "open_backend: a CUDA driver and a GPU are needed, got cudaErrorInsufficientDriver "
        "(CUDA driver version is insufficient for CUDA runtime version); "
        "install the NVIDIA driver, or use an ONNX file with backend='onnxruntime'"
    )
    with refusal(BackendUnavailableError, text):
        open_driver(extra="gpu")


def test_every_call_reaches_the_cuda_runtime() -> None:
    """Without a driver each is refused by CUDA itself: name and arguments are right."""
    runtime = pytest.importorskip("cuda.bindings.runtime")
    if has_driver():
        pytest.skip("this machine has a CUDA driver")
    real = BindingsDriver(runtime, 0)
    block = np.zeros(16, np.uint8).ctypes.data
    calls: dict[str, tuple[int, ...]] = {
        "activate": (),
        "malloc_host": (16,),
        "free_host": (block,),
        "malloc": (16,),
        "free": (block,),
        "create_stream": (),
        "destroy_stream": (0,),
        "create_event": (),
        "create_timer": (),
        "elapsed": (0, 0),
        "destroy_event": (0,),
        "upload": (block, block, 8, 0),
        "download": (block, block, 8, 0),
        "record": (0, 0),
        "wait": (0, 0),
        "synchronize": (0,),
        "drain": (0,),
        "begin_capture": (0,),
        "end_capture": (0,),
        "launch": (0, 0),
        "destroy_graph": (0,),
        "free_bytes": (),
    }
    methods = {name for name in vars(BindingsDriver) if not name.startswith("_")}
    assert methods == calls.keys() | {"device", "lost", "name"}
    for method, arguments in calls.items():
        with pytest.raises(FcnkitError, match=r"^GPU 0: cuda\w+ must succeed, got cudaError") as e:
            getattr(real, method)(*arguments)
        assert "\n" not in str(e.value)
    with pytest.raises(FcnkitError, match="cudaGetDeviceProperties must succeed"):
        assert real.name


@pytest.mark.gpu
def test_the_real_driver_copies_there_and_back(driver: BindingsDriver) -> None:
    size = 1 << 20
    driver.activate()
    host, back, device = driver.malloc_host(size), driver.malloc_host(size), driver.malloc(size)
    stream, event = driver.create_stream(), driver.create_event()
    host_view(host, size)[:] = np.arange(size, dtype=np.uint32).astype(np.uint8)
    for graph in (None, "captured"):
        host_view(back, size)[:] = 0
        if graph:
            driver.begin_capture(stream)
        driver.upload(device, host, size, stream)
        driver.download(back, device, size, stream)
        if graph:
            handle = driver.end_capture(stream)
            assert not host_view(back, size).any()
            driver.launch(handle, stream)
        driver.record(event, stream)
        driver.synchronize(event)
        assert np.array_equal(host_view(back, size), host_view(host, size))
    driver.destroy_graph(handle)
    driver.destroy_event(event)
    driver.destroy_stream(stream)
    driver.free(device)
    driver.free_host(host)
    driver.free_host(back)
    assert driver.name
