"""torchvision's ResNets as backbones, dilated on request, and what networks on them share.

Sources: He et al., "Deep Residual Learning for Image Recognition", 2016; Chen et al., "Rethinking
Atrous Convolution for Semantic Image Segmentation", 2017, for the dilation.
"""

from __future__ import annotations

from abc import abstractmethod
from pickle import UnpicklingError
from typing import ClassVar

import torch
import torchvision
from torch import Tensor, nn

from fcnkit.errors import FcnkitError, message
from fcnkit.train.models.base import SegmentationNet, Stage
from fcnkit.train.models.registry import TIMM
from fcnkit.train.models.timm_backbone import TimmFeatures
from fcnkit.train.models.upsample import SubpixelConvTranspose2d

__all__ = ["RESNETS", "ResNetFeatures", "ResNetSegmentationNet", "load_imagenet_weights"]

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")


class ResNetFeatures(nn.Module):
    """torchvision's ResNet without its pooling and classifier."""

    def __init__(self, name: str, *, pretrained: bool, output_stride: int = 32) -> None:
        """Create the backbone.

        Args:
            name: One of RESNETS.
            pretrained: Start from torchvision's ImageNet weights, which are downloaded.
            output_stride: Of the last stage, 32, 16 or 8; below 32 the last stages keep their
                resolution and dilate their convolutions instead.

        Raises:
            FcnkitError: The ImageNet weights cannot be fetched.
        """
        super().__init__()
        net = torchvision.models.get_model(name, weights=None)
        if pretrained:
            load_imagenet_weights(net, name)
        widest: int = net.fc.in_features
        self.channels = (64, widest // 8, widest // 4, widest // 2, widest)
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2 = net.layer1, net.layer2
        self.layer3, self.layer4 = net.layer3, net.layer4
        dilation = 1
        for stage, stride in ((self.layer3, 16), (self.layer4, 32)):
            if stride > output_stride:
                dilation = _dilate(stage, dilation)

    def forward(self, image_nchw: Tensor) -> list[Tensor]:
        """Compute the features of all stages.

        Args:
            image_nchw: float tensor (N, 3, H, W), normalized.

        Returns:
            One tensor (N, channels[i], H/s, W/s) for each s of 2, 4, 8, 16, 32, or of the output
            stride where that is smaller.
        """
        features = [self.relu(self.bn1(self.conv1(image_nchw)))]
        x = self.maxpool(features[0])
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features


class ResNetSegmentationNet(SegmentationNet):
    """A network on a ResNet that ends with a transposed convolution to the picture's size."""

    output_stride: ClassVar[int] = 32
    """Of the backbone."""

    def __init__(self, num_classes: int, *, backbone: str, pretrained: bool = False) -> None:
        """Create the network.

        Args:
            num_classes: K.
            backbone: One of RESNETS, or ``timm:`` and a name of timm.
            pretrained: Start from torchvision's ImageNet weights, which are downloaded.
        """
        super().__init__()
        stride = self.output_stride
        self.backbone: ResNetFeatures | TimmFeatures
        if backbone.startswith(TIMM):
            self.backbone = TimmFeatures(backbone.removeprefix(TIMM), pretrained=pretrained)
        else:
            self.backbone = ResNetFeatures(backbone, pretrained=pretrained, output_stride=stride)
        self.transpose_conv = self.add_head(num_classes, self.backbone.channels)

    @abstractmethod
    def add_head(self, num_classes: int, channels: tuple[int, ...]) -> SubpixelConvTranspose2d:
        """Create the layers between the backbone and the last step.

        Args:
            num_classes: K.
            channels: Of the backbone's features, finest first, those of stride 32 last.

        Returns:
            The last step: takes what ``body`` returns, and gives the logits.
        """

    @property
    def last_step(self) -> SubpixelConvTranspose2d:
        """The upsampling to the picture's size."""
        return self.transpose_conv

    @property
    def inner_stage(self) -> Stage | None:
        """The next to last stage of a ResNet."""
        if not isinstance(self.backbone, ResNetFeatures):
            return None
        channels, stride = self.backbone.channels[-2], min(16, self.output_stride)
        return Stage(self.backbone.layer3, channels, stride, len(self.transpose_conv.bias))


def _dilate(stage: nn.Module, dilation: int) -> int:
    """Take the stride out of a stage and spread its convolutions to see what they saw before.

    The convolutions up to the one with the stride keep the dilation of the stage before, those
    after it double it: then every second row and column is exactly the strided stage's result.
    torchvision's own replace_stride_with_dilation does the same, but for bottleneck blocks only.

    Args:
        stage: One of a ResNet's layers, changed in place.
        dilation: Of the stage before.

    Returns:
        The dilation of what follows.
    """
    for module in stage.modules():
        if not isinstance(module, nn.Conv2d):
            continue
        strided, module.stride = module.stride != (1, 1), (1, 1)
        if module.kernel_size == (3, 3):
            module.dilation = module.padding = (dilation, dilation)
            dilation *= 2 if strided else 1
    return dilation


def load_imagenet_weights(net: nn.Module, name: str) -> None:
    """Load torchvision's best ImageNet weights, downloaded once into torch.hub's folder.

    Args:
        net: One of torchvision's classifiers, changed in place.
        name: Its name there.

    Raises:
        FcnkitError: They cannot be fetched.
    """
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    try:
        weights = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
        net.load_state_dict(weights)
    except (OSError, EOFError, KeyError, RuntimeError, ValueError, UnpicklingError) as error:
        got = (str(error).splitlines() or [""])[0][:120] or type(error).__name__
        remedy = f"check the connection, or put a whole file into {torch.hub.get_dir()}/checkpoints"
        raise FcnkitError(message(url, "must be fetched whole", got, remedy)) from error
