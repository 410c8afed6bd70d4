"""Data sets drawn from a seed: healthy ones of many shapes, and faults planted into one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tests.train.folders import empty_folder

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

VOID_COLOR = (224, 224, 192)
_ORIENTATION = 0x0112


@dataclass
class Drawing:
    """What a data set is drawn from."""

    seed: int = 0
    classes: tuple[str, ...] = ("background", "cat", "dog")
    splits: dict[str, int] = field(default_factory=lambda: {"train": 6, "val": 4})
    size: tuple[int, int] = (24, 32)
    mode: str = "P"
    """P, L, RGB or RGBA."""
    border: int = 0
    """Pixels of void around every picture."""
    rare: bool = False
    """The last class has a single pixel in a single picture of each split."""
    picture: str = "RGB"
    """RGB as JPEG, or RGBA, L or I;16 as PNG."""

    def color(self, label: int) -> tuple[int, int, int]:
        return (0, 0, 0) if label == 0 else (7 * label % 256, (40 + label) % 256, 255 - label)

    @property
    def palette(self) -> list[int]:
        values = [0] * 768
        for label in range(len(self.classes)):
            values[3 * label : 3 * label + 3] = self.color(label)
        values[-3:] = VOID_COLOR
        return values

    def write(self, root: Path) -> Path:
        """Write the data set; every class occurs in every split."""
        colors = [",".join(map(str, self.color(n))) for n in range(len(self.classes))]
        lines = [f"{name}:{rgb}::\n" for name, rgb in zip(self.classes, colors, strict=True)]
        empty_folder(root, "".join(lines))
        random = np.random.default_rng(self.seed)
        for split, count in self.splits.items():
            names = [f"{split}{number}" for number in range(count)]
            list_names(root, split, names)
            for number, name in enumerate(names):
                self._save_picture(root, name, random)
                self.save_mask(root, name, self._labels(random, number))
        return root

    def _save_picture(self, root: Path, name: str, random: np.random.Generator) -> None:
        if self.picture == "RGB":
            save_image(root, name, random.integers(0, 256, (*self.size, 3), np.uint8))
            return
        channels = {"RGBA": (4,), "L": (), "I;16": ()}[self.picture]
        dtype = np.uint16 if self.picture == "I;16" else np.uint8
        values = random.integers(0, np.iinfo(dtype).max, (*self.size, *channels), dtype)
        Image.fromarray(values).save(root / "JPEGImages" / f"{name}.png")

    def _labels(self, random: np.random.Generator, number: int) -> NDArray[np.uint8]:
        count = len(self.classes) - self.rare
        labels = random.integers(0, count, self.size).astype(np.uint8)
        labels.ravel()[:count] = np.arange(count)
        labels = np.roll(labels, 5 * self.size[1] + 8)  # away from the border
        if self.rare and number == 0:
            labels[self.size[0] // 2, self.size[1] // 2] = count
        if self.border:
            inner = labels[self.border : -self.border, self.border : -self.border]
            labels = np.pad(inner, self.border, constant_values=255)
        return labels

    def save_mask(self, root: Path, name: str, labels: NDArray[np.uint8]) -> None:
        path = root / "SegmentationClass" / f"{name}.png"
        indexed = Image.fromarray(labels)
        if self.mode == "P":
            indexed.putpalette(self.palette)
            indexed.save(path)
        elif self.mode == "L":
            indexed.save(path)
        else:
            table = np.array(self.palette, np.uint8).reshape(256, 3)
            Image.fromarray(table[labels]).convert(self.mode).save(path)


def list_names(root: Path, split: str, names: list[str]) -> None:
    (root / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(names) + "\n")


def names_of(root: Path, split: str) -> list[str]:
    return (root / "ImageSets/Segmentation" / f"{split}.txt").read_text().split()


def save_image(
    root: Path, name: str, image: NDArray[np.uint8], *, orientation: int | None = None
) -> None:
    exif = Image.Exif()
    if orientation:
        exif[_ORIENTATION] = orientation
    Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg", quality=95, exif=exif)


def labels_of(root: Path, name: str) -> NDArray[np.uint8]:
    """Read a P or L mask."""
    return np.array(Image.open(root / "SegmentationClass" / f"{name}.png"))
