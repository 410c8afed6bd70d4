"""ONNX Runtime's GPU providers as far as they go without a GPU: what is requested, and refused."""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from fcnkit.errors import ArtifactError, BackendUnavailableError, FcnkitError, ModelWarning, message
from fcnkit.runtime import open_backend
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from fcnkit.runtime.artifacts.onnx_nodes import size_nodes
from fcnkit.runtime.artifacts.spec import Head, ModelSpec
from fcnkit.runtime.backends import onnxruntime as ours
from fcnkit.runtime.backends import onnxruntime_cuda, onnxruntime_nvinfer, opening
from fcnkit.runtime.backends.onnxruntime import RECORD_ASSIGNMENT, create_session
from fcnkit.runtime.backends.onnxruntime_cuda import check_assignment
from fcnkit.runtime.backends.onnxruntime_nvinfer import check_nvinfer, tensorrt_options
from fcnkit.runtime.backends.request import BackendRequest
from tests.refusal import refusal
from tests.runtime.fake_cuda import FakeCuda
from tests.runtime.models import make_spec, write_model, write_scene

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


# --- what stays on the CPU -----------------------------------------------------------------------


def assigned(path: Path) -> list[Any]:
    """The nodes that a real session assigns, all of them to the CPU here."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(RECORD_ASSIGNMENT, "1")
    session = onnxruntime.InferenceSession(path, options, providers=[CPU])
    return [n for part in session.get_provider_graph_assignment_info() for n in part.get_nodes()]


def on_gpu(nodes: list[Any], stays: Callable[[Any], bool]) -> Any:
    """A session that leaves some of the nodes to the CPU."""
    parts = [
        SimpleNamespace(ep_name=CPU if stays(node) else CUDA, get_nodes=lambda node=node: [node])
        for node in nodes
    ]
    return SimpleNamespace(get_provider_graph_assignment_info=lambda: parts)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "scene.onnx")


def test_only_arithmetic_on_sizes_may_stay_on_the_cpu(scene: Path) -> None:
    nodes = assigned(scene)
    floats = ("Cast", "Transpose", "Div", "Conv", "Pad", "ArgMax", "Slice")
    sizes = size_nodes(read_onnx_file(scene).graph)
    of_sizes = [node for node in nodes if (node.op_type, node.name) in sizes]
    assert {node.op_type for node in of_sizes} == {
        *("Shape", "Mod", "Min", "Sub", "Add", "Mul", "Concat"),
    }
    assert not {node.op_type for node in of_sizes} & set(floats)
    check_assignment(
        on_gpu(nodes, lambda node: (node.op_type, node.name) in sizes),
        scene,
        name="onnxruntime-cuda",
    )
    # The Adds and Concats of logits have the same types as those of sizes, and other names.
    for node in nodes:
        if (node.op_type, node.name) in sizes:
            continue
        got = f"{node.op_type} {node.name}".strip()
        text = (
            "open_backend: backend onnxruntime-cuda must run the whole network on "
            f"CUDAExecutionProvider, got {got} on CPUExecutionProvider; use backend='onnxruntime'"
        )
        alone = on_gpu(nodes, lambda each, node=node: each is node)
        with refusal(BackendUnavailableError, text):
            check_assignment(alone, scene, name="onnxruntime-cuda")


def test_the_pads_of_a_scene_are_named_with_the_version_that_runs_them(
    scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.25.1")
    session = on_gpu(assigned(scene), lambda node: node.op_type in ("Pad", "Shape"))
    text = (
        "open_backend: backend onnxruntime-cuda must run the whole network on "
        "CUDAExecutionProvider, got Pad join/Pad, Pad join/Pad_2, Pad join/Pad_3, Pad join/Pad_4 "
        "on CPUExecutionProvider; pip install 'onnxruntime-gpu>=1.26', or use backend='onnxruntime'"
    )
    with refusal(BackendUnavailableError, text):
        check_assignment(session, scene, name="onnxruntime-cuda")


def test_a_whole_network_on_the_cpu_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("labels"))
    session = on_gpu(assigned(path), lambda _: True)
    rule = "backend onnxruntime-tensorrt must run the whole network on TensorrtExecutionProvider"
    got = "Cast , Transpose , Sub , Div  and 3 more on CPUExecutionProvider"
    text = f"open_backend: {rule}, got {' '.join(got.split())}; use backend='onnxruntime'"
    with refusal(BackendUnavailableError, text.replace(" ,", ",")):
        check_assignment(session, path, name="onnxruntime-tensorrt")


def test_a_library_that_cannot_say_what_runs_where_is_refused(
    scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.22.0")
    text = (
        "open_backend: backend onnxruntime-cuda must run the whole network on "
        "CUDAExecutionProvider, got onnxruntime 1.22.0, which cannot say what runs where; "
        "pip install 'onnxruntime-gpu>=1.26', or use backend='onnxruntime'"
    )
    with refusal(BackendUnavailableError, text):
        check_assignment(SimpleNamespace(), scene, name="onnxruntime-cuda")


_CASES = """
sizes (float[1, 3, H, W] image) => (float[K] out) {
  shape = Shape (image)
  two = Constant <value_ints = [2, 3]> ()
  half = Constant <value_float = 0.5> ()
  sides = Gather (shape, two)
  float_sides = Cast <to = 1> (sides)
  back = Cast <to = 7> (float_sides)
  doubled = Mul (sides, small)
  grown = Add (sides, large)
  row = ReduceProd <keepdims = 1> (doubled)
  counting = Range (zero, count, one)
  filled = ConstantOfShape (doubled)
  picture = Cast <to = 7> (image)
  more = Add (picture, one)
  flat = Reshape (more, row)
  out = Cast <to = 1> (flat)
}
"""


def test_what_counts_as_arithmetic_on_sizes(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]>{_CASES}')
    held = {
        "small": np.array([2, 2]),
        "large": np.zeros(101, np.int64),
        "zero": np.array(0),
        "one": np.array(1),
        "count": np.array(9),
    }
    for name, value in held.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    for node in model.graph.node:
        node.name = node.output[0]
    onnx.save(model, tmp_path / "m.onnx")
    assert {name for _, name in size_nodes(read_onnx_file(tmp_path / "m.onnx").graph)} == {
        *("shape", "two", "sides", "doubled", "row"),
    }


def test_nodes_that_cannot_be_told_apart_are_not_arithmetic_on_sizes(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]>{_CASES}')
    onnx.save(model, tmp_path / "m.onnx")
    found = size_nodes(read_onnx_file(tmp_path / "m.onnx").graph)
    assert ("Shape", "") in found
    assert ("Add", "") not in found
    assert ("Constant", "") not in found  # one of them holds a float


@given(
    dims=st.lists(st.integers(0, 12), max_size=4),
    kind=st.sampled_from(
        [TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.FLOAT]
    ),
    as_node=st.booleans(),
)
def test_constants_are_read_as_onnx_writes_them(
    dims: list[int], kind: int, as_node: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    array = np.zeros(dims, helper.tensor_dtype_to_np_dtype(kind))
    tensor = numpy_helper.from_array(array, "c")
    add = helper.make_node("Identity", ["c"], ["y"], "identity")
    constant = [helper.make_node("Constant", [], ["c"], "c", value=tensor)] if as_node else []
    graph = helper.make_graph(
        [*constant, add],
        "g",
        [],
        [helper.make_tensor_value_info("y", kind, dims)],
        [] if as_node else [tensor],
    )
    path = tmp_path_factory.mktemp("constants") / "m.onnx"
    onnx.save(helper.make_model(graph), path)
    few = array.size <= 100 and kind != TensorProto.FLOAT
    assert (("Identity", "identity") in size_nodes(read_onnx_file(path).graph)) is few


# --- TensorRT's library --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("installed", "got"), [(None, "no tensorrt package"), ("11.4.0.106", "tensorrt 11.4.0.106")]
)
def test_the_tensorrt_that_the_provider_needs_is_looked_for_first(
    installed: str | None, got: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("tensorrt")
    module.__dict__["__version__"] = installed
    monkeypatch.setitem(sys.modules, "tensorrt", module if installed else None)
    monkeypatch.setattr(onnxruntime_nvinfer, "_needed", lambda _provider: 987)
    text = (
        "open_backend: backend onnxruntime-tensorrt needs TensorRT 987 (libnvinfer.so.987), "
        f"got {got}; pip uninstall tensorrt, then pip install 'fcnkit[onnxruntime-tensorrt]', "
        "or use backend='onnxruntime-cuda'"
    )
    with refusal(BackendUnavailableError, text):
        check_nvinfer(onnxruntime)


def test_the_version_stands_in_the_providers_file(tmp_path: Path) -> None:
    provider = tmp_path / "libonnxruntime_providers_tensorrt.so"
    assert onnxruntime_nvinfer._needed(provider) == 10
    provider.write_bytes(b"\x7fELF" + bytes(100) + b"libnvinfer.so.11\0libnvonnxparser.so.11\0")
    assert onnxruntime_nvinfer._needed(provider) == 11
    provider.write_bytes(b"\x7fELF")
    assert onnxruntime_nvinfer._needed(provider) == 10


# --- what the providers are told -----------------------------------------------------------------


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The providers that a session would be made with, in an onnxruntime with GPU providers."""
    found: list[Any] = []

    def session(_model: Any, _options: Any, providers: Any) -> Any:
        found[:] = providers
        return SimpleNamespace(get_providers=lambda: [name for name, _ in providers])

    available = list(ours.PROVIDERS.values())
    monkeypatch.setattr(ours, "_quiet_session", session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    monkeypatch.setattr(ours, "check_nvinfer", lambda _library: None)
    return found


def test_the_cuda_provider_takes_what_it_needs_and_no_more_than_there_is(told: list[Any]) -> None:
    given: dict[str, Any] = {"threads": 1, "where": "m", "cuda_options": {"gpu_mem_limit": "900"}}
    create_session(b"", name="onnxruntime-cuda", provider_options={"device_id": "0"}, **given)
    wanted = {
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
        "device_id": "0",
        "gpu_mem_limit": "900",
    }
    assert told == [(CUDA, wanted)]
    options = {"gpu_mem_limit": "5", "arena_extend_strategy": "kNextPowerOfTwo"}
    create_session(b"", name="onnxruntime-cuda", options=options, **given)
    assert (told[0][1]["gpu_mem_limit"], told[0][1]["arena_extend_strategy"]) == (
        *("5", "kNextPowerOfTwo"),
    )
    trt = {"device_id": "0", "trt_engine_cache_enable": "1"}
    create_session(b"", name="onnxruntime-tensorrt", provider_options=trt, **given)
    assert told == [("TensorrtExecutionProvider", trt), (CUDA, wanted)]


@pytest.mark.parametrize(
    ("head", "shapes"),
    [
        ("labels", ("image:1x32x32x3", "image:1x32x32x3", "image:16x1024x1024x3")),
        ("logits", ("image:1x3x32x32", "image:1x3x32x32", "image:16x3x1024x1024")),
        ("scene", ("image:1x32x32x3", "image:1x32x32x3", "image:1x1024x1024x3")),
    ],
)
def test_tensorrt_gets_profile_and_cache_from_the_spec(
    tmp_path: Path, head: Head, shapes: tuple[str, str, str]
) -> None:
    path, spec = tmp_path / "m.onnx", make_spec(head)
    narrowed, options = tensorrt_options(path, spec, {})
    low, opt, high = shapes
    cache = str(tmp_path / "m.onnx.tensorrt")
    assert options == {
        "trt_profile_min_shapes": low,
        "trt_profile_opt_shapes": opt,
        "trt_profile_max_shapes": high,
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": cache,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": cache,
    }
    assert narrowed.shapes.max == (1 if head == "scene" else 16, 1024, 1024)
    assert set(options) <= set(onnxruntime_options_of_tensorrt())
    own = {"trt_profile_max_shapes": "image:1x64x64x3", "trt_engine_cache_path": "/elsewhere"}
    assert tensorrt_options(path, spec, own) == (spec, {})


def test_an_engine_that_cannot_be_kept_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime_nvinfer.os, "access", lambda *_: False)
    path = tmp_path / "m.onnx"
    with pytest.warns(ModelWarning) as caught:
        _, options = tensorrt_options(path, make_spec("labels"), {})
    assert not [key for key in options if "cache" in key]
    assert [str(one.message) for one in caught] == [
        f"{path}: its folder must be writable, got {tmp_path}, which is not; "
        "the engine is built at every start"
    ]


def onnxruntime_options_of_tensorrt() -> tuple[str, ...]:
    from fcnkit.runtime.backends import onnxruntime_options

    return onnxruntime_options._OF_PROVIDER["onnxruntime-tensorrt"]


def test_auto_passes_over_a_gpu_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = "cudaErrorDevicesUnavailable (busy)"

    def busy(*_: Any, **__: Any) -> Any:
        raise FcnkitError(message("GPU 0", "cudaSetDevice must succeed", got, "look"))

    monkeypatch.setattr(opening, "has_driver", lambda: True)
    monkeypatch.setattr(onnxruntime_cuda, "open_onnxruntime_cuda", busy)
    path = write_model(tmp_path / "m.onnx", make_spec("labels"))
    fact = f"cudaSetDevice must succeed, got {got}"
    with open_backend(path) as backend:
        assert backend.name == "onnxruntime"
        assert backend.details["auto"] == (
            "onnxruntime is the first choice for fp32 files of those that open here, "
            f"no onnxruntime-cuda ({fact}), no onnxruntime-tensorrt ({fact})"
        )


# --- a session that cannot be opened -------------------------------------------------------------


class Session:
    """Can be pointed at weakly."""


class WatchingCuda(FakeCuda):
    def destroy_stream(self, stream: int) -> None:
        assert self.session() is None, "the stream goes before the session that computes on it"
        super().destroy_stream(stream)

    session: Any = None


@pytest.mark.parametrize("failing", ["create_session", "check_session", "check_assignment"])
def test_a_session_that_fails_goes_before_its_stream(
    failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = WatchingCuda()
    cuda.activate()
    calls: Counter[str] = Counter()

    def step(name: str) -> Callable[..., Any]:
        def call(*_: Any, **options: Any) -> Any:
            calls[name] += 1
            session = Session() if name == "create_session" else None
            if session is not None:
                cuda.session = weakref.ref(session)
                assert options["provider_options"]["user_compute_stream"] in map(str, cuda.streams)
                assert options["cuda_options"] == {"gpu_mem_limit": str(int(0.9 * cuda.limit))}
            if name == failing:
                try:
                    raise RuntimeError("the library's own")
                except RuntimeError as error:
                    raise ArtifactError("m: the test, got this; look") from error
            return session

        return call

    for name in ("create_session", "check_session", "check_assignment"):
        monkeypatch.setattr(onnxruntime_cuda, name, step(name))
    spec: ModelSpec = make_spec("labels")
    request = BackendRequest(backend="onnxruntime-cuda", threads=1)
    with refusal(ArtifactError, "m: the test, got this; look"):
        onnxruntime_cuda._open_session(Path("m"), spec, cuda, request, {})
    assert calls[failing] == 1
    assert cuda.alive == 0
