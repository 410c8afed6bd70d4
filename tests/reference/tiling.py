"""Tiles by padding and stacking whole arrays in float64: the slow, obvious answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fcnkit.runtime.pixels.tiling import TilePlan


def reflected(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Grow bottom and right; numpy's own padding, which repeats the reflection as needed."""
    padding = ((0, max(height - image.shape[0], 0)), (0, max(width - image.shape[1], 0)), (0, 0))
    grown: NDArray[np.uint8] = np.pad(image, padding, mode="reflect")
    return grown


def cut(image: NDArray[np.uint8], plan: TilePlan) -> NDArray[np.uint8]:
    h, w = plan.tile
    grown = reflected(image, plan.tops[-1] + h, plan.lefts[-1] + w)
    return np.stack([grown[top : top + h, left : left + w] for top, left in plan])


def gather(
    image: NDArray[np.uint8], plan: TilePlan, mean: list[float], std: list[float]
) -> NDArray[np.float64]:
    tiles = cut(image, plan).astype(np.float64) / 255
    planes: NDArray[np.float64] = ((tiles - np.array(mean)) / np.array(std)).transpose(0, 3, 1, 2)
    return planes


def mean_logits(logits: NDArray[np.floating[Any]], plan: TilePlan) -> NDArray[np.float64]:
    """(K, H, W): the mean over all tiles that see a pixel."""
    h, w = plan.tile
    size = (plan.tops[-1] + h, plan.lefts[-1] + w)
    total = np.zeros((logits.shape[1], *size))
    count = np.zeros(size)
    for tile, (top, left) in zip(logits, plan, strict=True):
        total[:, top : top + h, left : left + w] += tile
        count[top : top + h, left : left + w] += 1
    mean: NDArray[np.float64] = (total / count)[:, : plan.height, : plan.width]
    return mean


def bfloat16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper halves: the bits of values that bfloat16 can hold, of others cut off."""
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def from_bfloat16_bits(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (bits.astype(np.uint32) << 16).view(np.float32)
