"""Images that EXIF turns, labeled before the turn or after it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from fcnkit.errors import DataError
from fcnkit.train.data.check import check_folder
from fcnkit.train.data.importers.turning import turned
from tests.refusal import refusal
from tests.train.data.importers.sources import (
    Coco,
    box,
    imported,
    labels_in,
    noise,
    polygon,
    write_labelme,
)

_ORIENTATION = 0x0112
NOTE = "1 masks were turned as EXIF turns their images: they had the size before"


def save_turned(path: Path, orientation: int, height: int = 6, width: int = 8) -> None:
    """Write an image of this size in the file that EXIF turns."""
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(1, height, width)).save(path, exif=exif)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_arrays_are_turned_as_pillow_turns_images(orientation: int) -> None:
    array = np.arange(12, dtype=np.uint16).reshape(3, 4)
    image = Image.fromarray(array.astype(np.uint8))
    image.getexif()[_ORIENTATION] = orientation
    np.testing.assert_array_equal(
        turned(array, orientation), np.array(ImageOps.exif_transpose(image))
    )


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 7, 8])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("kind", ["coco", "labelme", "folders"])
def test_labels_made_before_or_after_the_turn(
    kind: str, before: bool, orientation: int, tmp_path: Path
) -> None:
    root = tmp_path / "in"
    on_its_side = orientation >= 5
    size = (8, 6) if on_its_side and not before else (6, 8)
    truth = np.zeros(size, np.uint8)
    truth[1:4, 1:3] = 1
    if kind == "coco":
        pytest.importorskip("pycocotools")
        coco = Coco(root, "cat").entry("a.jpg", *size).add(1, [box(1, 1, 3, 4)])
        save_turned(root / "images" / "a.jpg", orientation)
        coco.write()
        options = {}
    elif kind == "labelme":
        save_turned(root / "a.jpg", orientation)
        shape = polygon("cat", (1, 1), (2, 1), (2, 3), (1, 3))
        write_labelme(root / "a.json", "a.jpg", [shape], size)
        options = {}
    else:
        save_turned(root / "images" / "a.jpg", orientation)
        (root / "masks").mkdir()
        Image.fromarray(truth).save(root / "masks" / "a.png")
        options = {"images": Path("images"), "masks": Path("masks")}
    report = imported(root, tmp_path / "out", **options)
    expected = turned(truth.astype(np.uint16), orientation) if before and on_its_side else truth
    found = np.array(labels_in(tmp_path / "out")["a"])
    names = ("class_0", "class_1") if kind == "folders" else ("background", "cat")
    np.testing.assert_array_equal(found, np.array(names)[expected])
    assert (NOTE in report.notes) == (before and on_its_side)
    assert check_folder(tmp_path / "out").ok


def test_another_size_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "in"
    save_turned(root / "images" / "a.jpg", 6)
    (root / "masks").mkdir()
    Image.fromarray(np.zeros((6, 9), np.uint8)).save(root / "masks" / "a.png")
    text = (
        f"{root}/images/a.jpg: a mask has the size of its image, 8x6, got 6x9; make the mask again"
    )
    with refusal(DataError, text):
        imported(root, tmp_path / "out", images=Path("images"), masks=Path("masks"))
