"""How an image of any size is covered by rectangles that a model takes.

``average``: overlapping tiles vote with the mean of their logits. ``pad``: the image grows at the
bottom and on the right, by reflection, to the next legal shape, and the result is cropped.
``auto``: ``pad`` where one pass of the model covers the image, ``average`` where none does.
docs/covering.md has the measurements behind that default.

A `CoverRequest` says what a caller wants. `choose_covering` makes a `Covering` of it for one model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from fcnkit.errors import BadTypeError, BadValueError, message
from fcnkit.runtime.artifacts.spec import Head, ModelSpec, Shape, Tta, format_shape
from fcnkit.runtime.backends.base import nearest_legal
from fcnkit.runtime.checks import check_choice, check_int, check_type
from fcnkit.runtime.pixels.tile_plan import MAX_SIDE
from fcnkit.runtime.pixels.tiling import TilePlan, plan_tiles

__all__ = ["Cover", "CoverRequest", "Covering", "choose_covering"]

Cover = Literal["auto", "average", "pad"]
"""How a picture of any size is covered by rectangles that the model takes."""

_COVERS: Final[dict[Head, tuple[Cover, ...]]] = {
    "logits": ("auto", "average", "pad"),
    "scores": ("auto", "average", "pad"),
    "labels": ("pad",),
    "scene": ("average",),
}
"""What each head can do, its default first."""

_REFUSALS: Final = {
    "labels": "a labels graph gives no logits to average; use cover='pad', or export with "
    "--head scores, logits or scene",
    "scene": "a scene graph covers the picture by itself; leave cover out, or export with "
    "--head labels",
}

_OVERLAP: Final = 64
"""Overlap of tiles of a given size: two strides of the coarsest networks."""


@dataclass(frozen=True, kw_only=True)
class CoverRequest:
    """How images are to be covered.

    Making one checks what does not depend on the model.

    Raises:
        TypeError: tile is not two ints, or overlap is not an int.
        ValueError: cover is unknown.
    """

    cover: Cover | None = None
    """``auto``, ``average`` or ``pad``. None takes ``auto`` for the heads ``logits`` and
    ``scores``, and ``average`` where a tile or overlap is given."""
    tile: tuple[int, int] | None = None
    """Height and width of the tiles, for ``average`` with the heads ``logits`` and ``scores``.
    None takes the largest that fit."""
    overlap: int | None = None
    """Pixels that neighboring tiles share at least. None takes 64, and half a side for tiles
    smaller than 128."""
    tta: Tta | None = None
    """``flip`` runs every tile twice, as it is and mirrored, and takes the mean of the logits."""

    def __post_init__(self) -> None:
        """Check every field."""
        # Anything may come from callers without a type checker.
        cover: object = self.cover
        tile: object = self.tile
        overlap: object = self.overlap
        if cover is not None and not (isinstance(cover, str) and cover in get_args(Cover)):
            rule = "cover must be 'auto', 'average' or 'pad'"
            raise BadValueError(message("Segmenter", rule, cover, "leave it out"))
        whole = isinstance(tile, tuple) and [type(side) for side in tile] == [int, int]
        if tile is not None and not whole:
            rule = "tile must be two integers (height, width)"
            raise BadTypeError(message("Segmenter", rule, tile, "pass tile=(512, 512)"))
        if overlap is not None and type(overlap) is not int:
            rule = "overlap must be an int"
            raise BadTypeError(message("Segmenter", rule, overlap, "pass overlap=64"))
        if self.tta is not None:
            check_choice("Segmenter: tta", self.tta, get_args(Tta))


@dataclass(frozen=True)
class Covering:
    """A way to cover pictures, fit for one model."""

    spec: ModelSpec
    cover: Cover
    tile: tuple[int, int] | None
    """Height and width of the tiles; None takes the largest that fit."""
    overlap: int | None
    """Pixels that neighboring tiles share at least; None where one tile covers every picture."""
    tta: Tta | None = None
    """Test-time augmentation."""

    def plan(self, height: int, width: int) -> TilePlan:
        """Say where the tiles of a picture lie.

        Args:
            height: Rows of the picture, >= 1.
            width: Columns of the picture, >= 1.

        Returns:
            The plan; one tile for ``pad`` and for a graph that covers by itself.

        Raises:
            TypeError: height or width is not an integer.
            ValueError: One of them is out of range, or no legal shape of the model covers the
                picture.
        """
        height = check_int("Segmenter.plan: height", height, 1, MAX_SIDE)
        width = check_int("Segmenter.plan: width", width, 1, MAX_SIDE)
        high = self.spec.shapes.max[1:]
        fits = height <= high[0] and width <= high[1]
        one = self.cover == "pad" or (self.cover == "auto" and fits)
        if one or self.spec.head == "scene":
            return self._plan_one(height, width)
        low, multiple, tile = self.spec.shapes.min[1:], self.spec.input.multiple, self.tile or high
        sides = plan_tiles(height, width, tile=tile, multiple=multiple).tile
        tops, lefts = (
            # A side on which the tile does not fit needs two smaller ones at most as it is.
            plan_tiles(
                extent,
                extent,
                tile=side,
                overlap=(self.overlap or 0) if side == asked else 0,
                multiple=multiple,
            ).tops
            for extent, side, asked in zip((height, width), sides, tile, strict=True)
        )
        plan = TilePlan(height, width, *sides, tops, lefts)
        # A side below the smallest legal one is covered by one tile that leaves the picture.
        if plan.tile_height < low[0]:
            plan = replace(plan, tile_height=low[0], tops=(0,))
        if plan.tile_width < low[1]:
            plan = replace(plan, tile_width=low[1], lefts=(0,))
        return plan

    def _plan_one(self, height: int, width: int) -> TilePlan:
        """Plan one rectangle: the smallest legal shape that holds the whole picture."""
        spec = self.spec
        _, tile_height, tile_width = nearest_legal((1, height, width), spec)
        if tile_height < height or tile_width < width:
            high: Shape = (1, *spec.shapes.max[1:])
            rule = f"one pass of this model covers at most {format_shape(high)}"
            remedy = "make the picture smaller, or use a model with head scores or logits"
            if spec.can_average:
                remedy = "use cover='average'"
            got = f"a picture of {height}x{width}"
            raise BadValueError(message("Segmenter", rule, got, remedy))
        return TilePlan(height, width, tile_height, tile_width, tops=(0,), lefts=(0,))


def choose_covering(spec: ModelSpec, request: CoverRequest | None = None) -> Covering:
    """Check a request against what the model's head can do.

    Args:
        spec: The model's promises.
        request: How images are to be covered; by default as suits the head.

    Returns:
        The covering.

    Raises:
        TypeError: spec or request is of another type.
        ValueError: The head cannot do it, the tile is not a legal shape, or the overlap leaves no
            step.
    """
    check_type("choose_covering: spec", spec, ModelSpec)
    request = CoverRequest() if request is None else request
    check_type("choose_covering: request", request, CoverRequest)
    head, cover, tile, overlap = spec.head, request.cover, request.tile, request.overlap
    if cover is not None and cover not in _COVERS[head]:
        rule = f"a model with head {head} takes cover={_COVERS[head][0]!r}"
        raise BadValueError(message("Segmenter", rule, repr(cover), _REFUSALS[head]))
    if request.tta is not None and not spec.can_average:
        rule = "tta='flip' needs a model with head scores or logits, whose logits are averaged"
        remedy = "leave tta out, or export with --head scores or logits, or --head scene --tta flip"
        raise BadValueError(message("Segmenter", rule, f"head {head}", remedy))
    tiled = tile is not None or overlap is not None
    if cover is None:
        cover = "average" if tiled and spec.can_average else _COVERS[head][0]
    if not tiled:
        shares = spec.can_average and cover != "pad"
        overlap = _default_overlap(spec.shapes.max[1:]) if shares else None
        return Covering(spec, cover, None, overlap, request.tta)
    if not spec.can_average or cover != "average":
        got = f"head {head} and cover={cover!r}"
        remedy = "leave tile and overlap out, or use a model with head scores or logits"
        if spec.can_average:
            remedy = "leave them out, or use cover='average'"
        rule = "tile and overlap need a model with head scores or logits and cover='average'"
        raise BadValueError(message("Segmenter", rule, got, remedy))
    return replace(_tiled(spec, tile, overlap), tta=request.tta)


def _default_overlap(tile: tuple[int, int]) -> int:
    return min(_OVERLAP, min(tile) // 2)


def _tiled(spec: ModelSpec, tile: tuple[int, int] | None, overlap: int | None) -> Covering:
    if tile is not None:
        legal = nearest_legal((1, *tile), spec)[1:]
        if legal != tile:
            low, high = (format_shape(end) for end in (spec.shapes.min, spec.shapes.max))
            rule = f"tile must be a legal shape from {low} to {high} in steps of "
            rule += str(spec.input.multiple)
            remedy = f"the nearest is {legal[0]}x{legal[1]}"
            raise BadValueError(message("Segmenter", rule, f"{tile[0]}x{tile[1]}", remedy))
    sides = tile or spec.shapes.max[1:]
    shortest = min(sides)
    if overlap is None:
        overlap = _default_overlap(sides)
    if not 0 <= overlap < shortest:
        rule = f"overlap must be 0..{shortest - 1}, less than a tile's side"
        raise BadValueError(message("Segmenter", rule, overlap, "use half the side or less"))
    return Covering(spec, "average", tile, overlap)
