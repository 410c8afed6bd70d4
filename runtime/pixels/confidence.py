"""Joining tiles as ``stitch`` does, with how sure the model is of each label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fcnkit.runtime.checks import check_output, check_threads
from fcnkit.runtime.pixels import _kernels
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.pixels.tile_plan import TilePlan, kernel_plan
from fcnkit.runtime.pixels.tiling import TileSums, check_tiles
from fcnkit.runtime.pixels.upsampling import TileScores, Upsampling, join_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "ConfidentStitcher",
    "ConfidentUpsampleStitcher",
    "stitch_confident",
    "upsample_confident",
]


def stitch_confident(
    logits_tchw: NDArray[Any],
    plan: TilePlan,
    *,
    bfloat16: bool = False,
    out: NDArray[np.uint8] | None = None,
    threads: int | None = None,
) -> Prediction:
    """Join the logits of all tiles as ``stitch`` does, with the softmax of their mean.

    The arguments are those of ``stitch``; ``out`` is for the labels.

    Returns:
        The labels of ``stitch``, bit for bit, with confidence and margin. Both are within half a
        unit plus 1e-4 * 255 of the exact values.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: A shape or layout is wrong.
    """
    logits = check_tiles("stitch_confident", logits_tchw, plan, bfloat16)
    shape = (plan.height, plan.width)
    labels = check_output("stitch_confident: out", out, shape, np.uint8, (logits,))
    made = Prediction.empty(*shape, sure=True, labels=labels)
    count = check_threads("stitch_confident", threads)
    _kernels.stitch(logits, kernel_plan(plan), made.labels, made.sure, count)
    return made


class ConfidentStitcher(TileSums):
    """``stitch_confident`` for tiles that arrive one by one; see ``Stitcher``."""

    def add(
        self, logits_chw: NDArray[Any], *, bfloat16: bool = False, threads: int | None = None
    ) -> tuple[int, Prediction] | None:
        """Add the next tile as ``Stitcher.add`` does; return confidence and margin too."""
        return self._add(logits_chw, bfloat16=bfloat16, threads=threads, sure=True)


def upsample_confident(
    scores_tchw: NDArray[Any],
    plan: TilePlan,
    upsampling: Upsampling,
    *,
    bfloat16: bool = False,
    out: NDArray[np.uint8] | None = None,
    threads: int | None = None,
) -> Prediction:
    """Join the class scores of all tiles as ``upsample_argmax`` does, with the softmax of the mean.

    Arguments and errors are those of ``upsample_argmax``; ``out`` is for the labels, which are the
    same bit for bit. Confidence and margin are as exact as those of ``stitch_confident``. Every
    logit of every pixel is computed.
    """
    what = "upsample_confident"
    return join_scores(what, scores_tchw, plan, upsampling, bfloat16, out, threads, sure=True)


class ConfidentUpsampleStitcher(TileScores):
    """``upsample_confident`` for tiles that arrive one by one; see ``UpsampleStitcher``."""

    def add(
        self, scores_chw: NDArray[Any], *, bfloat16: bool = False, threads: int | None = None
    ) -> tuple[int, Prediction] | None:
        """Add the next tile as ``UpsampleStitcher.add`` does; return confidence and margin too."""
        return self._add(scores_chw, bfloat16=bfloat16, threads=threads, sure=True)
