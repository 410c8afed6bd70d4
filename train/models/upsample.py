"""The transposed convolution of FCN, computed in its exact sub-pixel form.

A transposed convolution with kernel 2s, stride s and padding s/2 writes output row
``y = s*Q + R - s/2`` (R in 0..s-1) from input rows Q and Q-1 only, with kernel rows R and R+s: from
``y = s*i - s/2 + k`` it follows that ``k = R`` for ``i = Q`` and ``k = R + s`` for ``i = Q-1``.
Columns likewise. So it equals a 2x2 convolution with padding 1 from C to O*s*s channels, followed
by depth-to-space by s (Shi et al., "Real-Time Single Image and Video Super-Resolution Using an
Efficient Sub-Pixel Convolutional Neural Network", 2016) and by cropping s/2 pixels on every side.
The parameters stay those of the transposed convolution; only the order of the sums differs.
"""

from __future__ import annotations

from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.checks import check_choice, check_int, check_type
from fcnkit.train.recipe import UpsampleInit

__all__ = [
    "SubpixelConvTranspose2d",
    "bilinear_kernel",
    "initialize_upsampling",
    "subpixel_weight",
]


_MOST_VALUES = 2**28
"""1 GiB, which FCN-32s for 255 classes nearly has: 255 * 255 * 64 * 64."""


def bilinear_kernel(channels: int, kernel_size: int) -> Tensor:
    """Return the weight with which a transposed convolution interpolates bilinearly.

    Args:
        channels: Number of channels; each is upsampled by itself.
        kernel_size: Side of the square kernel in pixels.

    Returns:
        float32 tensor of shape (channels, channels, kernel_size, kernel_size), zero between
        different channels. Source: d2l.ai, "Fully Convolutional Networks", bilinear_kernel.

    Raises:
        TypeError: A number is not an integer.
        ValueError: One is below 1, or the weight would have more than 2^28 values.
    """
    channels = check_int("bilinear_kernel: channels", channels, 1, _MOST_VALUES)
    kernel_size = check_int("bilinear_kernel: kernel_size", kernel_size, 1, _MOST_VALUES)
    _check_values("bilinear_kernel", channels, channels, kernel_size)
    factor = (kernel_size + 1) // 2
    center = factor - 1.0 if kernel_size % 2 else factor - 0.5
    ramp = 1 - (torch.arange(kernel_size, dtype=torch.float32) - center).abs() / factor
    weight = torch.zeros(channels, channels, kernel_size, kernel_size)
    diagonal = torch.arange(channels)
    weight[diagonal, diagonal] = ramp[:, None] * ramp[None, :]
    return weight


def _check_values(what: str, channels: int, out_channels: int, side: int) -> None:
    if channels * out_channels * side**2 > _MOST_VALUES:
        got = f"{channels} x {out_channels} x {side} x {side}"
        rule = f"the weight must have at most {_MOST_VALUES} values"
        raise BadValueError(message(what, rule, got, "use fewer channels or a smaller kernel"))


def subpixel_weight(weight: Tensor, stride: int) -> Tensor:
    """Rearrange a transposed convolution's weight into that of the equal 2x2 convolution.

    Args:
        weight: Of shape (C, O, 2*stride, 2*stride), as nn.ConvTranspose2d holds it.
        stride: The upsampling factor s.

    Returns:
        Tensor of shape (O*s*s, C, 2, 2), channels ordered as torch.nn.functional.pixel_shuffle
        expects them; differentiable.

    Raises:
        TypeError: weight is not a tensor, or stride is not an integer.
        ValueError: weight is not of that shape, or stride below 1.
    """
    check_type("subpixel_weight: weight", weight, Tensor)
    stride = check_int("subpixel_weight: stride", stride, 1, _MOST_VALUES)
    if weight.ndim != 4 or weight.shape[2:] != (2 * stride, 2 * stride):
        rule = f"weight must have shape (C, O, {2 * stride}, {2 * stride})"
        remedy = "pass a transposed convolution's, whose kernel is two strides wide"
        raise BadValueError(message("subpixel_weight", rule, tuple(weight.shape), remedy))
    channels, out_channels = weight.shape[:2]
    # (C, O, a, R, b, S): kernel row k = R + s*a, so a = 1 belongs to input row Q-1.
    parts = weight.reshape(channels, out_channels, 2, stride, 2, stride)
    # The convolution's row 0 reads input row Q-1, hence the flip.
    parts = parts.flip(2, 4).permute(1, 3, 5, 0, 2, 4)
    return parts.reshape(out_channels * stride * stride, channels, 2, 2)


class SubpixelConvTranspose2d(nn.Module):
    """Upsample by ``stride``: nn.ConvTranspose2d(C, O, 2*stride, stride, stride//2), faster.

    The parameters have the names, shapes and meaning of nn.ConvTranspose2d, so state dicts
    are interchangeable.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        """Create the layer, initialized as nn.ConvTranspose2d is.

        Args:
            in_channels: C.
            out_channels: O.
            stride: Upsampling factor s in pixels, even.

        Raises:
            TypeError: A number is not an integer.
            ValueError: stride is odd, a number is below 1, or the weight would have more than
                2^28 values.
        """
        super().__init__()
        what = type(self).__name__
        in_channels = check_int(f"{what}: in_channels", in_channels, 1, _MOST_VALUES)
        out_channels = check_int(f"{what}: out_channels", out_channels, 1, _MOST_VALUES)
        stride = check_int(f"{what}: stride", stride, 2, _MOST_VALUES)
        _check_values(what, in_channels, out_channels, 2 * stride)
        if stride % 2:
            raise BadValueError(
                message(what, "stride must be even", stride, "use 2, 4, 8, 16 or 32")
            )
        plain = nn.ConvTranspose2d(in_channels, out_channels, 2 * stride, stride, stride // 2)
        if plain.bias is None:
            raise AssertionError  # only for type checkers: bias is on by default
        self.stride = stride
        self.weight = plain.weight
        self.bias = plain.bias
        self._precomputed: tuple[Tensor, Tensor] | None = None

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Upsample (N, C, h, w) to (N, O, s*h, s*w)."""
        return self._to_space(self.subpixels(x_nchw))

    def labels(self, x_nchw: Tensor) -> Tensor:
        """Upsample and take the class of the largest logit: (N, C, h, w) to (N, s*h, s*w).

        Depth-to-space only moves values, so the argmax can come before it, which then moves one
        value per pixel instead of one per pixel and class. The result is float and holds whole
        numbers: TensorRT does not move integers in a depth-to-space.
        """
        fine = self.subpixels(x_nchw)
        batch, _, height, width = fine.shape
        planes = fine.reshape(batch, -1, self.stride**2, height, width)
        best = planes.argmax(1).to(torch.float32)
        return self._to_space(best)[:, 0]

    def pieces(self, x_nchw: Tensor) -> Tensor:
        """Upsample without bringing the pixels into order: (N, C, h, w) to (N, M, O, s*s).

        For what does not depend on the order of a picture's pixels, such as the loss: nothing is
        moved. M = (h+1)*(w+1); what would be cropped is there too, see ``pieces_of``.
        """
        fine_nhwc = self.subpixels(x_nchw).permute(0, 2, 3, 1)
        return fine_nhwc.reshape(len(fine_nhwc), -1, len(self.bias), self.stride**2)

    def pieces_of(self, values_nhw: Tensor, *, outside: int) -> Tensor:
        """Bring a map of the result's pixels into the order of ``pieces``.

        Args:
            values_nhw: (N, s*h, s*w).
            outside: The value where ``pieces`` has what would be cropped.

        Returns:
            (N, M, s*s).
        """
        margin = self.stride // 2
        grown = F.pad(values_nhw, (margin,) * 4, value=outside)
        return F.pixel_unshuffle(grown[:, None], self.stride).flatten(2).transpose(1, 2)

    def precompute(self) -> None:
        """Compute the convolution's weight once and for all, for an export of this module."""
        weight, bias = (tensor.detach().clone() for tensor in self._kernel())
        self._precomputed = weight, bias

    def _kernel(self) -> tuple[Tensor, Tensor]:
        if self._precomputed is not None:
            return self._precomputed
        bias = self.bias.repeat_interleave(self.stride**2)
        return subpixel_weight(self.weight, self.stride), bias

    def subpixels(self, x_nchw: Tensor) -> Tensor:
        """Compute the result before depth-to-space and cropping.

        Args:
            x_nchw: float tensor (N, C, h, w).

        Returns:
            Tensor (N, O*s*s, h+1, w+1), channels ordered as pixel_shuffle expects them.
        """
        weight, bias = self._kernel()
        return F.conv2d(x_nchw, weight, bias, padding=1)

    def _to_space(self, fine: Tensor) -> Tensor:
        margin = self.stride // 2
        return F.pixel_shuffle(fine, self.stride)[..., margin:-margin, margin:-margin]


def initialize_upsampling(layer: SubpixelConvTranspose2d, init: UpsampleInit) -> None:
    """Give a layer its first weights; the bias stays.

    Args:
        layer: The layer, changed in place.
        init: ``bilinear``: as many channels out as in are interpolated each by itself, any other
            number as if a 1x1 convolution with Xavier's initialization came first.
            ``xavier``: every weight at random, uniform (Glorot, Bengio, 2010).

    Raises:
        ValueError: init is neither.
    """
    check_choice("upsample_init", init, get_args(UpsampleInit))
    if init == "xavier":
        nn.init.xavier_uniform_(layer.weight)
        return
    channels, out_channels, side, _ = layer.weight.shape
    kernel = bilinear_kernel(1, side)
    mixing = torch.eye(channels)
    if channels != out_channels:
        mixing = nn.init.xavier_uniform_(torch.empty(channels, out_channels))
    with torch.no_grad():
        layer.weight.copy_(mixing[:, :, None, None] * kernel)
