"""FPN: a ResNet's features, merged from the coarsest to stride 4.

Sources: Lin et al., "Feature Pyramid Networks for Object Detection", 2017, for the pyramid;
Kirillov et al., "Panoptic Feature Pyramid Networks", 2019, for segmentation with it. Unlike there,
only the finest level is classified: a 3x3 convolution after each merging carries the coarser ones
into it. Every upsampling is a transposed convolution; the last goes from the features to the
classes, so that what is thinner than its four pixels can be told apart.
"""

from __future__ import annotations

from torch import Tensor, nn

from fcnkit.train.models.backbone import RESNETS, ResNetSegmentationNet
from fcnkit.train.models.registry import register
from fcnkit.train.models.upsample import SubpixelConvTranspose2d

__all__ = ["FPN"]


@register("fpn", backbones=RESNETS, takes_timm=True)
class FPN(ResNetSegmentationNet):
    """A feature pyramid at strides 32 to 4, upsampled by 4."""

    def add_head(self, num_classes: int, channels: tuple[int, ...]) -> SubpixelConvTranspose2d:
        """Create the pyramid's convolutions."""
        strides_4_to_32 = channels[-4:]
        # Every level is as wide as the finest stage: 64, or the paper's 256 from ResNet-50 on.
        width, *steps = strides_4_to_32
        self.laterals = nn.ModuleList(
            nn.Conv2d(level, width, 1) for level in reversed(strides_4_to_32)
        )
        self.doublings = nn.ModuleList(
            SubpixelConvTranspose2d(width, width, stride=2) for _ in steps
        )
        self.merges = nn.ModuleList(_conv(width) for _ in steps)
        return SubpixelConvTranspose2d(width, num_classes, stride=4)

    def body(self, image_nchw: Tensor) -> Tensor:
        """Return the pyramid's features of stride 4."""
        features = self.backbone(image_nchw)
        coarsest, *finer = self.laterals
        x: Tensor = coarsest(features.pop())
        for lateral, double, merge in zip(finer, self.doublings, self.merges, strict=True):
            x = merge(double(x) + lateral(features.pop()))
        return x


def _conv(width: int) -> nn.Sequential:
    # No bias: batch normalization subtracts the mean.
    conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
