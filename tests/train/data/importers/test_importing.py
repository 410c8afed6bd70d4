"""What all formats share: names, links, colors, and that nothing is left half done."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fcnkit.errors import DataError
from fcnkit.runtime.artifacts.classmap import parse_class_map
from fcnkit.train.data.importers.naming import flat_names
from fcnkit.train.data.importers.source import Item, split_name, split_of
from fcnkit.train.data.labelmap import LabelMap, read_labelmap, write_labelmap
from fcnkit.train.data.voc import read_split
from tests.corpus.make_exports import FOLDER
from tests.refusal import refusal
from tests.train.data.importers.sources import imported, labels_in, noise, nothing_left, save

PAIR = {"images": Path("images"), "masks": Path("masks")}


def source(root: Path, *names: str, ending: str = "png") -> Path:
    for number, name in enumerate(names):
        save(root / "images" / f"{name}.{ending}", noise(number))
        save(root / "masks" / f"{name}.png", np.eye(6, 8, dtype=np.uint8))
    return root


# Names.


def item(name: str, split: str = "", ending: str = ".png") -> Item:
    return Item(name, split, Path(f"x{ending}"), lambda size: np.zeros(size, np.uint16))


@pytest.mark.parametrize(
    ("items", "names"),
    [
        ([item("a/b"), item("c")], ["a_b", "c"]),
        ([item("a/b"), item("a_b")], ["a__b", "a_b"]),
        ([item("a", "train"), item("a", "val")], ["train_a", "val_a"]),
        ([item("a", ending=".png"), item("a", ending=".jpg")], ["a_png", "a_jpg"]),
        ([item(".a"), item(" b "), item("c\td")], ["_a", "_b", "c_d"]),
        ([item("\udcff"), item("猫")], ["_", "猫"]),
    ],
)
def test_names_of_one_folder(items: list[Item], names: list[str]) -> None:
    assert flat_names(items) == names


@given(st.lists(st.text(min_size=1, max_size=12).filter(lambda name: name.strip("/")), min_size=1))
def test_any_names_become_different_names_that_a_list_can_hold(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    try:
        names = flat_names([item(text) for text in texts])
    except DataError as error:
        assert "names: images need different names" in str(error)
        return
    assert len(set(names)) == len(texts)
    root = tmp_path_factory.mktemp("names")
    folder = root / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True)
    (folder / "train.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    assert list(read_split(root, "train")) == names
    for name in names:
        assert (root / f"{name}.png").parent == root
        assert not name.startswith(".")


def test_a_name_that_no_file_system_takes() -> None:
    name = "x" * 150 + "/" + "y" * 100
    long = f"{'x' * 150}_{'y' * 100}"
    text = (
        f"names: a name with its folders has at most 200 bytes, got {long}; "
        "shorten the names of folders"
    )
    with refusal(DataError, text):
        flat_names([item(name)])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("train/a", ("train", "a")),
        ("x/training/y/a", ("train", "x/y/a")),
        ("val2017/a", ("val", "a")),
        ("Validation/a", ("val", "a")),
        ("valid/a", ("val", "a")),
        ("testing/a", ("test", "a")),
        ("trains/a", ("", "trains/a")),
        ("contest/a", ("", "contest/a")),
        ("train", ("", "train")),
    ],
)
def test_folders_that_name_a_split(path: str, expected: tuple[str, str]) -> None:
    assert split_of(PurePosixPath(path)) == expected


def test_names_of_lists() -> None:
    names = ("default", "all", "Train", "validation", "test2017", "trainval", "drive7")
    expected = ["", "", "train", "val", "test", "trainval", "drive7"]
    assert [split_name(name) for name in names] == expected


# Links.


def test_images_are_linked_and_the_source_stays(tmp_path: Path) -> None:
    root = source(tmp_path / "in", "a", "b")
    report = imported(root, tmp_path / "out", **PAIR)
    assert report.placed == {"hard links": 2}
    assert (tmp_path / "out/JPEGImages/a.png").samefile(root / "images/a.png")


def failing(error: int) -> Callable[..., None]:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(error, os.strerror(error))

    return fail


@pytest.mark.parametrize("error", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP])
def test_where_hard_links_fail_links_are_symbolic(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = source(tmp_path / "in", "a", "b")
    monkeypatch.setattr(os, "link", failing(error))
    monkeypatch.chdir(tmp_path)
    report = imported(Path("in"), Path("out"), **PAIR)
    assert report.placed == {"symbolic links": 2}
    placed = tmp_path / "out/JPEGImages/a.png"
    assert placed.is_symlink()
    assert placed.readlink() == (root / "images/a.png").resolve()


def test_where_all_links_fail_images_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = source(tmp_path / "in", "a", "b")
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    monkeypatch.setattr(os, "symlink", failing(errno.EPERM))
    report = imported(root, tmp_path / "out", **PAIR)
    assert report.placed == {"copies": 2}


def test_copies_on_demand(tmp_path: Path) -> None:
    root = source(tmp_path / "in", "a", "b")
    report = imported(root, tmp_path / "out", copy=True, **PAIR)
    assert report.placed == {"copies": 2}
    placed = tmp_path / "out/JPEGImages/a.png"
    assert not placed.samefile(root / "images/a.png")
    assert placed.read_bytes() == (root / "images/a.png").read_bytes()


def test_a_link_in_the_source_is_followed(tmp_path: Path) -> None:
    root = source(tmp_path / "in", "a")
    (root / "images/a.png").rename(tmp_path / "far.png")
    (root / "images/a.png").symlink_to("../../far.png")
    imported(root, tmp_path / "out", **PAIR)
    placed = tmp_path / "out/JPEGImages/a.png"
    assert not placed.is_symlink()
    assert placed.samefile(tmp_path / "far.png")


@pytest.mark.parametrize("ending", ["bmp", "ppm", "webp"])
def test_other_formats_become_png(ending: str, tmp_path: Path) -> None:
    root = source(tmp_path / "in", "a", "b", ending=ending)
    report = imported(root, tmp_path / "out", **PAIR)
    assert report.placed == {"converted to PNG": 2}
    with Image.open(tmp_path / "out/JPEGImages/a.png") as made:
        assert made.mode == "RGB"
        if ending != "webp":
            np.testing.assert_array_equal(np.array(made), noise(0))


def test_deep_images_are_not_converted(tmp_path: Path) -> None:
    root = source(tmp_path / "in", "a")
    (root / "images/a.png").unlink()
    Image.fromarray(np.full((6, 8), 40_000, np.uint16)).save(root / "images/a.pgm")
    text = (
        f"{root}/images/a.pgm: an image of more than 8 bits is a PNG file, got another format; "
        "convert it to PNG"
    )
    with refusal(DataError, text):
        imported(root, tmp_path / "out", **PAIR)


def test_tiffs_keep_their_bytes_with_any_samples(tmp_path: Path) -> None:
    root = source(tmp_path / "in", "a", "b")
    bands = np.random.default_rng(0).integers(0, 65536, (6, 8, 5), np.uint16)
    (root / "images/a.png").unlink()
    tifffile.imwrite(root / "images/a.tif", bands, photometric="minisblack", planarconfig="contig")
    report = imported(root, tmp_path / "out", **PAIR)
    assert report.placed == {"hard links": 2}
    assert (tmp_path / "out/JPEGImages/a.tif").samefile(root / "images/a.tif")


def test_the_ending_follows_the_content(tmp_path: Path) -> None:
    root = source(tmp_path / "in", "a")
    content = (root / "images/a.png").read_bytes()
    (root / "images/a.png").rename(root / "images/a.JPEG")
    imported(root, tmp_path / "out", **PAIR)
    assert (tmp_path / "out/JPEGImages/a.png").read_bytes() == content


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    root = source(tmp_path / "in", "a", "b")
    (root / "images/b.png").write_bytes(b"no image")
    text = f"{root}/images/b.png: must be a picture file, got something else; replace the file"
    with refusal(DataError, text):
        imported(root, tmp_path / "out", **PAIR)
    nothing_left(tmp_path, "in")


# Colors.


def test_colors_follow_the_classes_and_all_differ(tmp_path: Path) -> None:
    root = source(tmp_path / "in", "a")
    save(root / "masks/a.png", np.resize(np.arange(4, dtype=np.uint8), (6, 8)))
    names = tmp_path / "names.txt"
    names.write_text("sky:224,224,192::\nroad:1,2,3::\ncar:0,0,0::\ntree:9,9,9::\nvoid:5,5,5::\n")
    rules = parse_class_map("car=thing,tree=thing,road=background")
    imported(root, tmp_path / "out", labelmap=names, class_map=rules, **PAIR)
    labelmap = read_labelmap(tmp_path / "out/labelmap.txt")
    assert labelmap.classes == ("background", "sky", "thing")
    # Sky had the color of void, which is only void's by default.
    assert labelmap.palette == ((1, 2, 3), (128, 0, 0), (0, 0, 0))


@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=255, unique=True))
def test_a_label_map_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, colors: list[tuple[int, int, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "labelmap.txt"
    void = next((n, n, n) for n in range(256) if (n, n, n) not in colors)
    labelmap = LabelMap(tuple(f"c {n}" for n in range(len(colors))), tuple(colors), void)
    write_labelmap(path, labelmap)
    assert read_labelmap(path) == labelmap


# Nothing half done.


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    root = source(tmp_path / "in", "a")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    text = (
        f"{tmp_path}/out: must be a new or empty folder, got one with other files; "
        "choose another folder"
    )
    with refusal(DataError, text):
        imported(root, tmp_path / "out", **PAIR)
    nothing_left(tmp_path / "out", "precious")
    text = (
        f"{tmp_path}/out/precious: must be a new or empty folder, got a file; choose another folder"
    )
    with refusal(DataError, text):
        imported(root, tmp_path / "out" / "precious", **PAIR)


def test_an_empty_folder_is_taken_and_one_inside_the_source_too(tmp_path: Path) -> None:
    root = source(tmp_path / "in", "a")
    (root / "out").mkdir()
    imported(root, root / "out", **PAIR)
    assert sorted(labels_in(root / "out")) == ["a"]


KILL = """
import os, signal, sys
from pathlib import Path, PurePosixPath
from fcnkit.train.data.importers import importing, links
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
place, calls = links.Placer.place, []
def counted(self, *arguments):
    calls.append(arguments)
    if len(calls) == 4:
        os.kill(os.getpid(), {signal})
    return place(self, *arguments)
links.Placer.place = counted
importing.import_data(Path({source!r}), Path({out!r}))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_import_leaves_no_half_data_set(
    number: signal.Signals, tmp_path: Path
) -> None:
    archive, out = FOLDER / "voc.zip", tmp_path / "out"
    code = KILL.format(signal=int(number), source=str(archive), out=str(out))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode != 0
    assert not out.exists()
    hidden = [path.name for path in tmp_path.iterdir()]
    assert len(hidden) == (1 if number == signal.SIGKILL else 0)
    # The next run removes what was left.
    imported(archive, out)
    nothing_left(tmp_path, "out")


def test_what_another_process_is_writing_stays(tmp_path: Path) -> None:
    mine = tmp_path / f".out.{os.getppid()}.partial"
    mine.mkdir()
    imported(FOLDER / "voc.zip", tmp_path / "out")
    nothing_left(tmp_path, "out", mine.name)


# Choosing the format.


def test_a_folder_of_no_format(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "readme.txt").write_text("x")
    text = (
        f"{tmp_path}/in: must be in one of these formats (voc: SegmentationClass/ "
        "(CVAT, Datumaro); "
        "coco: annotations/*.json; labelme: JSON files with shapes; "
        "cityscapes: gtFine/**/*_gtFine_labelIds.png; "
        "ade20k: images/training/ and annotations/training/; "
        "folders: --images DIR and --masks DIR), got something else; check the path"
    )
    with refusal(DataError, text):
        imported(tmp_path / "in", tmp_path / "out")
    text = f"{tmp_path}/in: must look like coco, got no annotations/*.json; check the path"
    with refusal(DataError, text):
        imported(tmp_path / "in", tmp_path / "out", format="coco")
    text = (
        f"{tmp_path}/no: must be a folder, a zip file or a JSON file, "
        "got no such file or folder; check the path"
    )
    with refusal(DataError, text):
        imported(tmp_path / "no", tmp_path / "out")
    text = (
        "--format: must be one of auto, voc, coco, labelme, cityscapes, ade20k, folders, "
        "got yolo; choose one of these"
    )
    with refusal(ValueError, text):
        imported(tmp_path / "in", tmp_path / "out", format="yolo")


def test_a_folder_of_two_formats(tmp_path: Path) -> None:
    (tmp_path / "in/SegmentationClass").mkdir(parents=True)
    (tmp_path / "in/annotations").mkdir()
    (tmp_path / "in/annotations/instances_a.json").write_text('{"categories": []}')
    text = f"{tmp_path}/in: must be in one format, got voc and coco; choose one with --format voc"
    with refusal(DataError, text):
        imported(tmp_path / "in", tmp_path / "out")


def test_an_empty_source(tmp_path: Path) -> None:
    (tmp_path / "in/SegmentationClass").mkdir(parents=True)
    save(tmp_path / "in/JPEGImages/a.png", noise())
    text = (
        f"{tmp_path}/in: must hold an image with labels, got 1 images that no list names (a); "
        "check the path"
    )
    with refusal(DataError, text):
        imported(tmp_path / "in", tmp_path / "out")


def test_the_record(tmp_path: Path) -> None:
    root = source(tmp_path / "in", "x/a")
    report = imported(root, tmp_path / "out", class_map=parse_class_map("0=sky,1=road"), **PAIR)
    record = json.loads((tmp_path / "out/fcnkit-import.json").read_text())
    assert record == {
        "format_version": 1,
        "source": str(root),
        "format": "folders",
        "splits": {"train": 1},
        "classes": {
            "sky": [{"name": None, "id": 0, "pixels": 42}],
            "road": [{"name": None, "id": 1, "pixels": 6}],
            "void": [],
        },
        "placed": {"hard links": 1},
        "left_out": [],
        "notes": list(report.notes),
        "images": {"x_a": "images/x/a.png"},
    }


@pytest.mark.parametrize(
    ("archive", "options", "text"),
    [
        (
            "voc",
            {"masks": Path("SegmentationClass"), "format": "voc"},
            "--masks: is for the formats folders, got voc; drop it, or choose another --format",
        ),
        (
            "coco_rle",
            {"labelmap": Path("names.txt")},
            "--labelmap: is for the formats voc, ade20k, folders, got coco; "
            "drop it, or choose another --format",
        ),
        (
            "cityscapes",
            {"crowd": "void"},
            "--crowd: is for the formats coco, got cityscapes; drop it, or choose another --format",
        ),
    ],
)
def test_an_option_that_would_be_ignored(
    archive: str, options: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with refusal(ValueError, text):
        imported(FOLDER / f"{archive}.zip", tmp_path / "out", **options)


def test_a_label_map_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        imported(FOLDER / "voc.zip", tmp_path / "out", labelmap=tmp_path / "none.txt")


def test_too_few_images_for_two_lists_are_said(tmp_path: Path) -> None:
    report = imported(source(tmp_path / "in", "a"), tmp_path / "out", **PAIR)
    assert report.splits == {"train": 1}
    assert report.notes[-1] == "too few images for val.txt, which training needs"
    report = imported(source(tmp_path / "two", "a", "b"), tmp_path / "out2", **PAIR)
    assert report.splits == {"train": 1, "val": 1}
