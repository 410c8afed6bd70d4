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

    Args:
        logits_tchw: As for ``stitch``.
        plan: Where the tiles lie.
        bfloat16: As for ``stitch``.
        out: Array for the labels, uint8 (plan.height, plan.width); None makes one.
        threads: As for ``stitch``.

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
        """Add the next tile in plan order, and hand out the rows that no later tile touches.

        Args:
            logits_chw: (classes, h, w), float32, float16 or bfloat16, C-contiguous; not kept.
            bfloat16: logits_chw is uint16 and holds the bits of bfloat16.
            threads: Largest number of threads; None asks FCNKIT_THREADS, then the machine.

        Returns:
            As ``Stitcher.add``, with confidence and margin.

        Raises:
            TypeError: The logits have a wrong type or dtype.
            ValueError: Their shape or layout is wrong, or every tile has been added.
        """
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

    Args:
        scores_tchw: As for ``upsample_argmax``.
        plan: Where the tiles lie.
        upsampling: The last layer.
        bfloat16: As for ``upsample_argmax``.
        out: Array for the labels, uint8 (plan.height, plan.width); None makes one.
        threads: As for ``upsample_argmax``.

    Returns:
        The labels of ``upsample_argmax``, bit for bit, with confidence and margin. Both are within
        half a unit plus 1e-4 * 255 of the exact values. Every logit of every pixel is computed.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: As for ``upsample_argmax``.
    """
    what = "upsample_confident"
    return join_scores(what, scores_tchw, plan, upsampling, bfloat16, out, threads, sure=True)


class ConfidentUpsampleStitcher(TileScores):
    """``upsample_confident`` for tiles that arrive one by one; see ``UpsampleStitcher``."""

    def add(
        self, scores_chw: NDArray[Any], *, bfloat16: bool = False, threads: int | None = None
    ) -> tuple[int, Prediction] | None:
        """Add the next tile in plan order, and hand out the rows that no later tile touches.

        Args:
            scores_chw: As for ``UpsampleStitcher.add``.
            bfloat16: scores_chw is uint16 and holds the bits of bfloat16.
            threads: Largest number of threads; None asks FCNKIT_THREADS, then the machine.

        Returns:
            As ``UpsampleStitcher.add``, with confidence and margin.

        Raises:
            TypeError: The scores have a wrong type or dtype.
            ValueError: As for ``UpsampleStitcher.add``.
        """
        return self._add(scores_chw, bfloat16=bfloat16, threads=threads, sure=True)
