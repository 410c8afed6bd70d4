"""The slow, obvious answer to "what are this picture's labels": numpy in float64."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Rgb = tuple[float, float, float]
Net = tuple[NDArray[np.float32], NDArray[np.float32], Rgb, Rgb]
F64 = np.float64


def network(
    image_hwc: NDArray[np.uint8],
    kernel: NDArray[np.float32],
    bias: NDArray[np.float32],
    mean: Rgb,
    std: Rgb,
) -> NDArray[np.float64]:
    """Normalize, then convolve with zero padding; logits (H, W, classes)."""
    height, width, _ = image_hwc.shape
    radius = kernel.shape[2] // 2
    normal = (image_hwc.astype(F64) / 255 - np.array(mean)) / np.array(std)
    padded = np.zeros((height + 2 * radius, width + 2 * radius, 3))
    padded[radius : radius + height, radius : radius + width] = normal
    logits = np.zeros((height, width, len(bias))) + bias
    for row in range(kernel.shape[2]):
        for column in range(kernel.shape[3]):
            window = padded[row : row + height, column : column + width]
            logits += window @ kernel[:, :, row, column].T.astype(F64)
    return logits


def starts(side: int, tile: int) -> list[int]:
    """First pixels of tiles along a side: as few as possible, at equal distances, rounded down."""
    count = 1
    while count * tile < side:
        count += 1
    return [math.floor(Fraction(side - tile, count - 1) * i) if i else 0 for i in range(count)]


def largest_multiple(side: int) -> int:
    return max(32, side // 32 * 32)


def average(image_hwc: NDArray[np.uint8], tile: tuple[int, int], net: Net) -> NDArray[np.float64]:
    """Mean of the logits of all tiles that see a pixel; (H, W, classes)."""
    height, width, _ = image_hwc.shape
    grown = np.pad(
        image_hwc,
        ((0, max(0, tile[0] - height)), (0, max(0, tile[1] - width)), (0, 0)),
        mode="reflect",
    )
    total: NDArray[np.float64] | None = None
    count = np.zeros((*grown.shape[:2], 1))
    for top in starts(height, tile[0]):
        for left in starts(width, tile[1]):
            rows, columns = slice(top, top + tile[0]), slice(left, left + tile[1])
            logits = network(grown[rows, columns], *net)
            if total is None:
                total = np.zeros((*grown.shape[:2], logits.shape[2]))
            total[rows, columns] += logits
            count[rows, columns] += 1
    assert total is not None
    assert count.min() >= 1
    return (total / count)[:height, :width]


def pad(image_hwc: NDArray[np.uint8], multiple: int, low: int, net: Net) -> NDArray[np.float64]:
    """Grow bottom and right by reflection to the next multiple, run once, crop."""
    height, width, _ = image_hwc.shape
    down, right = (max(low, -(-side // multiple) * multiple) - side for side in (height, width))
    grown = np.pad(image_hwc, ((0, down), (0, right), (0, 0)), mode="reflect")
    return network(grown, *net)[:height, :width]


def assert_same_labels(labels_hw: NDArray[np.uint8], logits_hwc: NDArray[np.float64]) -> None:
    """Every label is the largest logit, or so near to it that float32 cannot tell."""
    assert labels_hw.dtype == np.uint8
    assert labels_hw.shape == logits_hwc.shape[:2]
    chosen = np.take_along_axis(logits_hwc, labels_hw[..., None].astype(np.int64), axis=2)[..., 0]
    assert (logits_hwc.max(axis=2) - chosen).max() < 1e-4
    assert (labels_hw == logits_hwc.argmax(axis=2)).mean() >= 0.999
