"""What ``fcnkit export web`` writes and refuses; tests/browser uses the page."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fcnkit.errors import ArtifactError, DataError, ModelWarning
from fcnkit.export.web import ORT_VERSION, write_web_page
from fcnkit.export.web_graph import fill_channels
from fcnkit.runtime.artifacts.spec import ShapeRange
from tests.refusal import refusal
from tests.runtime.models import CLASSES, make_spec, write_model

PAGE = {"index.html", "page.js", "style.css", "worker.js", "model.json", "model.onnx"}


def test_the_folder_holds_the_page_and_what_it_must_know(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", make_spec("scene"))
    report = write_web_page(model, tmp_path / "site")
    files = {path.name: path for path in (tmp_path / "site").iterdir()}
    assert set(files) == PAGE
    assert report.bytes == sum(path.stat().st_size for path in files.values())
    assert files["model.onnx"].read_bytes() == model.read_bytes()
    facts = json.loads(files["model.json"].read_text("utf-8"))
    assert (facts["name"], facts["classes"]) == ("m", list(CLASSES))
    assert len(facts["colors"]) == len(CLASSES)
    loaded = [file for build in facts["runtime"].values() for file in build.values()]
    assert len(loaded) == 6
    for file in loaded:
        assert file["url"].startswith("https://")
        assert f"@{ORT_VERSION}/" in file["url"]
        assert file["integrity"].startswith("sha384-")


def test_what_a_browser_reads_otherwise_is_said(tmp_path: Path) -> None:
    spec = dataclasses.replace(make_spec("scene"), range=(0, 4095), bands=(4, 3, 2))
    model = write_model(tmp_path / "m.onnx", spec)
    with pytest.warns(ModelWarning) as warned:
        write_web_page(model, tmp_path / "site")
    remedy = "label such files with fcnkit predict"
    assert [str(one.message) for one in warned] == [
        f"{model}: a page gives the model 8 bits per sample, got a model that reads 0..4095 of "
        f"larger samples; {remedy}",
        f"{model}: a page gives the model red, green and blue, got a model that reads samples 4, 3 "
        f"and 2; {remedy}",
    ]
    facts = json.loads((tmp_path / "site" / "model.json").read_text("utf-8"))
    assert facts["notes"] == [
        "This page gives the model 8 bits per sample. The model reads 0..4095 of larger samples.",
        "This page gives the model red, green and blue. The model reads samples 4, 3 and 2.",
    ]
    model = write_model(tmp_path / "m.onnx", dataclasses.replace(spec, range=None, bands=(1, 2, 3)))
    write_web_page(model, tmp_path / "plain")
    assert json.loads((tmp_path / "plain" / "model.json").read_text("utf-8"))["notes"] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.pt", "checkpoint; write one with fcnkit export onnx --head scene"),
        ("m.engine", "engine; give the ONNX file that it was built from"),
    ],
)
def test_other_kinds_of_files(name: str, text: str, tmp_path: Path) -> None:
    with refusal(ArtifactError, f"{tmp_path / name}: a page runs an ONNX file, got {text}"):
        write_web_page(tmp_path / name, tmp_path / "site")


def test_other_heads_and_batches(tmp_path: Path) -> None:
    model, site = write_model(tmp_path / "m.onnx", make_spec("logits")), tmp_path / "site"
    text = "a page needs head scene or labels, got logits; export it again with --head scene"
    with refusal(ArtifactError, f"{model}: {text}"):
        write_web_page(model, site)
    shapes = ShapeRange(min=(4, 64, 64), opt=(4, 64, 64), max=(4, 64, 64))
    spec = dataclasses.replace(make_spec("labels"), shapes=shapes)
    model = write_model(tmp_path / "four.onnx", spec, dims=(4, 64, 64))
    text = (
        f"{model}: a page gives the model one picture at a time, got a model for 4x64x64 and more; "
        "export it again with --head scene, or with a --shape of one picture"
    )
    with refusal(ArtifactError, text):
        write_web_page(model, site)
    assert not site.exists()


def test_a_folder_that_is_not_empty_stays_as_it_is(tmp_path: Path) -> None:
    model, site = write_model(tmp_path / "m.onnx", make_spec("scene")), tmp_path / "site"
    site.mkdir()
    (site / "mine.txt").write_text("mine")
    text = f"{site}: must be a new or empty folder, got one with other files; choose another folder"
    with refusal(DataError, text):
        write_web_page(model, site)
    assert [path.name for path in site.iterdir()] == ["mine.txt"]


def test_a_folder_without_the_runtime_or_with_another_one(tmp_path: Path) -> None:
    model, ort = write_model(tmp_path / "m.onnx", make_spec("scene")), tmp_path / "npm"
    rule = f"--ort: must hold onnxruntime-web {ORT_VERSION}, got"
    remedy = f"run npm install onnxruntime-web@{ORT_VERSION} there"
    with refusal(ValueError, f"{rule} {ort} without it; {remedy}"):
        write_web_page(model, tmp_path / "site", ort=ort)
    script = ort / "node_modules" / "onnxruntime-web" / "dist" / "ort.wasm.min.js"
    script.parent.mkdir(parents=True)
    script.write_text("another")
    with refusal(ValueError, f"{rule} another version of {script}; {remedy}"):
        write_web_page(model, tmp_path / "site", ort=ort)


def convolution(channels: int, kernel: int, group: int = 1) -> onnx.ModelProto:
    """Two convolutions that share weights and input, in a graph without fcnkit's metadata."""
    rng = np.random.default_rng(3)
    shape = (4 * group, channels // group, kernel, kernel)
    weight = numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), "weight")
    nodes = [
        helper.make_node("Conv", ["x", "weight"], [name], group=group, kernel_shape=[kernel] * 2)
        for name in ("a", "b")
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, 9, 11])
    results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * 4) for n in ("a", "b")]
    graph = helper.make_graph(nodes, "g", [given], results, [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(
    ("channels", "kernel", "group", "changed"),
    [(6, 2, 1, 2), (21, 3, 1, 2), (6, 1, 1, 0), (8, 3, 1, 0), (3, 3, 1, 0), (6, 3, 2, 0)],
)
def test_channels_of_zeros_change_no_result(
    channels: int, kernel: int, group: int, changed: int
) -> None:
    model = convolution(channels, kernel, group)
    image = np.random.default_rng(4).normal(size=(1, channels, 9, 11)).astype(np.float32)

    def run() -> list[np.ndarray]:
        content = model.SerializeToString()
        options = {"providers": ["CPUExecutionProvider"]}
        results: list[np.ndarray] = onnxruntime.InferenceSession(content, **options).run(
            None, {"x": image}
        )
        return results

    before = run()
    assert fill_channels(model) == changed
    onnx.checker.check_model(model, full_check=True)
    used = [node.input[1] for node in model.graph.node if node.op_type == "Conv"]
    sizes = {tensor.name: tensor.dims[-3:] for tensor in model.graph.initializer}
    if changed:
        assert [sizes[name][0] % 4 for name in used] == [0, 0]
        # One Pad and one weight for both.
        assert (len(model.graph.node), len(model.graph.initializer)) == (3, 2)
    for old, new in zip(before, run(), strict=True):
        assert np.allclose(old, new, atol=1e-5)
