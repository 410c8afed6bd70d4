"""A grid of images, predictions, truths and errors for a person to look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fcnkit.runtime.artifacts.spec import VOID, ModelSpec
from fcnkit.runtime.files import atomic_path
from fcnkit.runtime.pixels.metrics import confusion, scores
from fcnkit.runtime.pixels.palette import VOID_COLOR, decode, readable_palette
from fcnkit.runtime.predict.legend import (
    Entry,
    class_entries,
    draw_legend,
    font_for,
)
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.train.data.voc import VocFolder, read_pair

__all__ = ["GridRow", "save_grid", "save_rows"]

_CELL: Final = 240
"""Longest side of an image in the grid, pixels."""
_GAP: Final = 6
_LINE: Final = 20
_WHITE: Final = (255, 255, 255)
_COLUMNS: Final = ("image", "prediction", "truth", "errors")
_WRONG: Final = (220, 30, 30)
_NO_TRUTH: Final = (150, 170, 210)


@dataclass(frozen=True)
class GridRow:
    """What a row of the grid shows."""

    name: str
    """Of the image."""
    image_hwc: NDArray[np.uint8]
    """uint8 (H, W, 3), RGB."""
    target_hw: NDArray[np.uint8]
    """True labels (H, W), void 255."""


def save_grid(path: Path, segmenter: Segmenter, folder: VocFolder, *, pictures: int = 6) -> None:
    """Write a PNG with a row per image: the image, the prediction, the truth, the errors.

    Args:
        path: The PNG.
        segmenter: Predicts.
        folder: A split; the images are spread evenly over it.
        pictures: Number of rows at most.

    Raises:
        DataError: An image or mask is broken.
        OSError: The file cannot be written.
    """
    folder = folder.seen_by(segmenter.spec)
    chosen = np.linspace(0, len(folder.samples) - 1, min(pictures, len(folder.samples)))
    spread = sorted({round(float(position)) for position in chosen})
    samples = [folder.samples[index] for index in spread]
    rows = (GridRow(sample.name, *read_pair(sample, folder.labelmap)) for sample in samples)
    save_rows(path, segmenter, rows)


def save_rows(path: Path, segmenter: Segmenter, rows: Iterable[GridRow]) -> None:
    """Write a PNG with a row for each of the given images, their names and scores, and a legend.

    Args:
        path: The PNG.
        segmenter: Predicts.
        rows: At least one.

    Raises:
        OSError: The file cannot be written.
    """
    spec = segmenter.spec
    palette = readable_palette(spec.palette)
    pieces = []
    for row in rows:
        predicted_hw = segmenter(row.image_hwc)
        predicted, truth = (decode(x, palette) for x in (predicted_hw, row.target_hw))
        wrong = _errors(row, predicted_hw)
        cells = [_shrink(image) for image in (row.image_hwc, predicted, truth, wrong)]
        pieces.append((f"{row.name}: {_scores(row, predicted_hw, spec)}", cells))
    with atomic_path(path) as temporary:
        _compose(pieces, spec, palette).save(temporary)


def _scores(row: GridRow, predicted_hw: NDArray[np.uint8], spec: ModelSpec) -> str:
    matrix = confusion(row.target_hw, predicted_hw, spec.num_classes)
    if not matrix.any():
        return "no truth"
    own = scores(matrix, spec.classes)
    return f"mean IoU {own.mean_iou:.3f}, pixel accuracy {own.pixel_accuracy:.3f}"


def _errors(row: GridRow, predicted_hw: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draw wrong pixels in red and pixels without truth in blue over the pale gray image."""
    gray_hw = 140 + row.image_hwc.mean(2) * (110 / 255)
    drawn = np.repeat(gray_hw[:, :, None], 3, axis=2).astype(np.uint8)
    known_hw = row.target_hw != VOID
    drawn[known_hw & (predicted_hw != row.target_hw)] = _WRONG
    drawn[~known_hw] = _NO_TRUTH
    return drawn


def _shrink(rgb_hwc: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(rgb_hwc)
    factor = _CELL / max(image.size)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.resize(size, Image.Resampling.BOX if factor < 1 else Image.Resampling.NEAREST)


def _compose(
    rows: Sequence[tuple[str, list[Image.Image]]],
    spec: ModelSpec,
    palette: NDArray[np.uint8],
) -> Image.Image:
    width = len(_COLUMNS) * (_CELL + _GAP) + _GAP
    entries = [*class_entries(spec.classes, palette), Entry(VOID_COLOR, f"{VOID} void")]
    legend = draw_legend(entries, width=width - 2 * _GAP)
    errors = [Entry(_WRONG, "wrong"), Entry(_NO_TRUTH, "void in the truth, does not count")]
    notes = draw_legend(errors, width=width - 2 * _GAP)
    heights = [_LINE + max(cell.height for cell in cells) + _GAP for _, cells in rows]
    sheet = Image.new(
        "RGB", (width, _LINE + sum(heights) + legend.height + notes.height + 2 * _GAP), _WHITE
    )
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(_COLUMNS):
        left = _GAP + column * (_CELL + _GAP)
        draw.text((left, 3), title, fill=(0, 0, 0), font=font_for(title, 14))
    top = _LINE
    for (caption, cells), height in zip(rows, heights, strict=True):
        draw.text((_GAP, top + 3), caption, fill=(70, 70, 70), font=font_for(caption, 12))
        for column, cell in enumerate(cells):
            sheet.paste(cell, (_GAP + column * (_CELL + _GAP), top + _LINE))
        top += height
    sheet.paste(legend, (_GAP, top))
    sheet.paste(notes, (_GAP, top + legend.height + _GAP))
    return sheet
