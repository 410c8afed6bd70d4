"""What each head's exported graph computes, as PyTorch modules around a trained network."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fcnkit.runtime.spec import ModelSpec
from fcnkit.train.models import SegmentationNet, precompute_upsampling

__all__ = ["LabelsGraph", "LogitsGraph", "TilesGraph", "frozen_copy"]


def frozen_copy(net: SegmentationNet) -> SegmentationNet:
    """Return a copy for inference alone: upsampling precomputed, batch normalisation folded."""
    frozen = copy.deepcopy(net).eval()
    precompute_upsampling(frozen)
    for module in frozen.modules():
        _fold_batch_norms(module)
    return frozen


def _fold_batch_norms(module: nn.Module) -> None:
    """Fold each batch normalisation into the convolution that its owner defines just before it.

    The exporter folds too, but not where another node reads the convolution's result, be it only
    its size. That definition order is the order of computing is a convention of the networks;
    the comparison after the export would show a breach.
    """
    for (name, conv), (norm_name, norm) in pairwise(list(module.named_children())):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(conv, norm))
            setattr(module, norm_name, nn.Identity())


class _Normalise(nn.Module):
    """Pictures (N, H, W, 3), 0..255, to normalised float32 (N, 3, H, W)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        mean, std = torch.tensor(spec.input.mean), torch.tensor(spec.input.std)
        # (x/255 - mean)/std as one multiplication and one addition per value.
        self.scale = nn.Buffer((1 / (255 * std)).view(3, 1, 1))
        self.shift = nn.Buffer((-mean / std).view(3, 1, 1))

    def forward(self, image_nhwc: Tensor) -> Tensor:
        # The cast comes before the transpose because TensorRT transposes no uint8.
        image_nchw = image_nhwc.to(torch.float32).permute(0, 3, 1, 2)
        return image_nchw * self.scale + self.shift


class LogitsGraph(nn.Module):
    """Head ``logits``: normalised float32 (N, 3, H, W) to logits (N, K, H, W)."""

    def __init__(self, net: SegmentationNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits."""
        logits: Tensor = self.net(image)
        return logits


class LabelsGraph(nn.Module):
    """Head ``labels``: uint8 (N, H, W, 3) RGB to uint8 labels (N, H, W)."""

    def __init__(self, net: SegmentationNet, spec: ModelSpec) -> None:
        super().__init__()
        self.net = net
        self.normalise = _Normalise(spec)

    def forward(self, image: Tensor) -> Tensor:
        """Compute the labels."""
        return self.net.labels(self.normalise(image)).to(torch.uint8)


class TilesGraph(nn.Module):
    """The middle of head ``scene``: float32 tiles (N, h, w, 3), 0..255, to logits (N, K, h, w)."""

    def __init__(self, net: SegmentationNet, spec: ModelSpec) -> None:
        super().__init__()
        self.net = net
        self.normalise = _Normalise(spec)

    def forward(self, tiles: Tensor) -> Tensor:
        """Compute the logits of every tile."""
        logits: Tensor = self.net(self.normalise(tiles))
        return logits
