"""``--bands`` from the data set through training and export to what ``predict`` reads."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import tifffile
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn

from fcnkit import load
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.predict.pictures import read_picture
from fcnkit.train.checkpoint import load_checkpoint
from tests.cli.shell import called, refused
from tests.cli.test_adopt import PLAIN
from tests.export.adopt import graphs
from tests.train.folders import empty_folder

NAMES = {"train": ["a", "b", "c", "d"], "val": ["e", "f"]}


class Pointwise(nn.Module):
    """Sees one pixel at a time."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, num_classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the scores."""
        scores: torch.Tensor = self.layer(image)
        return scores


class FourInputs(Pointwise):
    """A network for four bands."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.layer = nn.Conv2d(4, num_classes, 1)


def spec_of(path: Path) -> ModelSpec:
    """The spec of an ONNX file."""
    return read_onnx_file(path).spec(where=str(path))


@pytest.fixture
def fields(tmp_path: Path) -> Path:
    """Pictures of five gray samples; sample 4 alone shows where the plants are."""
    root = tmp_path / "fields"
    empty_folder(root, "background:0,0,0::\nplant:0,200,0::\n")
    random = np.random.default_rng(0)
    for split, names in NAMES.items():
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(names))
        for name in names:
            samples = random.integers(0, 256, (64, 96, 5), np.uint8)
            mask = (random.integers(0, 2, (8, 12), np.uint8)).repeat(8, 0).repeat(8, 1)
            samples[..., 3] = np.where(mask, 220, 30)
            path = root / f"JPEGImages/{name}.tif"
            tifffile.imwrite(path, samples, photometric="minisblack", planarconfig="contig")
            Image.fromarray(mask).save(root / f"SegmentationClass/{name}.png")
    return root


def test_bands_travel_from_training_to_predictions(fields: Path, tmp_path: Path) -> None:
    run, model = tmp_path / "run", ("--model", "tests.cli.test_bands:Pointwise")
    assert called("data", "check", fields, "--bands", "4,1,2").returncode == 0
    options = ("--bands", "4,1,2", "--epochs", "12", "--lr", "0.1", "--batch", "4")
    done = called("train", fields, "-o", run, "--recipe", "modern", "--crop", "64x64", *options,
                  "--workers", "0", *model)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(run / "best.pt").spec.bands == (4, 1, 2)
    # The plants are seen in sample 4 alone, so the scores show that it was read.
    scored = json.loads(called("eval", run / "best.pt", fields, "--json", *model).stdout)
    assert scored["mean_iou"] > 0.9, scored
    model_path = tmp_path / "m.onnx"
    done = called("export", "onnx", run / "best.pt", "-o", model_path, "--head", "labels", *model)
    assert done.returncode == 0, done.stderr
    assert spec_of(model_path).bands == (4, 1, 2)
    assert called("predict", model_path, fields, "-o", tmp_path / "out").returncode == 0
    for name in "ef":
        path = fields / f"JPEGImages/{name}.tif"
        with Image.open(next((tmp_path / "out").rglob(f"{name}.png"))) as image:
            labels = np.array(image)
        picked = np.ascontiguousarray(tifffile.imread(path)[..., [3, 0, 1]])
        assert np.array_equal(read_picture(path, bands=(4, 1, 2)), picked)
        with load(model_path, threads=1) as segmenter:
            assert np.array_equal(labels, segmenter(picked))
        with Image.open(fields / f"SegmentationClass/{name}.png") as truth:
            assert (labels == np.array(truth)).mean() > 0.9


def test_the_data_set_is_refused_without_bands(fields: Path) -> None:
    done = called("data", "check", fields)
    assert done.returncode == 1
    path = fields / "JPEGImages/a.tif"
    assert (
        f"train: unreadable: {path}: a gray TIFF must have one sample, or a second one that is "
        "named and beside it, got a TIFF of 5 gray samples of 8 bits, extra: unspecified and "
        "unspecified and unspecified and unspecified; convert it to RGB of 8 bits"
    ) in done.stdout


def test_a_network_with_four_inputs_is_refused_by_name(fields: Path, tmp_path: Path) -> None:
    done = called("train", fields, "-o", tmp_path / "run", "--bands", "4,1,2", "--epochs", "1",
                  "--model", "tests.cli.test_bands:FourInputs")  # fmt: skip
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        "error: tests.cli.test_bands:FourInputs: a network must take three inputs: red, green and "
        "blue, got 4; give its first layer three; --bands says which samples they are",
    )
    assert not (tmp_path / "run/best.pt").exists()


def test_a_foreign_graph_with_four_inputs_is_refused_by_name(tmp_path: Path) -> None:
    source = tmp_path / "net.onnx"
    value = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], "c")],
        "g",
        [value("x", shape=[1, 4, 32, 32])],
        [value("y", shape=[1, 2, 32, 32])],
        [numpy_helper.from_array(np.ones((2, 4, 1, 1), np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), source)
    refused(
        called("adopt", source, "-o", tmp_path / "out.onnx", *PLAIN),
        f"{source}: a network must take three inputs: red, green and blue, (N, 3, H, W), got x "
        "float (1, 4, 32, 32); adopt one of three; --bands says which samples they are",
    )


@pytest.mark.parametrize("verb", ["train", "check", "show", "adopt"])
def test_four_bands_are_refused_by_every_verb(verb: str, fields: Path, tmp_path: Path) -> None:
    words = {
        "train": ("train", fields, "-o", tmp_path / "o"),
        "check": ("data", "check", fields),
        "show": ("data", "show", fields, "-o", tmp_path / "o"),
        "adopt": ("adopt", tmp_path / "x.onnx", "-o", tmp_path / "o.onnx"),
    }[verb]
    text = (
        "--bands: networks take three inputs, so three samples are read, got 4 (1,2,3,4); "
        "choose three, such as 1,2,3 or 4,4,4"
    )
    done = called(*words, "--bands", "1,2,3,4")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, f"error: {text}")


@pytest.mark.parametrize("text", ["", "1;2;3", "a,b,c", "1,2,", "1, 2, 3", "-1,2,3", "1.0,2,3"])
def test_malformed_bands(text: str, fields: Path) -> None:
    refused(
        called("data", "check", fields, f"--bands={text}"),
        f"--bands: bands are written R,G,B, got {text!r}; write 1,2,3",
    )


def test_adopt_takes_bands(fields: Path, tmp_path: Path) -> None:
    source = graphs.save(tmp_path / "net.onnx", graphs.coarse())
    out = tmp_path / "out.onnx"
    done = called("adopt", source, "-o", out, "--head", "labels", "--bands", "5,5,4", *PLAIN)
    assert done.returncode == 0, done.stderr
    assert spec_of(out).bands == (5, 5, 4)
    config = tmp_path / "net.json"
    config.write_text(json.dumps({"bands": [5, 5, 4]}))
    other = tmp_path / "other.onnx"
    done = called("adopt", source, "-o", other, "--head", "labels", "--config", config, *PLAIN)
    assert spec_of(other) == spec_of(out)
    assert called("predict", out, fields / "JPEGImages", "-o", tmp_path / "l").returncode == 0
