"""Drawing one picture of shapes and its labels: textures, outlines, and how they are laid over.

``paint_hwc`` is float64 (H, W, 3) in 0..1; ``cover_hw`` is float64 (H, W), the share of each pixel
that a shape covers; ``labels_hw`` is uint8 (H, W), 0 = background, 255 = void.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fcnkit.runtime.artifacts.spec import VOID

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float64]

__all__ = ["KINDS", "Shape", "cover", "draw_picture", "place_shapes"]

KINDS = ("circle", "square", "triangle", "star", "ring")
"""The shapes; label 1 is the first."""

_HUES = (0.02, 0.60, 0.33, 0.13, 0.83)
"""Each kind's usual hue, as a share of the color circle."""

_REACH = (1.0, 1.15, 1.3, 1.25, 1.1)
"""Each kind's usual radius over a circle's, so that no kind fills far fewer pixels."""

_USUAL = 0.75
"""Share of shapes with their kind's hue. The others have any hue, so color alone does not tell."""

_SUPERSAMPLING = 4
_MIN_DIAMETER = 56
_MIN_VISIBLE = 0.6
_PLACING_ATTEMPTS = 40


@dataclass(frozen=True)
class Shape:
    """One shape in a picture, lengths in pixels."""

    kind: int
    """Place in KINDS."""
    row: float
    column: float
    radius: float
    """Of the circle around it."""
    angle: float
    """In radians."""


def place_shapes(
    rng: np.random.Generator, height: int, width: int, kinds: list[int]
) -> list[tuple[Shape, Plane]]:
    """Choose where shapes lie, later ones over earlier ones, none hidden by more than 40 %.

    Args:
        rng: The source of chance.
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        kinds: What to place, as places in KINDS; those that find no room are left out.

    Returns:
        The shapes and their cover_hw, bottom first.
    """
    placed: list[tuple[Shape, Plane]] = []
    for kind in kinds:
        for _ in range(_PLACING_ATTEMPTS):
            shape = _random_shape(rng, height, width, kind)
            cover_hw = cover(shape, height, width)
            if _all_visible([*placed, (shape, cover_hw)]):
                placed.append((shape, cover_hw))
                break
    return placed


def cover(shape: Shape, height: int, width: int) -> Plane:
    """Return the share of each pixel that a shape covers, (height, width), 0..1."""
    scale = _SUPERSAMPLING
    mask = Image.new("L", (width * scale, height * scale))
    draw = ImageDraw.Draw(mask)
    center = (shape.column * scale, shape.row * scale)
    radius = shape.radius * scale
    if KINDS[shape.kind] in ("circle", "ring"):
        draw.ellipse(_box(center, radius), fill=255)
        if KINDS[shape.kind] == "ring":
            draw.ellipse(_box(center, radius * 0.45), fill=0)
    else:
        draw.polygon(_corners(KINDS[shape.kind], center, radius, shape.angle), fill=255)
    return np.asarray(mask.reduce(scale), np.float64) / 255.0


def draw_picture(
    rng: np.random.Generator, height: int, width: int, kinds: list[int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a picture of shapes.

    Args:
        rng: The source of chance.
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        kinds: What to place, as places in KINDS.

    Returns:
        uint8 arrays: the picture (H, W, 3) RGB, and its labels (H, W) with a void border of two
        to three pixels around every shape.
    """
    hue = rng.random()
    paint_hwc = _background(rng, height, width, hue)
    labels_hw = np.zeros((height, width), np.uint8)
    for shape, cover_hw in place_shapes(rng, height, width, kinds):
        paint_hwc *= 1.0 - 0.45 * _shadow(cover_hw, shape.radius)[..., None]
        texture_hwc = _object_paint(rng, height, width, shape)
        paint_hwc += cover_hw[..., None] * (texture_hwc - paint_hwc)
        labels_hw[cover_hw >= 0.5] = shape.kind + 1
    paint_hwc += rng.normal(0.0, rng.uniform(0.005, 0.03), paint_hwc.shape)
    image_hwc = np.clip(np.rint(paint_hwc * 255.0), 0, 255).astype(np.uint8)
    return image_hwc, _with_void_border(labels_hw)


def _random_shape(rng: np.random.Generator, height: int, width: int, kind: int) -> Shape:
    short = min(height, width)
    radius = _REACH[kind] * rng.uniform(_MIN_DIAMETER / 2, short * 0.32)
    # A tenth of the shape may stick out of the picture.
    inset = radius * 0.8
    row = rng.uniform(inset, height - inset)
    column = rng.uniform(inset, width - inset)
    return Shape(kind, row, column, radius, rng.uniform(0.0, 2.0 * math.pi))


def _all_visible(placed: list[tuple[Shape, Plane]]) -> bool:
    seen = np.ones_like(placed[0][1])
    for _, cover_hw in reversed(placed):
        if (cover_hw * seen).sum() < _MIN_VISIBLE * cover_hw.sum():
            return False
        seen *= 1.0 - cover_hw
    return True


def _box(center: tuple[float, float], radius: float) -> tuple[float, float, float, float]:
    x, y = center
    return x - radius, y - radius, x + radius, y + radius


def _corners(
    kind: str, center: tuple[float, float], radius: float, angle: float
) -> list[tuple[float, float]]:
    radii = {"square": [1.0] * 4, "triangle": [1.0] * 3, "star": [1.0, 0.45] * 5}[kind]
    step = 2.0 * math.pi / len(radii)
    return [
        (
            center[0] + radius * share * math.cos(angle + i * step),
            center[1] + radius * share * math.sin(angle + i * step),
        )
        for i, share in enumerate(radii)
    ]


def _shadow(cover_hw: Plane, radius: float) -> Plane:
    """Return a soft shadow that falls down and to the right."""
    offset = max(2, round(radius * 0.08))
    shifted = np.zeros_like(cover_hw)
    shifted[offset:, offset:] = cover_hw[:-offset, :-offset]
    blurred = Image.fromarray(np.rint(shifted * 255).astype(np.uint8)).filter(
        ImageFilter.GaussianBlur(offset)
    )
    return np.asarray(blurred, np.float64) / 255.0


def _with_void_border(labels_hw: NDArray[np.uint8]) -> NDArray[np.uint8]:
    padded = np.pad(labels_hw, 1, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    border_hw = windows.max((2, 3)) != windows.min((2, 3))
    return np.where(border_hw, np.uint8(VOID), labels_hw)


def _background(rng: np.random.Generator, height: int, width: int, hue: float) -> Plane:
    """Paint two muted colors of neighboring hues into each other."""
    low = _rgb(hue, rng.uniform(0.10, 0.45), rng.uniform(0.25, 0.60))
    high = _rgb(hue + rng.uniform(-0.15, 0.15), rng.uniform(0.10, 0.45), rng.uniform(0.55, 0.95))
    pattern_hw = _pattern(rng, height, width, fineness=1.0)
    pattern_hw = 0.75 * pattern_hw + 0.25 * _clouds(rng, height, width, cells=6)
    return low + pattern_hw[..., None] * (high - low)


def _object_paint(rng: np.random.Generator, height: int, width: int, shape: Shape) -> Plane:
    """Paint a texture in a vivid color, lit from the upper left."""
    usual = rng.random() < _USUAL
    hue = _HUES[shape.kind] + rng.normal(0.0, 0.03) if usual else rng.random()
    main = _rgb(hue, rng.uniform(0.55, 0.95), rng.uniform(0.70, 1.0))
    other = _rgb(hue + rng.uniform(-0.08, 0.08), rng.uniform(0.3, 0.9), rng.uniform(0.30, 0.95))
    pattern_hw = _pattern(rng, height, width, fineness=2.5)
    rows, columns = np.mgrid[0:height, 0:width]
    light_hw = ((shape.row - rows) + (shape.column - columns)) / (2.0 * shape.radius)
    shade_hw: Plane = 1.0 + 0.18 * np.clip(light_hw, -1.0, 1.0)
    return (main + pattern_hw[..., None] * (other - main)) * shade_hw[..., None]


def _pattern(rng: np.random.Generator, height: int, width: int, *, fineness: float) -> Plane:
    """Return one of five patterns, (H, W) in 0..1; a finer one repeats more often."""
    rows, columns = np.mgrid[0:height, 0:width]
    angle = rng.uniform(0.0, math.pi)
    along = columns * math.cos(angle) + rows * math.sin(angle)
    across = rows * math.cos(angle) - columns * math.sin(angle)
    period = rng.uniform(18.0, 40.0) / fineness
    phase = rng.uniform(0.0, 2.0 * math.pi)
    match rng.integers(5):
        case 0:
            ramp_hw: Plane = (along - along.min()) / (along.max() - along.min())
            return ramp_hw
        case 1:
            return _soft_step(np.sin(2.0 * math.pi * along / period + phase))
        case 2:
            waves = np.sin(2.0 * math.pi * along / period) * np.sin(2.0 * math.pi * across / period)
            return _soft_step(waves)
        case 3:
            waves = np.cos(2.0 * math.pi * along / period) + np.cos(2.0 * math.pi * across / period)
            return _soft_step(waves - 0.9)
        case _:
            return _clouds(rng, height, width, cells=round(4 * fineness))


def _soft_step(wave_hw: Plane) -> Plane:
    """Squash a wave towards 0 and 1, its edges about a pixel soft."""
    soft_hw: Plane = 0.5 + 0.5 * np.tanh(4.0 * wave_hw)
    return soft_hw


def _clouds(rng: np.random.Generator, height: int, width: int, *, cells: int) -> Plane:
    """Return smooth noise, (H, W) in 0..1, with about this many blobs along a side."""
    coarse = Image.fromarray(rng.random((cells + 2, cells + 2), np.float32))
    fine = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    return np.clip(fine, 0.0, 1.0)


def _rgb(hue: float, saturation: float, value: float) -> NDArray[np.float64]:
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value))
