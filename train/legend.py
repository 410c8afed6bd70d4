"""The legend of an image: which color is which class, in fonts that hold the names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fcnkit.errors import printable
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.runtime.pixels.palette import VOID_COLOR

__all__ = ["draw_legend", "font_families", "font_for"]

_SIZE: Final = 12
_LINE: Final = 18
_SWATCH: Final = 12


def draw_legend(classes: Sequence[str], palette: NDArray[np.uint8], *, width: int) -> Image.Image:
    """Draw a colored square and the name of every class, in as many columns as fit.

    Args:
        classes: Class names.
        palette: uint8 (K, 3).
        width: Of the result, pixels.

    Returns:
        The image, on white: the classes, void, and a last line about the errors.
    """
    names = [f"{label} {printable(name)}" for label, name in enumerate(classes)]
    names.append(f"{VOID} void")
    colors = [*palette.tolist(), VOID_COLOR]
    font = font_for("".join(names), _SIZE)
    longest = max(round(font.getlength(name)) for name in names)
    column = min(width, _SWATCH + 6 + longest + 14)
    columns = max(1, width // column)
    lines = -(-len(names) // columns)
    legend = Image.new("RGB", (width, (lines + 1) * _LINE + 4), (255, 255, 255))
    draw = ImageDraw.Draw(legend)
    for number, (name, color) in enumerate(zip(names, colors, strict=True)):
        left, top = number // lines * column, number % lines * _LINE
        box = (left, top + 2, left + _SWATCH, top + 2 + _SWATCH)
        draw.rectangle(box, fill=tuple(color), outline=(120, 120, 120))
        draw.text((left + _SWATCH + 6, top + 1), name, fill=(0, 0, 0), font=font)
    note = "errors: red is wrong, blue is void in the truth and does not count"
    draw.text((0, lines * _LINE + 1), note, fill=(70, 70, 70), font=font_for(note, _SIZE))
    return legend


@lru_cache(maxsize=64)
def font_for(text: str, size: int) -> Any:
    """Return a font that holds every character, or the one that holds most.

    Args:
        text: What will be drawn.
        size: In pixels.

    Returns:
        A font of Pillow; of fonts that hold as much, matplotlib's default.
    """
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
    try:
        return frozenset(get_font(font).get_charmap())
    except (OSError, RuntimeError):  # removed since matplotlib listed it, or broken
        return frozenset()
