"""Pooling of whole images, in the form that exports for every size."""

from __future__ import annotations

from torch import Tensor, nn

from fcnkit.errors import BadValueError, message

__all__ = ["ImageMean", "check_batch"]


class ImageMean(nn.Module):
    """The mean over all positions: (N, C, H, W) to (N, C, 1, 1).

    Not AdaptiveAvgPool2d: on channels-last features the exporter writes it as a gather.
    """

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Pool."""
        return x_nchw.mean((2, 3), keepdim=True)


def check_batch(x_nchw: Tensor, norm: nn.Module, *, network: str) -> None:
    """Refuse to train on a batch whose pooled features cannot be normalized.

    Args:
        x_nchw: Images, or features before the pooling.
        norm: The batch normalization of the pooled features.
        network: Name for the error.

    Raises:
        ValueError: The batch holds one image. Its variance would be 0.
    """
    # A synchronized batch norm also sees the other processes' samples, so a local batch of one
    # is fine.
    if norm.training and type(norm) is nn.BatchNorm2d and len(x_nchw) == 1:
        rule = "training needs at least 2 pictures in a batch, to normalize what is pooled"
        raise BadValueError(message(network, rule, 1, "raise --batch"))
