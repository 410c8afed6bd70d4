"""FCN-32s, FCN-16s and FCN-8s: a ResNet, 1x1 convolutions and transposed convolutions.

Sources: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", 2015;
d2l.ai, chapter "Fully Convolutional Networks", whose layers, names and initialization FCN-32s has.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from fcnkit.train.models.backbone import RESNETS, ResNetSegmentationNet
from fcnkit.train.models.registry import register
from fcnkit.train.models.upsample import SubpixelConvTranspose2d

__all__ = ["FCN8s", "FCN16s", "FCN32s"]


class _FCN(ResNetSegmentationNet):
    """An FCN: the scores of the last stage, refined by those of finer stages, then upsampled."""

    upsamples_scores = True
    skips: ClassVar[int]
    """Number of finer stages whose scores are added: strides 16, then 8."""

    def add_head(self, num_classes: int, channels: tuple[int, ...]) -> SubpixelConvTranspose2d:
        """Create the 1x1 convolutions and the steps between them."""
        *_, stride8, stride16, stride32 = channels
        self.final_conv = nn.Conv2d(stride32, num_classes, 1)
        nn.init.xavier_uniform_(self.final_conv.weight)
        self.skip_convs, self.skip_upsamplings = nn.ModuleList(), nn.ModuleList()
        for width in (stride16, stride8)[: self.skips]:
            conv = nn.Conv2d(width, num_classes, 1)
            # As in the paper, a skip starts at zero, so the network begins as FCN-32s.
            nn.init.zeros_(conv.weight)
            self.skip_convs.append(conv)
            double = SubpixelConvTranspose2d(num_classes, num_classes, stride=2)
            self.skip_upsamplings.append(double)
        return SubpixelConvTranspose2d(num_classes, num_classes, stride=32 // 2**self.skips)

    def body(self, image_nchw: Tensor) -> Tensor:
        """Return the class scores before the last upsampling."""
        features = self.backbone(image_nchw)
        scores: Tensor = self.final_conv(features.pop())
        for conv, double in zip(self.skip_convs, self.skip_upsamplings, strict=True):
            scores = double(scores) + conv(features.pop())
        return scores


@register("fcn32s", backbones=RESNETS, takes_timm=True)
class FCN32s(_FCN):
    """FCN-32s: the last stage's scores, upsampled by 32; the network of the d2l.ai chapter."""

    skips = 0


@register("fcn16s", backbones=RESNETS, takes_timm=True)
class FCN16s(_FCN):
    """FCN-16s: with the scores of stride 16 added, upsampled by 2 and by 16."""

    skips = 1


@register("fcn8s", backbones=RESNETS, takes_timm=True)
class FCN8s(_FCN):
    """FCN-8s: with the scores of strides 16 and 8 added, upsampled by 2, 2 and 8."""

    skips = 2
