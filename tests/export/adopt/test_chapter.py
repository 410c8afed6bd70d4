"""The network of the d2l.ai chapter: its state dict is deployed as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import fcnkit
from fcnkit.errors import ArtifactError
from fcnkit.export.adopt import Claims, adopt
from fcnkit.train.checkpoint import load_model
from tests.conftest import SHARED
from tests.export.adopt import graphs
from tests.refusal import refusal

CROPS = 20


def chapter(num_classes: int = 21) -> nn.Sequential:
    """The d2l.ai chapter's own lines."""
    torch.manual_seed(0)
    pretrained_net = torchvision.models.resnet18(weights=None)
    net = nn.Sequential(*list(pretrained_net.children())[:-2])
    net.add_module("final_conv", nn.Conv2d(512, num_classes, kernel_size=1))
    net.add_module(
        "transpose_conv",
        nn.ConvTranspose2d(num_classes, num_classes, kernel_size=64, padding=16, stride=32),
    )
    W = bilinear_kernel(num_classes, num_classes, 64)
    net.transpose_conv.weight.data.copy_(W)
    nn.init.xavier_uniform_(net.final_conv.weight)
    return net.eval()


def bilinear_kernel(in_channels: int, out_channels: int, kernel_size: int) -> torch.Tensor:
    """The d2l.ai chapter's own function."""
    factor = (kernel_size + 1) // 2
    center = factor - 1 if kernel_size % 2 == 1 else factor - 0.5
    og = (torch.arange(kernel_size).reshape(-1, 1), torch.arange(kernel_size).reshape(1, -1))
    filt = (1 - torch.abs(og[0] - center) / factor) * (1 - torch.abs(og[1] - center) / factor)
    weight = torch.zeros((in_channels, out_channels, kernel_size, kernel_size))
    weight[range(in_channels), range(out_channels), :, :] = filt
    return weight


def logits_of(net: nn.Module, image_hwc: NDArray[np.uint8]) -> torch.Tensor:
    """The d2l.ai chapter's ``normalize_image`` and the call in its ``predict``, in float64.

    In float32 its labels depend on the processor: with AVX2 only, 9 of the 20 crops have a pixel
    other than in float64, which would count as a fault of fcnkit.
    """
    transform = torchvision.transforms.Normalize(
        mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]
    )
    img = torch.from_numpy(image_hwc.copy()).permute(2, 0, 1)
    X = transform(img.double() / 255).unsqueeze(0)
    with torch.no_grad():
        result: torch.Tensor = net(X)
    return result


def crops() -> list[NDArray[np.uint8]]:
    """Crops of 320x480 of real images where there are some, else drawn ones."""
    found = []
    folder = SHARED / "voc2012-subset"
    for path in sorted(folder.rglob("*.jpg")):
        image_hwc = np.asarray(Image.open(path).convert("RGB"))
        if image_hwc.shape[0] >= 320 and image_hwc.shape[1] >= 480:
            found.append(np.ascontiguousarray(image_hwc[:320, :480]))
        if len(found) == CROPS:
            return found
    return found + [graphs.image(320, 480, seed) for seed in range(CROPS - len(found))]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chapter") / "fcn.pt"
    torch.save(chapter().state_dict(), path)
    return path


@pytest.mark.parametrize("head", ["labels", "logits"])
def test_labels_are_those_of_the_chapters_predict(head: str, state: Path, tmp_path: Path) -> None:
    out = tmp_path / "fcn.onnx"
    report = adopt(state, out, head=head)  # type: ignore[arg-type]
    assert report.spec.classes[:2] == ("background", "aeroplane")
    net = chapter().double()
    with fcnkit.load(out) as segmenter:
        for image_hwc in crops()[: CROPS if head == "labels" else 4]:
            labels_hw = segmenter(image_hwc)
            logits = logits_of(net, image_hwc)
            pred = logits.argmax(dim=1)
            wanted = pred.reshape(pred.shape[1], pred.shape[2]).numpy()
            differs = labels_hw != wanted
            assert differs.mean() <= 1e-5
            top = logits[0].topk(2, dim=0).values.numpy()
            assert (top[0] - top[1] <= 1e-5 * np.abs(logits.numpy()).max())[differs].all()


@pytest.mark.parametrize(
    ("wrap", "fact"),
    [
        (lambda s: {f"module.{k}": v for k, v in s.items()}, "module. was taken off every name"),
        (
            lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()},
            "_orig_mod. was taken off every name",
        ),
        (lambda s: {"state_dict": s, "epoch": 3}, "the state dict is under the key state_dict"),
        (lambda s: {"model": s, "optimizer": {}}, "the state dict is under the key model"),
        (
            lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
            "the layout of the d2l.ai chapter on resnet18, with its mean and std",
        ),
    ],
    ids=["ddp", "compiled", "lightning", "wrapped", "old-norms"],
)
def test_what_wraps_the_weights_is_taken_off(wrap, fact: str, state: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    weights = torch.load(state, weights_only=True)
    path, out = tmp_path / "w.pt", tmp_path / "fcn.safetensors"
    torch.save(wrap(weights), path)
    assert fact in adopt(path, out).facts
    net, loaded = load_model(out)
    assert loaded.spec.architecture == "fcn32s-resnet18"
    assert torch.equal(net.state_dict()["final_conv.weight"], weights["final_conv.weight"])


def test_the_format_before_torch_1_6_is_refused_with_a_remedy_that_works(
    state: Path, tmp_path: Path
) -> None:
    path, new = tmp_path / "old.pt", tmp_path / "old-new.pt"
    weights = torch.load(state, weights_only=True)
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    code = f"import torch; torch.save(torch.load('{path}', weights_only=True), '{new}')"
    text = (
        f"{path}: must be a zip archive as torch.save writes it, got a file of the format before "
        f'torch 1.6; if you trust it, convert it with python -c "{code}"'
    )
    with refusal(ArtifactError, text):
        adopt(path, tmp_path / "fcn.pt")
    subprocess.run([sys.executable, "-c", code], check=True)
    adopt(new, tmp_path / "fcn.pt")
    assert load_model(tmp_path / "fcn.pt")[1].spec.num_classes == 21


def test_other_numbers_of_classes_must_be_named(tmp_path: Path) -> None:
    path, out = tmp_path / "fcn.pt", tmp_path / "fcn.safetensors"
    torch.save(chapter(3).state_dict(), path)
    text = (
        f"{path}: the names of the classes must be known, got 3 classes; name them with "
        "--labelmap labelmap.txt, or count them with --classes 3"
    )
    with refusal(ValueError, text):
        adopt(path, out)
    names = tmp_path / "labelmap.txt"
    names.write_text("sky:0,0,255::\nroad:128,64,128::\ncar:255,0,0::\n")
    assert adopt(path, out, claims=Claims(labelmap=names)).spec.classes == ("sky", "road", "car")
    text = (
        "--labelmap: the network gives scores for 21 classes, got 3 classes; give 21 classes, or "
        "another network"
    )
    other = tmp_path / "voc.pt"
    torch.save(chapter().state_dict(), other)
    with refusal(ValueError, text):
        adopt(other, out, claims=Claims(labelmap=names))


def test_files_that_hold_no_state_dict(tmp_path: Path, run_folder: Path) -> None:
    out = tmp_path / "out.onnx"
    whole = tmp_path / "whole.pt"
    torch.save(chapter(2), whole)
    text = (
        f"{whole}: must be a state dict that torch can read without running code, got a pickle "
        "that needs torch.nn.modules.container.Sequential; save it with "
        "torch.save(net.state_dict(), 'weights.pt')"
    )
    with refusal(ArtifactError, text):
        adopt(whole, out)
    best = run_folder / "best.pt"
    text = (
        f"{best}: must be a network from elsewhere, got a file that fcnkit wrote; use fcnkit "
        f"export onnx {best} -o model.onnx"
    )
    with refusal(ArtifactError, text):
        adopt(best, out)
    two = tmp_path / "two.pt"
    torch.save({"model": {"a": torch.zeros(1)}, "net": {"a": torch.zeros(1)}}, two)
    remedy = "save one of them alone, with torch.save(net.state_dict(), 'weights.pt')"
    with refusal(ArtifactError, f"{two}: must hold a state dict, got 2 under model, net; {remedy}"):
        adopt(two, out)


def test_another_layout_names_its_first_difference(tmp_path: Path) -> None:
    weights = chapter(2).state_dict()
    weights["transpose_conv.weight"] = torch.zeros(2, 2, 16, 16)
    path = tmp_path / "fcn.pt"
    torch.save(weights, path)
    text = (
        f"{path}: must be the d2l.ai chapter's network on a ResNet, upsampled by 32, got "
        "transpose_conv.weight (2, 2, 16, 16) in place of (2, 2, 64, 64); write a function that "
        "returns the network, and adopt package.module:function"
    )
    with refusal(ArtifactError, text):
        adopt(path, tmp_path / "out.onnx")
    weights["final_conv.weight"] = torch.full((2, 512, 1, 1), float("nan"))
    torch.save(weights, path)
    text = (
        f"{path}: weights must be finite numbers, got NaN or infinity in final_conv.weight; take "
        "the weights of an earlier epoch"
    )
    with refusal(ArtifactError, text):
        adopt(path, tmp_path / "out.onnx")


def test_a_multiple_that_is_too_small(state: Path, tmp_path: Path) -> None:
    text = (
        "--multiple: the network must run at every multiple of 16, got a network for multiples of "
        "32; use --multiple 32"
    )
    with refusal(ValueError, text):
        adopt(state, tmp_path / "out.onnx", claims=Claims(multiple=16))


def test_weights_take_no_options_of_graphs(state: Path, tmp_path: Path) -> None:
    out = tmp_path / "fcn.pt"
    text = "--head: goes with an .onnx file, got a file of weights; leave it out, or write "
    text += "model.onnx"
    with refusal(ValueError, text):
        adopt(state, out, head="labels")
    text = "--color: a file of weights holds a network that takes RGB, got BGR; write a graph, "
    with refusal(ValueError, text + "model.onnx"):
        adopt(state, out, claims=Claims(color="BGR"))
    assert not out.exists()
