"""Factories, and torchvision's state dicts: what is traced gives what the module gives."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

import fcnkit
from fcnkit.errors import ArtifactError
from fcnkit.export.adopt import Claims, adopt
from fcnkit.train.models.registry import NETWORKS
from tests.export.adopt import graphs
from tests.refusal import refusal

PLAIN = Claims(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), color="RGB", scale=1)

CODE = """
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self, form):
        super().__init__()
        torch.manual_seed(0)
        self.form = form
        self.one = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.two = nn.Conv2d(8, 5, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        y = self.two(torch.relu(self.norm(self.one(x))))
        if self.form == "dict":
            return {"out": F.interpolate(y, size=x.shape[2:], mode="bilinear"), "aux": y}
        if self.form == "object":
            return SimpleNamespace(logits=y)
        return [y] if self.form == "list" else y


def tensor():
    return Net("tensor")


def dictionary():
    return Net("dict")


def thing():
    return Net("object")


def listed():
    return Net("list")


def nothing():
    return 3


def fails():
    raise RuntimeError("no weights here")


value = 7
"""


@pytest.fixture(autouse=True)
def other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "othernets.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "othernets", raising=False)
    yield
    sys.modules.pop("othernets", None)


@pytest.mark.parametrize("head", ["labels", "scene"])
@pytest.mark.parametrize("name", ["tensor", "dictionary", "thing"])
def test_a_factory(name: str, head: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    report = adopt(f"othernets:{name}", out, head=head, claims=PLAIN)
    assert report.spec.architecture == f"othernets:{name}"
    import othernets  # type: ignore[import-not-found]

    net = getattr(othernets, name)().eval()
    image_hwc = graphs.image(64, 96)
    with torch.no_grad():
        result = net(torch.from_numpy(image_hwc).permute(2, 0, 1)[None].float() / 255)
    scores = result["out"] if isinstance(result, dict) else getattr(result, "logits", result)
    scores = torch.nn.functional.interpolate(scores, size=(64, 96), mode="bilinear")
    with fcnkit.load(out) as segmenter:
        labels_hw = segmenter(image_hwc)
    chosen = np.take_along_axis(scores[0].numpy(), labels_hw[None].astype(np.int64), 0)[0]
    assert (scores[0].numpy().max(0) - chosen <= 1e-5 * float(scores.abs().max())).all()


@pytest.mark.parametrize(
    ("source", "kind", "text"),
    [
        (
            "othernets:gone",
            ArtifactError,
            "othernets must have a callable of that name, got no gone; define it in othernets, or "
            "correct the name",
        ),
        (
            "nosuchpackage:net",
            ArtifactError,
            "its module must be importable from here, got ModuleNotFoundError: No module named "
            "'nosuchpackage'; call the command in the folder of the file, or install the package",
        ),
        (
            "othernets:value",
            TypeError,
            "must be a callable without arguments, got int; write a function that returns the "
            "network",
        ),
        (
            "othernets:nothing",
            TypeError,
            "must return a torch.nn.Module, got int; return the network itself",
        ),
        (
            "othernets:fails",
            ArtifactError,
            "must build the network when it is called without arguments, got RuntimeError: no "
            "weights here; correct the function",
        ),
        (
            "othernets:listed",
            TypeError,
            "its call must give a tensor, a dict with 'out' or an object with .logits, got list; "
            "return a module whose forward gives the scores alone",
        ),
    ],
)
def test_what_is_no_factory(source: str, kind: Any, text: str, tmp_path: Path) -> None:
    with refusal(kind, f"{source}: {text}"):
        adopt(source, tmp_path / "out.onnx", claims=PLAIN)


def test_torchvision_by_its_state_dict(tmp_path: Path) -> None:
    torch.manual_seed(0)
    build = torchvision.models.segmentation.lraspp_mobilenet_v3_large
    net = build(weights=None, weights_backbone=None, num_classes=7).eval()
    torch.save(net.state_dict(), tmp_path / "lraspp.pth")
    out = tmp_path / "out.onnx"
    text = (
        f"{tmp_path / 'lraspp.pth'}: the names of the classes must be known, got 7 classes; name "
        "them with --labelmap labelmap.txt, or count them with --classes 7"
    )
    with refusal(ValueError, text):
        adopt(tmp_path / "lraspp.pth", out)
    report = adopt(tmp_path / "lraspp.pth", out, head="labels", claims=Claims(classes=7))
    assert report.spec.architecture == "torchvision:lraspp_mobilenet_v3_large"
    assert report.spec.input.mean == (0.485, 0.456, 0.406)
    image_hwc = graphs.image(64, 96)
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    x = torch.from_numpy(image_hwc).permute(2, 0, 1)[None].float() / 255
    x = torchvision.transforms.functional.normalize(x, mean, std)
    with torch.no_grad():
        scores = net(x)["out"][0].numpy()
    with fcnkit.load(out) as segmenter:
        labels_hw = segmenter(image_hwc)
    chosen = np.take_along_axis(scores, labels_hw[None].astype(np.int64), 0)[0]
    assert (scores.max(0) - chosen <= 1e-5 * np.abs(scores).max()).all()


def test_weights_of_torchvision_and_of_a_factory(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    build = torchvision.models.segmentation.lraspp_mobilenet_v3_large
    net = build(weights=None, weights_backbone=None, num_classes=7).eval()
    torch.save(net.state_dict(), tmp_path / "lraspp.pth")
    graph, weights = tmp_path / "out.onnx", tmp_path / "out.pt"
    for out in (graph, weights):
        adopt(tmp_path / "lraspp.pth", out, claims=Claims(classes=7))
    image_hwc = graphs.image(70, 90)
    with fcnkit.load(graph) as first, fcnkit.load(weights) as second:
        assert np.mean(first(image_hwc) != second(image_hwc)) < 1e-3
        assert second.spec.input.multiple == 32

    out = tmp_path / "own.safetensors"
    adopt("othernets:tensor", out, claims=PLAIN)
    with fcnkit.load(out) as segmenter:
        assert segmenter(image_hwc).shape == (70, 90)
    del NETWORKS["othernets:tensor"]
    with pytest.raises(ArtifactError, match="add --model othernets:tensor"):
        fcnkit.load(out)
    with refusal(
        ValueError,
        "--upsample: a file of weights enlarges coarse scores by bilinear, got align-corners; "
        "write a graph, model.onnx",
    ):
        adopt("othernets:tensor", out, claims=replace(PLAIN, upsample="align-corners"))


def test_torchvisions_second_head_is_left_out_and_said(tmp_path: Path) -> None:
    from fcnkit.export.adopt.layouts import find_layout

    with torch.device("meta"):
        net = torchvision.models.segmentation.fcn_resnet50(
            weights=None, weights_backbone=None, num_classes=4, aux_loss=True
        )
    weights = {name: torch.zeros(tensor.shape) for name, tensor in net.state_dict().items()}
    layout = find_layout(weights, where="x")
    opened = layout.open(tmp_path / "x.pth", "0" * 64, ())
    assert opened.architecture == "torchvision:fcn_resnet50"
    assert any("aux_classifier" in line for line in opened.lines)
    weights["classifier.4.weight"] = torch.zeros(4, 100, 1, 1)
    with pytest.raises(ArtifactError) as caught:
        find_layout(weights, where="x")
    assert (
        "1 differences to fcn_resnet50: classifier.4.weight (4, 100, 1, 1) in place of "
        "(4, 512, 1, 1); write a function"
    ) in str(caught.value)
