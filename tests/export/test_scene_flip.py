"""Head ``scene`` with ``--tta flip``: the mean over tiles and their mirror images, in the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import fcnkit
from fcnkit.errors import BadValueError, VerifyError
from fcnkit.export.build import build_graph, head_spec, trace_core
from fcnkit.export.saving import save_model
from fcnkit.export.subject import open_subject
from fcnkit.export.to_onnx import export_onnx
from fcnkit.export.verification import verify
from fcnkit.runtime import read_onnx_file
from fcnkit.train.checkpoint import load_model
from tests.reference.confidence import TOLERANCE, assert_sure, confidence_and_margin
from tests.refusal import refusal
from tests.runtime.predict.test_segmenter import picture
from tests.train.networks import lively, save_network

SMALL = 96 * 96


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flip") / "x.pt"
    save_network(lively("fcn32s-resnet18"), "fcn32s-resnet18", path)
    return path


def mean_logits(source: Path, image_hwc: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The four tiles in the corners and their mirror images, by PyTorch: (K, H, W)."""
    net, loaded = load_model(source)
    given = loaded.spec.input
    height, width = image_hwc.shape[:2]
    rows, columns = height // 32 * 32, width // 32 * 32
    planes = ((image_hwc / 255 - np.array(given.mean)) / np.array(given.std)).transpose(2, 0, 1)
    total = np.zeros((loaded.spec.num_classes, height, width))
    count = np.zeros((height, width))
    for top in {0, height - rows}:
        for left in {0, width - columns}:
            window = np.s_[top : top + rows, left : left + columns]
            tile = torch.from_numpy(planes[:, *window].astype(np.float32).copy())[None]
            with torch.inference_mode():
                total[:, *window] += net.eval()(tile).double().numpy()[0]
                total[:, *window] += net.eval()(tile.flip(3)).flip(3).double().numpy()[0]
            count[window] += 2
    return total / count


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_it_is_the_mean_of_both(source: Path, backend: str, tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    export_onnx(source, out, head="scene", tta="flip", confidence=True, max_pixels=SMALL)
    assert read_onnx_file(out).spec(where="m").tta == "flip"
    with fcnkit.load(out, backend=backend) as segmenter:
        for size in ((64, 96), (77, 96), (64, 101), (75, 110)):
            image = picture(*size)
            made = segmenter(image, confidence=True)
            logits = mean_logits(source, image)
            chosen = np.take_along_axis(logits, made.labels[None].astype(np.int64), 0)[0]
            assert (logits.max(0) - chosen).max() <= 1e-4 * np.abs(logits).max()
            assert_sure(made.confidence, confidence_and_margin(logits)[0], TOLERANCE + 0.2)


def test_without_the_mirror_image_the_labels_are_others(source: Path, tmp_path: Path) -> None:
    """A graph that does not do what its spec says is found."""
    net, loaded = load_model(source)
    core = trace_core(net, loaded.spec.num_classes)
    plain = head_spec(loaded.spec, "scene", sha256=None)
    claimed = head_spec(loaded.spec, "scene", sha256=None, tta="flip")
    model, _ = build_graph(core, plain)
    save_model(model, claimed, tmp_path / "m.onnx")
    with open_subject(source) as a, open_subject(tmp_path / "m.onnx") as b:
        assert verify(a, b, max_pixels=SMALL).failures


def test_a_side_that_gives_labels_cannot_be_compared(source: Path, tmp_path: Path) -> None:
    for name, tta in (("plain", None), ("flip", "flip")):
        export_onnx(source, tmp_path / f"{name}.onnx", head="scene", tta=tta, max_pixels=SMALL)
    with open_subject(tmp_path / "plain.onnx") as a, open_subject(tmp_path / "flip.onnx") as b:
        with refusal(
            VerifyError,
            "verify: flip.onnx averages over mirror images, so the other side must give logits, "
            "got head scene; compare with the checkpoint, or with a model of head logits or scores",
        ):
            verify(a, b)
        assert not verify(b, b, max_pixels=SMALL).failures


@pytest.mark.parametrize(
    ("head", "remedy"),
    [
        ("labels", "leave it out"),
        ("logits", "give it to predict or eval instead"),
        ("scores", "give it to predict or eval instead"),
    ],
)
def test_other_heads_refuse(source: Path, head: str, remedy: str, tmp_path: Path) -> None:
    text = f"--tta: goes with --head scene, got head {head}; {remedy}"
    with refusal(BadValueError, text):
        export_onnx(source, tmp_path / "m.onnx", head=head, tta="flip")  # type: ignore[arg-type]
    with refusal(BadValueError, "--tta: must be one of flip, got turn; choose one of these"):
        export_onnx(source, tmp_path / "m.onnx", head="scene", tta="turn")  # type: ignore[arg-type]
