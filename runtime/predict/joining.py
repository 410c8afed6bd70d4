"""What becomes of a model's outputs for the tiles of an image: labels, and how sure they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.pixels import tiling
from fcnkit.runtime.pixels.confidence import ConfidentStitcher, stitch_confident
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.pixels.upsampled import upsampled
from fcnkit.runtime.pixels.upsampling import UpsampleStitcher, Upsampling, upsample_argmax

__all__ = ["Join", "Joining", "gives_confidence"]

Join = Callable[[NDArray[Any]], Prediction | None]
"""Takes the output for the next tile, and gives the rows that no later tile reaches, if any."""


def gives_confidence(spec: ModelSpec) -> bool:
    """Whether labels of a model can come with their confidence."""
    return spec.can_average or spec.confidence is not None


@dataclass(frozen=True)
class Joining:
    """How the outputs for the tiles of one image become its prediction."""

    plan: tiling.TilePlan
    spec: ModelSpec
    upsampling: Upsampling | None
    """The last layer, where the outputs are scores."""
    sure: bool
    """Whether confidence is wanted."""
    threads: int | None

    def whole(self, outputs: NDArray[Any]) -> Prediction:
        """Return the prediction of an image from the outputs for all its tiles."""
        plan, threads = self.plan, self.threads
        if not self.spec.can_average:
            return self._cropped(outputs[0])
        outputs = np.ascontiguousarray(outputs)
        if self.upsampling is not None:
            labels = upsample_argmax(outputs, plan, self.upsampling, threads=threads)
            if not self.sure:
                return Prediction(labels)
            logits = upsampled(outputs, self.upsampling)
            # The labels of the kernel: it adds in another order, which decides ties.
            return replace(stitch_confident(logits, plan, threads=threads), labels=labels)
        if self.sure:
            return stitch_confident(outputs, plan, threads=threads)
        return Prediction(tiling.stitch(outputs, plan, threads=threads))

    def _cropped(self, output: NDArray[np.uint8]) -> Prediction:
        """Crop the output of a graph that gives labels, and perhaps their confidence."""
        window = np.s_[: self.plan.height, : self.plan.width]
        # A view would keep the results of a whole batch alive.
        if self.spec.confidence is None:
            return Prediction(output[window].copy())
        labels_hw, confidence_hw = output
        sure = confidence_hw[window].copy() if self.sure else None
        return Prediction(labels_hw[window].copy(), sure)

    def one_by_one(self) -> Join:
        """Return what joins the outputs for one tile after the other."""
        plan, threads, upsampling = self.plan, self.threads, self.upsampling
        size = plan.height, plan.width
        logits = ConfidentStitcher(*size, self.spec.num_classes, plan) if self.sure else None
        if upsampling is None:
            if logits is not None:
                return lambda tile: _rows(logits.add(tile, threads=threads))
            plain = tiling.Stitcher(*size, self.spec.num_classes, plan)
            return lambda tile: _labels(plain.add(tile, threads=threads))
        scores = UpsampleStitcher(*size, plan, upsampling)
        if logits is None:
            return lambda tile: _labels(scores.add(tile, threads=threads))

        def both(tile: NDArray[Any]) -> Prediction | None:
            labels = _labels(scores.add(tile, threads=threads))
            sure = _rows(logits.add(upsampled(tile[None], upsampling)[0], threads=threads))
            if labels is None or sure is None:  # both finish the same rows at the same tile
                return None
            return replace(sure, labels=labels.labels)

        return both


def _rows(finished: tuple[int, Prediction] | None) -> Prediction | None:
    return None if finished is None else finished[1]


def _labels(finished: tuple[int, NDArray[np.uint8]] | None) -> Prediction | None:
    return None if finished is None else Prediction(finished[1])
