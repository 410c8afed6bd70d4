"""Colors pixel by pixel: the slow, obvious answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Colors = list[tuple[int, int, int]]


def voc_color(label: int) -> tuple[int, int, int]:
    color = [0, 0, 0]
    for j in range(8):
        for channel in range(3):
            color[channel] |= (label >> channel & 1) << (7 - j)
        label >>= 3
    return color[0], color[1], color[2]


def decode(
    labels: NDArray[np.uint8], colors: Colors, void: tuple[int, int, int]
) -> NDArray[np.uint8]:
    table = {255: void} | dict(enumerate(colors))
    rows = [[table[label] for label in row] for row in labels.tolist()]
    return np.array(rows, np.uint8).reshape(*labels.shape, 3)


def encode(
    rgb: NDArray[np.uint8], colors: Colors, void: tuple[int, int, int], unknown: int
) -> tuple[NDArray[np.uint8], int]:
    table = {void: 255} | {color: label for label, color in enumerate(colors)}
    labels = np.zeros(rgb.shape[:2], np.uint8)
    missed = 0
    for y, row in enumerate(rgb.tolist()):
        for x, color in enumerate(row):
            label = table.get(tuple(color))
            missed += label is None
            labels[y, x] = unknown if label is None else label
    return labels, missed


def overlay(
    image: NDArray[np.uint8], labels: NDArray[np.uint8], colors: Colors, alpha: float
) -> NDArray[np.float64]:
    """The exact blend, not rounded."""
    out = image.astype(np.float64)
    for label, color in enumerate(colors):
        where = labels == label
        out[where] = out[where] * (1 - alpha) + np.array(color, np.float64) * alpha
    return out
