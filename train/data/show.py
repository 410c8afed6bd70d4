"""Draws images with their masks and a legend that names the colors, for a person to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.runtime.pixels.palette import decode, overlay
from fcnkit.runtime.predict.legend import Entry, class_entries, draw_legend, font_for, least_width
from fcnkit.train.data.beside import new_folder
from fcnkit.train.data.voc import VocFolder, read_pair

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fcnkit.train.data.labelmap import LabelMap

__all__ = ["Shown", "draw_sheet", "save_sheets", "spread"]

_PANEL: Final = 480
"""Longest side of an image on a sheet, pixels."""
_GAP, _HEADER = 8, 26
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
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
    width = max(3 * (wide + _GAP) + _GAP, _LEAST_WIDTH, least_width(entries) + 2 * _GAP)
    legend = draw_legend(entries, width=width - 2 * _GAP)
    top = _HEADER + high + _GAP
    sheet = Image.new("RGB", (width, top + legend.height + _GAP), _WHITE)
    font = font_for(shown.name, 14)
    ImageDraw.Draw(sheet).text((_GAP, 5), shown.name, fill=_BLACK, font=font)
    for place, panel in enumerate(panels):
        sheet.paste(panel, (_GAP + place * (wide + _GAP), _HEADER))
    sheet.paste(legend, (_GAP, top))
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


def _entries(labels_hw: NDArray[np.uint8], labelmap: LabelMap) -> Sequence[Entry]:
    """Return the legend: every class that occurs and its share, the most frequent first."""
    counts = np.bincount(labels_hw.ravel(), minlength=VOID + 1)
    order = sorted(np.flatnonzero(counts[:VOID]).tolist(), key=lambda label: -counts[label])
    named = class_entries(labelmap.classes, np.array(labelmap.palette, np.uint8))
    entries = [named[label] for label in order]
    if counts[VOID]:
        entries.append(Entry(labelmap.void_color, f"{VOID} void"))
        order.append(VOID)
    shares = counts[order] / labels_hw.size
    return [
        Entry(entry.color, f"{entry.text} ({share:.1%})")
        for entry, share in zip(entries, shares, strict=True)
    ]
