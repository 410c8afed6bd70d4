"""The networks from elsewhere that ``python -m benchmarks.adopt`` adopts, with fresh weights.

Every entry of SOURCES writes what a user would have: a state dict, an ONNX file, or nothing but the
name of a factory. The factories here build the networks of other packages at small sizes.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
import torchvision
from torch import Tensor, nn

CLASSES = 7
SIDES = (64, 96)
Maker = Callable[[Path], str]
"""Writes into a folder, returns what to adopt."""


def lively(net: nn.Module) -> nn.Module:
    """Give every layer weights and statistics that matter, so that scores differ over an image."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.uniform_(module.bias, -0.2, 0.2)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight)
    return net.eval()


def _torchvision(name: str) -> nn.Module:
    torch.manual_seed(0)
    build = getattr(torchvision.models.segmentation, name)
    more = {} if name.startswith("lraspp") else {"aux_loss": name.startswith("fcn")}
    return lively(build(weights=None, weights_backbone=None, num_classes=CLASSES, **more))


def fcn_resnet50() -> nn.Module:
    return _torchvision("fcn_resnet50")


def deeplabv3_resnet50() -> nn.Module:
    return _torchvision("deeplabv3_resnet50")


def deeplabv3_mobilenet() -> nn.Module:
    return _torchvision("deeplabv3_mobilenet_v3_large")


def lraspp() -> nn.Module:
    return _torchvision("lraspp_mobilenet_v3_large")


def _smp(name: str, encoder: str) -> nn.Module:
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    build = getattr(smp, name)
    return lively(build(encoder, encoder_weights=None, classes=CLASSES))


def smp_unet() -> nn.Module:
    return _smp("Unet", "resnet18")


def smp_fpn() -> nn.Module:
    return _smp("FPN", "resnet18")


def smp_deeplabv3plus() -> nn.Module:
    return _smp("DeepLabV3Plus", "resnet18")


def smp_segformer() -> nn.Module:
    return _smp("Segformer", "mit_b0")


def hf_segformer() -> nn.Module:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(0)
    config = SegformerConfig(
        num_labels=CLASSES,
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 32, 48, 64],
        decoder_hidden_size=64,
    )
    return SegformerForSemanticSegmentation(config).eval()


class OnTimm(nn.Module):
    """A backbone of timm with a 1x1 convolution, enlarged to the image's size."""

    def __init__(self) -> None:
        super().__init__()
        import timm

        self.backbone = timm.create_model(
            "mobilenetv3_small_050", pretrained=False, features_only=True
        )
        self.head = nn.Conv2d(self.backbone.feature_info.channels()[-1], CLASSES, 1)

    def forward(self, image_nchw: Tensor) -> Tensor:
        coarse = self.head(self.backbone(image_nchw)[-1])
        return nn.functional.interpolate(
            coarse, size=image_nchw.shape[2:], mode="bilinear", align_corners=True
        )


def on_timm() -> nn.Module:
    torch.manual_seed(0)
    return lively(OnTimm())


def on_timm_flat() -> nn.Module:
    """The same with weights as timm draws them: scores hardly differ over an image."""
    torch.manual_seed(0)
    net = OnTimm()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return net.eval()


class Around(nn.Module):
    """Something around a network."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net


class Caffe(Around):
    """Takes BGR of 0..255 and subtracts its own mean, as networks from Caffe do."""

    def __init__(self) -> None:
        super().__init__(lraspp())
        self.register_buffer("mean", torch.tensor([104.0, 117.0, 123.0]).reshape(1, 3, 1, 1))

    def forward(self, image_nchw: Tensor) -> Tensor:
        scores: Tensor = self.net((image_nchw - self.mean) / 58.0)["out"]
        return scores


class Argmax(Around):
    """Takes the argmax itself."""

    def forward(self, image_nchw: Tensor) -> Tensor:
        labels: Tensor = self.net(image_nchw)["out"].argmax(1)
        return labels


class OutOf(Around):
    """The scores alone."""

    def forward(self, image_nchw: Tensor) -> Tensor:
        result = self.net(image_nchw)
        if isinstance(result, dict) and "out" in result:
            return result["out"]  # type: ignore[no-any-return]
        return getattr(result, "logits", result)


def export(net: nn.Module, path: Path, *, dynamo: bool, fixed: bool = False) -> str:
    """Write ONNX with PyTorch's own exporters, called as their documentation does."""
    example = torch.zeros(1 if fixed else 2, 3, *SIDES)
    more: dict[str, Any] = {"dynamo": dynamo}
    if not fixed and dynamo:
        free = torch.export.Dim.AUTO
        more["dynamic_shapes"] = ({0: free, 2: free, 3: free},)
    elif not fixed:
        axes = {0: "n", 2: "h", 3: "w"}
        more["dynamic_axes"] = {"image": axes, "scores": axes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(),
            (example,),
            path,
            input_names=["image"],
            output_names=["scores"],
            verbose=False,
            **more,
        )
    return str(path)


def onnx_of(
    *makers: Callable[..., nn.Module],
    dynamo: bool = False,
    fixed: bool = False,
    slim: bool = False,
) -> Maker:
    """Export the network that the last function makes, wrapped by those before it."""

    def write(folder: Path) -> str:
        *around, make = makers
        net = make()
        for wrap in reversed(around):
            net = wrap(net)
        path = Path(tempfile.mkdtemp(dir=folder)) / "model.onnx"
        export(net, path, dynamo=dynamo, fixed=fixed)
        if slim:
            import onnxslim

            onnx.save(onnxslim.slim(str(path)), path)
        return str(path)

    return write


def chapter(folder: Path) -> str:
    """The state dict of the d2l.ai chapter's network."""
    torch.manual_seed(0)
    net = nn.Sequential(*list(torchvision.models.resnet18(weights=None).children())[:-2])
    net.add_module("final_conv", nn.Conv2d(512, CLASSES, kernel_size=1))
    net.add_module(
        "transpose_conv",
        nn.ConvTranspose2d(CLASSES, CLASSES, kernel_size=64, padding=16, stride=32),
    )
    torch.save(lively(net).state_dict(), folder / "fcn.pt")
    return str(folder / "fcn.pt")


def weights_of(make: Callable[[], nn.Module], name: str) -> Maker:
    """Save a network's state dict."""

    def write(folder: Path) -> str:
        torch.save(make().state_dict(), folder / name)
        return str(folder / name)

    return write


def factory(make: Callable[[], nn.Module]) -> Maker:
    """Name a factory of this module."""
    return lambda _: f"benchmarks.adopt_sources:{make.__name__}"


IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "scale": 1}
RGB: dict[str, Any] = {"color": "RGB", "classes": CLASSES, **IMAGENET}
BGR: dict[str, Any] = {"color": "BGR", "classes": CLASSES, "scale": 255}

SOURCES: dict[str, tuple[Maker, dict[str, Any]]] = {
    "d2l chapter, state dict": (chapter, {"classes": CLASSES}),
    "torchvision fcn_resnet50, state dict": (
        weights_of(fcn_resnet50, "fcn_resnet50.pth"),
        {"classes": CLASSES},
    ),
    "torchvision deeplabv3_resnet50, state dict": (
        weights_of(deeplabv3_resnet50, "deeplabv3_resnet50.pth"),
        {"classes": CLASSES},
    ),
    "torchvision deeplabv3_mobilenet_v3_large, state dict": (
        weights_of(deeplabv3_mobilenet, "deeplabv3_mobilenet.pth"),
        {"classes": CLASSES},
    ),
    "torchvision lraspp_mobilenet_v3_large, state dict": (
        weights_of(lraspp, "lraspp.pth"),
        {"classes": CLASSES},
    ),
    "smp Unet resnet18, factory": (factory(smp_unet), RGB),
    "smp FPN resnet18, factory": (factory(smp_fpn), RGB),
    "smp DeepLabV3Plus resnet18, factory": (factory(smp_deeplabv3plus), RGB),
    "smp Segformer mit_b0, factory": (factory(smp_segformer), RGB),
    "transformers SegFormer, factory": (factory(hf_segformer), RGB),
    "timm mobilenetv3_small_050, factory": (factory(on_timm), RGB),
    "torchvision lraspp, ONNX by TorchScript": (onnx_of(OutOf, lraspp), RGB),
    "torchvision lraspp, ONNX by torch.export": (onnx_of(OutOf, lraspp, dynamo=True), RGB),
    "smp Unet, ONNX by TorchScript and onnxslim": (onnx_of(smp_unet, slim=True), RGB),
    "smp FPN, ONNX by torch.export": (onnx_of(smp_fpn, dynamo=True), RGB),
    "transformers SegFormer, ONNX by TorchScript": (onnx_of(OutOf, hf_segformer), RGB),
    "lraspp with its own mean, BGR 0..255, ONNX": (onnx_of(Caffe), BGR),
    "lraspp with argmax, ONNX": (onnx_of(Argmax, lraspp), RGB),
    "lraspp of fixed size, ONNX": (onnx_of(OutOf, lraspp, dynamo=True, fixed=True), RGB),
}
"""By name: what writes the source, and what a user says of it."""
