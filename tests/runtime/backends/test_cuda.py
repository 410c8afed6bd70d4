"""The GPU pipeline on a GPU made of numpy, and the real driver as far as it goes without one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from fcnkit.errors import BackendUnavailableError, FcnkitError, MissingExtraError
from fcnkit.runtime import open_backend
from fcnkit.runtime.artifacts.spec import Head, Shape
from fcnkit.runtime.backends import cuda as cuda_module
from fcnkit.runtime.backends.cuda import (
    BindingsDriver,
    GpuLostError,
    has_driver,
    host_view,
    open_driver,
)
from fcnkit.runtime.backends.cuda_backend import CudaBackend
from fcnkit.runtime.backends.cuda_slot import Slot
from fcnkit.runtime.backends.onnxruntime_cuda import OnnxRuntimeExecutor
from fcnkit.runtime.bench.stages import DeviceTimed
from tests.refusal import refusal
from tests.runtime.fake_cuda import LOST, FakeContext, FakeCuda, FakeExecutor
from tests.runtime.models import make_info, make_spec, noise_batch, write_model

SHAPES: tuple[Shape, ...] = ((1, 32, 32), (2, 64, 32), (1, 32, 96), (1, 64, 64))


class Bench:
    """A network on a fake GPU beside the same network on the CPU."""

    def __init__(self, folder: Path, head: Head, *, graphs: int = 8, **settings: Any) -> None:
        path = write_model(folder / f"{head}.onnx", make_spec(head))
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.cpu = open_backend(path, backend="onnxruntime", threads=1)
        self.cuda = FakeCuda(**settings)
        self.cuda.activate()  # whoever opens a backend does
        self.cuda.calls.clear()
        self.executor = FakeExecutor(self.session, self.cpu.spec, self.cuda)
        self.gpu = CudaBackend(
            self.cuda, self.executor, name="fake", info=make_info(), graphs=graphs
        )

    def batches(self, shapes: Any) -> list[np.ndarray]:
        batches = [noise_batch(self.cpu.spec, shape) for shape in shapes]
        return [np.roll(batch, index + 1, 1) for index, batch in enumerate(batches)]

    def close(self) -> None:
        self.gpu.close()
        self.cpu.close()
        assert self.cuda.alive == 0
        assert self.executor.freed


@pytest.fixture(params=["labels", "logits", "scores"])
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


# --- a lost GPU, and what cannot be given back ----------------------------------------------------

GONE = f"fake: the GPU must work, got {LOST}; start a new process"


def test_a_lost_gpu_is_said_once_and_for_all_and_everything_is_visited(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "labels")
    batches = bench.batches([(1, 32, 32)] * 6)
    for batch in batches[:3]:
        bench.gpu.infer(batch)  # a graph is kept too
    text = f"GPU 0: synchronize must succeed, got {LOST}; start a new process"
    stream = bench.gpu.stream(batches)
    np.testing.assert_array_equal(next(stream), bench.cpu.infer(batches[0]))
    bench.cuda.poison()
    with refusal(GpuLostError, text):
        list(stream)
    with refusal(GpuLostError, GONE):
        bench.gpu.infer(batches[0])
    with refusal(GpuLostError, GONE):
        bench.gpu.infer_timed(batches[0])
    bench.gpu.close()
    bench.gpu.close()
    assert bench.cuda.forgotten == set()
    assert bench.executor.alive == []
    assert bench.executor.freed
    bench.cpu.close()


def test_closing_does_not_hide_the_first_error(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "labels")
    batch = bench.batches([(1, 32, 32)])[0]
    with refusal(KeyError, "'the first error'"), bench.gpu:
        bench.gpu.infer(batch)
        bench.cuda.lost = LOST
        raise KeyError("the first error")
    assert bench.cuda.forgotten == set()
    assert bench.executor.freed


def test_a_library_that_fails_because_the_gpu_is_lost(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "labels")

    class Failing(FakeContext):
        def enqueue(self, shape: Any, *, source: int, target: int, stream: int) -> None:
            self.executor.driver.poison()
            raise FcnkitError("m.engine: tensorrt must do execute_async_v3, got no message; look")

    def create(_scratch: int) -> FakeContext:
        bench.executor.alive.append(Failing(bench.executor))
        return bench.executor.alive[-1]

    bench.executor.create = create  # type: ignore[method-assign]
    text = (
        f"fake: the GPU must work, got {LOST}, after: m.engine: tensorrt must do execute_async_v3, "
        "got no message; look; start a new process"
    )
    with refusal(GpuLostError, text):
        bench.gpu.infer(bench.batches([(1, 32, 32)])[0])
    bench.gpu.close()
    assert bench.cuda.forgotten == set()


@pytest.mark.parametrize(
    "method",
    ["destroy_stream", "destroy_event", "destroy_graph", "free", "free_host", "drain", "activate"],
)
def test_what_cannot_be_given_back_is_logged_and_the_rest_is(
    tmp_path: Path, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path, "labels")
    batches = bench.batches([(1, 32, 32)] * 4)
    for batch in batches:
        bench.gpu.infer(batch)
    list(bench.gpu.stream(batches))
    bench.cuda.fail = {method: 0}
    bench.gpu.close()
    failed = f"GPU 0: {method} must succeed, got a failure; see the test"
    assert set(caplog.messages) == {f"something was not given back: {failed}"}
    assert bench.cuda.forgotten == set()
    assert bench.executor.freed


def test_a_stream_may_be_consumed_by_another_thread(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "labels")
    batches = bench.batches([(1, 32, 32)] * 5)
    stream = bench.gpu.stream(batches)
    results = [next(stream)]
    thread = threading.Thread(target=lambda: results.extend(stream))
    thread.start()
    thread.join()
    for result, batch in zip(results, batches, strict=True):
        np.testing.assert_array_equal(result, bench.cpu.infer(batch))
    bench.close()


def test_memory_that_does_not_suffice_for_a_third_slot(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "labels")
    batches = bench.batches([(1, 64, 64)] * 4)
    bench.gpu.infer(batches[0])
    used = bench.cuda.limit - bench.cuda.free_bytes()
    bench.cuda.limit = 2 * used + 10
    got = []
    text = "GPU 0: malloc must succeed, got cudaErrorMemoryAllocation (out of memory); see the test"
    with refusal(FcnkitError, text):
        for result in bench.gpu.stream(batches):
            got.append(result)  # noqa: PERF402 - what came before the error is looked at
    assert len(got) == 2
    for result, batch in zip(got, batches, strict=False):
        np.testing.assert_array_equal(result, bench.cpu.infer(batch))
    np.testing.assert_array_equal(bench.gpu.infer(batches[3]), bench.cpu.infer(batches[3]))
    bench.close()


def test_a_library_that_allocates_while_it_is_captured_runs_without_graphs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path, "labels")
    cuda = bench.cuda

    class Allocating(FakeContext):
        def enqueue(self, shape: Any, *, source: int, target: int, stream: int) -> None:
            with suppress(FcnkitError):  # as a library that does not look at the result
                cuda.free(cuda.malloc(16))
            super().enqueue(shape, source=source, target=target, stream=stream)

    def create(_scratch: int) -> FakeContext:
        bench.executor.alive.append(Allocating(bench.executor))
        return bench.executor.alive[-1]

    bench.executor.create = create  # type: ignore[method-assign]
    batches = bench.batches([(1, 32, 32)] * 4)
    for batch in batches:
        np.testing.assert_array_equal(bench.gpu.infer(batch), bench.cpu.infer(batch))
    assert [message.split(":")[0] for message in caplog.messages] == [
        "no CUDA graphs from here on",
    ]
    bench.close()


def test_a_slot_keeps_few_contexts_and_gives_each_one_shape(tmp_path: Path) -> None:
    """TensorRT-RTX captures each graph for one shape."""
    bench = Bench(tmp_path, "labels")
    bench.executor.capturable, bench.executor.contexts = False, 2
    made: list[FakeContext] = []
    create = bench.executor.create

    def counted(scratch: int) -> FakeContext:
        made.append(create(scratch))
        return made[-1]

    bench.executor.create = counted  # type: ignore[method-assign]
    a, b, c = ((1, 32, 32), (1, 32, 64), (1, 64, 32))
    for batch in bench.batches([a, b, a, a, c, a, b]):
        np.testing.assert_array_equal(bench.gpu.infer(batch), bench.cpu.infer(batch))
        assert len(bench.executor.alive) <= 2
    assert [len(context.shapes) for context in made] == [1, 1, 1, 1]  # b went for c and came again
    bench.close()


def test_the_fake_gpu_is_as_strict_as_cuda() -> None:
    cuda = FakeCuda()
    with pytest.raises(AssertionError, match="create_stream on a thread without activate"):
        cuda.create_stream()
    cuda.activate()
    stream, event = cuda.create_stream(), cuda.create_event()
    cuda.record(event, stream)
    cuda.synchronize(event)
    with pytest.raises(AssertionError, match="an event without timing"):
        cuda.elapsed(event, event)
    cuda.begin_capture(stream)
    for illegal in (lambda: cuda.malloc(8), lambda: cuda.drain(stream)):
        with pytest.raises(FcnkitError, match="cudaErrorStreamCaptureUnsupported"):
            illegal()
    with pytest.raises(FcnkitError, match="cudaErrorStreamCaptureInvalidated"):
        cuda.end_capture(stream)
    cuda.drain(stream)


# --- ONNX Runtime's binding ----------------------------------------------------------------------


@pytest.mark.parametrize("head", ["labels", "logits", "scores"])
def test_onnxruntime_reads_and_writes_where_the_slot_says(tmp_path: Path, head: Head) -> None:
    """The real IOBinding, on a CPU session whose device memory is the fake GPU's."""
    bench = Bench(tmp_path, head)
    cuda = FakeCuda(eager=True)  # a CPU session does not queue
    cuda.activate()
    stream = cuda.create_stream()
    executor = OnnxRuntimeExecutor(
        bench.session, bench.cpu.spec, cuda, stream=stream, kind="cpu", where="m.onnx"
    )
    with CudaBackend(cuda, executor, name="onnxruntime-cuda", info=make_info()) as backend:
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
    assert methods == calls.keys() | {"name"}
    for method, arguments in calls.items():
        with pytest.raises(FcnkitError, match=r"^GPU 0: cuda\w+ must succeed, got cudaError") as e:
            getattr(real, method)(*arguments)
        assert "\n" not in str(e.value)
    with pytest.raises(FcnkitError, match="cudaGetDeviceProperties must succeed"):
        assert real.name


def test_old_bindings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bindings = pytest.importorskip("cuda.bindings")
    for version in ("12.8.0", "12.9.0"):
        monkeypatch.setattr(bindings, "__version__", version)
        text = (
            "open_backend: cuda-bindings must be 12.9.1 or later, which waits without stopping "
            f"the other threads, got {version}; pip install --upgrade 'fcnkit[gpu]'"
        )
        with refusal(BackendUnavailableError, text):
            open_driver(extra="gpu")
    for version in ("12.9.1", "12.9.10", "13.0.0"):
        monkeypatch.setattr(bindings, "__version__", version)
        if not has_driver():
            with pytest.raises(BackendUnavailableError, match="a CUDA driver and a GPU are needed"):
                open_driver(extra="gpu")


class _Returning:
    """The real runtime module, but for what one function returns."""

    def __init__(self, runtime: Any, code: str) -> None:
        self.cudaError_t, self.cudaGetErrorString = runtime.cudaError_t, runtime.cudaGetErrorString
        self.cudaStream_t = runtime.cudaStream_t
        self.code = code

    def cudaStreamSynchronize(self, _stream: Any) -> tuple[Any]:
        return (getattr(self.cudaError_t, self.code),)


def test_errors_that_cuda_repeats_until_the_process_ends() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    fake = _Returning(runtime, "cudaErrorInvalidValue")
    real = BindingsDriver(fake, 0)
    text = (
        "GPU 0: cudaStreamSynchronize must succeed, got cudaErrorInvalidValue (invalid argument); "
        "see fcnkit doctor"
    )
    with refusal(FcnkitError, text):
        real.drain(1)
    assert real.lost == ""
    fake.code = "cudaErrorIllegalAddress"
    text = f"GPU 0: cudaStreamSynchronize must succeed, got {LOST}; start a new process"
    with refusal(GpuLostError, text):
        real.drain(1)
    fake.code = "cudaErrorLaunchFailure"
    with pytest.raises(GpuLostError):
        real.drain(1)
    assert real.lost == LOST  # the first is the cause
    assert all(hasattr(runtime.cudaError_t, name) for name in cuda_module._STICKY)


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
