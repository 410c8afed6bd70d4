"""A tiny data set for tests, and the real ones where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

LABELMAP = "background:0,0,0::\ncat:255,0,0::\ndog:0,255,0::\n"
REAL = Path(__file__).parents[2].parent / "shared" / "data"


def empty_folder(root: Path, labelmap: str) -> None:
    """Write a data set without images: its folders and its label map."""
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    (root / "labelmap.txt").write_text(labelmap, encoding="utf-8")


def make_folder(root: Path, **splits: list[str]) -> Path:
    """Write a data set of three classes; every picture is 6 x 8 and its mask all cat."""
    empty_folder(root, LABELMAP)
    for split, names in splits.items():
        (root / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            write_image(root / "JPEGImages" / f"{name}.jpg", 6, 8)
            write_indices(root / "SegmentationClass" / f"{name}.png", np.ones((6, 8), np.uint8))
    return root


def write_image(path: Path, height: int, width: int) -> None:
    Image.new("RGB", (width, height), (10, 200, 30)).save(path)


def write_indices(path: Path, labels_hw: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> None:
    mask = Image.fromarray(labels_hw)
    # All 256 colors: with fewer Pillow writes fewer bits and cuts the labels down to them.
    mask.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0] + [9] * 247 * 3 + [224, 224, 192] * 6)
    mask.save(path)


def real(name: str) -> Path:
    """Return the folder of a real data set, or skip the test."""
    folder = REAL / name
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder
