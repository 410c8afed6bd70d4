"""ONNX files of other tools: what comes out is what the file gives, or there is a clear refusal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import fcnkit
from fcnkit.errors import ArtifactError
from fcnkit.export.adopt import Claims, adopt
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from tests.export.adopt import graphs
from tests.refusal import refusal

PLAIN: dict[str, Any] = {
    "mean": (0.0, 0.0, 0.0),
    "std": (1.0, 1.0, 1.0),
    "color": "RGB",
    "scale": 1,
}
CAFFE: dict[str, Any] = {
    "mean": (103.5, 116.25, 123.75),
    "std": (58.0, 57.0, 57.5),
    "color": "BGR",
    "scale": 255,
}


def as_network(image_hwc: NDArray[np.uint8], claims: dict[str, Any]) -> NDArray[np.float32]:
    """Preprocess as the claims say, one channel after the other, in float64."""
    order = (2, 1, 0) if claims["color"] == "BGR" else (0, 1, 2)
    planes = []
    for place, channel in enumerate(order):
        values = image_hwc[:, :, channel].astype(np.float64)
        if claims["scale"] == 1:
            values /= 255
        planes.append((values - claims["mean"][place]) / claims["std"][place])
    return np.stack(planes)[None].astype(np.float32)


def same_but_ties(labels_hw: NDArray[np.uint8], scores_khw: NDArray[np.float32]) -> None:
    """Every label is the argmax, or as good to a hundred-thousandth."""
    chosen = np.take_along_axis(scores_khw, labels_hw[None].astype(np.int64), 0)[0]
    slack = 1e-5 * np.abs(scores_khw).max()
    assert (scores_khw.max(0) - chosen <= slack).all()


@pytest.mark.parametrize("claims", [PLAIN, CAFFE], ids=["rgb", "bgr255"])
@pytest.mark.parametrize("head", ["logits", "labels", "scene"])
@pytest.mark.parametrize("shape", ["coarse", "align", "full"])
def test_labels_are_those_of_the_file(
    tmp_path: Path, head: Any, shape: str, claims: dict[str, Any]
) -> None:
    nodes = graphs.full() if shape == "full" else graphs.coarse()
    source = graphs.save(tmp_path / "net.onnx", nodes)
    upsample: Any = "align-corners" if shape == "align" else None
    out = tmp_path / "out.onnx"
    report = adopt(source, out, head=head, claims=Claims(upsample=upsample, **claims))
    image_hwc = graphs.image(96, 132)
    scores = graphs.run(source, as_network(image_hwc, claims))
    if shape != "full":
        scores = F.interpolate(
            torch.from_numpy(scores),
            size=(96, 132),
            mode="bilinear",
            align_corners=shape == "align",
        ).numpy()
    with fcnkit.load(out) as segmenter:
        same_but_ties(segmenter(image_hwc), scores[0])
    assert report.spec.input.multiple == (1 if head == "scene" or shape == "full" else 4)


@pytest.mark.parametrize("keepdims", [0, 1])
def test_an_argmax_in_the_graph_gives_labels(tmp_path: Path, keepdims: int) -> None:
    nodes = graphs.argmax(keepdims=keepdims)
    source = graphs.save(tmp_path / "net.onnx", nodes, kind=TensorProto.INT64, rank=3 + keepdims)
    out = tmp_path / "out.onnx"
    adopt(source, out, claims=Claims(classes=graphs.CLASSES, **CAFFE))
    image_hwc = graphs.image(70, 83)
    wanted = graphs.run(source, as_network(image_hwc, CAFFE)).reshape(70, 83)
    with fcnkit.load(out) as segmenter:
        assert segmenter.cover == "pad"
        assert (segmenter(image_hwc) == wanted).mean() > 0.9999


def test_fixed_sizes_stay_fixed(tmp_path: Path) -> None:
    source = graphs.save(tmp_path / "net.onnx", graphs.full(), dims=(1, 3, 60, 90))
    adopt(source, tmp_path / "out.onnx", head="labels", claims=Claims(**PLAIN))
    spec = read_onnx_file(tmp_path / "out.onnx").spec(where="out")
    assert spec.shapes.min == spec.shapes.max == (1, 60, 90)
    image_hwc = graphs.image(60, 90)
    with fcnkit.load(tmp_path / "out.onnx") as segmenter:
        same_but_ties(segmenter(image_hwc), graphs.run(source, as_network(image_hwc, PLAIN))[0])


def test_an_old_operator_set_is_converted(tmp_path: Path) -> None:
    source = graphs.save(tmp_path / "net.onnx", graphs.coarse(), opset=11)
    adopt(source, tmp_path / "out.onnx", head="scene", claims=Claims(**PLAIN))
    assert read_onnx_file(tmp_path / "out.onnx").opset >= 18


def test_fp16_keeps_what_must_be_float32(tmp_path: Path) -> None:
    source = graphs.save(tmp_path / "net.onnx", graphs.coarse())
    out = tmp_path / "out.onnx"
    adopt(source, out, head="labels", precision="fp16", claims=Claims(**PLAIN))
    graph = onnx.load(out).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    (resize,) = (node for node in graph.node if node.op_type == "Resize")
    assert kinds[resize.input[2]] == TensorProto.FLOAT
    assert all(
        kinds[node.input[1]] == TensorProto.FLOAT16 for node in graph.node if node.op_type == "Conv"
    )


def test_the_image_may_be_read_by_no_convolution_at_all(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["squares"], "square"),
        *graphs.coarse("squares", "quarter"),
        helper.make_node("Resize", ["quarter", "", "four"], ["y"], "up", mode="linear"),
    ]
    four = {"four": np.array([1, 1, 4, 4], np.float32)}
    source = graphs.save(tmp_path / "net.onnx", nodes, more_weights=four)
    adopt(source, tmp_path / "out.onnx", head="labels", claims=Claims(**CAFFE))
    image_hwc = graphs.image(64, 48)
    with fcnkit.load(tmp_path / "out.onnx") as segmenter:
        same_but_ties(segmenter(image_hwc), graphs.run(source, as_network(image_hwc, CAFFE))[0])


def outside(path: Path, location: str, *, length: int | None = None, offset: int = 0) -> Path:
    """Write a graph whose first weight is in another file."""
    model = onnx.load(graphs.save(path, graphs.full()))
    tensor = next(t for t in model.graph.initializer if t.name == "first")
    (path.parent / "weights.bin").write_bytes(b"\0" * offset + tensor.raw_data)
    entries = {"location": location, "offset": str(offset)}
    if length is not None:
        entries["length"] = str(length)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_of_a_second_file_become_part_of_one(tmp_path: Path) -> None:
    whole = graphs.save(tmp_path / "whole.onnx", graphs.full())
    source = outside(tmp_path / "net.onnx", "weights.bin", offset=64)
    report = adopt(source, tmp_path / "out.onnx", head="labels", claims=Claims(**PLAIN))
    assert "1 weights read from a second file" in report.facts
    (tmp_path / "weights.bin").unlink()
    image_hwc = graphs.image(41, 37)
    with fcnkit.load(tmp_path / "out.onnx") as segmenter:
        same_but_ties(segmenter(image_hwc), graphs.run(whole, as_network(image_hwc, PLAIN))[0])


RULE = "must be in a file below the model's folder, without links and .."
REMEDY = "copy both files of the model into one folder, or save it as one file"


@pytest.mark.parametrize(
    ("location", "got"),
    [
        ("../weights.bin", "'../weights.bin'"),
        ("/etc/passwd", "'/etc/passwd'"),
        ("sub/../weights.bin", "'sub/../weights.bin'"),
        ("link.bin", "'link.bin', where 'link.bin' is a link"),
        ("linked/weights.bin", "'linked/weights.bin', where 'linked' is a link"),
        ("hard.bin", "'hard.bin', which has other names too"),
        ("", "''"),
    ],
)
def test_weights_are_read_from_below_the_folder_only(
    tmp_path: Path, location: str, got: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    source = outside(folder / "net.onnx", location)
    (folder / "link.bin").symlink_to(folder / "weights.bin")
    (folder / "linked").symlink_to(folder)
    os.link(folder / "weights.bin", folder / "hard.bin")
    text = f"{source}: the weight first {RULE}, got {got}; {REMEDY}"
    with refusal(ArtifactError, text):
        adopt(source, tmp_path / "out.onnx", claims=Claims(**PLAIN))
    assert not (tmp_path / "out.onnx").exists()


def test_a_second_file_that_is_missing_or_short(tmp_path: Path) -> None:
    source = outside(tmp_path / "net.onnx", "weights.bin")
    (tmp_path / "weights.bin").write_bytes(b"1234")
    text = f"{source}: the weight first must end within its file, at 864 bytes"
    with refusal(ArtifactError, f"{text}, got 'weights.bin' of 4 bytes; {REMEDY}"):
        adopt(source, tmp_path / "out.onnx", claims=Claims(**PLAIN))
    (tmp_path / "weights.bin").unlink()
    text = f"{source}: the weight first must be in a file that is there"
    with refusal(ArtifactError, f"{text}, got no 'weights.bin'; {REMEDY}"):
        adopt(source, tmp_path / "out.onnx", claims=Claims(**PLAIN))


def refused(tmp_path: Path, nodes: list[onnx.NodeProto], text: str, **more: Any) -> None:
    """Expect an ArtifactError for a graph, after the file's name."""
    source = graphs.save(tmp_path / "net.onnx", nodes, **more)
    with refusal(ArtifactError, f"{source}: {text}"):
        adopt(source, tmp_path / "out.onnx", head="labels", claims=Claims(**PLAIN))
    assert not list(tmp_path.glob("out*"))


def test_control_flow_is_refused_by_name(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info("b", TensorProto.FLOAT, ["n", "c", "h", "w"])
    body = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "body", [], [info])
    nodes = [
        helper.make_node("If", ["flag"], ["t"], "if", then_branch=body, else_branch=body),
        *graphs.coarse("t"),
    ]
    refused(
        tmp_path,
        nodes,
        "must have no control flow, got 1 If; export it with torch.onnx.export(..., dynamo=True), "
        "or simplify it with onnxslim",
        more_weights={"flag": np.array(True)},
    )


def test_operators_of_other_domains_are_refused_by_name(tmp_path: Path) -> None:
    nodes = [
        *graphs.coarse("x", "t"),
        helper.make_node("Gelu", ["t"], ["y"], domain="com.microsoft"),
    ]
    text = "must hold operators of ONNX alone, got 1 com.microsoft::Gelu; export it without them"
    refused(tmp_path, nodes, text, domains=["com.microsoft"])


def test_chance_is_refused_by_name(tmp_path: Path) -> None:
    nodes = [
        *graphs.coarse("x", "t"),
        helper.make_node("RandomNormalLike", ["t"], ["u"], "noise"),
        helper.make_node("Add", ["t", "u"], ["y"], "sum"),
    ]
    refused(
        tmp_path,
        nodes,
        "must give the same result every time, got 1 RandomNormalLike; call eval() on the network "
        "before its export",
    )


def test_another_precision_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], "half", to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["h"], ["t"], "back", to=TensorProto.FLOAT),
        *graphs.coarse("t"),
    ]
    refused(
        tmp_path,
        nodes,
        "must compute in float32, got 1 nodes in fp16; export it in float32, and lower the "
        "precision with fcnkit adopt --precision",
    )


def test_one_class_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "one"], ["y"], "c")]
    refused(
        tmp_path,
        nodes,
        "must give scores of 2 to 255 classes, got float32 (1, 1, 65, 67) for an image of 65x67; "
        "let the network give a score for the background too, or check the layout",
        more_weights={"one": np.ones((1, 3, 1, 1), np.float32)},
    )


def test_another_input_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["t"], "c", to=1), *graphs.coarse("t")]
    refused(
        tmp_path,
        nodes,
        "must have one input, the image as float32 (N, 3, H, W), got x uint8 (?, 3, ?, ?); export "
        "the network for float32 images, channels first",
        dtype=TensorProto.UINT8,
    )


def test_several_outputs_need_a_choice(tmp_path: Path) -> None:
    nodes = [*graphs.full(), helper.make_node("Identity", ["skip"], ["aux"], "a")]
    source = graphs.save(tmp_path / "net.onnx", nodes, more_outputs=["aux"])
    out = tmp_path / "out.onnx"
    text = (
        f"{source}: one output is adopted, got 2 outputs: y, aux; name the scores with --output y"
    )
    with refusal(ValueError, text):
        adopt(source, out, claims=Claims(**PLAIN))
    with refusal(ValueError, "--output: must be one of y, aux, got z; use --output y"):
        adopt(source, out, claims=Claims(output="z", **PLAIN))
    adopt(source, out, claims=Claims(output="aux", **PLAIN), head="labels")
    # What the chosen output does not need is gone.
    assert "Resize" not in [node.op_type for node in onnx.load(out).graph.node]


def test_heads_that_a_graph_cannot_have(tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    source = graphs.save(tmp_path / "a.onnx", graphs.argmax(), kind=TensorProto.INT64, rank=3)
    text = (
        "--head: a network that takes the argmax itself gives labels only, got scene; use --head "
        "labels, or export the network without its argmax"
    )
    with refusal(ValueError, text):
        adopt(source, out, head="scene", claims=Claims(classes=5, **PLAIN))
    fixed = graphs.save(tmp_path / "f.onnx", graphs.full(), dims=(1, 3, 64, 96))
    text = (
        "--head: scene needs a network for any size and batch, got one for 64x96 only; use --head "
        "labels, or export the network with dynamic sizes and batch"
    )
    with refusal(ValueError, text):
        adopt(fixed, out, head="scene", claims=Claims(**PLAIN))
    batch = graphs.save(tmp_path / "b.onnx", graphs.full(), dims=(1, 3, "h", "w"))
    text = (
        "--head: scene needs a network for any size and batch, got one for a batch of 1 only; use "
        "--head labels, or export the network with dynamic sizes and batch"
    )
    with refusal(ValueError, text):
        adopt(batch, out, head="scene", claims=Claims(**PLAIN))


def test_wrong_claims(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "out.onnx"
    source = graphs.save(tmp_path / "net.onnx", graphs.coarse())
    text = (
        "--classes: the network gives scores for 5 classes, got 19 classes; give 5 classes, or "
        "another network"
    )
    with refusal(ValueError, text):
        adopt(source, out, claims=Claims(classes=19, **PLAIN))
    text = (
        "--multiple: the network must run at every multiple of 2, got no fitting result at 66x70; "
        "use --multiple 4"
    )
    with refusal(ValueError, text):
        adopt(source, out, claims=Claims(multiple=2, **PLAIN))
    text = (
        f"{source}: the mean and the deviation of its input must be known, got no --mean and no "
        "--std; add --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 for ImageNet's, or --mean "
        "0,0,0 --std 1,1,1 for plain values"
    )
    with refusal(ValueError, text):
        adopt(source, out)
    best = graphs.save(tmp_path / "a.onnx", graphs.argmax(), kind=TensorProto.INT64, rank=3)
    # Which labels noise shows depends on the weights: at least one above 1.
    text = (
        r"\A--classes: the labels of the network must be 0\.\.1, got \d\.\.[234]; say how many "
        r"there are, such as --classes [345]\Z"
    )
    with pytest.raises(ValueError, match=text):
        adopt(best, out, claims=Claims(classes=2, **PLAIN))
    assert not list(tmp_path.glob("out*"))


def normalizing(path: Path) -> Path:
    """A graph that subtracts ImageNet's mean itself."""
    shape = (1, 3, 1, 1)
    stored = {
        "m": np.array((0.485, 0.456, 0.406), np.float32).reshape(shape),
        "s": np.array((0.229, 0.224, 0.225), np.float32).reshape(shape),
    }
    nodes = [
        helper.make_node("Sub", ["x", "m"], ["u"], "sub"),
        helper.make_node("Div", ["u", "s"], ["t"], "div"),
        *graphs.full(),
    ]
    for node in nodes[2:]:
        node.input[:] = ["t" if name == "x" else name for name in node.input]
    return graphs.save(path, nodes, more_weights=stored)


def test_a_mean_that_the_graph_subtracts_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, out = normalizing(tmp_path / "net.onnx"), tmp_path / "out.onnx"
    imagenet: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    own = "mean 0.485,0.456,0.406, std 0.229,0.224,0.225"
    text = (
        f"--mean: the graph subtracts {own} itself, got 0.485,0.456,0.406; use --mean 0,0,0 "
        "--std 1,1,1"
    )
    with refusal(ValueError, text):
        adopt(source, out, claims=Claims(color="RGB", **imagenet))
    report = adopt(source, out, claims=Claims(color="RGB"))
    assert f"the graph normalizes by itself: {own}" in report.facts
    assert report.spec.input.mean == (0, 0, 0)
    assert not caplog.records
    adopt(source, out, claims=Claims(mean=(0.5,) * 3, std=(0.5,) * 3, color="RGB", scale=1))
    assert [record.getMessage() for record in caplog.records] == [
        f"--mean: the graph subtracts {own} itself, got 0.5,0.5,0.5; both are subtracted; use "
        "--mean 0,0,0 --std 1,1,1 if the graph's is enough"
    ]


def test_what_is_assumed_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = graphs.save(tmp_path / "net.onnx", graphs.full())
    adopt(source, tmp_path / "out.onnx", claims=Claims(mean=(0.5,) * 3, std=(0.5,) * 3))
    assert [record.getMessage() for record in caplog.records] == [
        f"{source}: the order of channels is not in a network, got no --color; RGB is assumed",
        f"{source}: the scale of its input is not in a network, got no --scale; 0..1 is assumed; "
        "add --scale 255 for a network that takes 0..255",
    ]


def test_int8_is_for_convolutions(tmp_path: Path, shapes_folder: Path) -> None:
    random = np.random.default_rng(0)
    stored = {"w": random.normal(size=(3, 5)).astype(np.float32)}
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], "t", perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["t", "w"], ["u"], "m"),
        helper.make_node("Transpose", ["u"], ["y"], "b", perm=[0, 3, 1, 2]),
    ]
    source = graphs.save(tmp_path / "net.onnx", nodes, more_weights=stored)
    text = (
        "--precision: int8 is for networks that compute with convolutions, got 1 MatMul; use "
        "--precision fp16, or keep these parts in float32 with --keep-fp32"
    )
    with refusal(ArtifactError, text):
        adopt(
            source,
            tmp_path / "out.onnx",
            head="labels",
            precision="int8",
            calibration=shapes_folder,
            claims=Claims(**PLAIN),
        )


def test_files_of_fcnkit_and_broken_ones(tmp_path: Path, exported: dict[str, Path]) -> None:
    out = tmp_path / "out.onnx"
    text = (
        f"{exported['logits']}: must be a network from elsewhere, got a file that fcnkit wrote; "
        "fcnkit reads this file as it is; export another head from its checkpoint"
    )
    with refusal(ArtifactError, text):
        adopt(exported["logits"], out)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model at all")
    with pytest.raises(ArtifactError, match="must be a complete ONNX file, got "):
        adopt(broken, out)
    with refusal(
        ArtifactError,
        f"{tmp_path / 'no.onnx'}: must be an ONNX file, got no such file; check the path",
    ):
        adopt(tmp_path / "no.onnx", out)


def test_constants_in_nodes_are_weights_too(tmp_path: Path) -> None:
    constant = numpy_helper.from_array(graphs.weights()["side"])
    nodes = [
        helper.make_node("Constant", [], ["k"], "k", value=constant),
        helper.make_node("Conv", ["x", "k", "bias"], ["y"], "c"),
    ]
    source = graphs.save(tmp_path / "net.onnx", nodes)
    out = tmp_path / "out.onnx"
    adopt(source, out, head="labels", precision="fp16", claims=Claims(**PLAIN))
    graph = onnx.load(out).graph
    assert "Constant" not in [node.op_type for node in graph.node]


def test_one_shape_of_a_graph_that_takes_any(tmp_path: Path) -> None:
    source = graphs.save(tmp_path / "net.onnx", graphs.full())
    out = tmp_path / "out.onnx"
    adopt(source, out, head="labels", shape=(2, 50, 70), claims=Claims(**PLAIN))
    spec = read_onnx_file(out).spec(where="out")
    assert spec.shapes.min == spec.shapes.max == (2, 50, 70)
    fixed = graphs.save(tmp_path / "fixed.onnx", graphs.full(), dims=(1, 3, 64, 96))
    text = "--shape: the network takes NxHxW of 1x64x96, got 2x50x70; leave it out"
    with refusal(ValueError, text):
        adopt(fixed, out, shape=(2, 50, 70), claims=Claims(**PLAIN))


def test_the_source_is_never_written_over(tmp_path: Path) -> None:
    source = graphs.save(tmp_path / "net.onnx", graphs.full())
    before = source.read_bytes()
    text = f"-o: must be another file than the source, got {source}; name it model.onnx"
    with refusal(ValueError, text):
        adopt(source, source, claims=Claims(**PLAIN))
    assert source.read_bytes() == before


def test_functions_are_written_out_unless_they_never_end(tmp_path: Path) -> None:
    source = graphs.save(tmp_path / "net.onnx", [helper.make_node("F", ["x"], ["y"], domain="f")])
    model = onnx.load(source)
    model.graph.initializer.extend(
        numpy_helper.from_array(v, n) for n, v in graphs.weights().items()
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
    model.opset_import.append(opsets[1])
    inner = [
        helper.make_node(
            "Constant", [], ["k"], value=numpy_helper.from_array(graphs.weights()["side"])
        ),
        helper.make_node("Conv", ["x", "k"], ["y"]),
    ]
    model.functions.append(helper.make_function("f", "F", ["x"], ["y"], inner, opsets))
    source.write_bytes(model.SerializeToString())
    adopt(source, tmp_path / "out.onnx", head="labels", claims=Claims(**PLAIN))
    model.functions[0].node[1].CopyFrom(helper.make_node("F", ["x"], ["y"], domain="f"))
    source.write_bytes(model.SerializeToString())
    text = f"{source}: must have functions that end, got F, which calls itself; export it again"
    with refusal(ArtifactError, text):
        adopt(source, tmp_path / "out.onnx", claims=Claims(**PLAIN))


def test_images_that_fill_the_memory_are_refused(tmp_path: Path) -> None:
    source = graphs.save(tmp_path / "net.onnx", graphs.full(), dims=(1, 3, 10**6, 10**6))
    text = (
        f"{source}: must take batches of at most 67108864 pixels, got 1000000000000 pixels; export "
        "it for a smaller batch or size"
    )
    with refusal(ArtifactError, text):
        adopt(source, tmp_path / "out.onnx", claims=Claims(**PLAIN))


def test_more_than_2_gib_are_refused_unread(tmp_path: Path) -> None:
    source = tmp_path / "net.onnx"
    with source.open("wb") as file:
        file.truncate(2**31)
    text = f"{source}: must be smaller than 2 GiB, got 2147483648 bytes; use a smaller one"
    with refusal(ArtifactError, text):
        adopt(source, tmp_path / "out.onnx", claims=Claims(**PLAIN))


def test_copies_of_weights_are_weights(tmp_path: Path) -> None:
    nodes = graphs.full()
    nodes.insert(0, helper.make_node("Identity", ["first"], ["again"], "copy"))
    nodes[1].input[1] = "again"
    source = graphs.save(tmp_path / "net.onnx", nodes)
    adopt(source, tmp_path / "out.onnx", head="labels", claims=Claims(**CAFFE))
    graph = onnx.load(tmp_path / "out.onnx").graph
    assert "Identity" not in [node.op_type for node in graph.node]
    image_hwc = graphs.image(41, 37)
    with fcnkit.load(tmp_path / "out.onnx") as segmenter:
        same_but_ties(segmenter(image_hwc), graphs.run(source, as_network(image_hwc, CAFFE))[0])
