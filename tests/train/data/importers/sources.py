"""Small sources of every format, drawn for tests."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fcnkit.errors import DataError
from fcnkit.train.data.importers.importing import ImportReport, import_data
from fcnkit.train.data.labelmap import read_labelmap
from tests.corpus.make_exports import (
    FOLDER,
    IMAGES,
    NAMES,
    boxes_of,
    image_of,
    labels_of,
    name_of,
)
from tests.refusal import refusal

Labels = NDArray[np.uint8]

LABELMAP = "# label:color_rgb:parts:actions\ncar:200,0,0::\nbackground:0,0,0::\nvoid:9,9,9::\n"
ROW = np.array([[1, 0, 0, 2]], np.uint8)
COLORS = np.array([(200, 0, 0), (0, 0, 0), (9, 9, 9)], np.uint8)


def save(path: Path, array: NDArray[Any]) -> Path:
    """Write an image and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def noise(seed: int = 0, height: int = 6, width: int = 8) -> Labels:
    """Return an image, uint8 (H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def labels_in(root: Path) -> dict[str, list[list[str]]]:
    """Return every mask of a data set as class names, by name of the image."""
    names = dict(enumerate(read_labelmap(root / "labelmap.txt").classes)) | {255: "void"}
    found = {}
    for path in sorted((root / "SegmentationClass").iterdir()):
        with Image.open(path) as mask:
            assert mask.mode == "P"
            found[path.stem] = [[names[label] for label in row] for row in np.array(mask).tolist()]
    return found


def listed(root: Path) -> dict[str, list[str]]:
    """Return the lists of a data set."""
    folder = root / "ImageSets" / "Segmentation"
    return {path.stem: path.read_text().split("\n")[:-1] for path in sorted(folder.iterdir())}


def imported(source: Path | None, out: Path, **options: Any) -> ImportReport:
    """Import a source and check that everything on the lists is there."""
    report = import_data(source, out, **options)
    names = sorted(name for names in listed(out).values() for name in names)
    assert names == sorted(path.stem for path in (out / "JPEGImages").iterdir())
    assert names == sorted(path.stem for path in (out / "SegmentationClass").iterdir())
    assert sorted(report.images) == names
    return report


def nothing_left(folder: Path, *names: str) -> None:
    """Assert that a folder holds these names alone: no half data set, no hidden one either."""
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


# Sources of which labels_of is the truth; Datumaro does not write these formats.


def labelme(root: Path) -> Path:
    """Write LabelMe's files as it writes them: JSON beside each image."""
    for number in range(IMAGES):
        shapes = [
            {
                "label": NAMES[label],
                # LabelMe fills the last row and column of a rectangle, too.
                "points": [[left, top], [right - 1, bottom - 1]],
                "group_id": None,
                "shape_type": "rectangle",
                "flags": {},
            }
            for label, (left, top, right, bottom) in boxes_of(number).items()
        ]
        image = save(root / f"{name_of(number)}.jpg", image_of(number))
        write_labelme(image.with_suffix(".json"), image.name, shapes, labels_of(number).shape)
    return root


def write_labelme(
    path: Path, image: str, shapes: list[dict[str, Any]], size: tuple[int, ...], **more: Any
) -> None:
    """Write one file of LabelMe."""
    data = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image,
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
        **more,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def polygon(label: str, *points: tuple[float, float]) -> dict[str, Any]:
    return {"label": label, "points": [list(p) for p in points], "shape_type": "polygon"}


def packed(mask: NDArray[Any]) -> str:
    """Return a mask as LabelMe packs it."""
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def ade20k(root: Path) -> Path:
    """Write a folder like ADE20K's: the labels here plus 1, 0 for what has no class."""
    for number in range(IMAGES):
        split = "training" if number < 4 else "validation"
        save(root / "images" / split / f"A_{number}.jpg", image_of(number))
        save(root / "annotations" / split / f"A_{number}.png", labels_of(number) + 1)
    lines = ["Idx\tRatio\tTrain\tVal\tName"]
    lines += [f"{n}\t0.1\t10\t1\t{name}, thing {n}" for n, name in enumerate(NAMES, start=1)]
    (root / "objectInfo150.txt").write_text("\n".join(lines) + "\n")
    return root


def folders(root: Path) -> Path:
    """Write a folder of images and one of gray masks."""
    for number in range(IMAGES):
        save(root / "pictures" / f"{name_of(number)}.jpg", image_of(number))
        save(root / "truth" / f"{name_of(number)}_mask.png", labels_of(number))
    return root


def export(name: str) -> Path:
    """Return a zip file of Datumaro, or skip the test where a package for it is missing."""
    if name.startswith("coco"):
        pytest.importorskip("pycocotools")
    return FOLDER / f"{name}.zip"


class Coco:
    """A file of COCO in the making."""

    def __init__(self, root: Path, *categories: str) -> None:
        self.root = root
        self.data: dict[str, Any] = {
            "images": [],
            "annotations": [],
            "categories": [
                {"id": n, "name": name, "supercategory": ""}
                for n, name in enumerate(categories, start=1)
            ],
        }

    def image(self, name: str = "a.png", height: int = 6, width: int = 8) -> Coco:
        """Add an image and write it."""
        save(self.root / "images" / name, noise(len(name), height, width))
        return self.entry(name, height, width)

    def entry(self, name: str, height: int = 6, width: int = 8) -> Coco:
        """Add an image that is not there."""
        id = len(self.data["images"]) + 1
        self.data["images"].append({"id": id, "file_name": name, "height": height, "width": width})
        return self

    def add(self, category: int, segmentation: object, **more: object) -> Coco:
        """Add an annotation to the last image."""
        annotation = {
            "id": len(self.data["annotations"]) + 1,
            "image_id": len(self.data["images"]),
            "category_id": category,
            "segmentation": segmentation,
            "iscrowd": 0,
        }
        self.data["annotations"].append(annotation | more)
        return self

    def write(self, name: str = "instances_default.json") -> Path:
        """Write the file and return the folder."""
        path = self.root / "annotations" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.data))
        return self.root

    def write_text(self, old: str, new: str) -> Path:
        """Write the file with a piece of its text replaced."""
        root = self.write()
        path = root / "annotations" / "instances_default.json"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        return root


def box(left: int, top: int, right: int, bottom: int) -> list[int]:
    """Return a rectangle as a polygon of COCO; right and bottom are not in it."""
    return [left, top, right, top, right, bottom, left, bottom]


def zipped(folder: Path, archive: Path) -> Path:
    """Pack a folder."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for path in sorted(folder.rglob("*")):
            opened.write(path, path.relative_to(folder))
    return archive


def refused(root: Path, text: str, **options: Any) -> None:
    """Assert that an import is refused with this text, and leaves nothing beside its source."""
    before = sorted(path.name for path in root.parent.iterdir())
    with refusal(DataError, text):
        imported(root, root.parent / "out", **options)
    nothing_left(root.parent, *before)


def cvat(root: Path, *names: str, colors: bool = True, lists: str = "default") -> Path:
    """Write an export: background in the middle of the label map, void is a line of it."""
    for number, name in enumerate(names):
        save(root / "JPEGImages" / f"{name}.png", noise(number, 1, 4))
        save(root / "SegmentationClass" / f"{name}.png", COLORS[ROW] if colors else ROW)
    folder = root / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True)
    (folder / f"{lists}.txt").write_text("".join(f"{name}\n" for name in names))
    (root / "labelmap.txt").write_text(LABELMAP)
    return root


def cityscapes(root: Path, *ids: list[int]) -> Path:
    """Write images and masks of one row each: the first for training, the others for validation."""
    for number, row in enumerate(ids):
        stem = f"{'val' if number else 'train'}/bonn/bonn_{number:06d}_000019"
        save(root / "leftImg8bit" / f"{stem}_leftImg8bit.png", noise(number, 1, len(row)))
        values = np.array([row], np.uint8)
        save(root / "gtFine" / f"{stem}_gtFine_labelIds.png", values)
        save(root / "gtFine" / f"{stem}_gtFine_instanceIds.png", values)
    return root
