"""A small data set of shapes in VOC layout, made from a seed: something to train on anywhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fcnkit.errors import DataError, message
from fcnkit.runtime.checks import check_int
from fcnkit.runtime.pixels.palette import VOID_COLOR
from fcnkit.train.data.beside import new_folder
from fcnkit.train.data.drawing import KINDS, draw_picture
from fcnkit.train.data.labelmap import LabelMap, write_labelmap
from fcnkit.train.data.masks import mask_picture
from fcnkit.train.data.voc import IMAGES, LABELMAP, LISTS, MASKS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["SHAPES", "write_shapes"]

SHAPES = LabelMap(
    ("background", *KINDS),
    ((0, 0, 0), (220, 60, 50), (60, 110, 220), (60, 170, 80), (240, 190, 40), (160, 80, 200)),
    VOID_COLOR,
)
"""The classes of the data set and their colors in the masks."""

_MARKER = "shapes.json"
"""Says what a folder of shapes was made from, so that it is made only once."""

_FORMAT = 1
"""Incremented whenever the same seed gives other pictures."""

_SIDES = (104, 221)
_JPEG_QUALITY = 92


def write_shapes(
    out: Path,
    *,
    train: int = 240,
    val: int = 48,
    test: int = 0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Write a data set of shapes on textured backgrounds, in VOC layout.

    The same arguments give the same bytes. The folder appears when all of it is written, and is
    left alone when it already holds what the arguments ask for.

    Args:
        out: The folder to write, new or empty.
        train: Pictures to train on.
        val: Pictures to validate on.
        test: Pictures to test on; no list is written for 0.
        seed: Which pictures, 0..2^63-1.
        progress: Called with the pictures written so far and the number of all.

    Returns:
        True when the data set was written, False when it was already there.

    Raises:
        DataError: out holds something else, or shapes made from other arguments.
        TypeError: A count or the seed is not an integer.
        ValueError: One is out of range: 1..99,999 pictures (``test`` from 0), a seed of 0..2^63-1.
        OSError: The folder cannot be written.
    """
    counts = {
        name: check_int(f"write_shapes: {name}", value, least, 99_999)  # names have five digits
        for name, value, least in (("train", train, 1), ("val", val, 1), ("test", test, 0))
    }
    seed = check_int("write_shapes: seed", seed, 0, 2**63 - 1)
    marker = json.dumps({"format": _FORMAT, "seed": seed, **counts})
    if _is_there(out, marker):
        return False
    with new_folder(out) as partial:
        _write_folder(partial, counts, seed, progress)
        (partial / _MARKER).write_text(marker + "\n")
    return True


def _is_there(out: Path, marker: str) -> bool:
    """Tell whether out holds this very data set; refuse anything but that or an empty folder."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    path = out / _MARKER
    if not path.is_file():
        rule, got = "shapes are written into a new or empty folder", "one with other files"
        got = got if out.is_dir() else "a file"
        raise DataError(message(str(out), rule, got, "choose another folder"))
    found = path.read_text(encoding="utf-8", errors="replace").strip()
    if found == marker:
        return True
    rule = f"already holds shapes, wanted those of {marker}"
    raise DataError(message(str(out), rule, found, "remove the folder or choose another"))


def _write_folder(
    folder: Path,
    counts: dict[str, int],
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    for name in (IMAGES, MASKS, LISTS):
        (folder / name).mkdir(parents=True)
    write_labelmap(folder / LABELMAP, SHAPES)
    done, total = 0, sum(counts.values())
    for place, (split, count) in enumerate(counts.items()):
        names = [f"{split}_{number:05d}" for number in range(count)]
        for number, name in enumerate(names):
            # One random stream per picture, so a longer split begins with the pictures of a shorter
            # one.
            _write_picture(folder, name, np.random.default_rng((seed, place, number)))
            done += 1
            if progress is not None:
                progress(done, total)
        if names:
            (folder / LISTS / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))


def _write_picture(folder: Path, name: str, rng: np.random.Generator) -> None:
    height, width = _random_side(rng), _random_side(rng)
    kinds = rng.permutation(len(KINDS))[: rng.integers(1, 5)].tolist()
    image_hwc, labels_hw = draw_picture(rng, height, width, kinds)
    Image.fromarray(image_hwc).save(
        folder / IMAGES / f"{name}.jpg", quality=_JPEG_QUALITY, subsampling=0
    )
    mask_picture(labels_hw, SHAPES).save(folder / MASKS / f"{name}.png")


def _random_side(rng: np.random.Generator) -> int:
    """Return a side in pixels that is not a multiple of 32, as pictures mostly have."""
    side = int(rng.integers(*_SIDES))
    return side if side % 32 else side + 1
