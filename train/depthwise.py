"""On a processor, training in bfloat16 computes large depthwise convolutions in float32.

oneDNN has no fast bfloat16 gradient for the weight of a 5x5 depthwise convolution: 39 ms against 7
in float32 for 960 channels of 20x30 and a batch of 4, on two cores (oneDNN of PyTorch 2.15). With
3x3 both take about the same time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["train_in_float32"]

SMALLEST_SIDE = 5


class _Float32Conv2d(nn.Conv2d):
    """A convolution that autocast leaves in float32 on a processor."""

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Convolve; the result has autocast's type."""
        device = x_nchw.device.type
        if device != "cpu" or not torch.is_autocast_enabled(device):
            return super().forward(x_nchw)
        with torch.autocast(device, enabled=False):
            y_nchw = super().forward(x_nchw.float())
        return y_nchw.to(torch.get_autocast_dtype(device))


def train_in_float32(net: nn.Module) -> None:
    """Let a network's large depthwise convolutions compute in float32 under autocast, in place."""
    for module in net.modules():
        if type(module) is not nn.Conv2d or not module.groups == module.in_channels > 1:
            continue
        if min(module.kernel_size) >= SMALLEST_SIDE:
            module.__class__ = _Float32Conv2d  # The parameters and their names stay.
