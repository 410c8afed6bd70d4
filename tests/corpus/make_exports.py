"""Small data sets as Datumaro exports them, whose masks are known.

    python -m tests.corpus.make_exports FOLDER

needs ``pip install datumaro``, in its own environment. The zip files in ``exports`` were made by
version 1.13.12; tests read them, and compare with ``labels_of``.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAMES = ("background", "road", "car", "tree")
IMAGES, HEIGHT, WIDTH = 6, 48, 64
EXPORTS = ("voc", "coco_polygons", "coco_rle", "cityscapes")
FOLDER = Path(__file__).parent / "exports"


def name_of(number: int) -> str:
    """Return the name of an image in the source: they lie in sub-folders."""
    return f"cam{number % 2}/{number:04d}"


def labels_of(number: int) -> NDArray[np.uint8]:
    """Return the labels of an image, uint8 (H, W)."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[28:] = 1
    labels[8:20, 5 * number : 5 * number + 14] = 2
    labels[4:24, 46:56] = 3
    return labels


def boxes_of(number: int) -> dict[int, tuple[int, int, int, int]]:
    """Return left, top, right and bottom of each label's area."""
    left = 5 * number
    return {1: (0, 28, WIDTH, HEIGHT), 2: (left, 8, left + 14, 20), 3: (46, 4, 56, 24)}


def image_of(number: int) -> NDArray[np.uint8]:
    """Return an image, uint8 (H, W, 3)."""
    colors = np.array([(200, 210, 230), (90, 90, 100), (180, 30, 40), (40, 120, 50)], np.uint8)
    return colors[labels_of(number)]


def write_exports(out: Path) -> None:
    """Write a zip file per export."""
    from datumaro.components.annotation import Mask, Polygon
    from datumaro.components.dataset import Dataset
    from datumaro.components.dataset_base import DatasetItem
    from datumaro.components.media import Image

    def annotations(number: int, export: str) -> list[Any]:
        found: list[Any] = []
        for label, (left, top, right, bottom) in boxes_of(number).items():
            numbers = {"label": label, "id": label, "group": label, "z_order": label}
            if export == "coco_polygons":
                corners = [left, top, right, top, right, bottom, left, bottom]
                found.append(Polygon(corners, **numbers))
            else:
                found.append(Mask(labels_of(number) == label, **numbers))
        return found

    for export in EXPORTS:
        split = ("train", "val") if export in ("coco_polygons", "cityscapes") else ("default",) * 2
        items = [
            DatasetItem(
                id=name_of(number),
                subset=split[number >= 4],
                media=Image.from_numpy(data=image_of(number)[..., ::-1]),
                annotations=annotations(number, export),
            )
            for number in range(IMAGES)
        ]
        data = Dataset.from_iterable(items, categories=list(NAMES))
        kind = {"voc": "voc_segmentation"}.get(export, export)
        kind = "coco_instances" if kind.startswith("coco") else kind
        options = {"label_map": "source"} if export == "voc" else {}
        with tempfile.TemporaryDirectory() as folder:
            data.export(f"{folder}/{export}", kind, save_media=True, **options)
            shutil.make_archive(str(out / export), "zip", f"{folder}/{export}")


if __name__ == "__main__":
    write_exports(Path(sys.argv[1]))
