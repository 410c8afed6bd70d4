"""The pictures that int8 is calibrated on, and those held out to measure what it costs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fcnkit.errors import DataError, message
from fcnkit.export.comparison_images import normalized
from fcnkit.runtime.artifacts.spec import ModelSpec, Shape
from fcnkit.runtime.predict.pictures import read_picture
from fcnkit.runtime.predict.tree import is_picture
from fcnkit.train.data.voc import LISTS, VocFolder, open_voc, split_names

__all__ = ["Calibration", "model_inputs", "open_calibration", "sized_pictures"]

LEAST: Final = 16
"""With fewer pictures, single ones decide the ranges."""
MOST: Final = 64
"""More change the ranges little and cost time; they are taken evenly from the whole list."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was found in a folder."""

    pictures: tuple[Path, ...]
    """To calibrate on, 16 to 64."""
    held_out: VocFolder | None
    """Labeled pictures of another split; None where there are none."""

    @property
    def names(self) -> tuple[str, ...]:
        """The pictures' file names without extension."""
        return tuple(path.stem for path in self.pictures)


def open_calibration(root: Path) -> Calibration:
    """Choose the pictures to calibrate on.

    Args:
        root: A folder in VOC layout, of which ``train`` is calibrated on and ``val`` held out, or
            a folder of pictures.

    Returns:
        The choice, the same for the same folder.

    Raises:
        DataError: There is no such folder, or it has fewer than 16 pictures.
    """
    if not root.is_dir():
        raise DataError(message("--calibration", "must be a folder", str(root), "check the path"))
    held_out = None
    if (root / LISTS).is_dir():
        first, *others = split_names(root)
        found = [sample.image for sample in open_voc(root, split=first).samples]
        held_out = open_voc(root, split=others[0]) if others else None
    else:
        found = sorted(path for path in root.iterdir() if is_picture(path))
    if len(found) < LEAST:
        rule = f"at least {LEAST} pictures are needed"
        remedy = "give the training data, or more pictures like those to be labeled"
        raise DataError(message(f"--calibration {root}", rule, f"{len(found)}", remedy))
    places = np.linspace(0, len(found) - 1, min(len(found), MOST)).round().astype(int)
    return Calibration(pictures=tuple(found[place] for place in places), held_out=held_out)


def model_inputs(calibration: Calibration, spec: ModelSpec) -> Iterator[NDArray[Any]]:
    """Yield what the graph of a head is fed, a batch of one window per picture.

    Args:
        calibration: The pictures.
        spec: The head's; for ``scene`` the batches are those of its middle.

    Yields:
        float32 (1, 3, h, w), normalized, for ``logits`` and ``scores``; uint8 (1, h, w, 3) for
        ``labels``, the same as float32 for ``scene``. The window is the picture's middle, at most
        the spec's typical size, its sides multiples of the smallest legal ones.

    Raises:
        DataError: A picture is broken or smaller than the smallest legal size.
    """
    for path in calibration.pictures:
        image_nhwc = _window(path, spec)[None]
        if spec.input.dtype == "float32":
            yield normalized(image_nhwc, spec.input)
        else:
            yield image_nhwc if spec.head == "labels" else image_nhwc.astype(np.float32)


def _window(path: Path, spec: ModelSpec) -> NDArray[np.uint8]:
    image_hwc = read_picture(path, range=spec.range, bands=spec.bands)
    rows, columns = image_hwc.shape[:2]
    _, most_rows, most_columns = spec.shapes.opt
    _, low_rows, low_columns = spec.shapes.min
    height = min(rows, most_rows) // low_rows * low_rows
    width = min(columns, most_columns) // low_columns * low_columns
    if not height or not width:
        rule = f"a picture to calibrate on is at least {low_rows}x{low_columns}"
        raise DataError(message(str(path), rule, f"{rows}x{columns}", "take it out"))
    top, left = (rows - height) // 2, (columns - width) // 2
    return image_hwc[top : top + height, left : left + width]


def sized_pictures(
    calibration: Calibration, spec: ModelSpec
) -> Callable[[Shape], NDArray[np.uint8]]:
    """Return what makes pictures of a wanted size (N, H, W) from those calibrated on.

    They are read as a model of this spec reads them.

    Noise says little about int8: its ranges are those of real pictures.
    """

    def make(shape: Shape) -> NDArray[np.uint8]:
        batch, height, width = shape
        chosen = itertools.islice(itertools.cycle(calibration.pictures), batch)
        read = partial(read_picture, range=spec.range, bands=spec.bands)
        images = (Image.fromarray(read(path)) for path in chosen)
        return np.stack([np.asarray(image.resize((width, height))) for image in images])

    return make
