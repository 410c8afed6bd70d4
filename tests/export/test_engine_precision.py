"""An engine's precision is proved by the parsed network, and by the inspector's report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto

from fcnkit.errors import ArtifactError, VerifyError
from fcnkit.export.engine import build_engine
from fcnkit.export.engine_precision import (
    check_engine,
    check_layers,
    check_tensors,
    compute_layers,
)
from fcnkit.runtime.artifacts.engine_file import read_engine_file
from fcnkit.runtime.artifacts.spec import Precision
from fcnkit.runtime.backends.tensorrt_library import logger_of
from tests.export.typed import write_typed
from tests.refusal import refusal
from tests.runtime.models import make_spec

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")


@pytest.mark.parametrize(
    ("computes", "says", "kept", "counted"),
    [
        (("fp32", "fp32"), "fp32", "", "fp32 in 2 layers"),
        (("fp16", "fp16"), "fp16", "", "fp16 in 2 layers"),
        (("fp16", "fp32"), "fp16", "other, net.last", "fp16 in 1 layer, fp32 in 1 layer"),
        (("int8", "int8"), "int8", "", "int8 in 2 layers"),
        (("fp32", "int8"), "int8", "net.first", "fp32 in 1 layer, int8 in 1 layer"),
    ],
)
def test_what_the_graph_states_is_built(
    computes: tuple[Precision, Precision],
    says: Precision,
    kept: str,
    counted: str,
    tmp_path: Path,
) -> None:
    model = write_typed(tmp_path / "m.onnx", computes, says=says, kept=kept)
    report = build_engine(model, tmp_path / "m.engine", flavor="tensorrt-rtx")
    assert report.precision == counted
    assert read_engine_file(tmp_path / "m.engine").spec.precision == says


BOTH = "fp32 in net.first/Conv, fp32 in net.last/Conv"


@pytest.mark.parametrize(
    ("computes", "says", "kept", "got"),
    [
        (("fp32", "fp32"), "fp16", "", BOTH),
        (("fp32", "fp32"), "int8", "", BOTH),
        (("fp16", "fp16"), "fp32", "", "fp16 in net.first/Conv, fp16 in net.last/Conv"),
        (("fp16", "fp32"), "fp16", "", "fp32 in net.last/Conv"),
        (("int8", "fp32"), "int8", "net.first", "fp32 in net.last/Conv"),
        (("fp32", "fp16"), "int8", "net", "fp16 in net.last/Conv"),
        (("fp32", "fp32"), "int8", "net.fir, net.last", "fp32 in net.first/Conv"),
        (
            ("fp32", "fp32"),
            "int8",
            "net.first, net.last",
            BOTH,
        ),
    ],
)
def test_another_precision_than_the_spec_says_is_refused(
    computes: tuple[Precision, Precision], says: Precision, kept: str, got: str, tmp_path: Path
) -> None:
    """By the reader of the file before the build; the parsed network says the same by itself."""
    model = write_typed(tmp_path / "m.onnx", computes, says=says, kept=kept)
    with pytest.raises(ArtifactError, match=f"layer must compute in {says} as its spec says"):
        build_engine(model, tmp_path / "m.engine", flavor="tensorrt-rtx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    trt, network, _parser = parsed(model)
    spec = replace(make_spec("logits"), precision=says)
    text = (
        f"{model}: must compute in {says} as its spec says, got {got}; "
        f"export it again with fcnkit export onnx --precision {says}"
    )
    with refusal(ArtifactError, text):
        check_layers(compute_layers(trt, network), spec, kept=kept.split(", "), where=str(model))


def parsed(model: Path) -> tuple[Any, Any, Any]:
    """The module, the network, and the parser, which owns the network's weights."""
    import tensorrt_rtx as trt

    logger = logger_of(trt)
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(model))
    return trt, network, parser


def test_an_output_of_another_type_is_refused(tmp_path: Path) -> None:
    half = TensorProto.FLOAT16
    model = write_typed(tmp_path / "m.onnx", ("fp16", "fp16"), says="fp16", result=half)
    with refusal(
        ArtifactError,
        f"{model}: the output must be logits float32 (any, 4, any, any) as its spec says, "
        "got logits float16 (N, 4, 32*h, 32*w); export the model again with fcnkit export onnx",
    ):
        build_engine(model, tmp_path / "m.engine", flavor="tensorrt-rtx")
    _, network, _parser = parsed(model)
    text = (
        f"{model}: its output must be logits float32 as its spec says, got logits float16; "
        "export the model again with fcnkit export onnx"
    )
    with refusal(ArtifactError, text):
        check_tensors(network, make_spec("logits"), where=str(model))


def test_zero_points_are_refused_with_the_option_that_avoids_them(tmp_path: Path) -> None:
    model = write_typed(tmp_path / "m.onnx", ("int8", "int8"), says="int8", zero=-128)
    with pytest.raises(ArtifactError) as caught:
        build_engine(model, tmp_path / "m.engine", flavor="tensorrt-rtx")
    assert str(caught.value).startswith(f"{model}: tensorrt_rtx ")
    assert str(caught.value).endswith("; it takes no zero points, export with --activations int8")


def layer(name: str, *, text: str, field: str = "Format/Datatype") -> dict[str, Any]:
    """An entry as NVIDIA's documentation shows the inspector's report."""
    return {
        "Name": name,
        "LayerType": "CaskConvolution",
        "Inputs": [{"Name": "a", "Dimensions": [1, 50, 160, 160], field: text}],
        "Outputs": [{"Name": "b", "Dimensions": [1, 25, 160, 160], field: text}],
    }


HALF = layer("conv1 + relu1", text="Channel major FP16 format where channel % 8 == 0")
FULL = layer("cast", text="Row major linear FP32 format")
PLAIN = layer("conv4", text="Row major linear FP32 format")
NEW = layer("conv2", text="Half", field="DataType")
INT8 = {**layer("conv3", text=""), "Weights": {"Type": "Int8", "Count": 9408}}


def report(*layers: Any) -> str:
    return json.dumps({"Layers": layers, "Bindings": ["image", "logits"]})


@pytest.mark.parametrize(
    ("layers", "says", "counted"),
    [
        ((HALF, FULL), "fp16", "fp16 in 1 layer, fp32 in 1 layer"),
        ((FULL,), "fp32", "fp32 in 1 layer"),
        ((FULL, NEW), "fp16", "fp16 in 1 layer, fp32 in 1 layer"),
        ((FULL, INT8), "int8", "fp32 in 1 layer, int8 in 1 layer"),
        (("conv1", "conv2"), "fp16", "no types, says the inspector"),
    ],
)
def test_what_the_inspector_says(layers: tuple[Any, ...], says: Precision, counted: str) -> None:
    spec = replace(make_spec("labels"), precision=says)
    assert check_engine(report(*layers), spec, where="m.engine") == counted


@pytest.mark.parametrize(
    ("layers", "says", "got"),
    [
        ((FULL, PLAIN), "fp16", "fp32 in cast, fp32 in conv4"),
        ((HALF, FULL), "int8", "fp16 in conv1 + relu1, fp32 in cast"),
        ((HALF, FULL), "fp32", "fp16 in conv1 + relu1"),
    ],
)
def test_an_engine_of_another_precision_is_refused(
    layers: tuple[Any, ...], says: Precision, got: str
) -> None:
    spec = replace(make_spec("labels"), precision=says)
    text = (
        f"m.engine: the engine must compute in {says} as its spec says, got {got}; "
        "this is a bug of the exporter or the library, please report it"
    )
    with refusal(VerifyError, text):
        check_engine(report(*layers), spec, where="m.engine")


OPAQUE = {
    "Name": "{ForeignNode[conv1...conv9]}",
    "LayerType": "Myelin",
    "Inputs": [{"Name": "image", "Format/Datatype": "Row major linear Int8 format"}],
    "Outputs": [{"Name": "logits", "Format/Datatype": "Row major linear FP32 format"}],
}


@pytest.mark.parametrize(
    ("layers", "says", "counted", "got"),
    [
        ((OPAQUE,), "fp16", "fp32 in 1 layer, int8 in 1 layer", "fp32 int8 in {}"),
        ((OPAQUE,), "fp32", "fp32 in 1 layer, int8 in 1 layer", "fp32 int8 in {}"),
        ((FULL,), "fp16", "fp32 in 1 layer", "fp32 in cast"),
        (
            (OPAQUE, FULL),
            "fp16",
            "fp32 in 2 layers, int8 in 1 layer",
            "fp32 int8 in {}, fp32 in cast",
        ),
    ],
)
def test_an_opaque_node_is_a_warning(
    layers: tuple[Any, ...],
    says: Precision,
    counted: str,
    got: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The one node of a plan tells the types of its ends alone; uint8 may be written Int8."""
    spec = replace(make_spec("labels"), precision=says)
    verdict = check_engine(report(*layers), spec, where="m.engine")
    assert verdict == f"{counted}, not proved: an opaque layer"
    named = got.format(OPAQUE["Name"])
    assert caplog.messages == [
        f"m.engine: the engine must compute in {says} as its spec says, got {named}, which hides "
        "what it computes in; the parsed network does, and the comparison of results decides"
    ]


def test_a_plain_layer_beside_an_opaque_one_is_still_refused() -> None:
    with pytest.raises(VerifyError, match=r"got fp32 int8 in .*, fp16 in conv1 \+ relu1"):
        check_engine(report(OPAQUE, HALF), make_spec("labels"), where="m.engine")
