"""Bilinear enlargement that is not trained, in the form that exports exactly."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcnkit.train.models.upsample import bilinear_kernel, subpixel_weight

__all__ = ["BilinearUpsample"]


class BilinearUpsample(nn.Module):
    """Enlarge every channel by itself, as F.interpolate does with ``align_corners=False``.

    A depthwise 2x2 convolution of the map with its edges repeated, then depth-to-space: libraries
    compute a resize differently, but not this. It has no parameters and nothing in the state dict.
    """

    weight: Tensor

    def __init__(self, channels: int, factor: int) -> None:
        """Create the layer.

        Args:
            channels: C.
            factor: By which both sides grow, even.
        """
        super().__init__()
        self.channels, self.factor = channels, factor
        weight = subpixel_weight(bilinear_kernel(1, 2 * factor), factor)
        self.register_buffer("weight", weight.repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Enlarge (N, C, h, w) to (N, C, factor*h, factor*w)."""
        grown = self._grow(x_nchw)
        fine = F.conv2d(grown, self.weight, groups=self.channels)
        margin = self.factor // 2
        return F.pixel_shuffle(fine, self.factor)[..., margin:-margin, margin:-margin]

    def _grow(self, x_nchw: Tensor) -> Tensor:
        """Repeat the edges once on every side."""
        if self.training and torch.compiler.is_compiling():
            # torch.compile expects the gradient of PyTorch's padding in another layout than it has
            # where the input is channels_last (2.15).
            wide = torch.cat([x_nchw[..., :1], x_nchw, x_nchw[..., -1:]], 3)
            return torch.cat([wide[..., :1, :], wide, wide[..., -1:, :]], 2)
        return F.pad(x_nchw, (1, 1, 1, 1), mode="replicate")
