from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import fcnkit
import fcnkit.export.to_onnx
from fcnkit.errors import VerifyError
from fcnkit.export.comparison_images import noise_pictures
from fcnkit.export.heads import LABEL_GROUPS, Core
from fcnkit.export.to_onnx import export_onnx
from fcnkit.runtime.artifacts.last_layer import BIAS_NAME, WEIGHT_NAME
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from fcnkit.runtime.artifacts.spec import Head, ModelSpec
from fcnkit.train.checkpoint import load_model
from fcnkit.train.models import SegmentationNet

HEADS: tuple[Head, ...] = ("logits", "scores", "labels", "scene")


def dims(tensor: onnx.ValueInfoProto) -> list[str | int]:
    return [d.dim_param or d.dim_value for d in tensor.type.tensor_type.shape.dim]


def test_declared_dims_are_multiples_of_32(exported: dict[str, Path]) -> None:
    graphs = {head: onnx.load(exported[head]).graph for head in HEADS}
    classes = read_onnx_file(exported["logits"]).spec(where="x").num_classes
    declared = {h: (dims(g.input[0]), dims(g.output[0])) for h, g in graphs.items()}
    assert declared["logits"] == (["n", 3, "32*h", "32*w"], ["n", classes, "32*h", "32*w"])
    # Scores are 32 times smaller.
    assert declared["scores"] == (["n", 3, "32*h", "32*w"], ["n", classes, "h", "w"])
    assert declared["labels"] == (["n", "32*h", "32*w", 3], ["n", "32*h", "32*w"])
    assert declared["scene"] == ([1, "H", "W", 3], [1, "H", "W"])
    names = {(g.input[0].name, g.output[0].name) for g in graphs.values()}
    assert names == {("image", "logits"), ("image", "scores"), ("image", "labels")}


@pytest.mark.parametrize("head", HEADS)
def test_graph_is_lean(head: Head, exported: dict[str, Path]) -> None:
    model = onnx.load(exported[head])
    onnx.checker.check_model(model, full_check=True)
    ops = [node.op_type for node in model.graph.node]
    # Batch normalization is folded, and the transposed convolution has become a convolution.
    assert "BatchNormalization" not in ops
    assert "ConvTranspose" not in ops
    convolutions = {"labels": 21 + LABEL_GROUPS, "scores": 21}
    assert ops.count("Conv") == convolutions.get(head, 22)
    assert ops.count("DepthToSpace") == (0 if head == "scores" else 1)
    used = {name for node in model.graph.node for name in node.input}
    unused = {tensor.name for tensor in model.graph.initializer} - used
    assert unused == ({WEIGHT_NAME, BIAS_NAME} if head == "scores" else set())
    if head == "labels":
        assert ops.count("ArgMax") == LABEL_GROUPS
        assert len(ops) - 1 - ops[::-1].index("ArgMax") < ops.index("DepthToSpace")
    if head != "scene":
        # No arithmetic on shapes, and of the normalization only what has to come before padding.
        assert {"Shape", "Gather", "Mul", "Div"}.isdisjoint(ops)
        assert ops.count("Sub") == (1 if head == "labels" else 0)


@pytest.mark.parametrize("head", HEADS)
def test_nodes_are_named_after_the_modules_of_the_network(
    head: Head, exported: dict[str, Path]
) -> None:
    names = [node.name for node in onnx.load(exported[head]).graph.node]
    assert len(set(names)) == len(names)
    assert {"backbone.conv1/Conv", "backbone.layer4.1.conv2/Conv", "final_conv/Conv"} <= set(names)
    last = any(name.startswith("transpose_conv/Conv") for name in names)
    assert last == (head != "scores")  # whose last layer the runtime computes


@pytest.mark.parametrize("head", HEADS)
def test_nothing_of_the_exporting_machine_is_in_the_file(
    head: Head, exported: dict[str, Path]
) -> None:
    model = onnx.load(exported[head])
    for tensor in model.graph.initializer:
        # In millions of weights, three bytes that read ".py" turn up by chance.
        tensor.ClearField("raw_data")
    content = model.SerializeToString()
    assert b"site-packages" not in content
    assert b".py" not in content
    assert str(Path.home()).encode() not in content


def test_spec_inside_says_what_the_file_is(exported: dict[str, Path], run_folder: Path) -> None:
    import hashlib

    digest = hashlib.sha256((run_folder / "best.pt").read_bytes()).hexdigest()
    for head in HEADS:
        spec = read_onnx_file(exported[head]).spec(where="x")
        assert spec.head == head
        assert spec.source.sha256 == digest
        assert spec.source.parity is not None
        assert "label agreement" in spec.source.parity
        assert spec.input.multiple == (1 if head == "scene" else 32)
    properties = {p.key: p.value for p in onnx.load(exported["labels"]).metadata_props}
    assert properties["multiple"] == "32"
    assert properties["classes"].startswith("background, ")
    assert properties["precision"] == "fp32"
    assert properties["input"] == "image uint8 NHWC RGB"
    assert properties["output"] == "labels uint8 NHW"
    assert properties["shapes"] == "1x32x32, 1x320x480, 16x2048x2048"
    assert properties["source_sha256"] == digest
    assert properties["normalization"] == (
        "(x / 255 - mean) / std, mean 0.485 0.456 0.406, std 0.229 0.224 0.225"
    )


@pytest.mark.parametrize(
    ("height", "width"), [(375, 500), (333, 500), (500, 375), (561, 728), (33, 32), (64, 64)]
)
def test_scene_equals_the_mean_of_the_logits_over_the_tiles(
    height: int, width: int, exported: dict[str, Path], run_folder: Path
) -> None:
    image_hwc = noise_pictures((1, height, width))[0]
    session = onnxruntime.InferenceSession(exported["scene"])
    labels_hw = session.run(None, {"image": image_hwc[None]})[0][0]
    assert labels_hw.dtype == np.uint8
    assert labels_hw.shape == (height, width)
    with fcnkit.load(exported["logits"], cover="average") as segmenter:
        assert (segmenter(image_hwc) == labels_hw).mean() >= 0.9999
    net, checkpoint = load_model(run_folder / "best.pt")
    spec = read_onnx_file(exported["scene"]).spec(where="x")
    assert checkpoint.spec.classes == spec.classes
    expected = mean_logits(net, checkpoint.spec, image_hwc).argmax(0)
    assert (expected == labels_hw).mean() >= 0.9999


def mean_logits(net: SegmentationNet, spec: ModelSpec, image_hwc: np.ndarray) -> np.ndarray:
    """The logits (K, H, W), averaged over the tiles, slowly and plainly."""
    height, width = image_hwc.shape[:2]
    rows, columns = height // 32 * 32, width // 32 * 32
    scaled = (image_hwc / 255 - np.array(spec.input.mean)) / np.array(spec.input.std)
    image_nchw = torch.tensor(scaled.transpose(2, 0, 1)[None], dtype=torch.float32)
    total, count = np.zeros((spec.num_classes, height, width)), np.zeros((height, width))
    for top in {0, height - rows}:
        for left in {0, width - columns}:
            window = np.s_[top : top + rows, left : left + columns]
            with torch.inference_mode():
                total[:, *window] += net(image_nchw[:, :, *window])[0].double().numpy()
            count[window] += 1
    return total / count


SCENE_CLIENT = """
import sys
import numpy, onnxruntime
image = numpy.load(sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
labels = session.run(["labels"], {"image": image[None]})[0][0]
assert not any(name.split(".")[0] == "fcnkit" for name in sys.modules)
numpy.save(sys.argv[3], labels)
"""


def test_scene_needs_nothing_but_onnxruntime(exported: dict[str, Path], tmp_path: Path) -> None:
    image_hwc = noise_pictures((1, 101, 77))[0]
    np.save(tmp_path / "image.npy", image_hwc)
    client = [sys.executable, "-c", SCENE_CLIENT, exported["scene"]]
    subprocess.run([*client, tmp_path / "image.npy", tmp_path / "labels.npy"], check=True)
    with fcnkit.load(exported["scene"]) as segmenter:
        assert np.array_equal(np.load(tmp_path / "labels.npy"), segmenter(image_hwc))


@pytest.mark.parametrize("head", HEADS)
def test_a_graph_that_computes_something_else_leaves_no_file(
    head: Head, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = fcnkit.export.to_onnx.trace_core

    def with_changed_weight(net: SegmentationNet, classes: int, *, opset: int) -> Core:
        with torch.no_grad():
            changed, _ = load_model(run_folder / "best.pt")
            changed.final_conv.bias[0] += 2.0
        return trace(changed, classes, opset=opset)

    monkeypatch.setattr(fcnkit.export.to_onnx, "trace_core", with_changed_weight)
    text = (
        r"m\.onnx: must agree with best\.pt within the tolerance of fp32, got "
        rf"{FIGURES[head]}; "
        r"this is a bug of the exporter or a library, please report it"
    )
    with pytest.raises(VerifyError, match=rf"\A{text}\Z"):
        export_onnx(run_folder / "best.pt", tmp_path / "m.onnx", head=head)
    assert list(tmp_path.iterdir()) == []


_LABELS = r"label agreement \S+ % below 99\.99 %, label agreement of a picture \S+ % below 99\.9 %"
_BALANCED = (
    r"largest margin \S+ above 2e-05, largest margin of balanced classes \S+ above 2e-05, "
    rf"{_LABELS}, label agreement of balanced classes \S+ % below 99\.9 %"
)
_LOGITS = (
    r"max error \S+ above 2e-05, mean error \S+ above 2e-06, largest margin \S+ above "
    rf"2e-05, {_LABELS}"
)
FIGURES = {
    "logits": _LOGITS,
    "scores": _LOGITS,
    "labels": _BALANCED,
    "scene": _BALANCED,
}


@pytest.mark.parametrize("head", HEADS)
def test_a_fixed_shape_and_an_older_opset(head: Head, run_folder: Path, tmp_path: Path) -> None:
    out, shape = tmp_path / "m.onnx", (1, 64, 96) if head == "scene" else (2, 64, 96)
    report = export_onnx(run_folder / "best.pt", out, head=head, shape=shape, opset=18)
    model = onnx.load(out)
    assert (model.opset_import[0].version, model.ir_version) == (18, 8)
    classes = read_onnx_file(out).spec(where="x").num_classes
    batch = shape[0]
    declared = dims(model.graph.input[0]), dims(model.graph.output[0])
    assert declared == (
        ([batch, 64, 96, 3], [batch, 64, 96])
        if head in ("labels", "scene")
        else ([batch, 3, 64, 96], [batch, classes, *((2, 3) if head == "scores" else (64, 96))])
    )
    assert report.verify.shapes == (shape,)
    spec = read_onnx_file(out).spec(where="x")
    assert (spec.shapes.min, spec.shapes.max) == (shape, shape)
    size = {"logits": (100, 130), "scores": (100, 130), "labels": (50, 90), "scene": (64, 96)}[head]
    image_hwc = noise_pictures((1, *size))[0]
    with fcnkit.load(out) as fixed:
        labels_hw = fixed(image_hwc)
    assert labels_hw.shape == size


def test_bad_output_names_are_refused(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="onnx") as caught:
        export_onnx(run_folder / "best.pt", tmp_path / "m.bin")
    assert str(caught.value) == f"-o: must end in .onnx, got {tmp_path}/m.bin; name it model.onnx"
    with pytest.raises(ValueError, match="folder") as caught:
        export_onnx(run_folder / "best.pt", tmp_path / "no" / "m.onnx")
    assert str(caught.value) == f"-o: its folder must exist, got {tmp_path}/no; create it first"
