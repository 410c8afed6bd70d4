"""The networks, by architecture name such as ``fcn32s-resnet18``."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from fcnkit.errors import message
from fcnkit.train.models.fcn import FCN32s
from fcnkit.train.models.upsample import SubpixelConvTranspose2d

__all__ = ["ARCHITECTURES", "SegmentationNet", "SubpixelConvTranspose2d", "create_model"]

ARCHITECTURES = ("fcn32s-resnet18",)
"""Every name that create_model knows."""


class SegmentationNet(Protocol):
    """What the stages need of a network, beyond nn.Module."""

    def __call__(self, image_nchw: Tensor) -> Tensor:
        """Compute logits (N, K, H, W) of normalised pictures (N, 3, H, W)."""
        ...

    def labels(self, image_nchw: Tensor) -> Tensor:
        """Compute the argmax of the logits as float (N, H, W)."""
        ...


def create_model(architecture: str, num_classes: int, *, pretrained: bool = False) -> FCN32s:
    """Create a network with fresh weights.

    Args:
        architecture: One of ARCHITECTURES.
        num_classes: K, 1..255.
        pretrained: Start the backbone from torchvision's ImageNet weights, which are downloaded.

    Returns:
        The network, in training mode, float32, on the CPU.

    Raises:
        ValueError: The architecture is unknown.
    """
    if architecture not in ARCHITECTURES:
        rule = f"architecture must be one of {', '.join(ARCHITECTURES)}"
        raise ValueError(message("create_model", rule, architecture, "choose one of these"))
    _, backbone = architecture.split("-")
    return FCN32s(num_classes, backbone=backbone, pretrained=pretrained)


def freeze_upsampling(net: nn.Module) -> None:
    """Precompute every upsampling weight, so that an export holds plain convolutions."""
    for module in net.modules():
        if isinstance(module, SubpixelConvTranspose2d):
            module.freeze()
