"""Draws images with their masks and a legend that names the colors, for a person to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.runtime.pixels.palette import decode, overlay
from fcnkit.train.data.beside import new_folder
from fcnkit.train.data.voc import VocFolder, read_pair

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fcnkit.train.data.labelmap import LabelMap

__all__ = ["Shown", "draw_sheet", "save_sheets", "spread"]

_PANEL: Final = 480
"""Longest side of an image on a sheet, pixels."""
_GAP, _HEADER, _ROW, _SWATCH = 8, 26, 22, 16
_WHITE, _BLACK, _GRAY = (255, 255, 255), (0, 0, 0), (128, 128, 128)
_LEAST_WIDTH: Final = 360


class Shown(NamedTuple):
    """One sheet to draw."""

    name: str
    image_hwc: NDArray[np.uint8]
    labels_hw: NDArray[np.uint8]


def spread(folder: VocFolder, count: int) -> Iterable[Shown]:
    """Read images of a split, spread evenly over its list.

    Args:
        folder: The split.
        count: How many at most.

    Raises:
        DataError: An image or mask is broken.
    """
    for index in positions(len(folder.samples), count):
        sample = folder.samples[index]
        yield Shown(sample.name, *read_pair(sample, folder.labelmap))


def positions(length: int, count: int) -> list[int]:
    """Return at most count places of a list, spread evenly."""
    chosen = np.linspace(0, length - 1, min(count, length)) if length else np.zeros(0)
    return sorted({round(float(place)) for place in chosen})


def save_sheets(
    out: Path,
    sheets: Iterable[Shown],
    labelmap: LabelMap,
    *,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write a PNG per image: the image, its mask, both blended, and a legend.

    Args:
        out: The folder to write, new or empty.
        sheets: What to draw; the names differ.
        labelmap: The classes and their colors.
        progress: Called with the number of sheets written so far.

    Returns:
        Number of sheets.

    Raises:
        DataError: out holds something, or an image or mask is broken.
        OSError: A file cannot be written.
    """
    done = 0
    with new_folder(out) as partial:
        for done, shown in enumerate(sheets, start=1):
            draw_sheet(shown, labelmap).save(partial / f"{shown.name}.png")
            if progress is not None:
                progress(done)
    return done


def draw_sheet(shown: Shown, labelmap: LabelMap) -> Image.Image:
    """Draw an image, its mask and both blended side by side, and below them the legend.

    Args:
        shown: The image and its labels.
        labelmap: The classes and their colors.

    Returns:
        An RGB image. The legend names every class that occurs, its label and its share of all
        pixels, the most frequent first; and void.
    """
    panels = [_scaled(panel) for panel in _panels(shown, labelmap)]
    high, wide = panels[0].height, panels[0].width
    entries = _entries(shown.labels_hw, labelmap)
    width = max(3 * (wide + _GAP) + _GAP, _LEAST_WIDTH)
    font = ImageFont.load_default(14)
    column = max(int(font.getlength(text)) for _, text in entries) + _SWATCH + 3 * _GAP
    columns = max(1, (width - _GAP) // column)
    rows = -(-len(entries) // columns)
    width = max(width, column + _GAP)
    sheet = Image.new("RGB", (width, _HEADER + high + _GAP + rows * _ROW + _GAP), _WHITE)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 5), shown.name, fill=_BLACK, font=font)
    for place, panel in enumerate(panels):
        sheet.paste(panel, (_GAP + place * (wide + _GAP), _HEADER))
    for number, (color, text) in enumerate(entries):
        left = _GAP + number % columns * column
        top = _HEADER + high + _GAP + number // columns * _ROW
        draw.rectangle((left, top, left + _SWATCH, top + _SWATCH), fill=color, outline=_GRAY)
        draw.text((left + _SWATCH + _GAP, top), text, fill=_BLACK, font=font)
    return sheet


def _panels(shown: Shown, labelmap: LabelMap) -> list[NDArray[np.uint8]]:
    image, labels = (np.ascontiguousarray(array) for array in shown[1:])
    mask = decode(labels, labelmap.palette, void_color=labelmap.void_color)
    return [image, mask, overlay(image, labels, labelmap.palette)]


def _scaled(rgb_hwc: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(rgb_hwc)
    factor = _PANEL / max(image.size)
    if factor >= 1:
        times = int(factor)
        return image.resize((times * image.width, times * image.height), Image.Resampling.NEAREST)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.resize(size, Image.Resampling.BOX)


def _entries(
    labels_hw: NDArray[np.uint8], labelmap: LabelMap
) -> Sequence[tuple[tuple[int, int, int], str]]:
    """Return color and text of each legend entry."""
    counts = np.bincount(labels_hw.ravel(), minlength=VOID + 1)
    order = sorted(np.flatnonzero(counts[:VOID]).tolist(), key=lambda label: -counts[label])
    entries = [
        (labelmap.palette[n], f"{n} {labelmap.classes[n]} ({counts[n] / labels_hw.size:.1%})")
        for n in order
    ]
    if counts[VOID]:
        share = counts[VOID] / labels_hw.size
        entries.append((labelmap.void_color, f"{VOID} void ({share:.1%})"))
    return entries
