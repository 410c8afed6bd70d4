"""``data check`` in both directions: healthy data sets are silent, planted faults are named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from fcnkit.runtime.pixels.palette import VOC_CLASSES, voc_palette
from fcnkit.train.data.check import FolderReport, check_folder
from tests.cli.shell import called

from .sets import VOID_COLOR, Drawing, labels_of, list_names, names_of, save_image

HEALTHY = {
    "small": Drawing(splits={"train": 1, "val": 1}),
    "index masks": Drawing(mode="L"),
    "color masks": Drawing(mode="RGB"),
    "opaque alpha": Drawing(mode="RGBA"),
    "one class and background": Drawing(classes=("background", "crack")),
    "background is not first": Drawing(classes=("leaf", "stem", "background")),
    "many classes": Drawing(classes=tuple(f"c{n}" for n in range(60)), size=(40, 48)),
    "254 classes": Drawing(classes=tuple(f"c{n}" for n in range(254)), size=(48, 64)),
    "rare class": Drawing(rare=True),
    "void borders": Drawing(border=4),
    "void borders in color": Drawing(border=4, mode="RGB"),
    "with a test split": Drawing(splits={"train": 4, "val": 2, "test": 3}),
    "Chinese names": Drawing(classes=("背景", "裂缝")),
    "square": Drawing(size=(32, 32)),
    "wide": Drawing(size=(20, 90)),
    "tall": Drawing(size=(90, 20)),
    "many pictures": Drawing(splits={"train": 40, "val": 12, "test": 12}),
    "gray pictures": Drawing(picture="L"),
    "pictures of 16 bits": Drawing(picture="I;16", mode="L"),
    "transparent pictures": Drawing(picture="RGBA"),
    "names with blanks": Drawing(splits={"train": 3, "val": 3}, classes=("a b", "c, d", "e=f")),
    "void borders, many classes": Drawing(border=6, classes=tuple("abcdefgh"), size=(40, 60)),
}


def texts(report: FolderReport) -> list[str]:
    return [remark.text for remark in report.warnings]


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_data_set_is_silent(name: str, tmp_path: Path) -> None:
    report = check_folder(HEALTHY[name].write(tmp_path / "d"))
    assert (report.ok, texts(report), report.notes) == (True, [], ())


@given(
    st.builds(
        Drawing,
        seed=st.integers(0, 99),
        classes=st.integers(2, 30).map(lambda count: tuple(f"c{n}" for n in range(count))),
        size=st.tuples(st.integers(20, 40), st.integers(20, 40)),
        mode=st.sampled_from(["P", "L", "RGB", "RGBA"]),
        border=st.integers(0, 4),
        rare=st.booleans(),
    )
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_healthy_data_sets_are_silent(
    tmp_path_factory: pytest.TempPathFactory, drawing: Drawing
) -> None:
    report = check_folder(drawing.write(tmp_path_factory.mktemp("set") / "d"))
    assert (report.ok, texts(report), report.notes) == (True, [], ())


def test_voc_without_a_labelmap_is_healthy_and_the_names_are_said(tmp_path: Path) -> None:
    drawing = Drawing(classes=VOC_CLASSES, mode="L", size=(30, 40), border=3)
    root = drawing.write(tmp_path / "d")
    (root / "labelmap.txt").unlink()
    report = check_folder(root)
    assert (report.ok, texts(report)) == (True, [])
    assert [note.text for note in report.notes] == [
        f"{root}/labelmap.txt: names the classes of a data set, got no such file, so the 21 names "
        "of Pascal VOC are assumed; for classes that are not VOC's write the file, a line "
        "name:r,g,b:: per label from 0"
    ]


def test_splits_for_other_purposes_may_overlap(tmp_path: Path) -> None:
    root = Drawing().write(tmp_path / "d")
    list_names(root, "trainval", names_of(root, "train") + names_of(root, "val"))
    assert texts(check_folder(root)) == []


def relabel(root: Path, change: Callable[[Any], Any], *splits: str, mode: str = "L") -> None:
    """Rewrite the masks of splits, all of them by default."""
    for split in splits or ("train", "val"):
        for name in names_of(root, split):
            labels = np.asarray(change(labels_of(root, name)), np.uint8)
            Drawing(mode=mode).save_mask(root, name, labels)


def scale_to_255(root: Path) -> None:
    relabel(root, lambda labels: np.where(labels > 0, 255, 0))


def shift(root: Path) -> None:
    relabel(root, lambda labels: labels + 1)


def shift_without_the_last(root: Path) -> None:
    relabel(root, lambda labels: np.maximum(labels, 1))


def void_counts_from_zero(root: Path) -> None:
    relabel(root, lambda labels: np.pad((labels + 1)[2:-2, 2:-2], 2))


def two_conventions(root: Path) -> None:
    for name in names_of(root, "train")[:3]:
        labels = np.where(labels_of(root, name) == 1, 255, 0).astype(np.uint8)
        Drawing(mode="L").save_mask(root, name, labels)


def recolor(root: Path, change: Callable[[Any], Any]) -> None:
    """Write every mask as RGB, changed."""
    table = np.array(Drawing().palette, np.uint8).reshape(256, 3)
    for path in (root / "SegmentationClass").iterdir():
        rgb = change(Image.fromarray(table[np.array(Image.open(path))]))
        rgb.save(path)


def smooth(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.resize((width // 2, height // 2), Image.Resampling.BILINEAR).resize(
        (width, height)
    )


def as_jpeg_colors(root: Path) -> None:
    def compressed(image: Image.Image) -> Image.Image:
        image.save(root / "x.jpg")
        return Image.open(root / "x.jpg").convert("RGB")

    recolor(root, compressed)


def masks_as_jpeg(root: Path, suffix: str) -> None:
    for path in list((root / "SegmentationClass").iterdir()):
        Image.open(path).convert("L").save(path.with_suffix(suffix), format="JPEG")
        if suffix != ".png":
            path.unlink()


def palette_of_others(root: Path, colors: list[tuple[int, int, int]]) -> None:
    palette = [value for color in colors for value in color]
    for path in (root / "SegmentationClass").iterdir():
        mask = Image.open(path)
        mask.putpalette(palette + [9] * (768 - len(palette)))
        mask.save(path)


def make_clear(root: Path) -> None:
    path = root / "SegmentationClass/train0.png"
    rgba = np.array(Image.open(path).convert("RGBA"))
    rgba[:3, :, 3] = 0
    Image.fromarray(rgba).save(path)


def deepen(root: Path, depth: int) -> None:
    """Write masks of 16 bits in grayscale."""
    for path in (root / "SegmentationClass").iterdir():
        Image.fromarray(np.array(Image.open(path)).astype(np.uint16)).save(path)


def swap(root: Path) -> None:
    for image in list((root / "JPEGImages").iterdir()):
        picture = np.array(Image.open(image))
        mask = root / "SegmentationClass" / f"{image.stem}.png"
        image.unlink()
        mask.rename(root / "JPEGImages" / mask.name)
        Image.fromarray(picture).save(mask)


def turn(root: Path, orientation: int) -> None:
    for name in names_of(root, "train"):
        picture = np.array(Image.open(root / f"JPEGImages/{name}.jpg"))
        save_image(root, name, picture, orientation=orientation)


def copy_to_val(root: Path) -> None:
    for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
        content = (root / folder / f"train0.{suffix}").read_bytes()
        (root / folder / f"val0.{suffix}").write_bytes(content)


def move_class_to_val(root: Path) -> None:
    relabel(root, lambda labels: np.where(labels == 2, 0, labels), "train")


def as_bgr(root: Path) -> None:
    recolor(root, lambda image: Image.fromarray(np.array(image)[..., ::-1].copy()))


def labels_in_channels(root: Path) -> None:
    for path in (root / "SegmentationClass").iterdir():
        Image.fromarray(np.array(Image.open(path))).convert("RGB").save(path)


LABELED = "every class should have pixels to be learned, got none of"
Fault = tuple[str, Callable[[Path], object], str]
"""Its kind, what plants it, and a part of the line that names it."""


def divide_without(root: Path, label: int | None, *splits: str) -> None:
    """Make half of train the split test, and take a class, or all of them, out of splits."""
    names = names_of(root, "train")
    list_names(root, "train", names[:3])
    list_names(root, "test", names[3:])
    gone = (lambda x: x * 0 + 255) if label is None else (lambda x: np.where(x == label, 0, x))
    relabel(root, gone, *splits)


def copy_to_test(root: Path) -> None:
    list_names(root, "test", ["test0"])
    for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
        shutil.copy(root / folder / f"val1.{suffix}", root / folder / f"test0.{suffix}")


def deep_pictures(root: Path, levels: int) -> None:
    """Make every picture one of 16 bits that uses only the lowest levels."""
    for number, path in enumerate(sorted((root / "JPEGImages").iterdir())):
        values = np.random.default_rng(number).integers(0, levels, (24, 32), np.uint16)
        values[0, 0] = levels - 1
        Image.fromarray(values).save(path.with_suffix(".png"))
        path.unlink()


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def one_red_pixel(image: Image.Image) -> Image.Image:
    pixel = Image.new("RGB", image.size)
    pixel.putpixel((3, 3), (99, 0, 0))
    return pixel


FAULTS: dict[str, Fault] = {
    "0 and 255": ("absent", scale_to_255, f"{LABELED} cat, dog, only background, while "),
    "all void": (
        "void",
        lambda root: relabel(root, lambda labels: labels * 0 + 255),
        "train: some pixel must be labeled, got masks of only 255, which is void; "
        "save the labels 0..2",
    ),
    "one mask void": (
        "void",
        lambda root: Drawing().save_mask(root, "val1", np.full((24, 32), 255, np.uint8)),
        "a mask should have labeled pixels, got only void in 1 (val1); label them, or take "
        "them off the list",
    ),
    "all background": (
        "absent",
        lambda root: relabel(root, lambda labels: labels * 0),
        f"{LABELED} cat, dog, only background; list pictures in train.txt that show it",
    ),
    "class in no mask": (
        "absent",
        lambda root: relabel(root, lambda labels: np.where(labels == 1, 2, labels)),
        f"{LABELED} cat; list pictures in train.txt that show it",
    ),
    "class in val alone": ("absent", move_class_to_val, f"{LABELED} dog, while val has "),
    "val of one class": (
        "one class",
        lambda root: relabel(root, lambda labels: labels * 0, "val"),
        "val: two classes or more must have pixels, or the mean IoU says nothing, got only "
        "background; list pictures in val.txt that show the others",
    ),
    "counted from 1": ("shifted", shift, "train: labels are 0..2 or 255, got 1..3; subtract 1"),
    "counted from 1, last class absent": (
        "absent",
        shift_without_the_last,
        "if the masks count from 1",
    ),
    "0 is void": (
        "shifted",
        void_counts_from_zero,
        "got 0..3; if 0 means background, name it first",
    ),
    "two conventions": (
        "mixed",
        two_conventions,
        "255 is void in every mask, got 3 (train0, train1, ",
    ),
    "palette of other classes": (
        "palette",
        lambda root: palette_of_others(root, [(0, 0, 0), Drawing().color(2), (200, 0, 0)]),
        "such as label 1 (cat) in 14,42,253, the color of dog",
    ),
    "palette of no class": (
        "palette",
        lambda root: palette_of_others(root, [(0, 0, 0), (1, 99, 3), (200, 0, 0)]),
        "such as label 1 (cat) in 1,99,3;",
    ),
    "transparent": (
        "alpha",
        make_clear,
        "transparent pixels of a mask are read by their color, got some",
    ),
    "swapped": (
        "swapped",
        swap,
        "pictures belong in JPEGImages and masks in SegmentationClass, got 10",
    ),
    "turned by 180 degrees": (
        "exif",
        lambda root: turn(root, 3),
        "pictures are turned and mirrored as EXIF says, and masks are not, got 6 (train0, ",
    ),
    "copies": (
        "copies",
        copy_to_val,
        "got 1 identical under two names (train0 = val0); take them off one list",
    ),
    "test in train": (
        "overlap",
        lambda root: list_names(root, "test", ["train1"]),
        "train.txt and test.txt must share no picture, or scores come out too good, got 1 in both "
        "(train1); take them off one list",
    ),
    "no val": (
        "split",
        lambda root: (root / "ImageSets/Segmentation/val.txt").unlink(),
        "training needs train.txt and val.txt, got no val.txt; write val.txt",
    ),
    "one class": (
        "one class",
        lambda root: (root / "labelmap.txt").write_text("crack:0,0,0::\n") and None,
        "labelmap.txt: training needs two classes or more, got only crack; "
        "name background on the first line",
    ),
    "no labelmap": (
        "assumed",
        lambda root: (root / "labelmap.txt").unlink(),
        "so the 21 names of Pascal VOC are assumed: train has pixels of background, aeroplane, "
        "bicycle, and none of bird, boat, bottle, bus, car and 13 more; for classes that are not",
    ),
    "class in train alone": (
        "one split",
        lambda root: relabel(root, lambda labels: np.where(labels == 2, 0, labels), "val"),
        "ImageSets/Segmentation: every class should occur in train and in val, got only in train: "
        "dog; list pictures in val.txt that show it too, or divide them by class with "
        "fcnkit data split ",
    ),
    "class in train alone of three splits": (
        "one split",
        lambda root: divide_without(root, 2, "val", "test"),
        "every class should occur in train and in val, got only in train: dog; ",
    ),
    "class in test alone": (
        "absent",
        lambda root: divide_without(root, 2, "train", "val"),
        f"{LABELED} dog, while test has ",
    ),
    "val void": (
        "void",
        lambda root: relabel(root, lambda labels: labels * 0 + 255, "val"),
        "val: some pixel must be labeled, got masks of only 255, which is void; save the labels "
        "0..2",
    ),
    "test void": (
        "void",
        lambda root: divide_without(root, None, "test"),
        "test: some pixel must be labeled, got masks of only 255, which is void; save the labels "
        "0..2",
    ),
    "12 bits in 16": (
        "range",
        lambda root: deep_pictures(root, 4096),
        "values of more than 8 bits are read as 0..65535, got none above 4095; if 4095 means "
        "white, say so with --range 0..4095",
    ),
    "10 bits in 16": (
        "range",
        lambda root: deep_pictures(root, 1024),
        "got none above 1023; if 1023 means white, say so with --range 0..1023",
    ),
    "test in val": (
        "overlap",
        lambda root: list_names(root, "test", ["val0", "val2"]),
        "val.txt and test.txt must share no picture, or scores come out too good, got 2 in both "
        "(val0, val2); take them off one list",
    ),
    "mirrored": (
        "exif",
        lambda root: turn(root, 2),
        "pictures are turned and mirrored as EXIF says, and masks are not, got 6 (train0, ",
    ),
    "copies in test": (
        "copies",
        copy_to_test,
        "got 1 identical under two names (val1 = test0); take them off one list",
    ),
    "no train": (
        "split",
        lambda root: (root / "ImageSets/Segmentation/train.txt").unlink(),
        "training needs train.txt and val.txt, got no train.txt; write train.txt",
    ),
}


ALSO: dict[str, tuple[str, ...]] = {"no labelmap": ("palette",)}
"""What else is warned of with a fault."""


def planted(plant: Callable[[Path], object], tmp_path: Path) -> Path:
    """A good data set with a fault in it."""
    root = Drawing().write(tmp_path / "d")
    plant(root)
    return root


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_warned_of(fault: str, tmp_path: Path) -> None:
    kind, plant, expected = FAULTS[fault]
    root = planted(plant, tmp_path)
    found = check_folder(root).warnings
    assert {remark.kind for remark in found} == {kind, *ALSO.get(fault, ())}, found
    assert [remark for remark in found if remark.kind == kind and expected in remark.text], found
    assert all(remark.text.startswith(str(root)) for remark in found)
    lines = called("data", "check", root).stdout.splitlines()
    assert [line for line in lines if line.startswith("warning: ") and expected in line]
    assert called("data", "check", root, "--strict").returncode == 1


ERRORS: dict[str, Fault] = {
    "smoothed": (
        "unknown",
        lambda root: recolor(root, smooth),
        "; save labels without smoothing or JPEG compression, or check that it is not a photo",
    ),
    "smoothed in grayscale": (
        "unknown",
        lambda root: recolor(root, lambda image: smooth(image).convert("L")),
        "; save labels without smoothing or JPEG compression, or check that it is not a photo",
    ),
    "colors of JPEG": (
        "unknown",
        as_jpeg_colors,
        "; save labels without smoothing or JPEG compression",
    ),
    "JPEG masks": (
        "missing",
        lambda root: masks_as_jpeg(root, ".jpg"),
        "must be one file, got none with .png but train0.jpg; make it again as .png from the "
        "labels, because JPEG has changed them",
    ),
    "JPEG masks named .png": (
        "unreadable",
        lambda root: masks_as_jpeg(root, ".png"),
        "a mask must be a PNG file, got a JPEG file; make it again as PNG from the labels, "
        "because JPEG has changed them",
    ),
    "pictures of another kind": (
        "missing",
        lambda root: (
            Image.open(root / "JPEGImages/train0.jpg").save(root / "JPEGImages/train0.bmp")
            or (root / "JPEGImages/train0.jpg").unlink()
        ),
        "got none with .jpg, .jpeg, .png, .tif, .tiff but train0.bmp; make it again as .png",
    ),
    "16 bits": (
        "unreadable",
        lambda root: deepen(root, 16),
        "got mode I;16; save it with 8 bits per channel",
    ),
    "blue first": (
        "unknown",
        as_bgr,
        "; save it as RGB, for its channels are in the order blue, green, red",
    ),
    "labels in three channels": (
        "unknown",
        labels_in_channels,
        "; save it in grayscale, for its channels hold labels instead of colors",
    ),
    "names with extensions": (
        "missing",
        lambda root: list_names(root, "val", ["val0.jpg"]),
        "got none with .jpg, .jpeg, .png, .tif, .tiff; list the name without its extension",
    ),
    "label beyond": (
        "unknown",
        lambda root: relabel(root, lambda labels: labels + 40 * (labels == 1)),
        "labels are 0..2 or 255, got 41 (",
    ),
    "turned on its side": (
        "size",
        lambda root: turn(root, 6),
        "train0.png: a mask has its picture's size, 32x24 after EXIF orientation 6 turned it, "
        "got 24x32, the size before; turn the mask likewise, or remove the EXIF orientation of "
        "train0.jpg",
    ),
    "picture missing": (
        "missing",
        lambda root: (root / "JPEGImages/val2.jpg").unlink(),
        "JPEGImages/val2: must be one file, got none with .jpg, .jpeg, .png, .tif, .tiff; "
        "add it, or take the "
        "name off the list",
    ),
    "mask missing": (
        "missing",
        lambda root: (root / "SegmentationClass/val2.png").unlink(),
        "SegmentationClass/val2: must be one file, got none with .png; add it, or take the name "
        "off the list",
    ),
    "two pictures of one name": (
        "missing",
        lambda root: shutil.copy(root / "JPEGImages/val0.jpg", root / "JPEGImages/val0.jpeg"),
        "JPEGImages/val0: must be one file, got val0.jpeg, val0.jpg; take the others away",
    ),
    "picture cut short": (
        "unreadable",
        lambda root: truncate(root / "JPEGImages/train1.jpg"),
        "JPEGImages/train1.jpg: must be a whole JPEG or PNG or TIFF file, got image file is "
        "truncated",
    ),
    "mask cut short": (
        "unreadable",
        lambda root: truncate(root / "SegmentationClass/train1.png"),
        "SegmentationClass/train1.png: must be a whole PNG file, got ",
    ),
    "empty picture": (
        "unreadable",
        lambda root: (root / "JPEGImages/train1.jpg").write_bytes(b""),
        "train1.jpg: must be a JPEG or PNG or TIFF file, got an empty file; replace the file",
    ),
    "text for a picture": (
        "unreadable",
        lambda root: (root / "JPEGImages/train1.jpg").write_text("no picture"),
        "train1.jpg: must be a JPEG or PNG or TIFF file, got something else; replace the file",
    ),
    "1-bit mask": (
        "unreadable",
        lambda root: Image.new("1", (32, 24), 1).save(root / "SegmentationClass/train1.png"),
        "train1.png: a mask is a PNG of mode P, L, RGB or RGBA, got mode 1; save it with 8 bits "
        "per channel",
    ),
    "mask of another size": (
        "size",
        lambda root: Drawing().save_mask(root, "val1", np.ones((25, 32), np.uint8)),
        "val1.png: a mask has its picture's size, 24x32, got 25x32; make it again for val1.jpg",
    ),
    "renumbered palette": (
        "unreadable",
        lambda root: palette_of_others(root, [Drawing().color(n) for n in (0, 2, 1)]),
        "a mask's labels and colors must name the same class, got label 1 in the color of dog; "
        "save the mask as RGB, or give it the label map's palette",
    ),
    "color of no class": (
        "unknown",
        lambda root: recolor(root, lambda image: ImageChops.add(image, one_red_pixel(image))),
        "every color must be a class's or void's, got ",
    ),
}


@pytest.mark.parametrize("fault", ERRORS)
def test_a_planted_error_is_listed_with_its_remedy(fault: str, tmp_path: Path) -> None:
    kind, plant, expected = ERRORS[fault]
    root = planted(plant, tmp_path)
    problems = [problem for split in check_folder(root).splits for problem in split.problems]
    assert {problem.kind for problem in problems} == {kind, *ALSO.get(fault, ())}, problems
    assert [one for one in problems if one.kind == kind and expected in one.text], problems
    done = called("data", "check", root)
    assert done.returncode == 1
    assert expected in done.stdout


def test_the_case_of_the_cracks_in_full(tmp_path: Path) -> None:
    root = Drawing(classes=("background", "crack")).write(tmp_path / "d")
    for split in ("train", "val"):
        for name in names_of(root, split):
            labels = np.zeros((24, 32), np.uint8)
            labels[:6] = 255
            Image.fromarray(labels).save(root / f"SegmentationClass/{name}.png")
    done = called("data", "check", root)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-2:] == [
        f"warning: {root}: train: every class should have pixels to be learned, got none of crack, "
        "only background, while 25.0% of the pixels are 255, which is void; list pictures in "
        "train.txt that show it, or if 255 stands for it in the masks, save its label instead",
        "warnings: 1",
    ]


@pytest.mark.parametrize("orientation", range(2, 9))
def test_pictures_turned_with_their_masks_are_silent(tmp_path: Path, orientation: int) -> None:
    drawing = Drawing()
    root = drawing.write(tmp_path / "d")
    turn(root, orientation)
    if orientation >= 5:
        relabel(root, lambda labels: labels.T.copy(), "train", mode="P")
        assert texts(check_folder(root)) == []
    else:  # the sizes tell nothing, so what was assumed is said
        assert [remark.kind for remark in check_folder(root).warnings] == ["exif"]
        # A mask that fits a picture on its side tells how the masks were drawn.
        picture = np.array(Image.open(root / "JPEGImages/val0.jpg"))
        save_image(root, "val0", picture, orientation=6)
        drawing.save_mask(root, "val0", labels_of(root, "val0").T.copy())
        assert texts(check_folder(root)) == []


def test_unfilled_and_grayscale_palettes_say_nothing(tmp_path: Path) -> None:
    for name, palette in (
        ("gray", [value for n in range(256) for value in (n, n, n)]),
        ("unfilled", Drawing().palette[:9] + [0] * 759),  # void in the color of background
    ):
        root = Drawing(border=3).write(tmp_path / name)
        for path in (root / "SegmentationClass").iterdir():
            mask = Image.open(path)
            mask.putpalette(palette)
            mask.save(path)
        report = check_folder(root)
        assert (report.ok, texts(report)) == (True, [])


def test_hidden_files_are_no_part_of_a_data_set(tmp_path: Path) -> None:
    root = Drawing().write(tmp_path / "d")
    for path in [path for path in root.rglob("*") if path.is_file()]:
        (path.parent / f"._{path.name}").write_bytes(b"\x00\x05\x16\x07\xff")
    report = check_folder(root)
    assert (report.ok, texts(report)) == (True, [])
    assert [split.split for split in report.splits] == ["train", "val"]


def test_a_class_that_only_val_lacks_is_a_note(tmp_path: Path) -> None:
    root = Drawing().write(tmp_path / "d")
    divide_without(root, 2, "val")
    report = check_folder(root)
    assert texts(report) == []
    assert [note.text for note in report.notes] == [
        f"{root}: val: every class should have pixels to be scored, got none of dog; "
        "list pictures that do"
    ]
    done = called("data", "check", root, "--strict")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-2:] == [f"note: {report.notes[0].text}", "ok"]


def test_grayscale_of_2_or_4_bits_and_color_of_16_are_refused(tmp_path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    for depth, kind, row in ((2, 0, 1), (4, 0, 2), (16, 2, 24)):
        root = Drawing(size=(4, 4)).write(tmp_path / str(depth))
        head = struct.pack(">IIBBBBB", 4, 4, depth, kind, 0, 0, 0)
        data = zlib.compress((b"\0" + b"\x01" * row) * 4)
        path = root / "SegmentationClass/train0.png"
        chunks = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
        problems = [problem.text for problem in check_folder(root).splits[0].problems]
        assert problems == [
            f"{path}: a mask has 8 bits per channel, got {depth} bits; "
            "save it with 8 bits per channel"
        ]


def test_colors_of_the_helper_are_distinct() -> None:
    colors = {Drawing().color(n) for n in range(254)}
    assert len(colors) == 254
    assert VOID_COLOR not in colors
    assert len(voc_palette(21)) == len(VOC_CLASSES)
