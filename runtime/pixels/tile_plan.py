"""Where the tiles of an image lie: pure integers, no pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from fcnkit.errors import BadTypeError, BadValueError, message
from fcnkit.runtime.checks import check_int
from fcnkit.runtime.pixels import _kernels

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_SIDE", "TilePlan", "kernel_plan", "plan_padded", "plan_tiles"]

MAX_SIDE = 1 << 24
"""Largest side of an image, in pixels."""


@dataclass(frozen=True)
class TilePlan:
    """A grid of tiles of one shape that covers an image; ``len(plan)`` tiles.

    Iterating yields the (top, left) corners row by row: all lefts of the first top first.
    """

    height: int
    """Rows of the image."""
    width: int
    """Columns of the image."""
    tile_height: int
    """Rows of every tile."""
    tile_width: int
    """Columns of every tile."""
    tops: tuple[int, ...]
    """First image row of each row of tiles, ascending from 0."""
    lefts: tuple[int, ...]
    """First image column of each column of tiles, ascending from 0."""

    def __post_init__(self) -> None:
        """Refuse a grid that does not cover the image.

        Raises:
            TypeError: A side or start is not an integer, or the starts are not a tuple.
            ValueError: A side is not positive, or the starts of an axis do not ascend from 0
                inside the image in steps of at most the tile's side, or the last tile ends short.
        """
        _check_axis("tops", self.height, self.tile_height, self.tops)
        _check_axis("lefts", self.width, self.tile_width, self.lefts)

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.tops) * len(self.lefts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the corner (top, left) of every tile."""
        return ((top, left) for top in self.tops for left in self.lefts)

    @property
    def tile(self) -> tuple[int, int]:
        """Shape of every tile, (height, width)."""
        return self.tile_height, self.tile_width

    @property
    def padded(self) -> bool:
        """Whether any tile leaves the image, at the bottom or on the right."""
        bottom, right = self.tops[-1] + self.tile_height, self.lefts[-1] + self.tile_width
        return bottom > self.height or right > self.width


def plan_tiles(
    height: int,
    width: int,
    *,
    tile: int | tuple[int, int] | None = None,
    overlap: int = 0,
    multiple: int = 32,
) -> TilePlan:
    """Cover an image with tiles whose sides are multiples, inside the image where it is big enough.

    Per side: the tile's side is the requested one. Without one, or if it is larger than the image,
    it is the largest multiple that fits. As few tiles as have the overlap lie at equal distances,
    to a pixel, the last of them at the border: so no two share much more than others. A side
    smaller than the multiple is covered by one tile that leaves the image.

    Args:
        height: Rows of the image, >= 1.
        width: Columns of the image, >= 1.
        tile: Sides of a tile (height, width), or one number for both; None takes the largest
            that fit, which makes at most 2 x 2 tiles unless an overlap asks for more.
        overlap: Pixels that neighbors share at least, less than the tile's side.
        multiple: What the sides of a tile must divide by, >= 1.

    Returns:
        The plan.

    Raises:
        TypeError: An argument is not an integer.
        ValueError: A side is not a multiple, or the overlap leaves no step.

    Example:
        >>> plan = plan_tiles(375, 500)
        >>> plan.tile, list(plan)
        ((352, 480), [(0, 0), (0, 20), (23, 0), (23, 20)])
    """
    sides = tile if isinstance(tile, tuple) else (tile, tile)
    if len(sides) != 2:
        raise BadValueError(
            message("plan_tiles: tile", "must be (height, width)", tile, "pass two")
        )
    multiple = check_int("plan_tiles: multiple", multiple, 1, MAX_SIDE)
    overlap = check_int("plan_tiles: overlap", overlap, 0, MAX_SIDE)
    height = check_int("plan_tiles: height", height, 1, MAX_SIDE)
    width = check_int("plan_tiles: width", width, 1, MAX_SIDE)
    tile_height = _tile_side(height, sides[0], multiple)
    tile_width = _tile_side(width, sides[1], multiple)
    tops = _starts(height, tile_height, overlap)
    return TilePlan(
        height, width, tile_height, tile_width, tops, _starts(width, tile_width, overlap)
    )


def plan_padded(height: int, width: int, *, multiple: int = 32) -> TilePlan:
    """Cover an image with one tile: its sides grown to the next multiples.

    Args:
        height: Rows of the image, >= 1.
        width: Columns of the image, >= 1.
        multiple: What the sides of the tile divide by, >= 1.

    Returns:
        The plan of one tile at (0, 0).

    Raises:
        TypeError: An argument is not an integer.
        ValueError: An argument is less than 1.

    Example:
        >>> plan_padded(375, 500).tile
        (384, 512)
    """
    multiple = check_int("plan_padded: multiple", multiple, 1, MAX_SIDE)
    height = check_int("plan_padded: height", height, 1, MAX_SIDE)
    width = check_int("plan_padded: width", width, 1, MAX_SIDE)
    tile_height, tile_width = (-(-side // multiple) * multiple for side in (height, width))
    return TilePlan(height, width, tile_height, tile_width, (0,), (0,))


@lru_cache(maxsize=64)
def kernel_plan(plan: TilePlan) -> _kernels.Plan:
    """Return the plan as the kernels read it."""
    return _kernels.Plan(
        plan.height, plan.width, plan.tile_height, plan.tile_width, plan.tops, plan.lefts
    )


def _check_axis(name: str, extent: int, side: int, starts: object) -> None:
    what = f"TilePlan: {name}"
    for number in (extent, side):
        check_int(what, number, 1, MAX_SIDE)
    if not isinstance(starts, tuple) or not all(type(start) is int for start in starts):
        got = type(starts).__name__
        raise BadTypeError(message(what, "must be a tuple of integers", got, "call plan_tiles"))
    legal = (
        bool(starts)
        and starts[0] == 0
        and starts[-1] < extent <= starts[-1] + side
        and all(0 < after - before <= side for before, after in pairwise(starts))
    )
    if not legal:
        rule = f"tiles of {side} must cover {extent} pixels without a gap"
        raise BadValueError(message(what, rule, starts, "call plan_tiles"))


def _tile_side(extent: int, asked: int | None, multiple: int) -> int:
    fitting = max(extent // multiple, 1) * multiple
    if asked is None:
        return fitting
    asked = check_int("plan_tiles: tile", asked, 1, MAX_SIDE)
    if asked % multiple:
        remedy = f"use {-(-asked // multiple) * multiple}"
        rule = f"sides must be multiples of {multiple}"
        raise BadValueError(message("plan_tiles: tile", rule, asked, remedy))
    return min(asked, fitting)


def _starts(extent: int, side: int, overlap: int) -> tuple[int, ...]:
    if overlap >= side:
        rule = f"must be less than the tile's side, {side}"
        raise BadValueError(
            message("plan_tiles: overlap", rule, overlap, "use half the side or less")
        )
    last = max(extent - side, 0)
    steps = -(-last // (side - overlap))
    return tuple(last * step // steps for step in range(steps + 1)) if steps else (0,)
