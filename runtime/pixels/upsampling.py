"""Labels straight from class scores: the last layer, the mean over tiles and the argmax in one.

The logits of an FCN are its class scores, one in every ``stride`` pixels, upsampled by a transposed
convolution with kernel ``2 * stride``, stride ``stride`` and padding ``stride / 2``. Bilinear
resizing by a whole factor is one too, with a kernel per class and a border that repeats the scores.
So a network may leave this layer out: ``upsample_argmax`` takes the scores of all tiles, and
computes what ``stitch`` would make of their logits, without logits in memory.

Names: ``scores_tchw`` is (tiles, classes, tile height / stride, tile width / stride), in float32,
float16 or bfloat16 as in ``tiling``; ``labels_hw`` is uint8 (H, W).

The logit of a tile is computed in float32: the bias first, then the products in the order of the
input classes. Tiles are added in plan order. The first of equal logits wins.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fcnkit.errors import BadTypeError, BadValueError, message
from fcnkit.runtime.artifacts.spec import Border
from fcnkit.runtime.checks import (
    check_array,
    check_choice,
    check_int,
    check_output,
    check_threads,
    check_type,
)
from fcnkit.runtime.pixels import _kernels
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.pixels.tile_plan import TilePlan, kernel_plan
from fcnkit.runtime.pixels.tiling import TileByTile, check_plan, typed_logits

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MOST_DENSE", "UpsampleStitcher", "Upsampling", "upsample_argmax"]

MOST_DENSE: Final = 32
"""Classes of a layer whose logits depend on the scores of every class."""

_OTHER_HEAD: Final = "use the head logits for this network"
_CHECK_MODEL: Final = "check the weights of the model"
_LARGEST_WEIGHT: Final = 1e18
_LARGEST_SUM: Final = 2.0**126
"""Half of the largest power of two in float32: no sum that is rounded on its way gets past it."""


class Upsampling:
    """The last layer of a network, ready for ``upsample_argmax``. Threads may share one.

    Example:
        >>> corner = np.array([0.25, 0.75, 0.75, 0.25], np.float32)  # bilinear, by 2
        >>> kernels = np.stack([np.outer(corner, corner)] * 3)
        >>> twice = Upsampling(kernels, None, stride=2, border="edge")
        >>> twice.stride, twice.classes, twice.border
        (2, 3, 'edge')
    """

    def __init__(
        self,
        weights: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
        *,
        stride: int,
        border: Border,
    ) -> None:
        """Arrange the weights for the kernel; they are copied.

        Args:
            weights: float32 (C, C, 2 * stride, 2 * stride), from class to class, as
                ``torch.nn.ConvTranspose2d`` holds them, with C in 1..32. Or float32
                (C, 2 * stride, 2 * stride), where each class is upsampled by itself, with C in
                1..255. Finite, at most 1e18 in magnitude.
            bias: float32 (C,), likewise, or None.
            stride: Pixels from a score to the next, an even number in 2..64.
            border: Whether scores outside of a tile are zero or those at its edge.

        Raises:
            TypeError: An argument has a wrong type or dtype.
            ValueError: A shape, layout or value is wrong.
        """
        what = "Upsampling"
        self.stride: Final = check_int(f"{what}: stride", stride, 2, 64)
        """Pixels from a score to the next."""
        if self.stride % 2:
            raise BadValueError(message(f"{what}: stride", "must be even", stride, _OTHER_HEAD))
        self.border: Final[Border] = check_choice(f"{what}: border", border, ("zero", "edge"))
        """What scores outside of a tile are taken to be."""
        kernels = _checked_weights(weights, self.stride)
        self.classes: Final = len(kernels)
        """Classes, 1..255."""
        offsets = _checked_bias(bias, self.classes)
        self.weights, self.bias = kernels.copy(), offsets.copy()
        """As they were given; the bias is zeros where there was none."""
        self._kernel = _kernels.Upsampling(kernels, offsets, self.stride, border == "edge")
        self._largest_bias = float(np.abs(offsets).max())

    def _largest_score(self, plan: TilePlan) -> float:
        """Return how large a score may be for no logit to overflow."""
        tiles = _most_at(plan.tops, plan.tile_height) * _most_at(plan.lefts, plan.tile_width)
        limit = _LARGEST_SUM / tiles - self._largest_bias
        return min(limit / max(self._kernel.gain, 1.0), float(np.finfo(np.float32).max))


def upsample_argmax(
    scores_tchw: NDArray[Any],
    plan: TilePlan,
    upsampling: Upsampling,
    *,
    bfloat16: bool = False,
    out: NDArray[np.uint8] | None = None,
    threads: int | None = None,
) -> NDArray[np.uint8]:
    """Upsample the scores of all tiles, take the mean wherever tiles overlap, then the argmax.

    Args:
        scores_tchw: (tiles, C, h, w) in plan order, with h and w the sides of a tile divided by the
            stride; float32, float16 or bfloat16, C-contiguous, finite.
        plan: Where the tiles lie.
        upsampling: The last layer.
        bfloat16: scores_tchw is uint16 and holds the bits of bfloat16.
        out: As for ``stitch``.
        threads: As for ``stitch``.

    Returns:
        The labels, uint8 (plan.height, plan.width): out where given.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: A shape or layout is wrong, or a score is NaN, infinite or so large that a logit
            would overflow.
    """
    return join_scores(
        "upsample_argmax", scores_tchw, plan, upsampling, bfloat16, out, threads, sure=False
    ).labels


def join_scores(
    what: str,
    scores_tchw: object,
    plan: TilePlan,
    upsampling: Upsampling,
    bfloat16: bool,
    out: object,
    threads: int | None,
    *,
    sure: bool,
) -> Prediction:
    """Do what ``upsample_argmax`` and ``upsample_confident`` do; errors name ``what``."""
    expected = _checked_shape(what, plan, upsampling)
    scores = typed_logits(f"{what}: scores_tchw", scores_tchw, bfloat16, "(tiles, K, h, w)")
    if scores.shape != (len(plan), *expected):
        rule = f"must have shape {(len(plan), *expected)}"
        remedy = "pass the plan they were cut by and the layer of this network"
        raise BadValueError(message(f"{what}: scores_tchw", rule, scores.shape, remedy))
    _check_scores(f"{what}: scores_tchw", scores, plan, upsampling)
    shape = (plan.height, plan.width)
    labels = check_output(f"{what}: out", out, shape, np.uint8, (scores,))
    made = Prediction.empty(*shape, sure=sure, labels=labels)
    count = check_threads(what, threads)
    kernel = upsampling._kernel
    _kernels.upsample_argmax(
        scores, kernel_plan(plan), kernel, 0, 0, True, made.labels, made.sure, count
    )
    return made


class TileScores(TileByTile):
    """What ``UpsampleStitcher`` and ``ConfidentUpsampleStitcher`` share: scores that are held."""

    _argument = "scores_chw"

    def __init__(self, height: int, width: int, plan: TilePlan, upsampling: Upsampling) -> None:
        """Prepare for an image.

        Args:
            height: Rows of the image.
            width: Columns of the image.
            plan: Where the tiles of an image of this size lie.
            upsampling: The last layer.

        Raises:
            TypeError: An argument has a wrong type.
            ValueError: The plan is for another size, or its tiles are not multiples of the stride.
        """
        self._shape = _checked_shape("UpsampleStitcher", plan, upsampling)
        super().__init__("UpsampleStitcher", height, width, plan)
        self._upsampling = upsampling
        self._held: NDArray[Any] = np.empty((0, *self._shape), np.float32)

    def _add(
        self, scores_chw: object, *, bfloat16: bool, threads: int | None, sure: bool
    ) -> tuple[int, Prediction] | None:
        what = "UpsampleStitcher.add"
        scores = typed_logits(f"{what}: scores_chw", scores_chw, bfloat16, "(K, h, w)")
        row, column = self._place(scores.shape, self._shape)
        if self._added and scores.dtype != self._held.dtype:
            rule = f"all tiles must have the type of the first, {self._held.dtype.name}"
            remedy = "convert the scores"
            raise BadTypeError(message(f"{what}: scores_chw", rule, scores.dtype.name, remedy))
        _check_scores(f"{what}: scores_chw", scores, self._plan, self._upsampling)
        count = check_threads(what, threads)
        if not self._added:
            self._held = np.empty((self._most_held(), *self._shape), scores.dtype)
        self._held[(row - self._first_held(row)) * len(self._plan.lefts) + column] = scores
        self._added += 1
        return self._finish(row, count, sure) if column + 1 == len(self._plan.lefts) else None

    def _first_held(self, row: int) -> int:
        """Return the first row of tiles that sees an image row that row ``row`` finishes."""
        tops = self._plan.tops
        return next(i for i in range(row + 1) if tops[i] + self._plan.tile_height > tops[row])

    def _most_held(self) -> int:
        rows = range(len(self._plan.tops))
        return max(row + 1 - self._first_held(row) for row in rows) * len(self._plan.lefts)

    def _finish(self, row: int, threads: int, sure: bool) -> tuple[int, Prediction]:
        """Label the rows above the next row of tiles, and keep the scores that this one shares."""
        plan, columns = self._plan, len(self._plan.lefts)
        first, top = self._first_held(row), plan.tops[row]
        end = (*plan.tops, plan.height)[row + 1]
        rows = Prediction.empty(end - top, plan.width, sure=sure)
        scores = self._held[: (row + 1 - first) * columns]
        _kernels.upsample_argmax(
            scores,
            kernel_plan(plan),
            self._upsampling._kernel,
            first,
            top,
            True,
            rows.labels,
            rows.sure,
            threads,
        )
        if not self.done:
            dropped = (self._first_held(row + 1) - first) * columns
            kept = len(scores) - dropped
            self._held[:kept] = self._held[dropped : dropped + kept].copy()
        return top, rows


class UpsampleStitcher(TileScores):
    """``upsample_argmax`` for tiles that arrive one by one, holding the scores of a row of tiles.

    Memory: the scores of as many rows of tiles as overlap, and the labels of one row of tiles. The
    labels equal those of ``upsample_argmax`` bit for bit. One UpsampleStitcher belongs to one
    thread at a time.

    Example:
        >>> corner = np.array([0.25, 0.75, 0.75, 0.25], np.float32)  # bilinear, by 2
        >>> kernels = np.stack([np.outer(corner, corner)] * 3)
        >>> twice = Upsampling(kernels, None, stride=2, border="edge")
        >>> plan = TilePlan(40, 32, 32, 32, (0, 8), (0,))
        >>> stitcher = UpsampleStitcher(40, 32, plan, twice)
        >>> [stitcher.add(np.zeros((3, 16, 16), np.float32))[0] for _ in plan]  # first rows
        [0, 8]
    """

    def add(
        self, scores_chw: NDArray[Any], *, bfloat16: bool = False, threads: int | None = None
    ) -> tuple[int, NDArray[np.uint8]] | None:
        """Add the next tile in plan order, and hand out the rows that no later tile touches.

        Args:
            scores_chw: (C, h, w), float32, float16 or bfloat16, C-contiguous, finite, of the same
                type as the first tile's; copied.
            bfloat16: scores_chw is uint16 and holds the bits of bfloat16.
            threads: Largest number of threads; None asks FCNKIT_THREADS, then the machine.

        Returns:
            As ``Stitcher.add``.

        Raises:
            TypeError: The scores have a wrong type or dtype.
            ValueError: Their shape, layout or a value is wrong, or every tile has been added.
        """
        finished = self._add(scores_chw, bfloat16=bfloat16, threads=threads, sure=False)
        return None if finished is None else (finished[0], finished[1].labels)


def _checked_weights(weights: object, stride: int) -> NDArray[np.float32]:
    what = "Upsampling: weights"
    kernels = check_array(what, weights, ("float32",), "convert them with .astype(np.float32)")
    side = 2 * stride
    if kernels.ndim not in (3, 4) or kernels.shape[-2:] != (side, side):
        rule = f"must have shape (C, C, {side}, {side}) or (C, {side}, {side}) at stride {stride}"
        remedy = "pass those of a transposed convolution whose kernel is two strides wide"
        raise BadValueError(message(what, rule, kernels.shape, remedy))
    if kernels.ndim == 4 and kernels.shape[0] != kernels.shape[1]:
        rule = "must lead from C classes to C classes"
        raise BadValueError(message(what, rule, kernels.shape, _OTHER_HEAD))
    most = MOST_DENSE if kernels.ndim == 4 else 255
    if not 1 <= len(kernels) <= most:
        rule = f"must be of 1..{most} classes"
        if kernels.ndim == 4:
            rule += " where every class depends on every score"
        raise BadValueError(message(what, rule, len(kernels), _OTHER_HEAD))
    _check_values(what, kernels)
    return kernels


def _checked_bias(bias: object, classes: int) -> NDArray[np.float32]:
    what = "Upsampling: bias"
    if bias is None:
        return np.zeros(classes, np.float32)
    offsets = check_array(what, bias, ("float32",), "convert it with .astype(np.float32)")
    if offsets.shape != (classes,):
        rule, remedy = f"must have shape ({classes},)", "pass one value per class"
        raise BadValueError(message(what, rule, offsets.shape, remedy))
    _check_values(what, offsets)
    return offsets


def _check_values(what: str, values: NDArray[np.float32]) -> None:
    largest = float(np.abs(values).max())
    if not largest <= _LARGEST_WEIGHT:  # NaN is not
        rule = f"must be finite and at most {_LARGEST_WEIGHT:g} in magnitude"
        raise BadValueError(message(what, rule, largest, _CHECK_MODEL))


def _checked_shape(what: str, plan: object, upsampling: object) -> tuple[int, int, int]:
    """Return the shape of a tile's scores."""
    check_plan(what, plan)
    check_type(f"{what}: upsampling", upsampling, Upsampling)
    assert isinstance(plan, TilePlan)
    assert isinstance(upsampling, Upsampling)
    stride = upsampling.stride
    if plan.tile_height % stride or plan.tile_width % stride:
        rule = f"sides of tiles must be multiples of the stride, {stride}"
        got = f"{plan.tile_height}x{plan.tile_width}"
        raise BadValueError(message(f"{what}: plan", rule, got, "plan with such a multiple"))
    return upsampling.classes, plan.tile_height // stride, plan.tile_width // stride


def _check_scores(what: str, scores: NDArray[Any], plan: TilePlan, upsampling: Upsampling) -> None:
    largest, limit = _kernels.largest_score(scores), upsampling._largest_score(plan)
    if not largest <= limit:
        rule = f"must be finite and at most {limit:.3g} in magnitude"
        got = "NaN or infinity" if largest == float("inf") else f"{largest:.3g}"
        raise BadValueError(message(what, rule, got, f"{_CHECK_MODEL}, or run it in float32"))


@lru_cache(maxsize=64)
def _most_at(starts: tuple[int, ...], side: int) -> int:
    """Return how many tiles of an axis see the same pixel at most; starts ascend."""
    return max(i + 1 - bisect_right(starts, start - side) for i, start in enumerate(starts))
