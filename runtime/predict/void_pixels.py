"""Pixels that are not labeled: which tiles need the model, and what the labels become.

Rows of an image may have a fourth channel. Where it is 0, a pixel is not labeled.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.pixels.tile_plan import TilePlan

__all__ = ["has_void_tile", "runs_of", "void_of", "voided"]


def has_void_tile(image_hwc: NDArray[np.uint8], plan: TilePlan) -> bool:
    """Whether a tile has no pixel to label.

    Args:
        image_hwc: uint8 (H, W, 3 or 4).
        plan: Where the tiles lie.
    """
    if image_hwc.shape[2] == 3:
        return False
    height, width = plan.tile
    valid_hw = image_hwc[..., 3]
    return any(not valid_hw[y : y + height, x : x + width].any() for y, x in plan)


def void_of(rows_hwc: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """Return which pixels are not labeled, bool (H, W); None without a fourth channel."""
    return None if rows_hwc.shape[2] == 3 else rows_hwc[..., 3] == 0


def voided(made: Prediction, void_hw: NDArray[np.bool_] | None) -> Prediction:
    """Make a prediction void, with confidence 0, where nothing is labeled.

    Args:
        made: Changed in place.
        void_hw: Where, bool (H, W); None for nowhere.

    Returns:
        The same prediction.
    """
    if void_hw is None:
        return made
    made.labels[void_hw] = VOID
    for sure_hw in (made.confidence, made.margin):
        if sure_hw is not None:
            sure_hw[void_hw] = 0
    return made


def runs_of(needed: list[bool], most: int) -> Iterator[tuple[int, int]]:
    """Yield where runs of True begin and end, each of at most ``most``."""
    begin = 0
    while begin < len(needed):
        end = begin
        while end < len(needed) and needed[end] and end - begin < most:
            end += 1
        if end > begin:
            yield begin, end
        begin = max(end, begin + 1)
