"""Logits of class scores, by matrix products: the last layer of a network as one array."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fcnkit.runtime.pixels.upsampling import Upsampling

__all__ = ["upsampled"]


def upsampled(scores_tchw: NDArray[np.float32], layer: Upsampling) -> NDArray[np.float32]:
    """Compute what the last layer makes of class scores.

    Every block of stride x stride pixels depends on the 2x2 scores around it, by the same matrix.

    Args:
        scores_tchw: float32 (tiles, C, h, w).
        layer: The last layer.

    Returns:
        The logits, float32 (tiles, C, stride * h, stride * w), C-contiguous. Their sums have
        another order than those of ``upsample_argmax``.
    """
    stride, classes = layer.stride, layer.classes
    tiles, _, height, width = scores_tchw.shape
    padded = np.pad(
        scores_tchw,
        ((0, 0), (0, 0), (1, 1), (1, 1)),
        mode="edge" if layer.border == "edge" else "constant",
    )
    rows, columns = height + 1, width + 1  # of blocks, half a block outside on every side
    near = np.stack(
        [padded[:, :, dy : dy + rows, dx : dx + columns] for dy in (0, 1) for dx in (0, 1)], axis=2
    )
    matrix = _matrix(layer.weights, stride)
    if layer.weights.ndim == 4:
        blocks = matrix @ near.reshape(tiles, 4 * classes, -1)
    else:
        blocks = matrix @ near.reshape(tiles, classes, 4, -1)
    blocks = blocks.reshape(tiles, classes, stride, stride, rows, columns)
    blocks += layer.bias[:, None, None, None, None]
    pixels = blocks.transpose(0, 1, 4, 2, 5, 3).reshape(tiles, classes, rows * stride, -1)
    half = stride // 2
    return np.ascontiguousarray(pixels[:, :, half:-half, half:-half])


def _matrix(weights: NDArray[np.float32], stride: int) -> NDArray[np.float32]:
    """Arrange the weights by pixel of a block and by the score that it sees.

    A pixel sees the score above it by the lower half of the kernel, the one below by the upper.
    """
    halves = weights.reshape(*weights.shape[:-2], 2, stride, 2, stride)[..., ::-1, :, ::-1, :]
    if weights.ndim == 3:  # (class, above or below, row, left or right, column)
        by_class = halves.transpose(0, 2, 4, 1, 3)
        return np.ascontiguousarray(by_class.reshape(len(weights), stride * stride, 4))
    # (from class, to class, above or below, row, left or right, column)
    dense = halves.transpose(1, 3, 5, 0, 2, 4)
    return np.ascontiguousarray(dense.reshape(len(weights) * stride * stride, -1))
