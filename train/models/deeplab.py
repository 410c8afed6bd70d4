"""DeepLabV3: a dilated ResNet and atrous spatial pyramid pooling, at output stride 16 or 8.

Source: Chen, Papandreou, Schroff, Adam, "Rethinking Atrous Convolution for Semantic Image
Segmentation", 2017. The head is torchvision's, but for two resizes that libraries compute
differently: the pooled features are broadcast instead of resized from 1x1, and the scores are
upsampled by a transposed convolution that starts bilinear.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from fcnkit.train.models.backbone import RESNETS, ResNetSegmentationNet
from fcnkit.train.models.pooling import ImageMean, check_batch
from fcnkit.train.models.registry import register
from fcnkit.train.models.upsample import SubpixelConvTranspose2d

__all__ = ["DeepLabV3", "DeepLabV3OS8"]

HEAD_CHANNELS = 256
"""Of torchvision's head."""


class _ImagePooling(nn.Sequential):
    """The pyramid's branch that sees the whole picture: (N, C, h, w) to (N, 256, h, w)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(
            ImageMean(),
            nn.Conv2d(in_channels, HEAD_CHANNELS, 1, bias=False),
            nn.BatchNorm2d(HEAD_CHANNELS),
            nn.ReLU(inplace=True),
        )

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Pool, and give every position the pooled features."""
        check_batch(x_nchw, self[2], network="DeepLabV3")
        pooled = x_nchw
        for module in self:
            pooled = module(pooled)
        return pooled.expand(-1, -1, *x_nchw.shape[-2:])


@register("deeplabv3", backbones=RESNETS)
class DeepLabV3(ResNetSegmentationNet):
    """DeepLabV3 at output stride 16."""

    upsamples_scores = True
    output_stride = 16
    """Of the backbone and of the pyramid."""
    atrous_rates: ClassVar[tuple[int, int, int]] = (6, 12, 18)
    """Dilations of the pyramid's 3x3 convolutions."""

    def add_head(self, num_classes: int, channels: tuple[int, ...]) -> SubpixelConvTranspose2d:
        """Create the pyramid of dilated convolutions."""
        self.head = DeepLabHead(channels[-1], num_classes, self.atrous_rates)
        self.head[0].convs[-1] = _ImagePooling(channels[-1])
        return SubpixelConvTranspose2d(num_classes, num_classes, stride=self.output_stride)

    def body(self, image_nchw: Tensor) -> Tensor:
        """Return the class scores at the output stride."""
        scores: Tensor = self.head(self.backbone(image_nchw)[-1])
        return scores


@register("deeplabv3os8", backbones=RESNETS)
class DeepLabV3OS8(DeepLabV3):
    """DeepLabV3 at output stride 8: finer, and about three times the arithmetic of 16."""

    output_stride = 8
    atrous_rates = (12, 24, 36)
