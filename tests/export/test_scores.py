"""Head ``scores``: which networks have it, what its file holds, and that its labels are right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import fcnkit
from fcnkit.errors import VerifyError
from fcnkit.export.adopt import Claims, adopt
from fcnkit.export.full_logits import full_logits
from fcnkit.export.subject import open_subject
from fcnkit.export.to_onnx import export_onnx
from fcnkit.export.verification import require, verify
from fcnkit.runtime.artifacts.description import describe
from fcnkit.runtime.artifacts.last_layer import read_in_onnx
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from fcnkit.runtime.artifacts.spec import LastLayer, ModelSpec, Precision
from fcnkit.train.models import SubpixelConvTranspose2d
from tests.reference import upsampling
from tests.refusal import refusal
from tests.runtime.models import make_layer
from tests.train.networks import lively, save_network

SMALL = 96 * 96


def spec_of(path: Path) -> ModelSpec:
    return read_onnx_file(path).spec(where=str(path))


def exported(tmp_path: Path, net: Any, architecture: str, **options: Any) -> Path:
    save_network(net, architecture, tmp_path / "x.pt")
    out = tmp_path / f"{options.get('head', 'default')}.onnx"
    export_onnx(tmp_path / "x.pt", out, max_pixels=SMALL, **options)
    return out


@pytest.mark.parametrize(
    ("architecture", "stride"),
    [
        ("fcn32s-resnet18", 32),
        ("fcn16s-resnet18", 16),
        ("fcn8s-resnet18", 8),
        ("deeplabv3-resnet18", 16),
        ("deeplabv3os8-resnet18", 8),
        ("ddrnet23slim", 8),
        ("ddrnet23slim4", 4),
        ("lraspp-mobilenet_v3_large", 8),
    ],
)
def test_without_a_head_it_writes_scores(architecture: str, stride: int, tmp_path: Path) -> None:
    net = lively(architecture)
    path = exported(tmp_path, net, architecture)
    spec = spec_of(path)
    assert spec.head == "scores"
    layer = read_in_onnx(path, spec)
    assert layer is not None
    assert spec.last_layer == layer.described()
    assert (layer.stride, layer.border, layer.weight.ndim) == (stride, "zero", 4)
    last = net.last_step
    assert isinstance(last, SubpixelConvTranspose2d)
    assert np.array_equal(layer.weight, last.weight.detach().numpy())
    assert np.array_equal(layer.bias, last.bias.detach().numpy())
    image = np.random.default_rng(0).integers(0, 256, (70, 133, 3), np.uint8)
    with fcnkit.load(path, threads=1) as scores, fcnkit.load(tmp_path / "x.pt") as source:
        assert (scores(image) == source(image)).mean() > 0.999


@pytest.mark.parametrize(
    ("architecture", "why"),
    [
        ("unet", "whose last step does not enlarge class scores"),
        ("unet-resnet18", "whose last layer upsamples features"),
        ("fpn-resnet18", "whose last layer upsamples features"),
    ],
)
def test_networks_that_end_in_features(architecture: str, why: str, tmp_path: Path) -> None:
    save_network(lively(architecture), architecture, tmp_path / "x.pt")
    text = (
        "--head: scores is for networks whose last layer enlarges class scores, "
        f"got {architecture}, {why}; use --head labels or logits"
    )
    with refusal(ValueError, text):
        export_onnx(tmp_path / "x.pt", tmp_path / "x.onnx", head="scores")
    assert not (tmp_path / "x.onnx").exists()


def test_without_a_head_they_get_logits(tmp_path: Path) -> None:
    assert spec_of(exported(tmp_path, lively("unet"), "unet")).head == "logits"


def test_a_layer_that_mixes_no_classes_is_stored_as_its_diagonal(tmp_path: Path) -> None:
    net = lively("fcn8s-resnet18", 40)
    weight = net.last_step.weight
    with torch.no_grad():
        weight.mul_(torch.eye(40)[:, :, None, None])
    path = exported(tmp_path, net, "fcn8s-resnet18")
    layer = read_in_onnx(path, spec_of(path))
    assert layer is not None
    assert np.array_equal(layer.weight, weight.detach().numpy()[range(40), range(40)])


def test_a_dense_layer_of_many_classes_is_left_in_the_graph(tmp_path: Path) -> None:
    save_network(lively("fcn8s-resnet18", 33), "fcn8s-resnet18", tmp_path / "x.pt")
    text = (
        "--head: scores is for networks whose last layer enlarges class scores, got "
        "fcn8s-resnet18, whose last layer mixes 33 classes, more than 32; "
        "use --head labels or logits"
    )
    with refusal(ValueError, text):
        export_onnx(tmp_path / "x.pt", tmp_path / "x.onnx", head="scores")
    export_onnx(tmp_path / "x.pt", tmp_path / "x.onnx", max_pixels=SMALL)
    assert spec_of(tmp_path / "x.onnx").head == "logits"


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_other_precisions(precision: Precision, shapes_folder: Path, tmp_path: Path) -> None:
    options = {"calibration": shapes_folder / "JPEGImages"} if precision == "int8" else {}
    path = exported(
        tmp_path, lively("fcn8s-resnet18"), "fcn8s-resnet18", precision=precision, **options
    )
    assert (spec_of(path).head, spec_of(path).precision) == ("scores", precision)


def test_info_prints_the_size(exported: dict[str, Path]) -> None:
    found = describe(exported["scores"])["spec"]["last_layer"]
    classes = len(describe(exported["scores"])["spec"]["classes"])
    assert found["bytes"] == 4 * (classes**2 * 64**2 + classes)
    assert (found["stride"], found["border"], found["form"]) == (32, "zero", "dense")


def test_wrong_weights_of_the_last_layer_fail_the_verification(
    exported: dict[str, Path], tmp_path: Path
) -> None:
    """Even where the spec describes them: the labels are compared with the checkpoint's."""
    model = onnx.load(exported["scores"])
    spec = spec_of(exported["scores"])
    layer = read_in_onnx(exported["scores"], spec)
    assert layer is not None
    wrong = replace(layer, weight=np.ascontiguousarray(layer.weight[:, ::-1]))
    for tensor in model.graph.initializer:
        if tensor.name.endswith("last_layer.weight"):
            tensor.CopyFrom(numpy_helper.from_array(wrong.weight, tensor.name))
    spec = replace(spec, last_layer=wrong.described(), source=replace(spec.source, parity=None))
    helper.set_model_props(model, {"fcnkit.spec": spec.to_json()})
    onnx.save(model, tmp_path / "wrong.onnx")
    with (
        open_subject(exported["logits"]) as right,
        open_subject(tmp_path / "wrong.onnx") as other,
        pytest.raises(VerifyError, match="max error"),
    ):
        require(verify(right, other, max_pixels=SMALL), remedy="none")


@pytest.mark.parametrize("border", ["zero", "edge"])
@pytest.mark.parametrize("form", ["dense", "diagonal"])
def test_the_full_evaluation_of_the_verification(border: Any, form: Any) -> None:
    layer = make_layer(border, form)
    scores = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype(np.float32)
    for one, logits in zip(scores, full_logits(scores, layer), strict=True):
        expected = upsampling.upsampled(one, layer.weight, layer.bias, layer.stride, border)
        assert np.allclose(logits, expected, rtol=0, atol=1e-12)


# Networks from elsewhere.


def foreign(
    path: Path,
    *,
    stride: int = 8,
    mode: str = "linear",
    rule: str = "half_pixel",
    free: bool = True,
) -> Path:
    """A network that enlarges its scores to the size of the image by a Resize."""
    random = np.random.default_rng(1)
    kernel = random.normal(0, 0.2, (5, 3, stride, stride)).astype(np.float32)
    tensors = [numpy_helper.from_array(kernel, "kernel")]
    nodes = [helper.make_node("Conv", ["x", "kernel"], ["coarse"], strides=[stride] * 2)]
    if free:
        tensors += [numpy_helper.from_array(np.array([5]), "five")]
        nodes += [
            helper.make_node("Shape", ["x"], ["batch"], start=0, end=1),
            helper.make_node("Shape", ["x"], ["sides"], start=2, end=4),
            helper.make_node("Concat", ["batch", "five", "sides"], ["sizes"], axis=0),
        ]
    else:
        tensors += [numpy_helper.from_array(np.array([1, 5, 64, 96]), "sizes")]
    options = {"mode": mode, "coordinate_transformation_mode": rule}
    nodes += [helper.make_node("Resize", ["coarse", "", "", "sizes"], ["y"], **options)]
    dims = ["n", 3, "h", "w"] if free else [1, 3, 64, 96]
    out = ["n", 5, "h", "w"] if free else [1, 5, 64, 96]
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


CLAIMS = Claims(mean=(0.0,) * 3, std=(1.0,) * 3, scale=1, color="RGB", classes=5)


def labels_of(path: Path, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    with fcnkit.load(path, threads=1) as segmenter:
        return segmenter(image)


@pytest.mark.parametrize(
    ("stride", "rule", "free"),
    [(8, "half_pixel", True), (8, "pytorch_half_pixel", False), (6, "half_pixel", True)],
)
def test_a_bilinear_resize_becomes_the_last_layer(
    stride: int, rule: str, free: bool, tmp_path: Path
) -> None:
    source = foreign(tmp_path / "x.onnx", stride=stride, rule=rule, free=free)
    for head in ("scores", "logits"):
        adopt(source, tmp_path / f"{head}.onnx", claims=CLAIMS, head=head, max_pixels=SMALL)
    spec = spec_of(tmp_path / "scores.onnx")
    assert spec.last_layer is not None
    described = replace(spec.last_layer, sha256="")
    assert described == LastLayer(
        stride=stride,
        border="edge",
        form="diagonal",
        bytes=4 * (5 * 4 * stride**2 + 5),
        sha256="",
    )
    assert spec.input.multiple == stride
    ops = [node.op_type for node in onnx.load(tmp_path / "scores.onnx").graph.node]
    assert ops == ["Conv"]
    height, width = (64, 96) if stride == 8 else (66, 96)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    assert np.array_equal(
        labels_of(tmp_path / "scores.onnx", image), labels_of(tmp_path / "logits.onnx", image)
    )


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            {"rule": "align_corners"},
            "whose last step is a Resize of mode linear and align_corners",
        ),
        ({"mode": "nearest"}, "whose last step is a Resize of mode nearest and half_pixel"),
        ({"mode": "cubic"}, "whose last step is a Resize of mode cubic and half_pixel"),
        ({"stride": 7}, "whose scores are enlarged by 7"),
    ],
)
def test_other_resizes_stay_in_the_graph(options: Any, why: str, tmp_path: Path) -> None:
    source = foreign(tmp_path / "x.onnx", **options)
    text = (
        "--head: scores is for networks whose last layer enlarges class scores, "
        f"got x, {why}; use --head labels or logits"
    )
    with refusal(ValueError, text):
        adopt(source, tmp_path / "y.onnx", claims=CLAIMS, head="scores", max_pixels=SMALL)
