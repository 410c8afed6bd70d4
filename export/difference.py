"""How far two models' answers to the same pictures lie apart, accumulated over batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fcnkit.export.subject import Answer

__all__ = ["ROUNDING", "Difference", "DifferenceMeter", "largest_logit"]

ROUNDING: Final = 2e-6
"""What sums in another order change in float32, as a share of the largest logit."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What was measured.

    Errors and margins are shares of the batch's largest logit.
    """

    pixels: int
    label_agreement: float
    """Share of pixels with equal labels, 0..1."""
    least_agreement: float
    """The same of the picture where it is smallest."""
    max_error: float | None
    """Largest difference of a logit; None where a side gives labels only."""
    mean_error: float | None
    max_margin: float | None
    """Over the pixels that disagree: how far the logit of the other side's label lies below the
    largest. Near 0 means that only ties were decided differently. None where no side gives
    logits."""
    mean_margin: float | None
    tied: float = 0.0
    """Share of pixels whose labels differ, and whose two logits differ by rounding alone."""
    max_confidence_error: float | None = None
    """Largest difference of the probability of a label, 0..1; None where a side does not say it."""
    mean_confidence_error: float | None = None

    def summary(self) -> str:
        """Return the figures as words."""
        words = []
        if self.max_error is not None and self.mean_error is not None:
            words += [f"max error {self.max_error:.1e}", f"mean error {self.mean_error:.1e}"]
        words.append(f"label agreement {100 * self.label_agreement:.4f} %")
        if self.max_margin is not None:
            words.append(f"largest margin {self.max_margin:.1e}")
        if self.mean_confidence_error is not None:
            words.append(f"mean error of confidence {self.mean_confidence_error:.1e}")
        return ", ".join(words)


class _Worst:
    """The largest and the mean difference of arrays."""

    def __init__(self) -> None:
        self.largest: float | None = None
        self._sum, self._count = 0.0, 0

    @property
    def mean(self) -> float | None:
        """The mean; None where nothing was added."""
        return self._sum / self._count if self._count else None

    def add(self, a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
        """Compare two arrays of one shape."""
        errors = np.abs(a - b)
        self._sum += float(errors.sum())
        self._count += errors.size
        # Not max(), which can lose a NaN.
        self.largest = float(np.maximum(self.largest or 0.0, errors.max()))


class DifferenceMeter:
    """Takes pairs of answers and sums up."""

    def __init__(self) -> None:
        self._pixels = self._agreed = self._logits = 0
        self._error_sum = self._margin_sum = 0.0
        self._max_error: float | None = None
        self._max_margin: float | None = None
        self._least = 1.0
        self._tied = 0
        self._sure = _Worst()

    def add(self, a: Answer, b: Answer, *, scale: float | None = None) -> None:
        """Compare two answers to the same pictures; different shapes are an infinite difference.

        Args:
            a: The answer that is right.
            b: The other one.
            scale: What errors and margins are shares of; by default the batch's largest logit.
        """
        if a.labels_nhw.shape != b.labels_nhw.shape:
            self._pixels += a.labels_nhw.size
            self._max_error = self._max_margin = float("inf")
            self._least = 0.0
            return
        differs = a.labels_nhw != b.labels_nhw
        self._pixels += differs.size
        self._agreed += differs.size - int(differs.sum())
        self._least = min(self._least, 1 - float(differs.mean((1, 2)).max()))
        if a.logits_nchw is not None and b.logits_nchw is not None:  # they tell the confidence too
            self._add_errors(a.logits_nchw, b.logits_nchw, scale)
        elif a.confidence_nhw is not None and b.confidence_nhw is not None:
            self._sure.add(a.confidence_nhw, b.confidence_nhw)
        if a.logits_nchw is not None:
            self._add_margins(a.logits_nchw, b.labels_nhw, differs, scale)
        elif b.logits_nchw is not None:
            self._add_margins(b.logits_nchw, a.labels_nhw, differs, scale)

    def _add_errors(
        self, a_nchw: NDArray[np.float64], b_nchw: NDArray[np.float64], scale: float | None
    ) -> None:
        if a_nchw.shape != b_nchw.shape:
            self._max_error = float("inf")
            return
        errors = np.abs(a_nchw - b_nchw) / (scale or largest_logit(a_nchw))
        self._error_sum += float(errors.sum())
        self._logits += errors.size
        # Not max(), which can lose a NaN.
        self._max_error = float(np.maximum(self._max_error or 0.0, errors.max()))

    def _add_margins(
        self,
        logits_nchw: NDArray[np.float64],
        labels_nhw: NDArray[np.int64],
        differs: NDArray[np.bool_],
        scale: float | None,
    ) -> None:
        self._max_margin = self._max_margin or 0.0
        if labels_nhw.max() >= logits_nchw.shape[1]:
            self._max_margin = float("inf")
        elif differs.any():
            given = np.take_along_axis(logits_nchw, labels_nhw[:, None], 1)[:, 0]
            margins = (logits_nchw.max(1) - given)[differs] / (scale or largest_logit(logits_nchw))
            self._tied += int((margins <= ROUNDING).sum())
            self._margin_sum += float(margins.sum())
            self._max_margin = float(np.maximum(self._max_margin, margins.max()))

    def __bool__(self) -> bool:
        """Whether anything was added."""
        return self._pixels > 0

    def result(self) -> Difference:
        """Return what was measured so far."""
        differing = self._pixels - self._agreed
        known = self._max_margin is not None
        return Difference(
            pixels=self._pixels,
            label_agreement=self._agreed / max(1, self._pixels),
            least_agreement=self._least,
            max_error=self._max_error,
            mean_error=None if self._max_error is None else self._error_sum / max(1, self._logits),
            max_margin=self._max_margin,
            mean_margin=self._margin_sum / max(1, differing) if known else None,
            tied=self._tied / max(1, self._pixels),
            max_confidence_error=self._sure.largest,
            mean_confidence_error=self._sure.mean,
        )


def largest_logit(logits_nchw: NDArray[np.float64]) -> float:
    """Return the scale of a batch. A fixed scale would not fit small logits."""
    return float(np.abs(logits_nchw).max()) or 1.0
