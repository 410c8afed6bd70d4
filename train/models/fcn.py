"""FCN-32s: a ResNet, a 1x1 convolution and one transposed convolution of stride 32.

Sources: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", 2015;
d2l.ai, chapter "Fully Convolutional Networks", whose layers, names and initialisation these are.
"""

from __future__ import annotations

import torchvision
from torch import Tensor, nn

from fcnkit.errors import message
from fcnkit.train.models.upsample import SubpixelConvTranspose2d, bilinear_kernel

__all__ = ["FCN32s"]

STRIDE = 32


class ResNetFeatures(nn.Module):
    """torchvision's ResNet without its pooling and classifier: (N, 3, H, W) to stride 32."""

    def __init__(self, name: str, *, pretrained: bool) -> None:
        super().__init__()
        net = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None)
        self.channels: int = net.fc.in_features
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2 = net.layer1, net.layer2
        self.layer3, self.layer4 = net.layer3, net.layer4

    def forward(self, image_nchw: Tensor) -> Tensor:
        """Compute the features of the last stage."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(image_nchw))))
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return features  # (N, channels, H/32, W/32)


class FCN32s(nn.Module):
    """FCN-32s on a ResNet: normalised pictures to logits of the same size."""

    def __init__(self, num_classes: int, *, backbone: str, pretrained: bool = False) -> None:
        """Create the network: Xavier for the 1x1 convolution, bilinear for the upsampling.

        Args:
            num_classes: K.
            backbone: A torchvision ResNet's name, such as resnet18.
            pretrained: Start from torchvision's ImageNet weights, which are downloaded.
        """
        super().__init__()
        self.backbone = ResNetFeatures(backbone, pretrained=pretrained)
        self.final_conv = nn.Conv2d(self.backbone.channels, num_classes, 1)
        self.transpose_conv = SubpixelConvTranspose2d(num_classes, num_classes, stride=STRIDE)
        nn.init.xavier_uniform_(self.final_conv.weight)
        self.transpose_conv.weight.data.copy_(bilinear_kernel(num_classes, 2 * STRIDE))

    def forward(self, image_nchw: Tensor) -> Tensor:
        """Compute logits.

        Args:
            image_nchw: float tensor (N, 3, H, W), normalised; H and W multiples of 32.

        Returns:
            Logits (N, K, H, W).

        Raises:
            ValueError: A side is not a multiple of 32.
        """
        logits: Tensor = self.transpose_conv(self.scores(image_nchw))
        return logits

    def labels(self, image_nchw: Tensor) -> Tensor:
        """Compute the argmax of the logits, faster: (N, 3, H, W) to float (N, H, W)."""
        labels: Tensor = self.transpose_conv.labels(self.scores(image_nchw))
        return labels

    def scores(self, image_nchw: Tensor) -> Tensor:
        """Return the class scores before upsampling: (N, K, H/32, W/32)."""
        height, width = image_nchw.shape[-2:]
        if height % STRIDE or width % STRIDE:
            fit = f"pad to {-height % STRIDE + height}x{-width % STRIDE + width}"
            rule = f"sides must be multiples of {STRIDE}"
            raise ValueError(message("FCN32s", rule, f"{height}x{width}", fit))
        scores: Tensor = self.final_conv(self.backbone(image_nchw))
        return scores
