"""Counting pixel by pixel: the slow, obvious answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def confusion(
    target: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int, ignore: int
) -> NDArray[np.int64]:
    matrix = np.zeros((classes, classes), np.int64)
    for t, p in zip(target.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        if t != ignore:
            matrix[t, p] += 1
    return matrix


def iou(matrix: NDArray[np.int64]) -> list[float | None]:
    result: list[float | None] = []
    for c in range(len(matrix)):
        union = matrix[c].sum() + matrix[:, c].sum() - matrix[c, c]
        result.append(None if union == 0 else float(matrix[c, c]) / float(union))
    return result
