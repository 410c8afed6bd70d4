"""The last layer score by score in float64, as a transposed convolution is defined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.reference import tiling as ref

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fcnkit.runtime.pixels.tiling import TilePlan


def upsampled(
    scores: NDArray[Any],
    weights: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    stride: int,
    border: str,
) -> NDArray[np.float64]:
    """(O, h * stride, w * stride): every score adds its kernel around its place."""
    classes, height, width = scores.shape
    around = np.pad(
        scores.astype(np.float64),
        ((0, 0), (1, 1), (1, 1)),
        mode="edge" if border == "edge" else "constant",
    )
    if weights.ndim == 3:
        full = np.zeros((classes, *weights.shape), np.float64)
        full[np.arange(classes), np.arange(classes)] = weights
    else:
        full = weights.astype(np.float64)
    side = 2 * stride
    canvas = np.zeros((full.shape[1], (height + 3) * stride, (width + 3) * stride))
    for i in range(height + 2):
        for j in range(width + 2):
            added = np.tensordot(around[:, i, j], full, axes=1)
            canvas[:, i * stride : i * stride + side, j * stride : j * stride + side] += added
    # Score (1, 1) of the padded ones is score (0, 0); its kernel begins half a stride before it.
    first = stride + stride // 2
    logits = canvas[:, first : first + height * stride, first : first + width * stride]
    if bias is not None:
        logits = logits + bias.astype(np.float64)[:, None, None]
    return logits


def mean_logits(
    scores: NDArray[Any],
    plan: TilePlan,
    weights: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    stride: int,
    border: str,
) -> NDArray[np.float64]:
    """(C, H, W): the mean over all tiles that see a pixel."""
    tiles = [upsampled(tile, weights, bias, stride, border) for tile in scores]
    return ref.mean_logits(np.stack(tiles), plan)


def bilinear(stride: int) -> NDArray[np.float32]:
    """(2 * stride, 2 * stride): the kernel that interpolates."""
    ramp = 1 - np.abs(np.arange(2 * stride) - (stride - 0.5)) / stride
    return np.outer(ramp, ramp).astype(np.float32)
