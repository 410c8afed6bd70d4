"""Covering an image of any size with tiles a network accepts, and joining what it says of them.

Names: ``image_hwc`` is uint8 (H, W, 3); ``logits_tchw`` is (tiles, classes, tile height, tile
width), ``logits_nchw`` the same for whole images; ``labels_hw`` is uint8 (H, W). Logits are
float32, float16, or bfloat16: an array of the dtype ``ml_dtypes.bfloat16``, or its bits as uint16
together with ``bfloat16=True``.

A plan says where tiles lie; ``cut`` and ``gather`` make the network's input from it, ``stitch`` and
``Stitcher`` take the mean of the logits wherever tiles overlap, and its argmax. The first of equal
logits wins, and the first NaN wins over every number, as in ``numpy.argmax``.

All functions release the GIL while they work, so other threads can run; none of them may change
an input meanwhile.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fcnkit.errors import BadTypeError, BadValueError, message
from fcnkit.runtime.checks import (
    check_array,
    check_flag,
    check_image,
    check_int,
    check_output,
    check_threads,
)
from fcnkit.runtime.pixels import _kernels
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.pixels.tile_plan import MAX_SIDE, TilePlan, kernel_plan, plan_padded, plan_tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike, NDArray

__all__ = [
    "Stitcher",
    "TileByTile",
    "TilePlan",
    "TileSums",
    "argmax",
    "check_plan",
    "check_tiles",
    "cut",
    "gather",
    "plan_padded",
    "plan_tiles",
    "stitch",
    "typed_logits",
]


def cut(
    image_hwc: NDArray[np.uint8],
    plan: TilePlan,
    *,
    out: NDArray[np.uint8] | None = None,
    threads: int | None = None,
) -> NDArray[np.uint8]:
    """Copy the tiles out of an image, bytes as they are.

    Args:
        image_hwc: uint8 array of shape (plan.height, plan.width, 3), C-contiguous.
        plan: Where the tiles lie. What lies outside the image is reflected into it.
        out: Array for the result, uint8 (tiles, h, w, 3); None makes one.
        threads: Largest number of threads; None asks FCNKIT_THREADS, then the machine.

    Returns:
        The tiles in plan order, uint8 (tiles, h, w, 3): out where given.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: A shape or layout is wrong.
    """
    image = _planned_image("cut", image_hwc, plan)
    tiles = check_output("cut: out", out, (len(plan), *plan.tile, 3), np.uint8, (image,))
    _kernels.cut(image, kernel_plan(plan), tiles, check_threads("cut", threads))
    return tiles


def gather(
    image_hwc: NDArray[np.uint8],
    plan: TilePlan,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: DTypeLike = np.float32,
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> NDArray[Any]:
    """Cut, normalize and transpose the tiles in one pass: ``(x / 255 - mean) / std``, NCHW.

    Args:
        image_hwc: uint8 array of shape (plan.height, plan.width, 3), C-contiguous.
        plan: Where the tiles lie. What lies outside the image is reflected into it.
        mean: Mean of each channel of a picture scaled to 0..1.
        std: Standard deviation of each channel, positive.
        dtype: float32 or float16.
        out: Array for the result, dtype (tiles, 3, h, w); None makes one.
        threads: Largest number of threads; None asks FCNKIT_THREADS, then the machine.

    Returns:
        The network's input, (tiles, 3, h, w): out where given. float32 values are within
        2.4e-7 * (1 + |mean|) / std of the exact ones, float16 values within one unit in the
        last place besides.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: A shape, layout, mean or std is wrong.
    """
    image = _planned_image("gather", image_hwc, plan)
    try:
        kind = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):  # numpy parses strings as structures
        kind = np.dtype(object)
    if kind not in (np.dtype(np.float32), np.dtype(np.float16)):
        rule = "must be float32 or float16"
        raise BadTypeError(message("gather: dtype", rule, kind.name, "convert the result yourself"))
    normalize = _normalize(_channels("mean", mean), _channels("std", std))
    shape = (len(plan), 3, *plan.tile)
    tiles = check_output("gather: out", out, shape, kind.type, (image,))
    count = check_threads("gather", threads)
    _kernels.gather(image, kernel_plan(plan), normalize, tiles, count)
    return tiles


def argmax(
    logits_nchw: NDArray[Any],
    *,
    bfloat16: bool = False,
    out: NDArray[np.uint8] | None = None,
    threads: int | None = None,
) -> NDArray[np.uint8]:
    """Label every pixel with its largest logit.

    Args:
        logits_nchw: (N, K, H, W), 1 <= K <= 256, float32, float16 or bfloat16, C-contiguous.
        bfloat16: logits_nchw is uint16 and holds the bits of bfloat16.
        out: Array for the result, uint8 (N, H, W); None makes one.
        threads: Largest number of threads; None asks FCNKIT_THREADS, then the machine.

    Returns:
        The labels, uint8 (N, H, W): out where given. The first of equal logits wins; the first
        NaN wins over every number, as in ``numpy.argmax(logits_nchw, axis=1)``.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: A shape or layout is wrong.
    """
    logits = typed_logits("argmax: logits_nchw", logits_nchw, bfloat16, "(N, K, H, W)")
    images, _, height, width = logits.shape
    labels = check_output("argmax: out", out, (images, height, width), np.uint8, (logits,))
    _kernels.argmax(logits, labels, check_threads("argmax", threads))
    return labels


def stitch(
    logits_tchw: NDArray[Any],
    plan: TilePlan,
    *,
    bfloat16: bool = False,
    out: NDArray[np.uint8] | None = None,
    threads: int | None = None,
) -> NDArray[np.uint8]:
    """Join the logits of all tiles: their mean wherever tiles overlap, then the argmax.

    The sums are taken in float32, in plan order, and never stored: beside the result this needs
    no memory at all. Whatever lies outside the image is left out.

    Args:
        logits_tchw: (tiles, K, h, w), 1 <= K <= 256, float32, float16 or bfloat16, C-contiguous.
        plan: Where the tiles lie.
        bfloat16: logits_tchw is uint16 and holds the bits of bfloat16.
        out: Array for the result, uint8 (plan.height, plan.width); None makes one.
        threads: Largest number of threads; None asks FCNKIT_THREADS, then the machine.

    Returns:
        The labels, uint8 (plan.height, plan.width): out where given.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: A shape or layout is wrong.
    """
    logits = check_tiles("stitch", logits_tchw, plan, bfloat16)
    labels = check_output("stitch: out", out, (plan.height, plan.width), np.uint8, (logits,))
    _kernels.stitch(logits, kernel_plan(plan), labels, None, check_threads("stitch", threads))
    return labels


class TileByTile:
    """An image whose tiles arrive one by one in plan order, and whose rows leave as they come."""

    _argument: ClassVar[str]
    """What the subclass calls the tile that it adds."""

    def __init__(self, what: str, height: int, width: int, plan: TilePlan) -> None:
        """Begin with no tile; what names the class in errors."""
        check_plan(what, plan)
        height = check_int(f"{what}: height", height, 1, MAX_SIDE)
        width = check_int(f"{what}: width", width, 1, MAX_SIDE)
        if (height, width) != (plan.height, plan.width):
            rule = f"the plan is for {plan.height}x{plan.width}"
            raise BadValueError(message(what, rule, f"{height}x{width}", "plan this size"))
        self._what = what
        self._plan = plan
        self._added = 0

    @property
    def done(self) -> bool:
        """Whether every tile has been added."""
        return self._added == len(self._plan)

    def _place(self, shape: tuple[int, ...], expected: tuple[int, ...]) -> tuple[int, int]:
        """Return row and column of the next tile, or refuse one too many or of another shape."""
        if shape != expected:
            what, rule = f"{self._what}.add: {self._argument}", f"must have shape {expected}"
            raise BadValueError(message(what, rule, shape, "pass one tile of the plan"))
        if self.done:
            rule, remedy = f"the plan has {len(self._plan)} tiles", f"make a new {self._what}"
            raise BadValueError(message(f"{self._what}.add", rule, "one more", remedy))
        return divmod(self._added, len(self._plan.lefts))


class TileSums(TileByTile):
    """What ``Stitcher`` and ``ConfidentStitcher`` share: the sums of overlaps, tile by tile."""

    _argument = "logits_chw"

    def __init__(self, height: int, width: int, classes: int, plan: TilePlan) -> None:
        """Prepare for an image.

        Args:
            height: Rows of the image, as in the plan.
            width: Columns of the image, as in the plan.
            classes: Planes of each tile's logits, 1..256.
            plan: Where the tiles lie.

        Raises:
            TypeError: An argument has a wrong type.
            ValueError: The plan is for another size, or classes is out of range.
        """
        super().__init__("Stitcher", height, width, plan)
        self._classes = check_int("Stitcher: classes", classes, 1, 256)
        rows, columns, steps = kernel_plan(plan).held
        self._below = np.empty((self._classes, rows, plan.width), np.float32)
        self._right = np.empty((steps, self._classes, columns), np.float32)
        self._rows: Prediction | None = None
        """What the tiles of the current row finish."""

    def _add(
        self, logits_chw: object, *, bfloat16: bool, threads: int | None, sure: bool
    ) -> tuple[int, Prediction] | None:
        logits = typed_logits("Stitcher.add: logits_chw", logits_chw, bfloat16, "(K, h, w)")
        i, j = self._place(logits.shape, (self._classes, *self._plan.tile))
        plan, count = kernel_plan(self._plan), check_threads("Stitcher.add", threads)
        first = self._plan.tops[i]
        if self._rows is None:
            end = (*self._plan.tops, self._plan.height)[i + 1]
            self._rows = Prediction.empty(end - first, self._plan.width, sure=sure)
        rows = self._rows
        _kernels.add_tile(
            logits, plan, i, j, self._below, self._right, rows.labels, rows.sure, count
        )
        self._added += 1
        if j + 1 < len(self._plan.lefts):
            return None
        # Handed over and not kept: the result is the caller's own.
        self._rows = None
        return first, rows


class Stitcher(TileSums):
    """``stitch`` for tiles that arrive one by one, holding the sums of their overlaps only.

    Memory: 4 * classes * (rows shared with the next row of tiles * image width + columns shared
    with the next tile * rows of a step) bytes, and the labels of one row of tiles. The labels
    equal those of ``stitch`` bit for bit. One Stitcher belongs to one thread at a time.

    Example:
        >>> plan = plan_tiles(40, 32)
        >>> stitcher = Stitcher(40, 32, 2, plan)
        >>> stitcher.add(np.zeros((2, 32, 32), np.float32))[1].shape
        (8, 32)
        >>> first_row, labels = stitcher.add(np.ones((2, 32, 32), np.float32))
        >>> first_row, labels.shape, stitcher.done
        (8, (32, 32), True)
    """

    def add(
        self, logits_chw: NDArray[Any], *, bfloat16: bool = False, threads: int | None = None
    ) -> tuple[int, NDArray[np.uint8]] | None:
        """Add the next tile in plan order, and hand out the rows that no later tile touches.

        Args:
            logits_chw: (classes, h, w), float32, float16 or bfloat16, C-contiguous; not kept.
            bfloat16: logits_chw is uint16 and holds the bits of bfloat16.
            threads: Largest number of threads; None asks FCNKIT_THREADS, then the machine.

        Returns:
            None until a row of tiles is complete; then the number of the first finished image row
            and the labels of the finished rows, uint8 (rows, width). Put together, these are the
            image, top to bottom.

        Raises:
            TypeError: The logits have a wrong type or dtype.
            ValueError: Their shape or layout is wrong, or every tile has been added.
        """
        added = self._add(logits_chw, bfloat16=bfloat16, threads=threads, sure=False)
        return None if added is None else (added[0], added[1].labels)


def check_tiles(what: str, logits_tchw: object, plan: TilePlan, bfloat16: bool) -> NDArray[Any]:
    """Return the logits of a plan's tiles as the kernels take them, or say what is wrong."""
    check_plan(what, plan)
    logits = typed_logits(f"{what}: logits_tchw", logits_tchw, bfloat16, "(tiles, K, h, w)")
    tiles, _, *tile = logits.shape
    if (tiles, *tile) != (len(plan), *plan.tile):
        rule = f"must be {len(plan)} tiles of {plan.tile_height}x{plan.tile_width}, as planned"
        raise BadValueError(
            message(f"{what}: logits_tchw", rule, logits.shape, "pass the plan they were cut by")
        )
    return logits


def check_plan(what: str, plan: object) -> None:
    """Raise TypeError if plan is not a TilePlan."""
    if not isinstance(plan, TilePlan):
        got = type(plan).__name__
        raise BadTypeError(message(f"{what}: plan", "must be a TilePlan", got, "call plan_tiles"))


def _planned_image(what: str, image_hwc: object, plan: TilePlan) -> NDArray[np.uint8]:
    check_plan(what, plan)
    image = check_image(f"{what}: image_hwc", image_hwc)
    if image.shape[:2] != (plan.height, plan.width):
        rule = f"the plan is for {plan.height}x{plan.width}"
        got = f"{image.shape[0]}x{image.shape[1]}"
        raise BadValueError(message(f"{what}: image_hwc", rule, got, "plan this image's size"))
    return image


def typed_logits(what: str, value: object, bfloat16: bool, shape: str) -> NDArray[Any]:
    """Return logits the kernels understand: bfloat16 as uint16."""
    if check_flag(f"{what.partition(':')[0]}: bfloat16", bfloat16):
        logits = check_array(what, value, ("uint16",), "leave bfloat16=True out")
    else:
        dtypes = ("float32", "float16", "bfloat16")
        remedy = "convert the logits, or pass bfloat16=True with the bits as uint16"
        logits = check_array(what, value, dtypes, remedy)
    if logits.dtype.name == "bfloat16":
        logits = logits.view(np.uint16)
    if logits.ndim != shape.count(",") + 1 or not 1 <= logits.shape[-3] <= 256:
        rule = f"must have shape {shape} with 1 <= K <= 256"
        raise BadValueError(message(what, rule, logits.shape, "put the classes before the rows"))
    return logits


def _channels(name: str, values: Sequence[float]) -> tuple[float, float, float]:
    try:
        numbers = tuple(float(value) for value in values) if len(values) == 3 else ()
    except (TypeError, ValueError):
        got = type(values).__name__
        rule = "must be 3 numbers"
        raise BadTypeError(message(f"gather: {name}", rule, got, "pass three floats")) from None
    legal = len(numbers) == 3 and all(abs(number) < float("inf") for number in numbers)
    if not legal or (name == "std" and min(numbers) <= 0):
        rule = "must be 3 finite numbers" + (" above 0" if name == "std" else "")
        remedy = "pass the spec's values, in units of a picture scaled to 0..1"
        raise BadValueError(message(f"gather: {name}", rule, numbers, remedy))
    return numbers[0], numbers[1], numbers[2]


@lru_cache(maxsize=64)
def _normalize(
    mean: tuple[float, float, float], std: tuple[float, float, float]
) -> _kernels.Normalize:
    """Tabulate the exact values, rounded once, and the multiply-add that comes close."""
    center, spread = np.array([mean]).T, np.array([std]).T
    with np.errstate(over="ignore"):  # a tiny std: infinity is the right float16
        exact = (np.arange(256) / 255 - center) / spread
        halves = exact.astype(np.float16).view(np.uint16)
        singles = exact.astype(np.float32)
    scale = [1 / (255 * value) for value in std]
    bias = [-m / s for m, s in zip(mean, std, strict=True)]
    return _kernels.Normalize(scale, bias, singles, halves)
