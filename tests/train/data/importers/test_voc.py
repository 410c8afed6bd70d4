"""Exports in the layout of Pascal VOC, Cityscapes and ADE20K: what tools do differently."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnkit.errors import DataError
from fcnkit.runtime.artifacts.classmap import parse_class_map
from fcnkit.train.data.labelmap import read_labelmap
from tests.refusal import refusal
from tests.train.data.importers import sources

SHOWN = [["background", "car", "car", "void"]]


def refused_without_image(root: Path, folder: str, *, mask: str, name: str) -> None:
    """Assert that a mask without its image is named, and can be left out."""
    rule = "must hold the image of every mask"
    sources.refused(root, f"{folder}: {rule}, got none for {mask}; add it, or pass --skip-missing")
    report = sources.imported(root, root.parent / "out", skip_missing=True)
    assert report.left_out == (f"1 masks without an image ({name})",)


@pytest.mark.parametrize("colors", [True, False])
def test_the_background_comes_first_and_void_is_no_class(colors: bool, tmp_path: Path) -> None:
    sources.imported(
        sources.cvat(tmp_path / "in", "cam1/a b", "c", colors=colors), tmp_path / "out"
    )
    labelmap = read_labelmap(tmp_path / "out" / "labelmap.txt")
    assert (labelmap.classes, labelmap.palette[1]) == (("background", "car"), (200, 0, 0))
    assert sources.labels_in(tmp_path / "out") == {"c": SHOWN, "cam1_a b": SHOWN}


def test_a_quoted_name(tmp_path: Path) -> None:
    root = sources.cvat(tmp_path / "in", "a b", "c")
    (root / "ImageSets" / "Segmentation" / "default.txt").write_text('"a b"\nc\n')
    sources.imported(root, tmp_path / "out")
    assert sorted(sources.labels_in(tmp_path / "out")) == ["a b", "c"]


def test_an_export_without_images(tmp_path: Path) -> None:
    root = sources.cvat(tmp_path / "in", "a", "c")
    (root / "JPEGImages").rename(tmp_path / "photos")
    text = (
        f"{root}: must hold JPEGImages/, got no such folder; "
        "export with images, or pass --images DIR"
    )
    sources.refused(tmp_path / "in", text)
    sources.imported(root, tmp_path / "out", images=tmp_path / "photos")
    assert sorted(sources.labels_in(tmp_path / "out")) == ["a", "c"]


def test_lists_of_tools_and_what_they_leave_out(tmp_path: Path) -> None:
    root = sources.cvat(tmp_path / "in", "a", "b", "c", lists="Train")
    folder = root / "ImageSets" / "Segmentation"
    (folder / "Train.txt").write_text("a\nb\nmissing\n")
    (folder / "Validation.txt").write_text("c\n")
    (folder / "trainval.txt").write_text("a\nc\n")
    sources.save(root / "JPEGImages" / "z.png", sources.noise())
    sources.save(root / "SegmentationClass" / "y.png", np.array([[1, 0, 0, 2]], np.uint8))
    report = sources.imported(root, tmp_path / "out")
    assert sources.listed(tmp_path / "out") == {"train": ["a", "b"], "val": ["c"]}
    assert report.left_out == (
        "1 listed names without a mask (missing)",
        "1 images that no list names (z)",
        "1 masks that no list names (y)",
    )


def test_images_on_no_list_of_a_source_with_lists(tmp_path: Path) -> None:
    root = sources.cvat(tmp_path / "in", "a", "b", "c", "d", lists="train")
    folder = root / "ImageSets" / "Segmentation"
    for name, listed_names in (("train", "a"), ("val", "b"), ("default", "c\nd")):
        (folder / f"{name}.txt").write_text(f"{listed_names}\n")
    report = sources.imported(root, tmp_path / "out")
    assert sources.listed(tmp_path / "out") == {"train": ["a"], "val": ["b"], "other": ["c", "d"]}
    assert report.notes == ("2 images are on no list of the source: other.txt",)


def test_a_list_for_testing_stays(tmp_path: Path) -> None:
    names = [f"n{number}" for number in range(16)]
    root = sources.cvat(tmp_path / "in", *names)
    (root / "ImageSets" / "Segmentation" / "test.txt").write_text("n3\nn5\n")
    sources.imported(root, tmp_path / "out")
    lists = sources.listed(tmp_path / "out")
    assert lists["test"] == ["n3", "n5"]
    assert {name: len(found) for name, found in lists.items()} == {"test": 2, "train": 12, "val": 2}


def test_a_name_in_two_splits(tmp_path: Path) -> None:
    root = sources.cvat(tmp_path / "in", "a", "b", lists="train")
    folder = root / "ImageSets" / "Segmentation"
    (folder / "val.txt").write_text("b\n")
    sources.refused(
        tmp_path / "in",
        f"{folder}/val.txt:1: a name is in one of train, val and test, "
        f"got b in {folder}/train.txt:2 too; take it off one list",
    )


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "x/../../a"])
def test_listed_names_that_climb_out(name: str, tmp_path: Path) -> None:
    root = sources.cvat(tmp_path / "in", "b")
    file = root / "ImageSets" / "Segmentation" / "default.txt"
    file.write_text(f"b\n{name}\n")
    sources.refused(
        tmp_path / "in",
        f"{file}:2: names must be relative paths that stay inside the source, got {name!r}; "
        "write the path below JPEGImages",
    )


def test_a_mask_without_its_image(tmp_path: Path) -> None:
    root = sources.cvat(tmp_path / "in", "a", "b")
    (root / "JPEGImages" / "b.png").unlink()
    refused_without_image(root, f"{root}/JPEGImages", mask="b", name="b")


def test_no_label_map_and_no_lists_are_said(tmp_path: Path) -> None:
    root = sources.cvat(tmp_path / "in", "a", "b", colors=False)
    (root / "labelmap.txt").unlink()
    (root / "ImageSets" / "Segmentation" / "default.txt").unlink()
    report = sources.imported(root, tmp_path / "out")
    assert report.notes[:2] == (
        "no labelmap.txt: the 21 classes of Pascal VOC are assumed",
        "no lists in ImageSets/Segmentation: every mask is taken",
    )
    [labels, _] = sources.labels_in(tmp_path / "out").values()
    assert labels == [["aeroplane", "background", "background", "bicycle"]]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "car:1,2::",
            ("a class is written name:r,g,b:: with 0..255, got 'car:1,2::'; mend the line"),
        ),
        ("car:5,5,5::\ncar:6,6,6::", "class names must differ, got car again; rename one"),
        (
            "car:5,5,5::\nbus:5,5,5::",
            "class colors must differ, got 5,5,5 for car and bus; change one",
        ),
    ],
)
def test_malformed_label_maps(line: str, text: str, tmp_path: Path) -> None:
    root = sources.cvat(tmp_path / "in", "a")
    (root / "labelmap.txt").write_text(f"{line}\n")
    number = 1 + line.count("\n")
    sources.refused(tmp_path / "in", f"{root}/labelmap.txt:{number}: {text}")


def test_a_class_that_a_label_map_cannot_name(tmp_path: Path) -> None:
    sources.cvat(tmp_path / "in", "a")
    text = (
        "class: a class of labelmap.txt has no colon, no # in front and no blanks around it, "
        "got 'a:b'; give it another name with --map '\"a:b\"=NAME'"
    )
    sources.refused(tmp_path / "in", text, class_map=parse_class_map("car=a:b"))


# Cityscapes and ADE20K.


def test_the_19_classes_of_cityscapes(tmp_path: Path) -> None:
    root = sources.cityscapes(tmp_path / "in", [7, 26, 3, 255], [*range(34)], [0, 1, 2, 3])
    report = sources.imported(root, tmp_path / "out")
    labelmap = read_labelmap(tmp_path / "out" / "labelmap.txt")
    assert labelmap.classes == (
        *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign"),
        *("vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train"),
        *("motorcycle", "bicycle"),
    )
    assert (labelmap.palette[0], labelmap.palette[13]) == ((128, 64, 128), (0, 0, 142))
    found = sources.labels_in(tmp_path / "out")
    assert found["bonn_bonn_000000_000019"] == [["road", "car", "void", "void"]]
    assert report.left_out == ("1 images without a labeled pixel (bonn/bonn_000002_000019)",)
    assert report.splits == {"train": 1, "val": 1}


def test_rules_name_what_the_benchmark_ignores(tmp_path: Path) -> None:
    root = sources.cityscapes(tmp_path / "in", [7, 9, 26, 3], [7, 4, 26, 3])
    rules = parse_class_map("parking=road,*=thing,4=thing", "road")
    sources.imported(root, tmp_path / "out", class_map=rules)
    [first, second] = sources.labels_in(tmp_path / "out").values()
    assert first == [["road", "road", "thing", "void"]]
    assert second == [["road", "thing", "thing", "void"]]


def test_ids_that_cityscapes_does_not_have(tmp_path: Path) -> None:
    root = sources.cityscapes(tmp_path / "in", [7, 77, 77, 3], [7, 7, 7, 7])
    mask = "gtFine/train/bonn/bonn_000000_000019_gtFine_labelIds.png"
    sources.refused(
        tmp_path / "in",
        f"{root}/{mask}: ids are those of the 34 classes or 255, got 77 (2 px); "
        "mend the mask, or read it with --images, --masks and --map",
    )


def test_cityscapes_without_an_image(tmp_path: Path) -> None:
    root = sources.cityscapes(tmp_path / "in", [7, 7], [7, 7])
    (root / "leftImg8bit/val/bonn/bonn_000001_000019_leftImg8bit.png").unlink()
    mask = f"{root}/gtFine/val/bonn/bonn_000001_000019_gtFine_labelIds.png"
    name = "val/bonn/bonn_000001_000019"
    refused_without_image(root, f"{root}/leftImg8bit", mask=mask, name=name)


def test_ade20k_names_and_void(tmp_path: Path) -> None:
    root = sources.ade20k(tmp_path / "in")
    mask = root / "annotations" / "training" / "A_0.png"
    with Image.open(mask) as opened:
        labels = np.array(opened)
    labels[0, 0] = 0
    sources.save(mask, labels)
    report = sources.imported(root, tmp_path / "out")
    assert sources.labels_in(tmp_path / "out")["A_0"][0][:2] == ["void", "background"]
    assert report.splits == {"train": 4, "val": 2}
    assert "0 in the masks is void, the classes count from 1" in report.notes


def test_ade20k_without_an_image(tmp_path: Path) -> None:
    root = sources.ade20k(tmp_path / "in")
    image = next((root / "images" / "training").iterdir())
    image.unlink()
    with pytest.raises(DataError) as caught:
        sources.imported(root, tmp_path / "out")
    text = str(caught.value)
    assert f"got none for {root}/annotations/training/{image.stem}.png; " in text
    assert text.endswith("; add it, or pass --skip-missing")
    report = sources.imported(root, tmp_path / "out", skip_missing=True)
    assert report.left_out == (f"1 masks without an image (training/{image.stem})",)


def test_ade20k_without_names(tmp_path: Path) -> None:
    root = sources.ade20k(tmp_path / "in")
    (root / "objectInfo150.txt").unlink()
    sources.refused(
        tmp_path / "in",
        f"{root}: must hold objectInfo150.txt, got no such file; "
        "add it, or name the classes in a file for --labelmap",
    )
    names = tmp_path / "names.txt"
    names.write_text("wall:1,1,1::\nroad:2,2,2::\ncar:3,3,3::\ntree:4,4,4::\n")
    report = sources.imported(root, tmp_path / "out", labelmap=names)
    assert list(report.classes) == ["wall", "road", "car", "tree", "void"]


def test_names_of_ade20k_that_only_their_ends_tell_apart(tmp_path: Path) -> None:
    root = sources.ade20k(tmp_path / "in")
    lines = ["1\tdoor, double door", "2\tdoor, screen door", "3\tcar", "4\ttree"]
    (root / "objectInfo150.txt").write_text("\n".join(lines))
    report = sources.imported(root, tmp_path / "out")
    assert list(report.classes)[:2] == ["door, double door", "door, screen door"]
    (root / "objectInfo150.txt").write_text("1\tdoor\n3\tcar\n")
    text = (
        f"{root}/objectInfo150.txt:2: a line is INDEX<tab>...<tab>NAME, counting from 1, "
        "got '3\\tcar'; mend the line"
    )
    with refusal(DataError, text):
        sources.imported(root, tmp_path / "again")


def test_cityscapes_without_its_folder_of_images(tmp_path: Path) -> None:
    root = sources.cityscapes(tmp_path / "in", [7, 7], [7, 7])
    (root / "leftImg8bit").rename(tmp_path / "photos")
    sources.refused(
        tmp_path / "in",
        f"{root}/leftImg8bit: must be a folder of images, got no such folder; "
        "add it, or pass --images DIR",
    )
    report = sources.imported(root, tmp_path / "out", images=tmp_path / "photos")
    assert report.splits == {"train": 1, "val": 1}
