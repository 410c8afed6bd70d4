"""fp16 and int8: the graph is the requested one, and what it costs is measured."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper

import fcnkit.export.build
from fcnkit.errors import ArtifactError, DataError, VerifyError
from fcnkit.export.build import Typing, build_graph, head_spec, trace_core
from fcnkit.export.calibration import open_calibration
from fcnkit.export.half import to_half
from fcnkit.export.heads import LABEL_GROUPS, Core
from fcnkit.export.subject import open_subject, verify_path
from fcnkit.export.to_onnx import export_onnx
from fcnkit.runtime.artifacts.onnx_file import read_onnx_bytes, read_onnx_file
from fcnkit.runtime.artifacts.onnx_precision import layer_types
from fcnkit.runtime.artifacts.spec import Head, Precision
from fcnkit.runtime.backends.tensorrt_library import logger_of
from fcnkit.train.checkpoint import checkpoint_spec, load_checkpoint, load_model, save_checkpoint
from tests.refusal import refusal
from tests.train.networks import lively

HEADS: tuple[Head, ...] = ("logits", "labels", "scene")
SMALL = 96 * 96
IO = {
    "logits": (TensorProto.FLOAT, TensorProto.FLOAT),
    "labels": (TensorProto.UINT8, TensorProto.UINT8),
    "scene": (TensorProto.UINT8, TensorProto.UINT8),
}


@pytest.fixture(scope="module")
def half(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as labels in fp16, the classifier kept in fp32."""
    out = tmp_path_factory.mktemp("half") / "half.onnx"
    export_onnx(
        run_folder / "best.pt",
        out,
        head="labels",
        precision="fp16",
        keep_fp32=("final_conv", "backbone.layer4"),
        max_pixels=SMALL,
    )
    return out


def layers(path: Path) -> dict[str, int]:
    file = read_onnx_file(path)
    return file.prove(file.spec(where="x"), where="x").layers


@pytest.mark.parametrize("head", HEADS)
def test_fp16_computes_in_fp16_and_keeps_its_inputs_and_outputs(
    head: Head, run_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m.onnx"
    report = export_onnx(run_folder / "best.pt", out, head=head, precision="fp16", max_pixels=SMALL)
    model = onnx.load(out)
    ends = (*model.graph.input, *model.graph.output)
    assert tuple(end.type.tensor_type.elem_type for end in ends) == IO[head]
    assert layers(out) == {"fp16": 21 + LABEL_GROUPS if head == "labels" else 22}
    kinds = {tensor.data_type for tensor in model.graph.initializer if tensor.name[-4:] != "mean"}
    assert TensorProto.FLOAT not in kinds
    assert read_onnx_file(out).spec(where="x").precision == "fp16"
    assert report.speedup is not None
    assert report.speedup > 0
    assert report.verify.precision == "fp16"
    assert report.verify.failures == ()


@pytest.mark.parametrize("head", HEADS)
def test_int8_is_explicit_per_channel_and_calibrated_on_named_pictures(
    head: Head, run_folder: Path, shapes_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m.onnx"
    report = export_onnx(
        run_folder / "best.pt",
        out,
        head=head,
        precision="int8",
        calibration=shapes_folder,
        max_miou_drop=0.2,
        max_pixels=SMALL,
    )
    model = onnx.load(out)
    ends = (*model.graph.input, *model.graph.output)
    assert tuple(end.type.tensor_type.elem_type for end in ends) == IO[head]
    # All but the first convolution and the classifier.
    assert layers(out) == {"fp32": 2, "int8": 19 + LABEL_GROUPS if head == "labels" else 20}
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["kept_fp32"] == "normalize, backbone.conv1, final_conv"
    train = (shapes_folder / "ImageSets/Segmentation/train.txt").read_text().split()
    assert properties["calibration"].split(", ") == train == list(report.calibration)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scales = [
        weights[node.input[1]]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and weights.get(node.input[0], np.zeros(0)).ndim == 4
    ]
    assert len(scales) == (19 + LABEL_GROUPS if head == "labels" else 20)
    assert all(scale.ndim == 1 and scale.size > 1 for scale in scales)
    data = report.verify.data
    assert data is not None
    assert (data.split, data.pictures) == ("val", 4)
    assert data.miou_drop is not None
    assert report.speedup is not None


def test_symmetric_activations_have_no_zero_points_and_tensorrt_parses_them(
    shapes_folder: Path, tmp_path: Path
) -> None:
    spec = checkpoint_spec("fcn32s-resnet18", ("background", "circle", "square"), ((0, 0, 0),) * 3)
    spec = head_spec(spec, "labels", sha256="0", precision="int8")
    typing = Typing(calibration=open_calibration(shapes_folder), activations="int8")
    model, _ = build_graph(cores("fcn32s-resnet18"), spec, typing)
    out = tmp_path / "m.onnx"
    onnx.save(model, out)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    points = [weights[n.input[2]] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert len(points) > 20
    assert all(point.dtype == np.int8 and not point.any() for point in points)
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    logger = logger_of(trt)
    network = trt.Builder(logger).create_network(0)
    assert trt.OnnxParser(network, logger).parse_from_file(str(out))


def typed_by_onnx(model: onnx.ModelProto) -> dict[str, str]:
    """What each convolution computes in, by the types that the onnx package infers."""
    typed = onnx.shape_inference.infer_shapes(model).graph
    infos = (*typed.value_info, *typed.input, *typed.output)
    types = {info.name: info.type.tensor_type.elem_type for info in infos}
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    names = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16"}
    found = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            factors = [makers.get(name) for name in node.input[:2]]
            if all(maker and maker.op_type == "DequantizeLinear" for maker in factors):
                found[node.name] = "int8"
            else:
                (kind,) = {types[name] for name in node.input[:2]}
                found[node.name] = names[kind]
    return found


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("network", ["fcn32s-resnet18", "deeplabv3-resnet18", "unet"])
def test_the_runtimes_reader_finds_the_types_that_onnx_infers(
    network: str, head: Head, precision: Precision, shapes_folder: Path
) -> None:
    classes = ("background", "circle", "square")
    core = cores(network)
    spec = checkpoint_spec(network, classes, ((0, 0, 0),) * 3)
    spec = head_spec(spec, head, sha256="0", precision=precision)
    calibration = open_calibration(shapes_folder) if precision == "int8" else None
    model, _ = build_graph(core, spec, Typing(calibration=calibration))
    file = read_onnx_bytes(model.SerializeToString(), where="x")
    assert layer_types(file.graph).computing == typed_by_onnx(model)


@cache
def cores(network: str) -> Core:
    return trace_core(lively(network, 3), 3)


def test_named_parts_stay_in_fp32(half: Path) -> None:
    model = onnx.load(half)
    assert layers(half) == {"fp16": 21 + LABEL_GROUPS - 1 - 5, "fp32": 1 + 5}
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert (
        kinds["final_conv.weight"] == kinds["backbone.layer4.1.conv1.weight"] == TensorProto.FLOAT
    )
    assert kinds["backbone.layer3.1.conv1.weight/fp16"] == TensorProto.FLOAT16
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["kept_fp32"] == "normalize, final_conv, backbone.layer4"


def test_the_report_lies_beside_the_model_with_the_hashes_of_both(
    half: Path, run_folder: Path, tmp_path: Path
) -> None:
    report = json.loads(verify_path(half).read_text())
    assert verify_path(half).name == "half.verify.json"
    assert report["passed"] is True
    assert report["a"]["name"] == "best.pt"
    source = run_folder / "best.pt"
    assert report["a"]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert report["b"]["sha256"] == hashlib.sha256(half.read_bytes()).hexdigest()
    assert report["b"]["precision"] == "fp16"
    assert report["b"]["kept_fp32"] == ["normalize", "final_conv", "backbone.layer4"]
    assert report["speedup_over_fp32"] > 0
    with open_subject(half) as opened:
        assert opened.reported is True
    changed = shutil.copy(half, tmp_path)
    shutil.copy(verify_path(half), tmp_path)
    with Path(changed).open("ab") as file:
        file.write(b"\x4a\x00")  # a field that no version has, which readers skip
    with open_subject(Path(changed)) as opened:
        assert opened.reported is False


def test_an_fp32_graph_is_not_sold_as_fp16(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcnkit.export.build, "to_half", lambda model, kept: model)
    with pytest.raises(ArtifactError) as caught:
        export_onnx(run_folder / "best.pt", tmp_path / "m.onnx", head="logits", precision="fp16")
    where, _, text = str(caught.value).partition(": ")
    assert Path(where).name == "m.onnx"
    assert text == (
        "every layer must compute in fp16 as its spec says, got 22 of 22 that do not "
        "(backbone.conv1/Conv in fp32, backbone.layer1.0.conv1/Conv in fp32, "
        "backbone.layer1.0.conv2/Conv in fp32, ...); "
        "export it again with fcnkit export onnx --precision fp16"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_loss_of_mean_iou_above_the_limit_leaves_no_file(
    run_folder: Path, shapes_folder: Path, tmp_path: Path
) -> None:
    text = (
        r"m\.onnx: must agree with best\.pt within the tolerance of int8, "
        r"got drop of mean IoU \S+ above -1e\+00; "
        r"keep more in float32 with --keep-fp32, give more typical pictures, or use fp16"
    )
    with pytest.raises(VerifyError, match=rf"\A{text}\Z"):
        export_onnx(
            run_folder / "best.pt",
            tmp_path / "m.onnx",
            precision="int8",
            calibration=shapes_folder,
            max_miou_drop=-1.0,
            max_pixels=SMALL,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"precision": "int8"},
            "--precision: int8 needs pictures to find the ranges of activations, "
            "got no --calibration; give the training data with --calibration DATA",
        ),
        (
            {"calibration": Path("x")},
            "--calibration: goes with --precision fp16 or int8, got fp32; leave it out",
        ),
        (
            {"keep_fp32": ("final_conv",)},
            "--keep-fp32: goes with --precision fp16 or int8, got fp32; leave it out",
        ),
        (
            {"precision": "fp16", "activations": "int8"},
            "--activations: goes with --precision int8, got fp16; leave it out",
        ),
        (
            {"precision": "int4"},
            "--precision: must be one of fp32, fp16, int8, got int4; choose one of these",
        ),
        (
            {"precision": "int8", "max_miou_drop": float("nan")},
            "--max-miou-drop: must be a share, at most 1, got nan; try 0.01",
        ),
        (
            {"shape": (1, 33, 64)},
            "--shape: head logits takes NxHxW from 1x32x32 to 16x2048x2048 with sides in steps of "
            "32, got 1x33x64; use 1x64x64",
        ),
        (
            {"head": "scene", "shape": (2, 64, 64)},
            "--shape: head scene takes NxHxW from 1x32x32 to 1x4096x4096, got 2x64x64; use 1x64x64",
        ),
        (
            {"head": "labels", "opset": 17},
            "--opset: must be 18..20, got 17; pass a value from 18 to 20",
        ),
        (
            {"precision": "fp16", "keep_fp32": ("final_con",)},
            "--keep-fp32: a part is one of backbone, final_conv, logits, transpose_conv or what "
            "these hold, got final_con; see the node names in Netron",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: dict[str, Any], text: str, run_folder: Path, tmp_path: Path
) -> None:
    with refusal(ValueError, text):
        export_onnx(run_folder / "best.pt", tmp_path / "m.onnx", **{"head": "logits", **options})
    assert list(tmp_path.iterdir()) == []


def test_too_few_pictures_are_refused(
    run_folder: Path, shapes_folder: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((shapes_folder / "JPEGImages").iterdir())[:3]:
        shutil.copy(path, few)
    with refusal(
        DataError,
        f"--calibration {few}: at least 16 pictures are needed, got 3; "
        "give the training data, or more pictures like those to be labeled",
    ):
        export_onnx(run_folder / "best.pt", tmp_path / "m.onnx", precision="int8", calibration=few)
    missing = tmp_path / "none"
    with refusal(DataError, f"--calibration: must be a folder, got {missing}; check the path"):
        export_onnx(
            run_folder / "best.pt", tmp_path / "m.onnx", precision="int8", calibration=missing
        )


def overflowing(checkpoint: Path, out: Path, factor: float) -> Path:
    """Write the same function with activations in one block that are larger by a factor."""
    net, _ = load_model(checkpoint)
    block = net.backbone.layer2[1]
    with torch.no_grad():
        block.bn1.weight *= factor
        block.bn1.bias *= factor
        block.conv2.weight /= factor
    save_checkpoint(out, replace(load_checkpoint(checkpoint), model=net.state_dict()))
    return out


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("factor", [1.2e5, 5e-6])
def test_activations_that_fp16_does_not_hold_are_refused_and_the_remedy_works(
    head: Head, factor: float, run_folder: Path, tmp_path: Path
) -> None:
    """ONNX Runtime computes in float32 between the layers, so that the labels are all right."""
    changed = overflowing(run_folder / "best.pt", tmp_path / "large.pt", factor)
    out = tmp_path / "m.onnx"
    options: dict[str, Any] = {"head": head, "precision": "fp16", "max_pixels": SMALL}
    with pytest.raises(VerifyError) as caught:
        export_onnx(changed, out, **options)
    found = re.fullmatch(
        r"m\.onnx: activations in fp16 must reach 6e-05 and stay below 65504, got largest "
        r"values of (\S+) in backbone\.layer2\.1\.conv1/Conv\b.*; "
        r"keep them in float32 with --keep-fp32 (\S+)",
        str(caught.value),
    )
    assert found is not None, str(caught.value)
    assert (float(found[1]) > 65504) == (factor > 1)
    assert not out.exists()
    report = export_onnx(changed, out, keep_fp32=tuple(found[2].split(",")), **options)
    assert report.verify.failures == ()
    assert report.half_range is not None
    assert report.half_range.peak < 65504
    assert json.loads(verify_path(out).read_text())["half_range"]["pictures"] == ["noise"]


def test_the_pictures_that_fp16_was_measured_on_are_recorded(
    run_folder: Path, shapes_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m.onnx"
    options: dict[str, Any] = {"precision": "fp16", "calibration": shapes_folder}
    report = export_onnx(run_folder / "best.pt", out, head="labels", max_pixels=SMALL, **options)
    train = (shapes_folder / "ImageSets/Segmentation/train.txt").read_text().split()
    assert report.half_range is not None
    assert list(report.half_range.pictures) == ["noise", *train]
    assert report.verify.data is not None
    properties = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert properties["calibration"].split(", ") == train


def test_a_weight_too_large_for_fp16_is_named() -> None:
    weight = numpy_helper.from_array(np.float32([70000]), "deep.weight")
    ends = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    node = onnx.helper.make_node("Mul", ["x", "deep.weight"], ["y"], "deep/Mul")
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
    with refusal(
        ArtifactError,
        "--precision fp16: weights must be at most 65504 in size, got 70000 in deep.weight; "
        "keep that part in fp32 with --keep-fp32 deep",
    ):
        to_half(model, kept=lambda _: False)
