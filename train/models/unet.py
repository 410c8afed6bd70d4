"""U-Net, with its own encoder or on a ResNet.

Source: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image
Segmentation", 2015. Unlike there, the convolutions are padded, so that skips need no cropping, and
followed by batch normalization; an upsampling has kernel 4 instead of 2, so that neighboring
pixels share inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcnkit.train.models.backbone import RESNETS, ResNetSegmentationNet
from fcnkit.train.models.base import SegmentationNet
from fcnkit.train.models.registry import register
from fcnkit.train.models.upsample import SubpixelConvTranspose2d

__all__ = ["ResNetUNet", "UNet"]

WIDTHS = (32, 64, 128, 256, 512)
"""Channels of UNet at strides 1, 2, 4, 8, 16: half the paper's, a quarter of its arithmetic."""

DECODER_WIDTHS = (256, 128, 64, 32)
"""Channels of ResNetUNet's decoder at strides 16, 8, 4, 2."""


def _double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        # No bias: batch normalization subtracts the mean.
        layers.append(nn.Conv2d(channels, out_channels, 3, padding=1, bias=False))
        layers += [nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class _Up(nn.Module):
    """Double the resolution and join the encoder's features of that resolution."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.upsampling = SubpixelConvTranspose2d(in_channels, out_channels, stride=2)
        self.convs = _double_conv(skip_channels + out_channels, out_channels)

    def forward(self, x_nchw: Tensor, skip_nchw: Tensor) -> Tensor:
        joined: Tensor = self.convs(torch.cat([skip_nchw, self.upsampling(x_nchw)], 1))
        return joined


class _Decoder(nn.Module):
    """From the deepest features up to the finest, one step per skip."""

    def __init__(self, encoder_widths: Sequence[int], widths: Sequence[int]) -> None:
        """Create the steps.

        Args:
            encoder_widths: Channels of the encoder's features, finest first.
            widths: Channels of the steps' results, coarsest first.
        """
        super().__init__()
        *skips, deepest = encoder_widths
        steps = zip(pairwise((deepest, *widths)), reversed(skips), strict=True)
        self.steps = nn.ModuleList(_Up(below, skip, width) for (below, width), skip in steps)

    def forward(self, features: list[Tensor]) -> Tensor:
        *skips, x = features
        for step, skip in zip(self.steps, reversed(skips), strict=True):
            x = step(x, skip)
        return x


@register("unet")
class UNet(SegmentationNet):
    """The classical U-Net: double convolutions at strides 1 to 16 and back."""

    def __init__(self, num_classes: int) -> None:
        """Create the network.

        Args:
            num_classes: K.
        """
        super().__init__()
        widths = pairwise((3, *WIDTHS))
        self.encoder = nn.ModuleList(_double_conv(above, width) for above, width in widths)
        self.decoder = _Decoder(WIDTHS, WIDTHS[-2::-1])
        self.final_conv = nn.Conv2d(WIDTHS[0], num_classes, 1)

    def body(self, image_nchw: Tensor) -> Tensor:
        """Return the decoder's features of the picture's size."""
        first, *deeper = self.encoder
        features = [first(image_nchw)]
        for convs in deeper:
            features.append(convs(F.max_pool2d(features[-1], 2)))
        decoded: Tensor = self.decoder(features)
        return decoded

    @property
    def last_step(self) -> nn.Conv2d:
        """The 1x1 convolution to the classes."""
        return self.final_conv


@register("unet", backbones=RESNETS)
class ResNetUNet(ResNetSegmentationNet):
    """A U-Net on a ResNet: skips at strides 16 to 2, classes by the last doubling itself."""

    def add_head(self, num_classes: int, channels: tuple[int, ...]) -> SubpixelConvTranspose2d:
        """Create the decoder."""
        self.decoder = _Decoder(channels, DECODER_WIDTHS)
        return SubpixelConvTranspose2d(DECODER_WIDTHS[-1], num_classes, stride=2)

    def body(self, image_nchw: Tensor) -> Tensor:
        """Return the decoder's features of stride 2."""
        decoded: Tensor = self.decoder(self.backbone(image_nchw))
        return decoded
