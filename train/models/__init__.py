"""The networks, by architecture name such as ``fcn32s-resnet18``.

Each file of this folder adds its networks to the table in ``registry``.
"""

from __future__ import annotations

import importlib
import pkgutil

from torch import nn

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.checks import check_flag, check_int, check_type
from fcnkit.train.models.base import SegmentationNet
from fcnkit.train.models.registry import NETWORKS, find_network
from fcnkit.train.models.upsample import (
    SubpixelConvTranspose2d,
    initialize_upsampling,
)
from fcnkit.train.recipe import UpsampleInit

__all__ = [
    "ARCHITECTURES",
    "SegmentationNet",
    "SubpixelConvTranspose2d",
    "create_model",
    "precompute_upsampling",
]

# Every file of this folder enters its networks when it is imported.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

ARCHITECTURES = tuple(name for name in NETWORKS if ":" not in name)
"""The networks of fcnkit. ``create_model`` also builds torchvision's (``torchvision:NAME``), heads
on backbones of timm (``fpn-timm:NAME``) and factories that were registered."""


def create_model(
    architecture: str,
    num_classes: int,
    *,
    pretrained: bool = False,
    upsample_init: UpsampleInit = "bilinear",
    freeze_upsample: bool = False,
) -> SegmentationNet:
    """Create a network with fresh weights.

    Args:
        architecture: One of ARCHITECTURES, or what its docstring names.
        num_classes: K, 1..255.
        pretrained: Start the backbone from torchvision's ImageNet weights, which are downloaded.
        upsample_init: How the transposed convolutions start, see initialize_upsampling.
        freeze_upsample: Keep the transposed convolutions bilinear: they are not trained.

    Returns:
        The network, in training mode, float32, on the CPU.

    Raises:
        ValueError: The architecture or upsample_init is unknown, num_classes is out of range, the
            architecture has no pretrained weights, or its upsampling cannot be frozen.
        TypeError: num_classes is not an integer, or pretrained or freeze_upsample is not a bool.
        FcnkitError: The pretrained weights cannot be fetched.
    """
    check_type("create_model: architecture", architecture, str)
    num_classes = check_int("create_model: num_classes", num_classes, 1, 255)
    check_flag("create_model: pretrained", pretrained)
    check_flag("create_model: freeze_upsample", freeze_upsample)
    network = find_network(architecture)
    if network.backbone is not None:
        net = network.build(num_classes, backbone=network.backbone, pretrained=pretrained)
    elif pretrained:
        rule = "pretrained weights are those of a backbone of torchvision"
        remedy = "use a network on a ResNet or MobileNetV3, or train from scratch"
        raise BadValueError(message("create_model", rule, architecture, remedy))
    else:
        net = network.build(num_classes)
    layers = _upsampling_layers(net)
    for layer in layers:
        initialize_upsampling(layer, upsample_init)
    if freeze_upsample:
        _freeze(layers, architecture, upsample_init)
    return net


def precompute_upsampling(net: nn.Module) -> None:
    """Precompute every upsampling weight, so that an export holds plain convolutions."""
    for layer in _upsampling_layers(net):
        layer.precompute()


def _upsampling_layers(net: nn.Module) -> list[SubpixelConvTranspose2d]:
    return [module for module in net.modules() if isinstance(module, SubpixelConvTranspose2d)]


def _freeze(
    layers: list[SubpixelConvTranspose2d], architecture: str, upsample_init: UpsampleInit
) -> None:
    remedy = "use bilinear and an fcn or deeplabv3, or do not freeze"
    if upsample_init != "bilinear":
        rule = "only a bilinear upsampling can stay as it starts"
        raise BadValueError(message("freeze_upsample", rule, upsample_init, remedy))
    if any(layer.weight.shape[0] != layer.weight.shape[1] for layer in layers):
        rule = "only an upsampling of class scores can stay as it starts"
        raise BadValueError(message("freeze_upsample", rule, architecture, remedy))
    for layer in layers:
        nn.init.zeros_(layer.bias)  # A fixed interpolation has no bias.
        layer.requires_grad_(requires_grad=False)
