"""Labels, and how sure the model is of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Prediction"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """The labels of an image or of some of its rows, and how sure the model is.

    ``confidence`` and ``margin`` are 255 times a probability, rounded. The probabilities are the
    softmax of the logits. Where tiles overlap, it is the softmax of the mean of their logits.
    """

    labels: NDArray[np.uint8]
    """uint8 (H, W), indices into the model's classes."""
    confidence: NDArray[np.uint8] | None = None
    """uint8 (H, W): the probability of the label. It is 0 where the largest logit is not finite.
    None where it was not computed."""
    margin: NDArray[np.uint8] | None = None
    """uint8 (H, W): how much larger that is than the probability of the second class. None where
    it was not computed. A graph that computes the confidence gives no margin."""
    sure: NDArray[np.uint8] | None = None
    """uint8 (2, H, W): the memory of ``confidence`` and ``margin`` where the kernels fill it."""

    @classmethod
    def empty(
        cls, height: int, width: int, *, sure: bool, labels: NDArray[np.uint8] | None = None
    ) -> Self:
        """Return arrays for a kernel to fill.

        Args:
            height: Rows.
            width: Columns.
            sure: Whether there is to be confidence and margin.
            labels: Takes the labels; None makes an array.
        """
        if labels is None:
            labels = np.empty((height, width), np.uint8)
        if not sure:
            return cls(labels)
        both = np.empty((2, height, width), np.uint8)
        return cls(labels, both[0], both[1], both)

    def rows(self, begin: int, end: int) -> Prediction:
        """Return some rows, as views."""
        sure = (
            None if part is None else part[begin:end] for part in (self.confidence, self.margin)
        )
        return Prediction(self.labels[begin:end], *sure)

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """Return the parts of an image, given from top to bottom, as one."""
        if len(parts) == 1:
            return parts[0]
        labels = np.concatenate([part.labels for part in parts])
        found = []
        for name in ("confidence", "margin"):
            arrays = [getattr(part, name) for part in parts]
            found.append(None if arrays[0] is None else np.concatenate(arrays))
        return cls(labels, *found)
