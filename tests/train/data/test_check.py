from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from fcnkit.errors import DataError
from fcnkit.train.data.check import Problem, check_folder
from tests.train.folders import make_folder, real, write_image, write_indices

if TYPE_CHECKING:
    from pathlib import Path


def test_a_good_folder(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d", val=["c"], train=["a", "b"], extra=["a"])
    write_image(root / "JPEGImages/b.jpg", 10, 4)
    labels_hw = np.repeat(np.array([[0], [2], [255], [2], [0]], np.uint8), 8, axis=0).reshape(10, 4)
    write_indices(root / "SegmentationClass/b.png", labels_hw)
    counts: list[tuple[int, int]] = []
    report = check_folder(root, progress=lambda done, total: counts.append((done, total)))
    assert counts == [(1, 3), (2, 3), (3, 3)]  # a is listed twice and read once.
    assert report.ok
    assert [split.split for split in report.splits] == ["train", "val", "extra"]
    train = report.splits[0]
    assert train.ok
    assert train.pictures == 2
    assert (train.smallest, train.largest) == ((6, 4), (10, 8))
    assert train.pixels == (16, 48, 16)
    assert train.shares == (0.2, 0.6, 0.2)
    assert train.void == 8
    assert train.unknown == {}


def test_every_problem_is_listed(tmp_path: Path) -> None:
    names = ["bare", "blind", "cut", "odd", "strange", "fine"]
    root = make_folder(tmp_path / "d", train=names)
    images, masks = root / "JPEGImages", root / "SegmentationClass"
    (images / "blind.jpg").unlink()
    (masks / "bare.png").unlink()
    (images / "cut.jpg").write_bytes(b"")
    write_indices(masks / "odd.png", np.zeros((8, 6), np.uint8))
    colors = np.full((6, 8, 3), 7, np.uint8)
    colors[0] = (0, 255, 0)
    colors[1] = (224, 224, 192)
    Image.fromarray(colors).save(masks / "strange.png")
    report = check_folder(root)
    assert not report.ok
    (train,) = report.splits
    assert train.problems == (
        Problem(
            "missing",
            "bare",
            f"{masks}/bare: must be one file, got none with .png; "
            "add it, or take the name off the list",
        ),
        Problem(
            "missing",
            "blind",
            f"{images}/blind: must be one file, got none with .jpg, .jpeg, .png, .tif, .tiff; "
            "add it, or take the name off the list",
        ),
        Problem(
            "unreadable",
            "cut",
            f"{images}/cut.jpg: must be a JPEG or PNG or TIFF file, got an empty file; "
            f"replace the file",
        ),
        Problem(
            "size",
            "odd",
            f"{masks}/odd.png: a mask has its picture's size, 6x8, got 8x6; "
            "make it again for odd.jpg",
        ),
        Problem(
            "unknown",
            "strange",
            f"{masks}/strange.png: every color must be a class's or void's, got 7,7,7 "
            "(32 px); mend the mask or name the class in labelmap.txt",
        ),
    )
    assert train.unknown == {"7,7,7": 32}
    assert train.pixels == (48, 3 * 48, 8)
    assert train.void == 8


def test_unknown_labels_add_up_over_pictures(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d", train=["a", "b"])
    for name, label in (("a", 7), ("b", 9)):
        labels_hw = np.full((6, 8), label, np.uint8)
        labels_hw[0] = 9
        write_indices(root / "SegmentationClass" / f"{name}.png", labels_hw)
    (train,) = check_folder(root).splits
    assert train.unknown == {"9": 56, "7": 40}
    assert train.void == 0
    assert train.shares == (0.0, 0.0, 0.0)


def test_pictures_in_both_train_and_val_are_a_problem(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d", train=["a", "b"], val=["b"], trainval=["a", "b"])
    report = check_folder(root)
    assert report.leaked == ("b",)
    assert not report.ok


def test_report_as_json(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d", train=["a"])
    (root / "JPEGImages/a.jpg").unlink()
    report = json.loads(json.dumps(check_folder(root).to_dict()))
    assert report == {
        "root": str(root),
        "ok": False,
        "classes": ["background", "cat", "dog"],
        "leaked": [],
        "warnings": [
            {
                "kind": "split",
                "text": f"{root}/ImageSets/Segmentation: training needs train.txt and val.txt, "
                "got no val.txt; write val.txt",
            },
            {
                "kind": "absent",
                "text": f"{root}: train: every class should have pixels to be learned, got none "
                "of background, dog, only cat; list pictures in train.txt that show it",
            },
        ],
        "notes": [],
        "splits": {
            "train": {
                "pictures": 1,
                "smallest": None,
                "largest": None,
                "pixels": {"background": 0, "cat": 48, "dog": 0},
                "shares": {"background": 0.0, "cat": 1.0, "dog": 0.0},
                "void": 0,
                "unknown": {},
                "deep": None,
                "problems": [
                    {
                        "kind": "missing",
                        "name": "a",
                        "text": f"{root}/JPEGImages/a: must be one file, got none with .jpg, "
                        ".jpeg, .png, .tif, .tiff; add it, or take the name off the list",
                    }
                ],
            }
        },
    }


def test_a_folder_without_lists_is_refused(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d")
    with pytest.raises(DataError) as info:
        check_folder(root)
    assert str(info.value) == (
        f"{root}/ImageSets/Segmentation: must hold a list per split, got none; "
        "write train.txt and val.txt, a picture name per line"
    )


def test_camvid_has_no_problems() -> None:
    report = check_folder(real("camvid"))
    assert report.ok
    assert [split.pictures for split in report.splits] == [367, 101]
    assert report.splits[0].smallest == report.splits[0].largest == (360, 480)
    assert report.splits[1].shares[0] == pytest.approx(0.0934, abs=1e-4)
