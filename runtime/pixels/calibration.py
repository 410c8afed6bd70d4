"""Whether a confidence of 80 % is right 80 times out of 100."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.runtime.checks import check_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Calibration"]

BINS: Final = 15
"""As in Guo et al., On Calibration of Modern Neural Networks, 2017."""


class Calibration:
    """Counts, for every confidence, how many pixels have it and how many of them are right.

    Example:
        >>> calibration = Calibration()
        >>> target = np.array([[1, 1, 0, 255]], np.uint8)
        >>> confidence = np.array([[204, 204, 204, 0]], np.uint8)
        >>> calibration.add(target, np.array([[1, 0, 0, 0]], np.uint8), confidence)
        >>> round(calibration.error(), 4)
        0.1333
    """

    def __init__(self) -> None:
        self._pixels = np.zeros(256, np.int64)
        self._right = np.zeros(256, np.int64)

    def add(
        self,
        target_hw: NDArray[np.uint8],
        predicted_hw: NDArray[np.uint8],
        confidence_hw: NDArray[np.uint8],
    ) -> None:
        """Count the pixels of an image; void ones, with target 255, are left out.

        Args:
            target_hw: True labels, uint8 (H, W).
            predicted_hw: Predicted labels, uint8 (H, W).
            confidence_hw: 255 times their probability, uint8 (H, W).

        Raises:
            TypeError: An argument is not a uint8 array.
            ValueError: Their shapes differ.
        """
        target = check_labels("Calibration.add: target_hw", target_hw)
        predicted = check_labels(
            "Calibration.add: predicted_hw", np.ascontiguousarray(predicted_hw)
        )
        sure = check_labels("Calibration.add: confidence_hw", np.ascontiguousarray(confidence_hw))
        for name, array in (("predicted_hw", predicted), ("confidence_hw", sure)):
            if array.shape != target.shape:
                rule = f"must have the target's shape {target.shape}"
                remedy = "pass arrays of one image"
                raise BadValueError(message(f"Calibration.add: {name}", rule, array.shape, remedy))
        counted = target != VOID
        right = counted & (target == predicted)
        self._pixels += np.bincount(sure[counted], minlength=256)
        self._right += np.bincount(sure[right], minlength=256)

    def error(self) -> float:
        """Return the expected calibration error, 0..1, lower is better.

        The confidences are put into 15 bins of equal width. The error is the mean distance between
        a bin's mean confidence and its share of right pixels, weighted by the bin's pixels.

        Raises:
            ValueError: No pixel was counted.
        """
        total = int(self._pixels.sum())
        if total == 0:
            rule, remedy = "needs a pixel that is not void", "add an image first"
            raise BadValueError(message("Calibration.error", rule, "none", remedy))
        levels = np.arange(256)
        bins = np.minimum(levels * BINS // 255, BINS - 1)
        sure = np.bincount(bins, self._pixels * levels / 255, BINS)
        right = np.bincount(bins, self._right, BINS)
        return float(np.abs(sure - right).sum() / total)
