"""Engines as a backend: every refusal, and the calls in the library's order on a fake GPU."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from fcnkit.errors import (
    ArtifactError,
    BackendUnavailableError,
    FcnkitError,
    ModelWarning,
)
from fcnkit.runtime import open_backend
from fcnkit.runtime.artifacts.engine_file import EngineFile
from fcnkit.runtime.artifacts.spec import Head, ShapeRange
from fcnkit.runtime.backends import tensorrt, tensorrt_cache, tensorrt_library
from fcnkit.runtime.backends.cuda import has_driver, host_view
from fcnkit.runtime.backends.cuda_backend import CudaBackend
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.backends.tensorrt import TensorRtExecutor, open_engine
from fcnkit.runtime.backends.tensorrt_library import import_library
from fcnkit.runtime.backends.tensorrt_tiny import run_tiny_engine
from fcnkit.runtime.backends.tiny import TINY_MODEL
from tests.refusal import refusal
from tests.runtime.fake_cuda import FakeCuda
from tests.runtime.fake_tensorrt import (
    CudaGraphStrategy,
    EngineValidity,
    FakeTensorRt,
    Specialization,
    Strategy,
)
from tests.runtime.models import make_info, make_spec, noise_batch, write_model

SMALL = ShapeRange(min=(1, 32, 32), opt=(1, 64, 64), max=(2, 96, 96))
LARGE = ShapeRange(min=(1, 64, 64), opt=(1, 256, 256), max=(4, 512, 512))
REBUILD = "fcnkit export engine m.onnx -o m.engine"


@pytest.fixture(autouse=True)
def _loggers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's logger is one per process; the fake library's must not outlive its test."""
    monkeypatch.setattr(tensorrt_library, "_loggers", {})


@dataclass
class Engine:
    """An engine file and the fake library and GPU that open it."""

    folder: Path
    head: Head = "labels"
    rtx: bool = False
    cuda: FakeCuda = field(default_factory=FakeCuda)

    def __post_init__(self) -> None:
        self.cuda.activate()  # whoever opens an engine does
        path = write_model(self.folder / "m.onnx", make_spec(self.head))
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        spec = make_spec(self.head, low=SMALL.min, high=LARGE.max)
        self.trt = FakeTensorRt(self.session, spec, (SMALL, LARGE), self.cuda, rtx=self.rtx)
        self.file = EngineFile(
            path=self.folder / "m.engine",
            plan=b"plan",
            spec=spec,
            flavor="tensorrt-rtx" if self.rtx else "tensorrt",
            library=f"{self.trt.__name__} {self.trt.__version__}",
            profiles=(SMALL, LARGE),
            sidecar={},
            rebuild=REBUILD,
        )

    def executor(self, **options: str) -> TensorRtExecutor:
        return TensorRtExecutor(self.trt, self.file, self.cuda, options=options)

    def backend(self, **options: str) -> CudaBackend:
        executor = self.executor(**options)
        return CudaBackend(self.cuda, executor, name=self.file.flavor, info=make_info())

    def refuses(self, text: str) -> None:
        """Assert that the file is refused with this text after its path."""
        with refusal(ArtifactError, f"{self.file.path}: {text}"):
            self.executor()

    def expected(self, batch: np.ndarray) -> np.ndarray:
        return np.asarray(self.session.run(None, {"image": batch})[0])


@pytest.mark.parametrize("head", ["labels", "logits", "scores"])
@pytest.mark.parametrize("rtx", [False, True])
def test_an_engine_gives_what_its_network_gives(tmp_path: Path, head: Head, rtx: bool) -> None:
    engine = Engine(tmp_path, head, rtx)
    shapes = [(1, 32, 32), (1, 512, 512), (2, 64, 96), (3, 64, 96), (1, 32, 32)] * 3
    with engine.backend() as backend:
        batches = [noise_batch(backend.spec, shape) for shape in shapes]
        for batch, result in zip(batches, backend.stream(batches), strict=True):
            np.testing.assert_array_equal(result, engine.expected(batch))
        for batch in batches:
            np.testing.assert_array_equal(backend.infer(batch), engine.expected(batch))
        assert bool(engine.cuda.graphs) is not rtx  # TensorRT-RTX captures by itself
    assert engine.cuda.alive == 0


def test_the_shape_is_set_when_it_changes_and_the_profile_that_takes_it(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    context = engine.executor().create(engine.cuda.malloc(4096))
    cuda = engine.cuda
    source, target, stream = cuda.malloc(1 << 20), cuda.malloc(1 << 20), cuda.create_stream()
    small, large = (1, 64, 64, 3), (1, 512, 512, 3)
    engine.trt.calls.clear()
    for shape in (small, small, large):
        context.enqueue(shape, source=source, target=target, stream=stream)
    run = [("set_tensor_address", "image"), ("set_tensor_address", "labels")]
    run.append(("execute_async_v3", stream))
    profile = ("set_optimization_profile_async", 1, stream)
    assert engine.trt.calls == [
        *(("set_input_shape", small), *run),
        *run,
        *(profile, ("set_input_shape", large), *run),
    ]


def test_contexts_of_a_slot_share_their_memory(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    with engine.backend() as backend:
        for _ in range(3):
            backend.infer(noise_batch(backend.spec, (1, 32, 32)))
        made = [call for call in engine.trt.calls if call[0] == "create_execution_context"]
        assert made == [("create_execution_context", Strategy.USER_MANAGED)] * 2
        assert [len(block) for block in engine.cuda.memory.values()].count(4096) == 1


def test_runtime_options_of_tensorrt_rtx(tmp_path: Path) -> None:
    engine = Engine(tmp_path, rtx=True)
    assert Engine(tmp_path).executor().graph_strategy == ""
    assert engine.executor().graph_strategy == "WHOLE_GRAPH_CAPTURE"
    memory = engine.cuda.malloc(4096)
    engine.executor().create(memory)
    engine.executor(
        cuda_graph_strategy="DISABLED", dynamic_shapes_kernel_specialization_strategy="LAZY"
    ).create(memory)
    configs = [call[1] for call in engine.trt.calls]
    assert [config.cuda_graph_strategy for config in configs] == [
        CudaGraphStrategy.WHOLE_GRAPH_CAPTURE,
        CudaGraphStrategy.DISABLED,
    ]
    assert [config.dynamic_shapes_kernel_specialization_strategy for config in configs] == [
        Specialization.EAGER,
        Specialization.LAZY,
    ]
    assert {config.strategy for config in configs} == {Strategy.USER_MANAGED}
    text = (
        "open_backend: the option cuda_graph_strategy must be one of DISABLED, "
        "WHOLE_GRAPH_CAPTURE, got ON; correct or drop it"
    )
    with refusal(ValueError, text):
        engine.executor(cuda_graph_strategy="ON")


def test_tensorrt_rtx_keeps_few_contexts_that_share_their_memory(tmp_path: Path) -> None:
    engine = Engine(tmp_path, rtx=True)
    shapes = [(1, 32, 32), (1, 32, 64), (1, 64, 32), (1, 64, 64), (1, 64, 96), (2, 64, 64)]
    with engine.backend(contexts="2") as backend:
        for shape in shapes * 2:
            batch = noise_batch(backend.spec, shape)
            np.testing.assert_array_equal(backend.infer(batch), engine.expected(batch))
        (slot,) = backend._slots
        contexts = [work._context for work in slot._works.values()]  # type: ignore[attr-defined]
        assert [context.shapes for context in contexts] == [[(1, 64, 96, 3)], [(2, 64, 64, 3)]]
        assert len({context.memory for context in contexts}) == 1
        assert [len(block) for block in engine.cuda.memory.values()].count(4096) == 1
    assert engine.cuda.alive == 0


def run_once(engine: Engine, **options: str) -> bytes:
    """Open, run and close an engine; return what the cache held before it ran."""
    executor = engine.executor(**options)
    held = executor._cache._held if executor._cache else b""
    with CudaBackend(engine.cuda, executor, name="tensorrt-rtx", info=make_info()) as backend:
        backend.infer(noise_batch(backend.spec, (1, 32, 32)))
    return held


def test_compiled_kernels_are_kept_beside_the_engine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(tmp_path, rtx=True)
    path = tmp_path / "m.engine.cache"
    assert run_once(engine, runtime_cache="0") == b""
    assert not path.exists()
    assert run_once(engine) == b""
    written = path.read_bytes()
    assert written.endswith(b"this GPUkernels")
    stamp = path.stat().st_mtime_ns
    assert run_once(engine) == b"this GPUkernels"
    assert path.stat().st_mtime_ns == stamp  # nothing new, nothing written
    assert caplog.messages == []
    assert sorted(each.name for each in tmp_path.iterdir()) == ["m.engine.cache", "m.onnx"]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda _: b"", "broken (JSONDecodeError)"),
        (lambda _: b"[1, 2]\nkernels", "broken (TypeError)"),
        (lambda _: b"{}\nkernels", "broken (KeyError)"),
        (lambda _: b"\xff" * 9000, "broken (UnicodeDecodeError)"),
        (lambda held: held[:-3], "broken (other bytes than its hash says)"),
        (lambda held: held.replace(b"1.7.1.116", b"1.7.0.100"), "of another engine or library"),
    ],
)
def test_a_broken_cache_is_ignored_and_written_again(
    tmp_path: Path, spoil: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(tmp_path, rtx=True)
    path = tmp_path / "m.engine.cache"
    run_once(engine)
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    assert run_once(engine) == b""
    assert caplog.messages == [f"{path}: ignored because it is {why}; it is written again"]
    assert path.read_bytes() == whole


def test_a_cache_of_another_engine_or_gpu_is_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(tmp_path, rtx=True)
    path = tmp_path / "m.engine.cache"
    run_once(engine)
    engine.file = replace(engine.file, plan=b"another plan")
    assert run_once(engine) == b""
    engine.trt.environment = b"another GPU"
    assert run_once(engine) == b""
    assert caplog.messages == [
        f"{path}: ignored because it is {why}; it is written again"
        for why in (
            "of another engine or library",
            "made on another GPU or with another driver",
        )
    ]
    assert run_once(engine) == b"another GPUkernels"


def test_a_cache_that_cannot_be_written_or_set_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(tmp_path, rtx=True)
    path = tmp_path / "m.engine.cache"

    def full(_path: Path, _content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tensorrt_cache, "atomic_write", full)
        run_once(engine)
    engine.trt.refuse = "set_runtime_cache"
    run_once(engine)
    assert caplog.messages == [
        f"{path}: the compiled kernels are not kept: [Errno 28] No space left on device",
        f"{path}: the library takes no runtime cache",
    ]
    assert not path.exists()


def test_an_old_tensorrt_rtx_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(trt, "__version__", "1.5.0.114")
    text = (
        "open_backend: needs tensorrt-rtx 1.6 or later, got 1.5.0.114; "
        "pip install -U 'fcnkit[tensorrt-rtx]'"
    )
    with refusal(BackendUnavailableError, text):
        import_library("tensorrt-rtx", what="open_backend")


def test_profiles_come_from_the_engine_where_there_is_no_sidecar(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    engine.file = replace(engine.file, profiles=(), spec=make_spec("labels"))
    spec = engine.executor().spec
    assert (spec.shapes.min, spec.shapes.max) == (SMALL.min, LARGE.max)
    engine.file = replace(engine.file, profiles=(SMALL,))
    engine.refuses(
        f"its profiles must be {(SMALL,)}, as its sidecar says, got {(SMALL, LARGE)}; "
        f"build it again: {REBUILD}"
    )


def test_a_shape_between_the_profiles(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    with engine.backend() as backend:
        batch = noise_batch(backend.spec, (4, 32, 32))
        text = (
            f"{engine.file.path}: the engine takes NxHxW of 1x32x32 to 2x96x96 or 1x64x64 to "
            f"4x512x512, got 4x32x32; build one with a profile for it: {REBUILD} "
            "--profile 4x32x32,4x32x32,4x32x32"
        )
        with refusal(ValueError, text):
            backend.infer(batch)
        batch = noise_batch(backend.spec, (1, 32, 32))
        np.testing.assert_array_equal(backend.infer(batch), engine.expected(batch))


@pytest.mark.parametrize(
    "call",
    [
        "create_execution_context",
        "set_optimization_profile_async",
        "set_input_shape",
        "set_tensor_address",
        "execute_async_v3",
    ],
)
def test_a_call_that_the_library_refuses(tmp_path: Path, call: str) -> None:
    engine = Engine(tmp_path)
    with engine.backend() as backend:
        batch = noise_batch(backend.spec, (1, 512, 512))
        engine.trt.refuse = call
        text = (
            f"{engine.file.path}: tensorrt 10.9.0.34 must do {call}, got no message; "
            "see the log of fcnkit.tensorrt, and fcnkit doctor"
        )
        with refusal(FcnkitError, text):
            backend.infer(batch)
        engine.trt.refuse = ""
        np.testing.assert_array_equal(backend.infer(batch), engine.expected(batch))
    assert engine.cuda.alive == 0


def test_what_tensorrt_rtx_finds_invalid_is_not_deserialized(
    tmp_path: Path,
) -> None:
    engine = Engine(tmp_path, rtx=True)
    engine.trt.validity, engine.trt.diagnostics = EngineValidity.INVALID, 3
    engine.trt.loads = False  # would be the error if it were tried
    rule = f"{engine.file.path}: the engine must suit fake and tensorrt_rtx 1.7.1.116"
    text = f"{rule}, got VERSION_MISMATCH, UNSUPPORTED_CC; build it again: {REBUILD}"
    with refusal(BackendUnavailableError, text):
        engine.executor()
    engine.trt.validity, engine.trt.diagnostics = EngineValidity.SUBOPTIMAL, 0
    engine.trt.loads = True
    with pytest.warns(ModelWarning) as caught:
        engine.executor()
    assert [str(one.message) for one in caught] == [
        f"{rule}, got no reason; build it again: {REBUILD}"
    ]


def test_an_engine_that_the_library_cannot_load(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    engine.trt.loads = False
    engine.refuses(
        "tensorrt 10.9.0.34 must be able to load the engine, got the plan is from another planet; "
        f"build it again: {REBUILD}"
    )


def test_an_engine_that_is_not_what_its_spec_says(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    engine.file = replace(engine.file, spec=make_spec("logits"))
    engine.refuses(
        "the input must be image float32 (any, 3, any, any) as its spec says, "
        "got image uint8 (?, ?, ?, 3); export the model again with fcnkit export onnx"
    )


@pytest.mark.parametrize(
    ("request_", "kind", "text"),
    [
        (
            {"backend": "tensorrt-rtx"},
            ValueError,
            (
                "open_backend: backend tensorrt-rtx runs its own engines only, got m.engine, "
                "built by tensorrt; use backend='tensorrt'"
            ),
        ),
        (
            {"compute": "bf16"},
            BackendUnavailableError,
            (
                "open_backend: tensorrt must compute in bf16, got an engine built in fp32; leave "
                "compute out, or use the ONNX file with backend='onnxruntime-cuda'"
            ),
        ),
        (
            {"options": {"cuda_graph_strategy": "DISABLED"}},
            ValueError,
            (
                "open_backend: tensorrt takes the options cuda_graphs, device_id, "
                "engine_host_code_allowed, got cuda_graph_strategy; correct or drop it"
            ),
        ),
        (
            {"options": {"cuda_graphs": "-1"}},
            ValueError,
            (
                "open_backend: the option cuda_graphs must be an integer of at least 0, got -1; "
                "correct or drop it"
            ),
        ),
    ],
)
def test_wrong_requests(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request_: dict[str, Any],
    kind: type[Exception],
    text: str,
) -> None:
    engine = Engine(tmp_path)
    monkeypatch.setattr(tensorrt, "read_engine_file", lambda _path, spec_from: engine.file)
    with refusal(kind, text):
        open_engine(engine.file.path, BackendRequest(**request_))


def test_opening_looks_at_everything_and_says_what_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tmp_path)
    monkeypatch.setattr(tensorrt, "read_engine_file", lambda _path, spec_from: engine.file)
    monkeypatch.setattr(tensorrt, "import_library", lambda *_, **__: ("tensorrt", engine.trt))
    monkeypatch.setattr(tensorrt, "open_driver", lambda _device, extra: engine.cuda)
    with open_backend(engine.file.path, threads=2) as backend:
        assert backend.name == "tensorrt"
        assert backend.details == {
            "library": "tensorrt 10.9.0.34",
            "provider": "cuda:0 fake",
            "threads": 2,
            "compute": "fp32",
            "cuda_graphs": 8,
        }
        batch = noise_batch(backend.spec, (1, 64, 64))
        np.testing.assert_array_equal(backend.infer(batch), engine.expected(batch))
    assert not getattr(engine.trt.runtimes[-1], "engine_host_code_allowed", False)
    engine.file = replace(engine.file, sidecar={"builder": {"version_compatible": True}})
    rule = "a version-compatible engine brings its own code and needs engine_host_code_allowed=1"
    remedy = "add the option if you trust whoever built it"
    with refusal(
        BackendUnavailableError, f"{engine.file.path}: {rule}, got an engine without it; {remedy}"
    ):
        open_backend(engine.file.path)
    trusted = {"engine_host_code_allowed": "1"}
    with open_backend(engine.file.path, backend="tensorrt", options=trusted):
        assert engine.trt.runtimes[-1].engine_host_code_allowed
    engine.file = replace(engine.file, library="tensorrt 10.3.0.26", sidecar={})
    with pytest.raises(ArtifactError, match="was built by tensorrt 10.3.0.26 and runs in"):
        open_backend(engine.file.path)


def test_the_real_tensorrt_rtx_gives_its_verdict(tmp_path: Path) -> None:
    """Without a GPU the verdict is no; what matters is that it is asked and passed on."""
    trt = pytest.importorskip("tensorrt_rtx")
    if has_driver():
        pytest.skip("this machine has a CUDA driver")
    engine = Engine(tmp_path, rtx=True)
    rule = f"{engine.file.path}: the engine must suit fake and tensorrt_rtx {trt.__version__}, got "
    with pytest.raises(BackendUnavailableError) as caught:
        TensorRtExecutor(trt, engine.file, engine.cuda)
    assert str(caught.value).startswith(rule)
    assert str(caught.value).endswith(f"; build it again: {REBUILD}")


class _TinyRuntime:
    """Deserializes what the real builder built into a network that doubles."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.addresses = cuda, {"": 0}

    def __call__(self, _logger: Any) -> Any:
        return self

    def deserialize_cuda_engine(self, plan: Any) -> Any:
        assert bytes(plan).startswith(b"vtrt")
        return self

    def create_execution_context(self) -> Any:
        return self

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        def double() -> None:
            x = host_view(self.addresses["x"], 16).view(np.float32)
            host_view(self.addresses["y"], 16).view(np.float32)[:] = 2 * x

        self.cuda.queue(stream, double, uses=tuple(self.addresses.values()))
        return True


def test_the_tiny_model_of_doctor_is_built_and_run(monkeypatch: pytest.MonkeyPatch) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    cuda = FakeCuda()
    cuda.activate()
    with monkeypatch.context() as patch:
        patch.setattr(trt, "Runtime", _TinyRuntime(cuda))
        result = run_tiny_engine(trt, TINY_MODEL, cuda)
    np.testing.assert_array_equal(result, np.full((1, 1, 2, 2), 2, np.float32))
    assert cuda.alive == 0
    if has_driver():
        pytest.skip("the rest is about machines without a CUDA driver")
    rule = f"open_backend: tensorrt_rtx {trt.__version__} must build and load a tiny engine on fake"
    with pytest.raises(BackendUnavailableError) as caught:
        run_tiny_engine(trt, TINY_MODEL, cuda)
    assert str(caught.value).startswith(f"{rule}, got IRuntime::deserializeCudaEngine: ")
