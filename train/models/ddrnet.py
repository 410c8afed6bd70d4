"""DDRNet-23-slim: two branches that exchange features, for real time, class scores at stride 8.

Source: Hong, Pan, Sun, Jia, "Deep Dual-resolution Networks for Real-time and Accurate Semantic
Segmentation of Road Scenes", 2021. Its auxiliary head is that of train/auxiliary.py. Unlike there,
the pyramid averages around every position instead of every second, fourth and eighth one, so its
results need no enlargement, which would depend on the size. What lies outside the image does not
count.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from fcnkit.train.models.base import SegmentationNet, Stage
from fcnkit.train.models.bilinear import BilinearUpsample
from fcnkit.train.models.pooling import ImageMean, check_batch
from fcnkit.train.models.registry import register
from fcnkit.train.models.upsample import SubpixelConvTranspose2d

__all__ = ["DDRNet23Slim", "DDRNet23Slim4"]

WIDTH = 32
"""Channels of stride 4. Strides 8, 16, 32 and 64 have 2, 4, 8 and 16 times as many."""
FINE = 2 * WIDTH
"""Channels of the branch that stays at stride 8."""
PYRAMID = 128
"""Channels of the pyramid's branches."""
OUT = 4 * WIDTH
"""Channels of both branches where they meet."""
HEAD = 64
"""Channels before the class scores."""


def _conv(in_channels: int, out_channels: int, side: int, *, stride: int = 1) -> list[nn.Module]:
    # No bias: batch normalization subtracts the mean.
    conv = nn.Conv2d(in_channels, out_channels, side, stride, side // 2, bias=False)
    return [conv, nn.BatchNorm2d(out_channels)]


class _Residual(nn.Module):
    """Convolutions beside a shortcut; the ReLU of the sum is left to the caller."""

    def __init__(self, widths: Sequence[int], sides: Sequence[int], *, stride: int = 1) -> None:
        """Create the layers.

        Args:
            widths: Channels of the input, then of each convolution.
            sides: Of the kernels. The stride is that of the first one of 3x3.
            stride: 1 or 2.
        """
        super().__init__()
        layers: list[nn.Module] = []
        for place, ((above, width), side) in enumerate(zip(pairwise(widths), sides, strict=True)):
            step = stride if place == sides.index(3) else 1
            layers += [*_conv(above, width, side, stride=step), nn.ReLU(inplace=True)]
        self.convs = nn.Sequential(*layers[:-1])
        self.shortcut = nn.Sequential()
        if stride != 1 or widths[0] != widths[-1]:
            self.shortcut = nn.Sequential(*_conv(widths[0], widths[-1], 1, stride=stride))

    def forward(self, x_nchw: Tensor) -> Tensor:
        total: Tensor = self.convs(x_nchw) + self.shortcut(x_nchw)
        return total


def _stage(in_channels: int, width: int, *, stride: int = 1) -> nn.Sequential:
    """Two residual blocks; the ReLU of the last is left to the caller."""
    first = _Residual((in_channels, width, width), (3, 3), stride=stride)
    return nn.Sequential(first, nn.ReLU(), _Residual((width, width, width), (3, 3)))


def _bottleneck(in_channels: int, *, stride: int = 1) -> _Residual:
    """A block that doubles the channels."""
    widths = (in_channels, in_channels, in_channels, 2 * in_channels)
    return _Residual(widths, (1, 3, 1), stride=stride)


class _Exchange(nn.Module):
    """A stage of both branches, after which each gets the other's features."""

    def __init__(self, in_channels: int, *, factor: int) -> None:
        """Create the layers.

        Args:
            in_channels: Of the coarse branch, whose result has twice as many at half the size.
            factor: Between the sides of the two branches afterwards.
        """
        super().__init__()
        width = 2 * in_channels
        self.coarse_stage = _stage(in_channels, width, stride=2)
        self.fine_stage = _stage(FINE, FINE)
        self.up = nn.Sequential(*_conv(width, FINE, 1), BilinearUpsample(FINE, factor))
        widths = (FINE, OUT, width)[: factor.bit_length()]
        down: list[nn.Module] = []
        for above, below in pairwise(widths):
            down += [*_conv(above, below, 3, stride=2), nn.ReLU(inplace=True)]
        self.down = nn.Sequential(*down[:-1])

    def forward(self, coarse_nchw: Tensor, fine_nchw: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features of both branches.

        Args:
            coarse_nchw: Of the stage before; at first the same as fine_nchw.
            fine_nchw: Of stride 8.

        Returns:
            Those of half the size of coarse_nchw, and those of stride 8.
        """
        coarse, fine = self.coarse_stage(coarse_nchw), self.fine_stage(fine_nchw)
        mixed_coarse = coarse + self.down(fine.relu())
        mixed_fine = fine + self.up(coarse.relu())
        return mixed_coarse.relu(), mixed_fine.relu()


def _before(in_channels: int, out_channels: int, side: int) -> list[nn.Module]:
    """A convolution after its normalization, as the pyramid and the head have it."""
    conv = nn.Conv2d(in_channels, out_channels, side, padding=side // 2, bias=False)
    return [nn.BatchNorm2d(in_channels), nn.ReLU(), conv]


class _Pyramid(nn.Module):
    """Deep aggregation of averages over ever larger windows, at last over the whole image."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        windows = [nn.AvgPool2d(s, 1, s // 2, count_include_pad=False) for s in (5, 9, 17)]
        pools = [nn.Identity(), *windows, ImageMean()]
        self.scales = nn.ModuleList(
            nn.Sequential(pool, *_before(in_channels, PYRAMID, 1)) for pool in pools
        )
        self.merges = nn.ModuleList(nn.Sequential(*_before(PYRAMID, PYRAMID, 3)) for _ in pools[1:])
        self.compress = nn.Sequential(*_before(len(pools) * PYRAMID, OUT, 1))
        self.shortcut = nn.Sequential(*_before(in_channels, OUT, 1))

    @property
    def pooled_norm(self) -> nn.Module:
        """The batch normalization of the mean over the image."""
        whole: nn.Module = self.scales[-1]
        return whole.get_submodule("1")

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Compute (N, OUT, h, w) from (N, C, h, w)."""
        first, *larger = self.scales
        steps = [first(x_nchw)]
        for scale, merge in zip(larger, self.merges, strict=True):
            steps.append(merge(scale(x_nchw) + steps[-1]))
        together: Tensor = self.compress(torch.cat(steps, 1)) + self.shortcut(x_nchw)
        return together


STRIDE_8 = 8
"""Place in the stem from which on it has stride 8."""


class _Encoder(nn.Module):
    """Both branches: normalized images to the features of the stem and of both together."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *_conv(3, WIDTH, 3, stride=2),
            nn.ReLU(inplace=True),
            *_conv(WIDTH, WIDTH, 3, stride=2),
            nn.ReLU(inplace=True),
            _stage(WIDTH, WIDTH),
            nn.ReLU(),
            _stage(WIDTH, FINE, stride=2),
            nn.ReLU(),
        )
        self.exchanges = nn.ModuleList([_Exchange(FINE, factor=2), _Exchange(2 * FINE, factor=4)])
        self.fine_end = _bottleneck(FINE)
        self.coarse_end = _bottleneck(4 * FINE, stride=2)
        self.pyramid = _Pyramid(8 * FINE)
        self.enlarge = BilinearUpsample(OUT, 8)

    def forward(self, image_nchw: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the stem's (N, WIDTH, H/4, W/4), and both branches' (N, OUT, H/8, W/8)."""
        early = self.stem[:STRIDE_8](image_nchw)
        coarse = fine = self.stem[STRIDE_8:](early)
        for exchange in self.exchanges:
            coarse, fine = exchange(coarse, fine)
        fine = self.fine_end(fine)
        context = self.enlarge(self.pyramid(self.coarse_end(coarse)))
        # Where a side is an odd multiple of 32, the last cell of stride 64 is half outside.
        return early, fine + context[..., : fine.shape[2], : fine.shape[3]]


class _DDRNet(SegmentationNet):
    """What the networks of this file share."""

    upsamples_scores = True
    encoder: _Encoder
    final_conv: nn.Conv2d
    transpose_conv: SubpixelConvTranspose2d

    def _end(self, channels: int, num_classes: int, *, stride: int) -> None:
        """Create the layers from the last features on, then draw all weights."""
        self.final_conv = nn.Conv2d(channels, num_classes, 1)
        self.transpose_conv = SubpixelConvTranspose2d(num_classes, num_classes, stride=stride)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def last_step(self) -> SubpixelConvTranspose2d:
        """The upsampling to the picture's size."""
        return self.transpose_conv

    @property
    def inner_stage(self) -> Stage:
        """The fine branch where it has met the coarse one for the first time."""
        return Stage(self.encoder.exchanges[0], FINE, 8, self.final_conv.out_channels)


@register("ddrnet23slim")
class DDRNet23Slim(_DDRNet):
    """DDRNet-23-slim: class scores of stride 8, upsampled by 8."""

    def __init__(self, num_classes: int) -> None:
        """Create the network.

        Args:
            num_classes: K.
        """
        super().__init__()
        self.encoder = _Encoder()
        self.decoder = nn.Sequential(
            *_before(OUT, HEAD, 3), nn.BatchNorm2d(HEAD), nn.ReLU(inplace=True)
        )
        self._end(HEAD, num_classes, stride=8)

    def body(self, image_nchw: Tensor) -> Tensor:
        """Return the class scores of stride 8."""
        check_batch(image_nchw, self.encoder.pyramid.pooled_norm, network=type(self).__name__)
        _, features = self.encoder(image_nchw)
        scores: Tensor = self.final_conv(self.decoder(features))
        return scores


@register("ddrnet23slim4")
class DDRNet23Slim4(_DDRNet):
    """DDRNet-23-slim that decides at stride 4, for things that are a few pixels wide.

    Not in the paper: the features of stride 8 are enlarged and joined with those of the stem. It
    takes as many multiplications.
    """

    def __init__(self, num_classes: int) -> None:
        """Create the network.

        Args:
            num_classes: K.
        """
        super().__init__()
        self.encoder = _Encoder()
        self.decoder = nn.Sequential(
            *_before(OUT, WIDTH, 3), nn.BatchNorm2d(WIDTH), BilinearUpsample(WIDTH, 2)
        )
        self.detail = nn.Sequential(*_conv(WIDTH, WIDTH, 1))
        self.join = nn.Sequential(
            nn.ReLU(inplace=True), *_conv(WIDTH, WIDTH, 3), nn.ReLU(inplace=True)
        )
        self._end(WIDTH, num_classes, stride=4)

    def body(self, image_nchw: Tensor) -> Tensor:
        """Return the class scores of stride 4."""
        check_batch(image_nchw, self.encoder.pyramid.pooled_norm, network=type(self).__name__)
        early, features = self.encoder(image_nchw)
        joined = self.join(self.decoder(features) + self.detail(early))
        scores: Tensor = self.final_conv(joined)
        return scores
