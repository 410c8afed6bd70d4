"""The legend of an image: which color is which class, in fonts that hold the names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fcnkit.errors import printable

__all__ = [
    "Entry",
    "class_entries",
    "draw_legend",
    "font_families",
    "font_for",
    "least_width",
]

_SIZE: Final = 12
_LINE: Final = 18
_SWATCH: Final = 12
_INDENT: Final = _SWATCH + 6
_BETWEEN: Final = 14
"""Pixels between two columns at least."""


class Entry(NamedTuple):
    """A line of a legend."""

    color: tuple[int, int, int]
    text: str


def class_entries(classes: Sequence[str], palette: NDArray[np.uint8]) -> list[Entry]:
    """Return an entry per class: its color, label and name.

    Args:
        classes: Class names.
        palette: uint8 (K, 3).
    """
    colors = [(red, green, blue) for red, green, blue in palette.tolist()]
    return [
        Entry(color, f"{label} {printable(name)}")
        for label, (color, name) in enumerate(zip(colors, classes, strict=True))
    ]


def least_width(entries: Sequence[Entry]) -> int:
    """Return the width in pixels of a legend of one column that cuts no text off."""
    font = _font_of(entries)
    longest: int = max(math.ceil(font.getlength(entry.text)) for entry in entries)
    return _INDENT + longest


def draw_legend(entries: Sequence[Entry], *, width: int) -> Image.Image:
    """Draw a colored square and the text of every entry, in as many columns as fit.

    Args:
        entries: At least one.
        width: Of the result, pixels.

    Returns:
        The image, RGB on white.
    """
    font = _font_of(entries)
    columns = max(1, (width + _BETWEEN) // (least_width(entries) + _BETWEEN))
    lines = -(-len(entries) // columns)
    columns = -(-len(entries) // lines)
    legend = Image.new("RGB", (width, lines * _LINE + 4), (255, 255, 255))
    draw = ImageDraw.Draw(legend)
    for number, (color, text) in enumerate(entries):
        left, top = number // lines * (width // columns), number % lines * _LINE
        box = (left, top + 2, left + _SWATCH, top + 2 + _SWATCH)
        draw.rectangle(box, fill=color, outline=(120, 120, 120))
        draw.text((left + _INDENT, top + 1), text, fill=(0, 0, 0), font=font)
    return legend


def _font_of(entries: Sequence[Entry]) -> Any:
    return font_for("".join(entry.text for entry in entries), _SIZE)


@lru_cache(maxsize=64)
def font_for(text: str, size: int) -> Any:
    """Return a font that holds every character, or the one that holds most.

    Args:
        text: What will be drawn.
        size: In pixels.

    Returns:
        A font of Pillow: its own for ASCII text, else one of those that matplotlib finds. Where
        matplotlib is not installed, characters that Pillow's font lacks are drawn as boxes.
    """
    plain = ImageFont.load_default(size)
    if text.isascii():
        return plain
    try:
        from matplotlib.font_manager import FontProperties, findfont, fontManager
    except ImportError:
        return plain
    wanted = {ord(character) for character in text}
    default = findfont(FontProperties())
    best: Any = default
    held = wanted & characters(default)
    for font in fontManager.ttflist if held != wanted else ():
        more = wanted & characters(font.fname)
        if len(more) > len(held) and not font.name.startswith("Last Resort"):
            best, held = font.fname, more
    return ImageFont.truetype(best, size)


def font_families(text: str) -> list[str]:
    """Return installed fonts that together hold every character, or none.

    Args:
        text: What will be drawn.

    Returns:
        Names for matplotlib, its default first.
    """
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    default = FontProperties()
    families = [default.get_name()]
    missing = {ord(c) for c in text} - characters(findfont(default))
    # The font LastResort holds everything, as boxes.
    fonts = [font for font in fontManager.ttflist if not font.name.startswith("Last Resort")]
    for font in fonts if missing else ():
        held = missing & characters(font.fname)
        if held:
            families.append(font.name)
            missing -= held
        if not missing:
            break
    return [] if missing else families


@lru_cache(maxsize=512)
def characters(font: str) -> frozenset[int]:
    """Return the code points that a font file holds; none where it cannot be read."""
    from matplotlib.font_manager import get_font

    try:
        return frozenset(get_font(font).get_charmap())
    except (OSError, RuntimeError):  # removed since matplotlib listed it, or broken
        return frozenset()
