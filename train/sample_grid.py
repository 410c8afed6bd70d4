"""A grid of pictures, predictions and truths for a person to look at."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fcnkit.runtime.files import atomic_path
from fcnkit.runtime.pixels.palette import decode
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.train.data.voc import VocFolder, read_pair

__all__ = ["save_grid", "save_rows"]

_CELL = 240
"""Longest side of a picture in the grid, pixels."""
_GAP = 6
_HEADER = 26
_WHITE = (255, 255, 255)


def save_grid(path: Path, segmenter: Segmenter, folder: VocFolder, *, pictures: int = 6) -> None:
    """Write a PNG with a row per picture: the picture, the prediction, the truth.

    Args:
        path: The PNG.
        segmenter: Predicts.
        folder: A split; the pictures are spread evenly over it.
        pictures: Number of rows at most.

    Raises:
        DataError: A picture or mask is broken.
        OSError: The file cannot be written.
    """
    folder = folder.with_range(segmenter.spec.range)
    chosen = np.linspace(0, len(folder.samples) - 1, min(pictures, len(folder.samples)))
    spread = sorted({round(float(position)) for position in chosen})
    pairs = (read_pair(folder.samples[index], folder.labelmap) for index in spread)
    save_rows(path, segmenter, pairs)


def save_rows(
    path: Path,
    segmenter: Segmenter,
    pairs: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
) -> None:
    """Write a PNG with a row for each of the given pictures: it, the prediction, the truth.

    Args:
        path: The PNG.
        segmenter: Predicts.
        pairs: At least one of uint8 (H, W, 3) and its true labels (H, W), void 255.

    Raises:
        OSError: The file cannot be written.
    """
    palette = np.array(segmenter.spec.palette, np.uint8)
    rows = []
    for image_hwc, target_hw in pairs:
        predicted, truth = (decode(x, palette) for x in (segmenter(image_hwc), target_hw))
        rows.append([_shrink(picture) for picture in (image_hwc, predicted, truth)])
    with atomic_path(path) as temporary:
        _compose(rows).save(temporary)


def _shrink(rgb_hwc: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(rgb_hwc)
    factor = _CELL / max(image.size)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.resize(size, Image.Resampling.BOX if factor < 1 else Image.Resampling.NEAREST)


def _compose(rows: list[list[Image.Image]]) -> Image.Image:
    heights = [max(image.height for image in row) + _GAP for row in rows]
    sheet = Image.new("RGB", (3 * (_CELL + _GAP) + _GAP, _HEADER + sum(heights)), _WHITE)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(("picture", "prediction", "truth")):
        left = _GAP + column * (_CELL + _GAP)
        draw.text((left, 5), title, fill=(0, 0, 0), font=ImageFont.load_default(14))
    top = _HEADER
    for row, height in zip(rows, heights, strict=True):
        for column, image in enumerate(row):
            sheet.paste(image, (_GAP + column * (_CELL + _GAP), top))
        top += height
    return sheet
