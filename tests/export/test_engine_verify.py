"""The comparison of an engine with its ONNX file: an ONNX session or a fake GPU is the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from fcnkit.errors import BackendUnavailableError, VerifyError
from fcnkit.export import engine_verify
from fcnkit.export.engine_verify import check_built_engine, compare_engine
from fcnkit.export.subject import Subject
from fcnkit.runtime.artifacts.engine_file import EngineFile, read_engine_file
from fcnkit.runtime.artifacts.spec import Head, ModelSpec, ShapeRange, hull
from fcnkit.runtime.backends import tensorrt_library
from fcnkit.runtime.backends.base import Backend
from fcnkit.runtime.backends.cuda_backend import CudaBackend
from fcnkit.runtime.backends.opening import open_backend
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.backends.tensorrt import TensorRtExecutor
from tests.runtime.engines import PROFILES, make_sidecar, rtx_plan, write_engine
from tests.runtime.fake_cuda import FakeCuda
from tests.runtime.fake_tensorrt import FakeTensorRt
from tests.runtime.models import make_info, make_spec, write_model

SHAPES = (
    "1x32x32, 1x64x96, 2x96x64, 2x64x128, 2x64x96, 1x128x128, 2x128x128, 4x192x288, 3x64x160, "
    "2x288x416, 3x224x352, 1x512x512, 16x128x128"
)
REMEDY = "this is a bug of the exporter or the library, please report it"


def onnx_side(backend: Backend) -> Subject:
    return Subject(backend, name="m.onnx", kind="onnx", sha256=None)


def engine_side(backend: Backend, profiles: tuple[ShapeRange, ...] = PROFILES) -> Subject:
    return Subject(backend, name="m.engine", kind="engine", sha256=None, profiles=profiles)


def changed(source: Path, out: Path, rule: Callable[[str, np.ndarray], np.ndarray]) -> Path:
    """Copy an ONNX file with other weights."""
    model = onnx.load(source)
    for tensor in model.graph.initializer:
        values = np.float32(rule(tensor.name, numpy_helper.to_array(tensor)))
        if values.dtype == numpy_helper.to_array(tensor).dtype:
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, out)
    return out


def wrong_bias(name: str, values: np.ndarray) -> np.ndarray:
    return values + np.array([9, 0, 0, 0]) if name == "bias" else values


@pytest.mark.parametrize("head", ["logits", "labels"])
def test_the_same_network_agrees_in_every_shape_a_cpu_can_follow(
    head: Head, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "m.onnx", make_spec(head))
    with open_backend(model, backend="onnxruntime") as backend:
        line = compare_engine(onnx_side(backend), engine_side(backend))
    errors = "max error 0.0e+00, mean error 0.0e+00, " if head == "logits" else ""
    margin = ", largest margin 0.0e+00" if head == "logits" else ""
    assert line == f"{errors}label agreement 100.0000 %{margin} ({SHAPES})"


def test_changed_weights_are_caught(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", make_spec("labels"))
    with (
        open_backend(
            changed(model, tmp_path / "c.onnx", wrong_bias), backend="onnxruntime"
        ) as ours,
        open_backend(model, backend="onnxruntime") as theirs,
    ):
        rule = "must agree with m.onnx within the tolerance of fp32"
        got = (
            r"label agreement \S+ % below 99\.99 %, "
            r"label agreement of a picture \S+ % below 99\.9 %"
        )
        with pytest.raises(VerifyError, match=rf"\Am\.engine: {rule}, got {got}; {REMEDY}\Z"):
            compare_engine(onnx_side(theirs), engine_side(ours))


class Spoiled:
    """Stands for an engine: the network, but for what ``spoil`` makes of its results."""

    def __init__(self, backend: Backend, spoil: Callable[[Any, Any], Any]) -> None:
        self.backend, self.spoil = backend, spoil
        self.spec, self.info = backend.spec, backend.info
        self.details = backend.details

    def infer(self, batch: Any) -> Any:
        return self.spoil(batch, self.backend.infer(batch))


def first_pixels(batch: Any, pixels: int) -> Any:
    """1 in the first pixels of the smallest picture."""
    count, height, width, _ = batch.shape
    first = np.arange(height * width).reshape(height, width) < pixels
    return np.uint8(first & ((count, height, width) == (1, 32, 32)))


def only_second(batch: Any, labels: Any) -> Any:
    """Wrong in the second picture of every batch, as engines are that are right at batch 1."""
    labels = labels.copy()
    labels[1:2] = (labels[1:2] + 1) % 4
    return labels


@pytest.mark.parametrize(
    ("head", "spoil", "text"),
    [
        (
            "labels",
            lambda batch, labels: (labels + first_pixels(batch, 2)) % 4,
            "label agreement of a picture 99.8047 % below 99.9 %; ",
        ),
        ("labels", only_second, "label agreement "),
        (
            "logits",
            lambda _, logits: 1.5 * logits,
            "max error 5.0e-01 above 1e-03, mean error ",
        ),
        (
            "scene",
            lambda batch, labels: (labels + (batch.shape[1] % 32 > 0)) % 4,
            "label agreement ",
        ),
    ],
)
def test_no_picture_outvotes_another(tmp_path: Path, head: Head, spoil: Any, text: str) -> None:
    """The smallest shape has a thousandth of all pixels; scene graphs cut at other sizes only."""
    model = write_model(tmp_path / "m.onnx", make_spec(head))
    most = 1 if head == "scene" else 2
    profile = ShapeRange(min=(1, 32, 32), opt=(1, 320, 480), max=(most, 1024, 1024))
    with (
        open_backend(model, backend="onnxruntime") as backend,
        pytest.raises(VerifyError) as caught,
    ):
        engine: Any = Spoiled(backend, spoil)
        compare_engine(onnx_side(backend), engine_side(engine, (profile,)))
    begin = "m.engine: must agree with m.onnx within the tolerance of fp32, got "
    assert str(caught.value).startswith(begin + text)


def test_fp16_may_fall_otherwise_on_a_few_ties(tmp_path: Path) -> None:
    spec = replace(make_spec("logits"), precision="fp16")
    model = write_model(tmp_path / "m.onnx", make_spec("logits"))
    half = changed(model, tmp_path / "half.onnx", lambda _, values: np.float16(values))
    with (
        open_backend(half, backend="onnxruntime") as ours,
        open_backend(model, backend="onnxruntime") as theirs,
    ):
        ours._spec = spec
        line = compare_engine(onnx_side(theirs), engine_side(ours))
        assert "label agreement 100.0000 %" not in line
        ours._spec = make_spec("logits")
        with pytest.raises(VerifyError):
            compare_engine(onnx_side(theirs), engine_side(ours))


class Built:
    """An engine file, and a fake library and GPU that run a network in its place."""

    def __init__(self, folder: Path, *, network: Path) -> None:
        spec = replace(make_spec("labels"), shapes=hull(PROFILES))
        plan = rtx_plan()
        self.path = folder / "m.engine"
        write_engine(self.path, plan, make_sidecar(plan, spec=spec))
        self.cuda = FakeCuda()
        self.cuda.activate()
        session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
        self.trt = FakeTensorRt(session, spec, PROFILES, self.cuda, rtx=True)

    def open(self, path: Path, request: BackendRequest) -> CudaBackend:
        file: EngineFile = read_engine_file(path)
        executor = TensorRtExecutor(self.trt, file, self.cuda, options=request.options)
        return CudaBackend(self.cuda, executor, name=file.flavor, info=make_info("gpu"))


def test_a_built_engine_is_run_by_its_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_library, "_loggers", {})
    model = write_model(tmp_path / "m.onnx", make_spec("labels"))
    built = Built(tmp_path, network=model)
    monkeypatch.setattr(engine_verify, "open_model", built.open)
    check = check_built_engine(built.trt, built.path, model, name="labels.engine")
    assert check.verified == f"label agreement 100.0000 % ({SHAPES})"
    assert (check.inspected, check.reason) == (None, None)
    batches = {call[1][0] for call in built.trt.calls if call[0] == "set_input_shape"}
    assert batches == {1, 2, 3, 4, 16}


def test_a_built_engine_that_is_wrong_or_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_library, "_loggers", {})
    model = write_model(tmp_path / "m.onnx", make_spec("labels"))
    built = Built(tmp_path, network=changed(model, tmp_path / "c.onnx", wrong_bias))
    monkeypatch.setattr(engine_verify, "open_model", built.open)
    begin = "labels.engine: must agree with m.onnx within the tolerance of fp32, got label agree"
    with pytest.raises(VerifyError) as caught:
        check_built_engine(built.trt, built.path, model, name="labels.engine")
    assert str(caught.value).startswith(begin)

    def refuse(_path: Path, _request: BackendRequest) -> CudaBackend:
        raise BackendUnavailableError("no GPU here")

    monkeypatch.setattr(engine_verify, "open_model", refuse)
    check = check_built_engine(built.trt, built.path, model, name="labels.engine")
    assert (check.verified, check.reason) == (None, "no GPU here")


def test_specs_of_other_models_are_not_compared(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", make_spec("labels"))
    other: ModelSpec = replace(make_spec("labels"), architecture="conv7")
    with (
        open_backend(model, backend="onnxruntime") as ours,
        open_backend(model, backend="onnxruntime") as theirs,
        pytest.raises(VerifyError) as caught,
    ):
        ours._spec = other
        compare_engine(onnx_side(theirs), engine_side(ours))
    assert str(caught.value) == (
        "m.engine: its spec key architecture must be that of m.onnx, conv5, got conv7; "
        "export the model again, or compare it with the file it was made from"
    )
