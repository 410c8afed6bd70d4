"""Real packages: their networks walk in, and every command runs on what comes out."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import fcnkit
from benchmarks.adopt_sources import CLASSES, RGB, SOURCES
from fcnkit.cli import app
from fcnkit.errors import ArtifactError, VerifyError
from fcnkit.export.adopt import Claims, adopt
from fcnkit.runtime.backends.opening import open_backend
from tests.export.adopt import graphs

NEEDS = {
    "smp": "segmentation_models_pytorch",
    "transformers": "transformers",
    "timm": "timm",
    "onnxslim": "onnxslim",
}


def taken_over(source: str, folder: Path, **more: Any) -> Path:
    """Adopt a source of the benchmark's table."""
    for word, package in NEEDS.items():
        if word in source:
            pytest.importorskip(package, reason=f"{package} is not installed, see extra interop")
    make, claims = SOURCES[source]
    torch.set_num_threads(1)
    out = folder / "out.onnx"
    adopt(make(folder), out, claims=Claims(**claims), max_pixels=64 * 96, **more)
    return out


@pytest.mark.parametrize("source", list(SOURCES))
@pytest.mark.filterwarnings("ignore")  # other packages their own warn dependencies
def test_every_source_gives_labels(source: str, tmp_path: Path) -> None:
    out = taken_over(source, tmp_path, head="labels")
    with fcnkit.load(out) as segmenter:
        spec = segmenter.spec
        image_hwc = graphs.image(*(max(64, side) for side in spec.shapes.min[1:]))
        labels_hw = segmenter(image_hwc)
    assert spec.num_classes == CLASSES
    assert labels_hw.shape == image_hwc.shape[:2]


@pytest.mark.parametrize("source", [s for s in SOURCES if "argmax" not in s and "fixed" not in s])
@pytest.mark.filterwarnings("ignore")
def test_every_source_of_free_sizes_gives_a_scene(source: str, tmp_path: Path) -> None:
    out = taken_over(source, tmp_path, head="scene")
    with fcnkit.load(out) as segmenter:
        assert segmenter(graphs.image(75, 101)).shape == (75, 101)


@pytest.mark.filterwarnings("ignore")
def test_int8_of_a_transformer_names_its_operators(tmp_path: Path, shapes_folder: Path) -> None:
    with pytest.raises(ArtifactError, match=r"int8 is for .* got \d+ MatMul"):
        taken_over(
            "transformers SegFormer, factory",
            tmp_path,
            head="labels",
            precision="int8",
            calibration=shapes_folder / "JPEGImages",
        )


@pytest.mark.parametrize(
    ("source", "warned"),
    [
        ("torchvision lraspp, ONNX by TorchScript", True),
        ("torchvision lraspp, ONNX by torch.export", False),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_an_int8_file_that_openvino_computes_otherwise_is_named(
    source: str, warned: bool, tmp_path: Path, shapes_folder: Path
) -> None:
    """Where TorchScript fails here, OpenVINO has fixed it: docs/adopt.md says otherwise."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        out = taken_over(
            source,
            tmp_path,
            head="labels",
            precision="int8",
            calibration=shapes_folder / "JPEGImages",
        )
    texts = [str(one.message) for one in caught]
    assert sum("OpenVINO must give the labels" in text for text in texts) == warned
    with open_backend(out) as chosen:
        assert chosen.name == ("onnxruntime" if warned else "openvino")
        assert ("it gave other labels" in chosen.info.chosen_because) == warned
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_backend(out, backend="openvino").close()
    texts = [str(one.message) for one in caught]  # where int8 may overflow, a warning says that too
    assert sum("this backend gave other labels" in text for text in texts) == warned


@pytest.mark.filterwarnings("ignore")
def test_scores_that_hardly_differ_are_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm", reason="timm is not installed, see extra interop")
    torch.set_num_threads(1)
    source, claims = "benchmarks.adopt_sources:on_timm_flat", Claims(**RGB)
    adopt(source, tmp_path / "out.onnx", head="labels", claims=claims, max_pixels=64 * 96)
    monkeypatch.setattr("fcnkit.export.difference.ROUNDING", -1.0)
    with pytest.raises(VerifyError, match="got label agreement of balanced classes"):
        adopt(source, tmp_path / "out.onnx", head="labels", claims=claims, max_pixels=64 * 96)


@pytest.mark.filterwarnings("ignore")
def test_every_command_runs_on_an_adopted_file(tmp_path: Path, shapes_folder: Path) -> None:
    labels = taken_over("torchvision lraspp, ONNX by torch.export", tmp_path, head="labels")
    logits = labels.rename(tmp_path / "labels.onnx")
    logits = taken_over("torchvision lraspp, ONNX by torch.export", tmp_path, head="logits")
    labels = tmp_path / "labels.onnx"
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(graphs.image(70, 90)).save(images / "a.png")

    def run(*words: object) -> str:
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout

    assert json.loads(run("info", labels, "--json"))["spec"]["head"] == "labels"
    for cover in ("auto", "pad", "average"):
        run("predict", logits, images, "-o", tmp_path / cover, "--cover", cover)
    a, b = (np.asarray(Image.open(tmp_path / c / "a.png")) for c in ("auto", "pad"))
    assert np.array_equal(a, b)
    run("verify", logits, labels, "--max-pixels", 64 * 96)
    run("bench", "latency", labels, "--shape", "64x96", "--runs", 3, "--warmup", 1)
    run("export", "triton", labels, "-o", tmp_path / "triton")
    run("export", "engine", labels, "-o", tmp_path / "m.engine", "--flavor", "tensorrt-rtx")
