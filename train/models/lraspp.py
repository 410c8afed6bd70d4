"""LR-ASPP on MobileNetV3: a small network for real time, class scores at stride 8.

Source: Howard et al., "Searching for MobileNetV3", 2019, section 6.4. The backbone and the layout
of the head are torchvision's: the last stage keeps stride 16 and dilates its convolutions, and the
attention pools the whole image. The coarse scores are enlarged instead of the features they come
from. Both steps are linear, so the result is the same for less work.
"""

from __future__ import annotations

from functools import partial

import torchvision
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from fcnkit.train.models.backbone import load_imagenet_weights
from fcnkit.train.models.base import SegmentationNet
from fcnkit.train.models.bilinear import BilinearUpsample
from fcnkit.train.models.pooling import ImageMean
from fcnkit.train.models.registry import register
from fcnkit.train.models.upsample import SubpixelConvTranspose2d

__all__ = ["LRASPP", "MobileNetFeatures"]

HEAD_CHANNELS = 128
"""Of the head, as in the paper's smaller version."""

_FINE, _COARSE = 4, 16
"""Places of the stages in torchvision's list: the first block of stride 8, and the last one."""

# torchvision's 0.01 is for runs of hundreds of thousands of steps: after 180 steps on drawn shapes
# the network still labeled everything as background. With 0.1 its scores went up and down.
_MOMENTUM = 0.03


class MobileNetFeatures(nn.Module):
    """torchvision's MobileNetV3, dilated to stride 16, without its pooling and classifier."""

    def __init__(self, name: str, *, pretrained: bool) -> None:
        """Create the backbone.

        Args:
            name: ``mobilenet_v3_large``.
            pretrained: Start from torchvision's ImageNet weights, which are downloaded.

        Raises:
            FcnkitError: The ImageNet weights cannot be fetched.
        """
        super().__init__()
        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=_MOMENTUM)
        net = torchvision.models.get_model(name, weights=None, dilated=True, norm_layer=norm)
        if pretrained:
            load_imagenet_weights(net, name)
        self.features = net.features
        self.channels = (net.features[_FINE].out_channels, net.features[_COARSE].out_channels)
        for module in self.features.modules():
            if isinstance(module, SqueezeExcitation):
                module.avgpool = ImageMean()

    def forward(self, image_nchw: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features of two stages.

        Args:
            image_nchw: float tensor (N, 3, H, W), normalized.

        Returns:
            (N, channels[0], H/8, W/8) and (N, channels[1], H/16, W/16).
        """
        x = image_nchw
        stages = []
        for stage in self.features:
            x = stage(x)
            stages.append(x)
        return stages[_FINE], stages[_COARSE]


class _Attention(nn.Module):
    """The head's features: a 1x1 convolution, its channels weighed by what the image holds."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, HEAD_CHANNELS, 1, bias=False)
        self.norm = nn.BatchNorm2d(HEAD_CHANNELS)
        self.relu = nn.ReLU(inplace=True)
        self.pool = ImageMean()
        self.gate = nn.Conv2d(in_channels, HEAD_CHANNELS, 1, bias=False)

    def forward(self, x_nchw: Tensor) -> Tensor:
        features: Tensor = self.relu(self.norm(self.conv(x_nchw)))
        gate: Tensor = self.gate(self.pool(x_nchw))
        return features * gate.sigmoid()


@register("lraspp", backbones=("mobilenet_v3_large",))
class LRASPP(SegmentationNet):
    """LR-ASPP: scores of strides 16 and 8, added, then upsampled by 8."""

    upsamples_scores = True

    def __init__(self, num_classes: int, *, backbone: str, pretrained: bool = False) -> None:
        """Create the network.

        Args:
            num_classes: K.
            backbone: ``mobilenet_v3_large``.
            pretrained: Start from torchvision's ImageNet weights, which are downloaded.
        """
        super().__init__()
        self.backbone = MobileNetFeatures(backbone, pretrained=pretrained)
        fine, coarse = self.backbone.channels
        self.decoder = _Attention(coarse)
        self.coarse_conv = nn.Conv2d(HEAD_CHANNELS, num_classes, 1)
        self.fine_conv = nn.Conv2d(fine, num_classes, 1)
        self.enlarge = BilinearUpsample(num_classes, 2)
        self.transpose_conv = SubpixelConvTranspose2d(num_classes, num_classes, stride=8)

    def body(self, image_nchw: Tensor) -> Tensor:
        """Return the class scores of stride 8."""
        fine, coarse = self.backbone(image_nchw)
        scores: Tensor = self.enlarge(self.coarse_conv(self.decoder(coarse))) + self.fine_conv(fine)
        return scores

    @property
    def last_step(self) -> SubpixelConvTranspose2d:
        """The upsampling to the picture's size."""
        return self.transpose_conv
