"""The shapes that models are compared on: small enough to run, and different enough to tell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from fcnkit.runtime.artifacts.spec import Head, Shape, ShapeRange, format_shape

__all__ = ["MAX_PIXELS", "bounded", "clamped", "comparison_shapes", "stepped"]

MAX_PIXELS: Final = 2**18
"""Pixels of one batch that a comparison runs: the largest legal shapes are cut down to it."""

_UPRIGHT: Final[Shape] = (2, 96, 64)
_WIDE: Final[Shape] = (3, 64, 160)
_ODD: Final[tuple[Shape, ...]] = ((1, 63, 97), (1, 64, 65), (1, 95, 32), (1, 375, 500))


def comparison_shapes(
    legal: ShapeRange,
    profiles: Sequence[ShapeRange] = (),
    *,
    heads: Iterable[Head],
    multiple: int = 32,
    max_pixels: int = MAX_PIXELS,
) -> tuple[tuple[Shape, ...], tuple[str, ...]]:
    """Choose the shapes to compare two models on.

    Smallest, typical, upright, wide, largest batch and largest picture, where legal at least two
    batch sizes above 1; odd sizes too where they are legal. Of an engine the same within each
    profile, as each has separate kernels.

    Args:
        legal: What both sides take.
        profiles: The profiles of an engine.
        heads: The heads of both sides.
        multiple: What the sides of an image divide by, unless the graph covers it by itself.
        max_pixels: Pixels of one batch at most, unless a few pictures of the smallest sides have
            more.

    Returns:
        The shapes, each once, and a line for each one that was cut down.
    """
    heads = set(heads)
    scenes = "scene" in heads and "labels" not in heads
    odd = _ODD if scenes or multiple == 1 else ()
    steps = 1 if scenes else multiple
    shapes: list[Shape] = []
    lines: list[str] = []
    for one in profiles or (legal,):
        batches = [min(max(2, one.min[0]) + more, one.max[0]) for more in (0, 1)]
        typical: list[Shape] = []
        if profiles:
            typical = [(batch, *one.opt[1:]) for batch in batches]
            if odd:  # the graph has to cut and join two tiles a side
                typical += [(1, one.opt[1] + by, one.opt[2] + by) for by in (-1, 1)]
        wanted = [one.min, one.opt, _UPRIGHT, _WIDE, *odd, *typical]
        for shape in (*wanted, (1, *one.max[1:]), one.max):
            fit = clamped(one.min, shape, one.max)
            small = stepped(bounded(fit, one.min, max_pixels, multiple=multiple), one, steps)
            shapes.append(small)
            if small[0] * small[1] * small[2] < fit[0] * fit[1] * fit[2]:
                lines.append(f"{format_shape(fit)} bounded to {format_shape(small)}")
    return tuple(dict.fromkeys(shapes)), tuple(dict.fromkeys(lines))


def clamped(low: Shape, shape: Shape, high: Shape) -> Shape:
    """Return the shape nearest to a given one within a range."""
    batch, height, width = (
        min(max(side, least), most) for least, side, most in zip(low, shape, high, strict=True)
    )
    return batch, height, width


def stepped(shape: Shape, legal: ShapeRange, multiple: int) -> Shape:
    """Round the sides of a shape up to multiples, as far as the legal range goes."""
    batch, height, width = shape
    rounded = batch, -(-height // multiple) * multiple, -(-width // multiple) * multiple
    return clamped(legal.min, rounded, legal.max)


def bounded(shape: Shape, low: Shape, max_pixels: int, *, multiple: int = 32) -> Shape:
    """Shrink both sides of a shape alike, to multiples of 32, and then its batch.

    Args:
        shape: (N, H, W).
        low: The smallest legal shape, which is never gone below.
        max_pixels: What the batch may have, unless a few pictures of the smallest sides have more.
        multiple: Of the network; the sides become multiples of it too.

    Returns:
        The shape.
    """
    batch, height, width = shape
    if batch * height * width <= max_pixels:
        return shape
    step = math.lcm(32, multiple)
    scale = (max_pixels / (batch * height * width)) ** 0.5
    small_height, small_width = (
        max(least, step, int(side * scale) // step * step)
        for least, side in zip(low[1:], (height, width), strict=True)
    )
    fitting = max_pixels // (small_height * small_width)
    # Never down to a batch of 1, where a fault of larger batches would not show, and to two sizes.
    return min(batch, max(fitting, 3, low[0] + 1)), small_height, small_width
