"""The second output of heads ``labels`` and ``scene``: exported, verified, built, served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import fcnkit
from fcnkit.export.build import build_graph, head_spec, trace_core
from fcnkit.export.engine import build_engine
from fcnkit.export.engine_profiles import parse_profile
from fcnkit.export.saving import save_model
from fcnkit.export.subject import open_subject
from fcnkit.export.to_onnx import export_onnx
from fcnkit.export.triton import write_triton_repository
from fcnkit.export.verification import verify
from fcnkit.runtime import read_engine_file, read_onnx_file
from fcnkit.runtime.artifacts.spec import Head, OutputSpec, Precision
from fcnkit.train.checkpoint import load_model
from tests.export.test_triton import parsed, tensor
from tests.reference.confidence import TOLERANCE, assert_sure, confidence_and_margin
from tests.refusal import refusal
from tests.runtime.models import make_spec, write_model
from tests.runtime.predict.test_segmenter import picture
from tests.train.networks import lively, save_network

SMALL = 96 * 96
PART = OutputSpec(name="confidence", layout="NHW", dtype="uint8")


def checkpoint(architecture: str, folder: Path) -> Path:
    """A network whose scores differ enough that its confidence is not the same everywhere."""
    net = lively(architecture)
    with torch.no_grad():
        last = [p for name, p in net.named_parameters() if name.endswith("weight")][-1]
        last.mul_(12)
    save_network(net, architecture, folder / "x.pt")
    return folder / "x.pt"


def exact(source: Path, image_nhwc: np.ndarray) -> np.ndarray:
    """255 times the probability of the label, by PyTorch and numpy."""
    net, loaded = load_model(source)
    given = loaded.spec.input
    planes = (image_nhwc / 255 - np.array(given.mean)) / np.array(given.std)
    batch = torch.from_numpy(planes.transpose(0, 3, 1, 2).astype(np.float32))
    with torch.inference_mode():
        logits = net.eval()(batch).double().numpy()
    return confidence_and_margin(logits, axis=1)[0]


@pytest.mark.parametrize(
    ("architecture", "head", "precision", "units"),
    [
        ("fcn32s-resnet18", "labels", "fp32", TOLERANCE),
        ("fcn32s-resnet18", "scene", "fp32", TOLERANCE),
        ("fcn32s-resnet18", "labels", "fp16", None),
        ("unet", "labels", "fp32", TOLERANCE),
    ],
)
def test_it_is_exported_and_verified(
    architecture: str, head: Head, precision: Precision, units: float | None, tmp_path: Path
) -> None:
    source, out = checkpoint(architecture, tmp_path), tmp_path / "m.onnx"
    report = export_onnx(
        source, out, head=head, precision=precision, confidence=True, max_pixels=SMALL
    )
    assert "mean error of confidence" in report.summary()
    spec = read_onnx_file(out).spec(where="m.onnx")
    assert spec.confidence == PART
    assert [one.name for one in onnx.load(out).graph.output] == ["labels", "confidence"]
    session = onnxruntime.InferenceSession(out)
    image_nhwc = np.stack([picture(64, 96)] * (1 if head == "scene" else 2))
    labels, confidence = session.run(None, {"image": image_nhwc})
    assert labels.dtype == confidence.dtype == np.uint8
    wanted = exact(source, image_nhwc)
    assert np.ptp(wanted) > 10
    if units is not None:
        assert_sure(confidence, wanted, units)
    # The labels are those of the graph without the second output.
    plain = tmp_path / "plain.onnx"
    export_onnx(source, plain, head=head, precision=precision, max_pixels=SMALL)
    alone = onnxruntime.InferenceSession(plain).run(None, {"image": image_nhwc})
    assert len(alone) == 1
    np.testing.assert_array_equal(alone[0], labels)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("head", ["labels", "scene"])
def test_backends_give_what_logits_give(head: Head, backend: str, tmp_path: Path) -> None:
    source = checkpoint("fcn32s-resnet18", tmp_path)
    for name, given in (("sure", head), ("logits", "logits")):
        export_onnx(
            source,
            tmp_path / f"{name}.onnx",
            head=given,  # type: ignore[arg-type]
            confidence=name == "sure",
            max_pixels=SMALL,
        )
    cover = "average" if head == "scene" else "pad"
    with (
        fcnkit.load(tmp_path / "sure.onnx", backend=backend, compute="fp32") as sure,
        fcnkit.load(tmp_path / "logits.onnx", backend=backend, compute="fp32", cover=cover) as full,
    ):
        for size in ((64, 96), (70, 101), (33, 32), (47, 64)):
            image = picture(*size)
            got, wanted = sure(image, confidence=True), full(image, confidence=True)
            assert got.confidence is not None
            assert wanted.confidence is not None
            assert np.abs(got.confidence.astype(int) - wanted.confidence).max() <= 1
            assert (got.labels != wanted.labels).mean() < 1e-3


@pytest.mark.parametrize("head", ["labels", "scene"])
def test_a_wrong_second_output_is_found(head: Head, tmp_path: Path) -> None:
    source = checkpoint("fcn32s-resnet18", tmp_path)
    net, loaded = load_model(source)
    spec = head_spec(loaded.spec, head, sha256="0" * 64, confidence=True)
    model, _ = build_graph(trace_core(net, spec.num_classes), spec)
    for node in list(model.graph.node):  # a softmax of halved scores
        if node.op_type == "Exp":
            half = onnx.helper.make_tensor("half", onnx.TensorProto.FLOAT, [], [0.5])
            place = list(model.graph.node).index(node)
            if not any(tensor.name == "half" for tensor in model.graph.initializer):
                model.graph.initializer.append(half)
            scaled = f"{node.input[0]}/scaled"
            scale = onnx.helper.make_node("Mul", [node.input[0], "half"], [scaled])
            node.input[0] = scaled
            model.graph.node.insert(place, scale)
    save_model(model, spec, tmp_path / "wrong.onnx")
    with open_subject(source) as a, open_subject(tmp_path / "wrong.onnx") as b:
        report = verify(a, b, max_pixels=SMALL)
    assert report.label_agreement >= 0.9999
    words = [failure.rsplit(" ", 3)[0] for failure in report.failures]
    assert words == ["largest error of confidence", "mean error of confidence"]


def test_logits_need_no_second_output(tmp_path: Path) -> None:
    source = checkpoint("unet", tmp_path)
    text = (
        "--confidence: goes with --head labels or scene, got head logits; "
        "leave it out, logits tell it already"
    )
    with refusal(ValueError, text):
        export_onnx(source, tmp_path / "m.onnx", confidence=True)
    assert not (tmp_path / "m.onnx").exists()


def test_triton_serves_both_outputs(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", make_spec("labels", confidence=True))
    config, proto = parsed(write_triton_repository(model, tmp_path / "repo").folder)
    assert [tensor(entry, proto) for entry in config.output] == [
        ("labels", "TYPE_UINT8", [-1, -1]),
        ("confidence", "TYPE_UINT8", [-1, -1]),
    ]


@pytest.mark.parametrize("head", ["labels", "scene"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_builds_both_outputs(head: Head, precision: Precision, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    source = checkpoint("fcn32s-resnet18", tmp_path)
    model, out = tmp_path / "m.onnx", tmp_path / "m.engine"
    export_onnx(source, model, head=head, precision=precision, confidence=True, max_pixels=SMALL)
    profile = parse_profile("1x32x32,1x96x128,1x96x128")
    build_engine(model, out, flavor="tensorrt-rtx", profiles=[profile])
    assert read_engine_file(out).spec.confidence == PART
