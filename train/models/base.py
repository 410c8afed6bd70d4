"""What every network of the family is: a body, a last step, and one rule about sizes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from fcnkit.errors import BadValueError, message
from fcnkit.train.models.upsample import SubpixelConvTranspose2d

__all__ = ["MULTIPLE", "SegmentationNet", "Stage"]

MULTIPLE = 32
"""Both sides of a picture must be multiples of this many pixels."""


class Stage(NamedTuple):
    """A part of a network whose result can be classified too, for training."""

    module: nn.Module
    """Gives features (N, channels, H/stride, W/stride), or a tuple that ends with them."""
    channels: int
    stride: int
    classes: int
    """Of the network."""


class SegmentationNet(nn.Module, ABC):
    """Normalized pictures to logits of the same size.

    A network writes its body and names its last step; sizes, logits and labels are common to all.
    """

    upsamples_scores: ClassVar[bool] = False
    """Whether the body gives class scores, which the last step only enlarges."""

    @abstractmethod
    def body(self, image_nchw: Tensor) -> Tensor:
        """Compute what the last step takes.

        Args:
            image_nchw: float tensor (N, 3, H, W), normalized; H and W multiples of 32.

        Returns:
            Features or class scores (N, C, H/s, W/s), where s is the last step's stride.
        """

    @property
    @abstractmethod
    def last_step(self) -> nn.Module:
        """The module that turns the body's result into logits (N, K, H, W)."""

    @property
    def inner_stage(self) -> Stage | None:
        """The stage whose features an auxiliary head learns from; None: there is none."""
        return None

    def forward(self, image_nchw: Tensor) -> Tensor:
        """Compute logits.

        Args:
            image_nchw: float tensor (N, 3, H, W), normalized; H and W multiples of 32.

        Returns:
            Logits (N, K, H, W).

        Raises:
            ValueError: A side is not a multiple of 32.
        """
        logits: Tensor = self.last_step(self._features(image_nchw))
        return logits

    def labels(self, image_nchw: Tensor) -> Tensor:
        """Compute the argmax of the logits, faster where the last step upsamples.

        Args:
            image_nchw: As in forward.

        Returns:
            float32 tensor (N, H, W) of whole numbers, 0..K-1.

        Raises:
            ValueError: A side is not a multiple of 32.
        """
        x_nchw, last_step = self._features(image_nchw), self.last_step
        if isinstance(last_step, SubpixelConvTranspose2d):
            return last_step.labels(x_nchw)
        best: Tensor = last_step(x_nchw).argmax(1)
        return best.to(torch.float32)

    def pieces(self, image_nchw: Tensor) -> Tensor:
        """Compute the logits in the order in which the last step computes them, for the loss.

        Args:
            image_nchw: As in forward.

        Returns:
            Logits (N, M, K, P), where M * P counts the pixels and a border around them.

        Raises:
            ValueError: As in forward.
        """
        x_nchw, last_step = self._features(image_nchw), self.last_step
        if isinstance(last_step, SubpixelConvTranspose2d):
            return last_step.pieces(x_nchw)
        logits: Tensor = last_step(x_nchw)
        return logits.flatten(2)[:, None]

    def pieces_of(self, labels_nhw: Tensor, *, outside: int) -> Tensor:
        """Bring labels (N, H, W) into the order of ``pieces``: (N, M, P).

        Args:
            labels_nhw: A value per pixel.
            outside: The value around them.
        """
        last_step = self.last_step
        if isinstance(last_step, SubpixelConvTranspose2d):
            return last_step.pieces_of(labels_nhw, outside=outside)
        return labels_nhw.flatten(1)[:, None]

    def _features(self, image_nchw: Tensor) -> Tensor:
        """Run the body on images of legal sides."""
        height, width = image_nchw.shape[-2:]
        if height % MULTIPLE or width % MULTIPLE:
            fit = f"pad to {-height % MULTIPLE + height}x{-width % MULTIPLE + width}"
            rule = f"sides must be multiples of {MULTIPLE}"
            raise BadValueError(message(type(self).__name__, rule, f"{height}x{width}", fit))
        return self.body(image_nchw)
