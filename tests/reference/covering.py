"""Labels of a picture of any size: numpy covers it, PyTorch runs each rectangle in float32."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from tests.reference.segment import Rgb, largest_multiple, starts

Net = Callable[[torch.Tensor], torch.Tensor]
"""From a normalized batch (1, 3, H, W) to logits (1, K, H, W)."""


def run(image_hwc: NDArray[np.uint8], net: Net, mean: Rgb, std: Rgb) -> NDArray[np.float32]:
    image = torch.from_numpy(image_hwc.copy()).float() / 255
    normal = ((image - torch.tensor(mean)) / torch.tensor(std)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        logits: NDArray[np.float32] = net(normal)[0].permute(1, 2, 0).numpy()
    return logits


def grow(image_hwc: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    padding = ((0, height - image_hwc.shape[0]), (0, width - image_hwc.shape[1]), (0, 0))
    return np.pad(image_hwc, padding, mode="reflect")


def pad(
    image_hwc: NDArray[np.uint8], net: Net, mean: Rgb, std: Rgb, *, multiple: int
) -> NDArray[np.int64]:
    """Grow to the next multiple, at least 32, run once, crop."""
    height, width, _ = image_hwc.shape
    sides = (max(32, -(-side // multiple) * multiple) for side in (height, width))
    logits = run(grow(image_hwc, *sides), net, mean, std)
    labels: NDArray[np.int64] = logits[:height, :width].argmax(axis=2)
    return labels


def average(image_hwc: NDArray[np.uint8], net: Net, mean: Rgb, std: Rgb) -> NDArray[np.int64]:
    """The mean of the logits of the largest multiples of 32 that fit; small pictures grow."""
    height, width, _ = image_hwc.shape
    down, right = largest_multiple(height), largest_multiple(width)
    grown = grow(image_hwc, max(height, down), max(width, right))
    total: NDArray[np.float64] | None = None
    count = np.zeros((*grown.shape[:2], 1))
    for top in starts(height, down):
        for left in starts(width, right):
            logits = run(grown[top : top + down, left : left + right], net, mean, std)
            if total is None:
                total = np.zeros((*grown.shape[:2], logits.shape[2]))
            total[top : top + down, left : left + right] += logits
            count[top : top + down, left : left + right] += 1
    assert total is not None
    labels: NDArray[np.int64] = (total / count)[:height, :width].argmax(axis=2)
    return labels
