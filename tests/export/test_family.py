"""Every network of the family as ONNX, by head, run against PyTorch by the export itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from fcnkit.export.heads import LABEL_GROUPS
from fcnkit.export.to_onnx import export_onnx
from fcnkit.runtime.artifacts.spec import Head, Precision
from fcnkit.train.checkpoint import load_model
from fcnkit.train.models import SubpixelConvTranspose2d
from fcnkit.train.models.bilinear import BilinearUpsample
from tests.train.networks import lively, save_network

HEADS: tuple[Head, ...] = ("logits", "labels", "scene")
# fcn32s is exported in test_to_onnx. These two differ from their siblings in numbers only.
ONCE = ("fcn16s-resnet18", "deeplabv3os8-resnet18")
SMALL = 96 * 96  # pixels; test_to_onnx verifies on the usual sizes
CASES = [
    (architecture, head)
    for architecture in (
        "fcn8s-resnet18",
        "fpn-resnet18",
        "unet",
        "unet-resnet18",
        "deeplabv3-resnet18",
        "ddrnet23slim",
        "ddrnet23slim4",
        "lraspp-mobilenet_v3_large",
    )
    for head in HEADS
] + [(architecture, "labels") for architecture in ONCE]


@pytest.mark.parametrize(("architecture", "head"), CASES)
def test_exports_verified_and_lean(architecture: str, head: Head, tmp_path: Path) -> None:
    net = lively(architecture)
    save_network(net, architecture, tmp_path / "x.pt")
    report = export_onnx(tmp_path / "x.pt", tmp_path / "x.onnx", head=head, max_pixels=SMALL)
    assert report.verify.label_agreement >= 0.999
    model = onnx.load(tmp_path / "x.onnx")
    ops = [node.op_type for node in model.graph.node]
    # Upsampling is a convolution and a shuffle, and nothing resizes or gathers pixels.
    assert {"ConvTranspose", "Resize", "Range"}.isdisjoint(ops)
    # The pyramid and the head of DDRNet normalize before their convolutions.
    assert ops.count("BatchNormalization") == (12 if architecture.startswith("ddrnet") else 0)
    if head != "scene" and not architecture.startswith(("deeplab", "ddrnet")):
        # Only what depends on the size by its nature computes with shapes.
        assert {"Shape", "Gather", "Expand"}.isdisjoint(ops)
    kinds = SubpixelConvTranspose2d | BilinearUpsample
    upsamplings = sum(isinstance(module, kinds) for module in net.modules())
    assert ops.count("DepthToSpace") == upsamplings
    if head == "labels" and isinstance(net.last_step, SubpixelConvTranspose2d):
        # The argmaxes come before the last shuffle, after all others.
        order = [op for op in ops if op in ("DepthToSpace", "ArgMax")]
        groups = min(LABEL_GROUPS, net.last_step.stride**2)
        assert order == ["DepthToSpace"] * (upsamplings - 1) + ["ArgMax"] * groups + [
            "DepthToSpace"
        ]


@pytest.mark.parametrize(
    ("architecture", "precision"),
    [
        ("fcn8s-resnet18", "int8"),
        ("unet", "int8"),
        ("ddrnet23slim", "int8"),
        ("ddrnet23slim4", "int8"),
        ("lraspp-mobilenet_v3_large", "int8"),
        ("deeplabv3-resnet18", "fp16"),
        ("ddrnet23slim", "fp16"),
        ("lraspp-mobilenet_v3_large", "fp16"),
    ],
)
def test_other_precisions_are_proved_and_verified(
    architecture: str, precision: Precision, shapes_folder: Path, tmp_path: Path
) -> None:
    # The skips of FCN-8s stay in float32 and read what int8 convolutions read too.
    save_network(lively(architecture), architecture, tmp_path / "x.pt")
    pictures = shapes_folder / "JPEGImages" if precision == "int8" else None
    report = export_onnx(
        tmp_path / "x.pt",
        tmp_path / "x.onnx",
        head="labels",
        precision=precision,
        calibration=pictures,
        max_pixels=SMALL,
    )
    assert report.verify.failures == ()
    layers = report.verify.b["layers"]
    assert layers[precision] > layers.get("fp32", 0)


def test_deeplab_pools_alike_on_its_smallest_picture(tmp_path: Path) -> None:
    # At 32x32 the pyramid sees a map of 2x2, where a resize of the pooled features went wrong
    # between libraries (pytorch issue 183523).
    save_network(lively("deeplabv3-resnet18"), "deeplabv3-resnet18", tmp_path / "x.pt")
    export_onnx(tmp_path / "x.pt", tmp_path / "x.onnx", head="logits", max_pixels=SMALL)
    net, _ = load_model(tmp_path / "x.pt")
    image_nchw = torch.randn(2, 3, 32, 32)
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
    got = session.run(None, {"image": image_nchw.numpy()})[0]
    with torch.inference_mode():
        expected = net(image_nchw).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
