"""The backends against the network they run, and every way a file or batch can be wrong."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import fcnkit
from fcnkit.errors import (
    ArtifactError,
    BackendUnavailableError,
    MissingExtraError,
    ModelWarning,
)
from fcnkit.runtime import list_backends, open_backend
from fcnkit.runtime.artifacts.onnx_file import TensorInfo, read_onnx_file
from fcnkit.runtime.artifacts.spec import METADATA_KEY, Head
from fcnkit.runtime.backends import opening
from fcnkit.runtime.backends.base import nearest_legal
from fcnkit.runtime.backends.cuda import has_driver
from fcnkit.runtime.backends.openvino import int8_overflows
from fcnkit.runtime.backends.registry import BACKENDS as ROWS
from fcnkit.runtime.backends.settings import usable_cores
from fcnkit.runtime.backends.tiny import TINY_MODEL
from tests.export.typed import write_typed
from tests.openvino_core import openvino_core
from tests.reference.segment import assert_same_labels, network
from tests.refusal import refusal
from tests.runtime.models import (
    CLASSES,
    MEAN,
    OPSET,
    STD,
    make_spec,
    noise_batch,
    weights,
    write_model,
)

BACKENDS = ("onnxruntime", "openvino")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, shape, np.uint8)


def normalized(images: np.ndarray) -> np.ndarray:
    floats = (images / np.float32(255) - np.array(MEAN)) / np.array(STD)
    return np.ascontiguousarray(floats.transpose(0, 3, 1, 2).astype(np.float32))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 64, 96)])
def test_logits_are_the_network(tmp_path: Path, backend: str, shape: tuple[int, int, int]) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("logits"))
    images = noise(*shape, 3)
    with open_backend(path, backend=backend, threads=2) as opened:
        logits = opened.infer(normalized(images))
    assert logits.dtype == np.float32
    assert logits.shape == (shape[0], len(CLASSES), *shape[1:])
    for image, got in zip(images, logits, strict=True):
        want = network(image, *weights(), MEAN, STD).transpose(2, 0, 1)
        np.testing.assert_allclose(got, want, atol=2e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("head", "shape"), [("labels", (2, 64, 32)), ("scene", (1, 51, 77))])
def test_labels_are_the_network(
    tmp_path: Path, backend: str, head: Head, shape: tuple[int, int, int]
) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec(head))
    images = noise(*shape, 3)
    with open_backend(path, backend=backend) as opened:
        labels = opened.infer(images)
    assert labels.shape == shape
    for image, got in zip(images, labels, strict=True):
        assert_same_labels(got, network(image, *weights(), MEAN, STD))


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_belong_to_the_caller_and_inputs_stay(tmp_path: Path, backend: str) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("logits"))
    first, second = normalized(noise(1, 32, 32, 3)), np.zeros((1, 3, 32, 32), np.float32)
    kept = first.copy()
    with open_backend(path, backend=backend) as opened:
        one = opened.infer(first)
        copy = one.copy()
        opened.infer(second)
        assert np.array_equal(one, copy)
        one[:] = 0  # writable
        assert np.array_equal(opened.infer(first[:, :, ::-1, :][:, :, ::-1, :]), copy)
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("backend", BACKENDS)
def test_details_say_what_runs(tmp_path: Path, backend: str) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("labels"))
    with open_backend(path, backend=backend, threads=1) as opened:
        details = opened.details
        assert opened.name == backend
        assert opened.spec == make_spec("labels")
    library, version = str(details.pop("library")).split(" ")
    assert library == ROWS[backend].module
    assert version[0].isdigit()
    expected = {
        "onnxruntime": {"provider": "CPUExecutionProvider", "threads": 1, "compute": "fp32"},
        "openvino": {"provider": "CPU", "threads": 1, "compute": "fp32"},
    }
    assert details == expected[backend]


def test_auto_takes_onnxruntime_on_a_cpu_and_says_so(tmp_path: Path) -> None:
    if has_driver():
        pytest.skip("this machine has a CUDA driver")
    with open_backend(write_model(tmp_path / "m.onnx", make_spec("labels"))) as opened:
        assert opened.name == "onnxruntime"
        assert opened.details["threads"] == usable_cores()
        assert opened.details["auto"] == (
            "onnxruntime is the first choice for fp32 files of those that open here"
        )


def test_auto_passes_over_what_does_not_open_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("labels"))
    monkeypatch.setattr(opening, "has_driver", lambda: True)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    missing = "needs the package onnxruntime, got no such package"
    with open_backend(path) as opened:
        assert opened.name == "openvino"
        assert opened.details["auto"] == (
            "openvino is the first choice for fp32 files of those that open here, "
            f"no onnxruntime-cuda ({missing}), no onnxruntime-tensorrt ({missing}), "
            f"no onnxruntime ({missing})"
        )
    monkeypatch.setitem(sys.modules, "openvino", None)
    text = (
        "open_backend: needs the package openvino, got no such package; "
        "pip install 'fcnkit[openvino]'"
    )
    with refusal(MissingExtraError, text):
        open_backend(path)


def test_auto_takes_openvino_for_int8(tmp_path: Path) -> None:
    if has_driver():
        pytest.skip("this machine has a CUDA driver")
    path = write_typed(tmp_path / "m.onnx", ("int8", "int8"), says="int8")
    with warnings.catch_warnings():
        if int8_overflows():
            warnings.simplefilter("ignore", ModelWarning)
        with open_backend(path) as opened:
            assert opened.name == "openvino"


def test_auto_takes_what_computes_as_asked(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("labels"))
    capabilities = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if has_driver() or "BF16" not in capabilities:
        pytest.skip("bfloat16 is not computed by OpenVINO alone here")
    with open_backend(path, compute="bf16") as opened:
        assert (opened.name, opened.details["compute"]) == ("openvino", "bf16")
        assert opened.details["auto"] == (
            "openvino is the first choice for fp32 files of those that open here, "
            "no onnxruntime (onnxruntime must compute in bf16, got a graph in fp32)"
        )


@pytest.mark.parametrize("compute", ["fp32", "bf16", "fp16"])
def test_openvino_computes_what_was_asked_or_refuses(tmp_path: Path, compute: str) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("labels"))
    refused = rf"openvino must compute in {compute}, got a CPU where it takes (fp32|bf16|fp16); "
    try:
        opened = open_backend(path, backend="openvino", compute=compute)  # type: ignore[arg-type]
    except BackendUnavailableError as error:
        remedy = "use compute='fp32' or compute='auto'"
        if not re.fullmatch(f"open_backend: {refused}{remedy}", str(error)):
            raise
        assert compute != "fp32"
    else:
        with opened:
            assert opened.details["compute"] == compute


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_short_names_of_precisions_are_taken_and_never_shown(tmp_path: Path, backend: str) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("labels"))
    with open_backend(path, backend=backend, compute="f32") as opened:  # type: ignore[arg-type]
        assert opened.details["compute"] == "fp32"
    text = "open_backend: onnxruntime must compute in fp16, got a graph in fp32; "
    with pytest.raises(BackendUnavailableError) as caught:
        open_backend(path, backend="onnxruntime", compute="f16")  # type: ignore[arg-type]
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("backend", BACKENDS)
def test_auto_computes_what_the_file_says(tmp_path: Path, backend: str) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("labels"))
    for compute in ("auto", "fp32"):
        with open_backend(path, backend=backend, compute=compute) as opened:  # type: ignore[arg-type]
            assert opened.details["compute"] == "fp32"


def test_onnxruntime_computes_in_the_types_of_the_graph(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("labels"))
    text = (
        "open_backend: onnxruntime must compute in bf16, got a graph in fp32; "
        "export with another --precision, or leave compute out"
    )
    with refusal(BackendUnavailableError, text):
        open_backend(path, backend="onnxruntime", compute="bf16")


def test_an_unknown_precision(tmp_path: Path) -> None:
    text = (
        "open_backend: compute must be one of auto, fp32, bf16, fp16, got int4; "
        "leave it out for what the file says"
    )
    with refusal(ValueError, text):
        open_backend(tmp_path / "m.onnx", compute="int4")  # type: ignore[arg-type]


LEGAL = "labels.infer: the model takes NxHxW from 1x32x32 to 16x2048x2048 with sides in steps of 32"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("shape", "got"),
    [
        ((1, 33, 32), "1x33x32; the nearest legal shape is 1x64x32"),
        ((1, 32, 31), "1x32x31; the nearest legal shape is 1x32x32"),
        ((1, 0, 32), "1x0x32; the nearest legal shape is 1x32x32"),
        ((0, 32, 32), "0x32x32; the nearest legal shape is 1x32x32"),
        ((17, 32, 32), "17x32x32; the nearest legal shape is 16x32x32"),
        ((1, 32, 2080), "1x32x2080; the nearest legal shape is 1x32x2048"),
    ],
)
def test_illegal_shapes_name_the_nearest_legal_one(
    tmp_path: Path, backend: str, shape: tuple[int, int, int], got: str
) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("labels"))
    text = f"{LEGAL.replace('labels', backend)}, got {got}"
    with open_backend(path, backend=backend) as opened, refusal(ValueError, text):
        opened.infer(np.zeros((*shape, 3), np.uint8))


def test_nearest_legal_of_a_range() -> None:
    spec = make_spec("labels", low=(2, 64, 96), high=(4, 128, 96))
    assert nearest_legal((1, 1, 1), spec) == (2, 64, 96)
    assert nearest_legal((3, 65, 200), spec) == (3, 96, 96)
    assert nearest_legal((9, 128, 96), spec) == (4, 128, 96)


TAKES = {
    "labels": "of uint8, got {}; head labels takes uint8 RGB pictures (N, H, W, 3)",
    "logits": "of float32, got {}; head logits takes a normalized float32 picture (N, 3, H, W)",
}


@pytest.mark.parametrize(
    ("head", "batch", "got"),
    [
        ("labels", [[0]], "list"),
        ("labels", np.zeros((1, 32, 32, 3), np.float32), "array of float32"),
        ("logits", np.zeros((1, 3, 32, 32), np.float64), "array of float64"),
    ],
)
def test_batches_of_another_type_are_refused(
    tmp_path: Path, head: Head, batch: np.ndarray, got: str
) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec(head))
    text = f"onnxruntime.infer: batch must be a numpy array {TAKES[head].format(got)}"
    with open_backend(path) as opened, refusal(TypeError, text):
        opened.infer(batch)


@pytest.mark.parametrize(
    ("head", "shape", "remedy"),
    [
        ("labels", (32, 32, 3), "add the batch axis with batch[None]"),
        ("labels", (32, 3), "pass four axes"),
        ("labels", (1, 3, 32, 32), "pass batch.transpose(0, 2, 3, 1)"),
        ("logits", (1, 32, 32, 3), "pass batch.transpose(0, 3, 1, 2)"),
        ("logits", (1, 1, 32, 32), "pass three channels, RGB"),
    ],
)
def test_batches_of_another_shape_are_refused(
    tmp_path: Path, head: Head, shape: tuple[int, ...], remedy: str
) -> None:
    spec = make_spec(head)
    path = write_model(tmp_path / "m.onnx", spec)
    axes = "(N, H, W, 3)" if head == "labels" else "(N, 3, H, W)"
    text = f"onnxruntime.infer: batch must have shape {axes}, got {shape}; {remedy}"
    with open_backend(path) as opened, refusal(ValueError, text):
        opened.infer(np.zeros(shape, spec.input.dtype))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_closed_backend_refuses(tmp_path: Path, backend: str) -> None:
    opened = open_backend(write_model(tmp_path / "m.onnx", make_spec("labels")), backend=backend)
    opened.close()
    opened.close()
    text = f"{backend}.infer: the backend must be open, got a closed one; open it"
    with refusal(ValueError, text):
        opened.infer(np.zeros((1, 32, 32, 3), np.uint8))


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_missing_file(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "none.onnx"
    text = f"{path}: must be a model file, got no such file; check the path"
    with refusal(ArtifactError, text):
        open_backend(path, backend=backend)
    text = f"{tmp_path}: must be a model file, got a folder; check the path"
    with refusal(ArtifactError, text):
        open_backend(tmp_path, backend=backend)


AGAIN = "copy the file again or export the model again with fcnkit export onnx"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "an empty file"),
        (b"hello world, hello world", "bytes that are not protobuf"),
        (b"\x89PNG\r\n\x1a\n", "a file that ends 2 bytes early or is not protobuf"),
        (b"\x08\x08", "a file without a graph"),
    ],
)
def test_a_file_that_is_not_onnx(tmp_path: Path, backend: str, content: bytes, got: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    text = f"{path}: must be a complete ONNX file, got {got}; {AGAIN}"
    with refusal(ArtifactError, text):
        open_backend(path, backend=backend)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write_model(tmp_path / "whole.onnx", make_spec("logits")).read_bytes()
    path = tmp_path / "m.onnx"
    for length in {*range(0, len(whole), 13), *range(len(whole) - 40, len(whole))}:
        path.write_bytes(whole[:length])
        with pytest.raises(ArtifactError) as caught:
            read_onnx_file(path).spec(where=str(path))
        assert "\n" not in str(caught.value)
    path.write_bytes(whole[:-5])
    text = (
        f"{path}: must be a complete ONNX file, got a file that ends 5 bytes early "
        f"or is not protobuf; {AGAIN}"
    )
    with refusal(ArtifactError, text):
        open_backend(path)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_onnx_file_without_a_spec(tmp_path: Path, backend: str) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("labels"), metadata={"classes": "a,b"})
    rule, remedy = (
        "must hold a model spec (fcnkit.spec)",
        "export the model with fcnkit export onnx",
    )
    with refusal(ArtifactError, f"{path}: the ONNX file {rule}, got none; {remedy}"):
        open_backend(path, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_spec_with_an_unknown_key(tmp_path: Path, backend: str) -> None:
    data = {**json.loads(make_spec("labels").to_json()), "temperature": 2}
    path = write_model(
        tmp_path / "m.onnx", make_spec("labels"), metadata={METADATA_KEY: json.dumps(data)}
    )
    text = (
        f"{path}: spec key temperature: is not a key of this format, got 2; "
        "export the model again with fcnkit export"
    )
    with refusal(ArtifactError, text):
        open_backend(path, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_graph_that_is_not_what_its_spec_says(tmp_path: Path, backend: str) -> None:
    labels, logits = make_spec("labels"), make_spec("logits")
    path = tmp_path / "m.onnx"
    metadata = {METADATA_KEY: logits.to_json()}
    write_model(path, labels, metadata=metadata)
    text = (
        f"{path}: the input must be image float32 (any, 3, any, any) as its spec says, "
        "got image uint8 (N, 32*h, 32*w, 3); export the model again with fcnkit export onnx"
    )
    with refusal(ArtifactError, text):
        open_backend(path, backend=backend)
    write_model(path, labels, output_name="classes")
    text = (
        f"{path}: the output must be labels uint8 (any, any, any) as its spec says, "
        "got classes uint8 (N, 32*h, 32*w); export the model again with fcnkit export onnx"
    )
    with refusal(ArtifactError, text):
        open_backend(path, backend=backend)
    write_model(path, labels, dims=(1, 48, 64))
    text = (
        f"{path}: the input must be image uint8 (1, any, 64, 3) as its spec says, "
        "got image uint8 (1, 48, 64, 3); export the model again with fcnkit export onnx"
    )
    with refusal(ArtifactError, text):
        open_backend(path, backend=backend)
    fixed = make_spec("labels", low=(1, 64, 64), high=(1, 64, 64))
    write_model(path, fixed, dims=(1, 64, 64))
    with open_backend(path, backend=backend) as opened:
        assert opened.infer(noise(1, 64, 64, 3)).shape == (1, 64, 64)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("head", ["logits", "scores", "labels"])
@pytest.mark.parametrize("dims", [(1, 64, 96), (3, 64, 96), ("N", 64, 96), (2, "32*h", "32*w")])
def test_a_graph_of_one_size_narrows_the_legal_shapes(
    tmp_path: Path, backend: str, head: Head, dims: tuple[int | str, int | str, int | str]
) -> None:
    """Whoever fixes sizes after the export, or for a runtime that wants them, has a legal file."""
    path = write_model(tmp_path / "m.onnx", make_spec(head), dims=dims)
    free = write_model(tmp_path / "free.onnx", make_spec(head))
    with open_backend(path, backend=backend) as opened, open_backend(free) as whole:
        limits = (opened.spec.shapes.min, opened.spec.shapes.max)
        for axis, size in enumerate(dims):
            legal = [shape[axis] for shape in limits]
            promised = make_spec(head).shapes
            unfixed = [promised.min[axis], promised.max[axis]]
            assert legal == ([size, size] if isinstance(size, int) else unfixed)
        batch = noise_batch(opened.spec, tuple(map(_number, dims, (1, 64, 64))))
        assert (opened.infer(batch) == whole.infer(batch)).mean() > 0.999 or head != "labels"
        assert np.allclose(opened.infer(batch), whole.infer(batch), atol=1e-4) or head == "labels"
    size = (100, 130) if head != "labels" else (50, 90)  # labels cannot be averaged over tiles
    image_hwc = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    with fcnkit.load(path, backend=backend) as fixed:
        labels_hw = fixed(image_hwc)
        (mapped,) = fixed.map([image_hwc])
    assert labels_hw.shape == size
    assert np.array_equal(mapped.labels_hw, labels_hw)


def _number(dim: int | str, otherwise: int) -> int:
    return dim if isinstance(dim, int) else otherwise


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_graph_that_the_library_cannot_load(tmp_path: Path, backend: str) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("logits"))
    model = onnx.load(path)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, path)
    with pytest.raises(ArtifactError) as caught:
        open_backend(path, backend=backend)
    text = str(caught.value)
    assert text.startswith(f"{path}: {backend} must be able to load the model, got ")
    assert "NoSuchOperator" in text
    assert text.endswith("export it again with fcnkit export onnx, or try another backend")
    assert "\n" not in text


def test_the_reader_agrees_with_the_onnx_package(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("logits"))
    file = read_onnx_file(path)
    model = onnx.load(path)
    assert file.opset == OPSET
    assert file.metadata == {entry.key: entry.value for entry in model.metadata_props}
    image = TensorInfo(name="image", dtype="float32", dims=("N", 3, "32*h", "32*w"))
    logits = TensorInfo(name="logits", dtype="float32", dims=("N", 4, "32*h", "32*w"))
    assert (file.inputs, file.outputs) == ((image,), (logits,))


def test_weights_listed_among_the_inputs_are_not_inputs(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("logits"))
    model = onnx.load(path)
    weight = helper.make_tensor_value_info("bias", TensorProto.FLOAT, [4])
    model.graph.input.append(weight)
    onnx.save(model, path)
    assert [info.name for info in read_onnx_file(path).inputs] == ["image"]


# --- names, threads, missing packages ------------------------------------------------------------


def test_an_unknown_backend(tmp_path: Path) -> None:
    names = ", ".join(("auto", *ROWS))
    text = f"open_backend: backend must be one of {names}, got tflite; see fcnkit doctor"
    with refusal(ValueError, text):
        open_backend(tmp_path / "m.onnx", backend="tflite")


@pytest.mark.parametrize(
    ("name", "backend", "text"),
    [
        (
            "m.engine",
            "onnxruntime",
            (
                "backend onnxruntime runs ONNX files, got m.engine; "
                "open the .onnx file it was built from"
            ),
        ),
        (
            "m.onnx",
            "tensorrt-rtx",
            "backend tensorrt-rtx runs engines, got m.onnx; build one with fcnkit export engine",
        ),
        (
            "m.onnx",
            "torch",
            "backend torch runs checkpoints, got m.onnx; open its best.pt",
        ),
    ],
)
def test_a_backend_that_does_not_run_such_files(
    tmp_path: Path, name: str, backend: str, text: str
) -> None:
    with refusal(ValueError, f"open_backend: {text}"):
        open_backend(tmp_path / name, backend=backend)


def test_spec_is_for_engines(tmp_path: Path) -> None:
    text = (
        f"open_backend: spec= is for engines; an ONNX file holds its own spec, "
        f"got {tmp_path / 'other.onnx'}; leave it out"
    )
    with refusal(ValueError, text):
        open_backend(tmp_path / "m.onnx", spec=tmp_path / "other.onnx")


def test_a_provider_that_is_not_there_is_refused(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has the CUDA provider")
    path = write_model(tmp_path / "m.onnx", make_spec("labels"))
    text = (
        "open_backend: backend onnxruntime-cuda needs CUDAExecutionProvider, "
        "got an onnxruntime without it; pip uninstall onnxruntime, then pip install 'fcnkit[gpu]' "
        "(never both at once) on a machine with an NVIDIA GPU, or use backend='onnxruntime'"
    )
    with refusal(BackendUnavailableError, text):
        open_backend(path, backend="onnxruntime-cuda")


@pytest.mark.parametrize(
    ("threads", "kind", "rule"),
    [
        (0, ValueError, "threads must be at least 1, got 0"),
        (2**31, ValueError, "threads must be at most 1024, got 2147483648"),
        (2.0, TypeError, "threads must be an int, got 2.0"),
        (True, TypeError, "threads must be an int, got True"),
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_wrong_threads(
    tmp_path: Path, backend: str, threads: int, kind: type[Exception], rule: str
) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("labels"))
    with refusal(kind, f"open_backend: {rule}; pass threads=2"):
        open_backend(path, backend=backend, threads=threads)


@pytest.mark.parametrize(("backend", "extra"), [("onnxruntime", "cpu"), ("openvino", "openvino")])
def test_a_missing_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, extra: str
) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("labels"))
    monkeypatch.setitem(sys.modules, backend, None)
    text = (
        f"open_backend: needs the package {backend}, got no such package; "
        f"pip install 'fcnkit[{extra}]'"
    )
    with refusal(MissingExtraError, text):
        open_backend(path, backend=backend)


# --- list_backends -------------------------------------------------------------------------------


def test_list_backends_tries_every_one() -> None:
    pytest.importorskip("torch")
    found = {status.name: status for status in list_backends()}
    assert list(found) == list(ROWS)
    for name in (*BACKENDS, "torch"):
        assert found[name].opens, found[name].detail
        assert found[name].detail.startswith(f"{ROWS[name].module} ")
        assert found[name].remedy == ""


def test_list_backends_tells_an_unfit_machine_from_a_missing_package() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    if has_driver():
        pytest.skip("this machine has a CUDA driver")
    found = {status.name: status for status in list_backends()}["tensorrt-rtx"]
    assert (found.opens, found.detail, found.remedy) == (
        False,
        f"tensorrt_rtx {trt.__version__} is installed, but a CUDA driver and a GPU are needed, "
        "got cudaErrorInsufficientDriver (CUDA driver version is insufficient for CUDA runtime "
        "version)",
        "use a machine with an NVIDIA GPU and its driver; here open the .onnx file with "
        "onnxruntime",
    )


def test_openvino_says_in_what_less_it_computes_here() -> None:
    found = {status.name: status for status in list_backends()}["openvino"]
    has_bf16 = "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert ("bf16" in found.detail) is has_bf16


def test_list_backends_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in ROWS.values():
        monkeypatch.setitem(sys.modules, row.module, None)
    monkeypatch.delitem(sys.modules, "fcnkit.train.backend", raising=False)
    gpu = (
        "on a machine with an NVIDIA GPU: pip uninstall onnxruntime, "
        "then pip install 'fcnkit[{}]' (never both at once)"
    )
    needs = "needs the package {}, got no such package"
    found = {s.name: (s.opens, s.detail, s.remedy) for s in list_backends()}
    assert not any(opens for opens, _, _ in found.values())
    expected = {
        "onnxruntime": ("onnxruntime", "pip install 'fcnkit[cpu]'"),
        "onnxruntime-cuda": ("onnxruntime", gpu.format("gpu")),
        "onnxruntime-tensorrt": ("onnxruntime", gpu.format("onnxruntime-tensorrt")),
        "openvino": ("openvino", "pip install 'fcnkit[openvino]'"),
        "tensorrt": ("tensorrt", "pip install 'fcnkit[tensorrt]'"),
        "tensorrt-rtx": ("tensorrt_rtx", "pip install 'fcnkit[tensorrt-rtx]'"),
        "torch": ("torch", "pip install 'fcnkit[train]'"),
    }
    for name, (module, remedy) in expected.items():
        assert found[name] == (False, needs.format(module), remedy)


def test_the_probe_model_is_the_one_described() -> None:
    pair = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 2, 2]) for name in ("x", "y")
    ]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 1, 1], [2.0])
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    model = helper.make_model(
        helper.make_graph([node], "probe", pair[:1], pair[1:], [weight]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
        producer_name="fcnkit",
    )
    onnx.checker.check_model(model)
    assert base64.b64encode(TINY_MODEL) == base64.b64encode(model.SerializeToString())


@pytest.mark.parametrize("head", ["labels", "scores"])
def test_opening_and_running_prints_nothing(head: Head, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec(head))
    code = (
        "import sys, numpy as np\n"
        "from fcnkit.runtime import list_backends, load\n"
        "list_backends()\n"
        f"for name in {BACKENDS}:\n"
        "    with load(sys.argv[1], backend=name) as segmenter:\n"
        "        segmenter(np.zeros((40, 50, 3), np.uint8))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")
