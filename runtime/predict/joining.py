"""What becomes of a model's outputs for the tiles of an image: labels, and how sure they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.pixels import tiling
from fcnkit.runtime.pixels.confidence import (
    ConfidentStitcher,
    ConfidentUpsampleStitcher,
    stitch_confident,
    upsample_confident,
)
from fcnkit.runtime.pixels.prediction import Prediction
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
            if self.sure:
                return upsample_confident(outputs, plan, self.upsampling, threads=threads)
            return Prediction(upsample_argmax(outputs, plan, self.upsampling, threads=threads))
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
        size, classes = (plan.height, plan.width), self.spec.num_classes
        if self.sure:
            sure: ConfidentStitcher | ConfidentUpsampleStitcher
            if upsampling is None:
                sure = ConfidentStitcher(*size, classes, plan)
            else:
                sure = ConfidentUpsampleStitcher(*size, plan, upsampling)
            return lambda tile: _rows(sure.add(tile, threads=threads))
        plain: tiling.Stitcher | UpsampleStitcher
        if upsampling is None:
            plain = tiling.Stitcher(*size, classes, plan)
        else:
            plain = UpsampleStitcher(*size, plan, upsampling)
        return lambda tile: _labels(plain.add(tile, threads=threads))


def _rows(finished: tuple[int, Prediction] | None) -> Prediction | None:
    return None if finished is None else finished[1]


def _labels(finished: tuple[int, NDArray[np.uint8]] | None) -> Prediction | None:
    return None if finished is None else Prediction(finished[1])
