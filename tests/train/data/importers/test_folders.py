from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcnkit.errors import DataError
from fcnkit.runtime.artifacts.classmap import parse_class_map
from fcnkit.train.data.importers.importing import ImportReport
from tests.refusal import refusal
from tests.train.data.importers.sources import (
    imported,
    labels_in,
    listed,
    noise,
    nothing_left,
    save,
)

IMAGES, MASKS = Path("images"), Path("masks")


def pairs(root: Path, *values: list[int], dtype: type[np.generic] = np.uint8) -> Path:
    """Write images and masks of one row each."""
    for number, row in enumerate(values):
        save(root / "images" / f"{number}.png", noise(number, 1, len(row)))
        save(root / "masks" / f"{number}.png", np.array([row], dtype))
    return root


def run(root: Path, map: str | None = None, keep: str | None = None, **more: Any) -> ImportReport:
    rules = parse_class_map(map, keep)
    out = root.parent / "out"
    return imported(root, out, images=IMAGES, masks=MASKS, class_map=rules, **more)


def rows(root: Path) -> list[list[str]]:
    return [mask[0] for mask in labels_in(root.parent / "out").values()]


def refused(root: Path, text: str, **more: Any) -> None:
    before = sorted(path.name for path in root.parent.iterdir())
    with refusal((DataError, ValueError), text):  # type: ignore[arg-type]
        run(root, **more)
    nothing_left(root.parent, *before)


@pytest.mark.parametrize(
    ("images", "masks", "note"),
    [
        (["a.jpg", "x/b.jpg"], ["a.png", "x/b.png"], None),
        (["a.jpg", "b.jpg"], ["a_mask.png", "b_mask.png"], "matched by name without _mask"),
        (
            ["a_sat.jpg", "b_sat.jpg"],
            ["a_mask.png", "b_mask.png"],
            "matched by name without _sat and _mask",
        ),
        (["a_sat.jpg", "b_sat.jpg"], ["a.png", "b.png"], "matched by name without _sat"),
        (
            ["p/a.jpg", "q/b.jpg"],
            ["a.png", "b.png"],
            "matched by file name alone, whatever the folder",
        ),
        (
            ["p/a_leftImg8bit.png", "q/b_leftImg8bit.png"],
            ["r/a_gtFine_labelIds.png", "s/b_gtFine_labelIds.png"],
            "matched by name without _leftImg8bit and _gtFine_labelIds, whatever the folder",
        ),
        (
            ["p/a.png", "q/b.png"],
            ["r/a_L.png", "s/b_L.png"],
            "matched by name without _L, whatever the folder",
        ),
    ],
)
def test_ways_to_match(
    images: list[str], masks: list[str], note: str | None, tmp_path: Path
) -> None:
    root = tmp_path / "in"
    for place, names in (("images", images), ("masks", masks)):
        for number, name in enumerate(names):
            save(
                root / place / name,
                noise(number) if place == "images" else np.full((6, 8), number, np.uint8),
            )
    report = run(root)
    assert [note for note in report.notes if note.startswith("matched")] == [note] * bool(note)
    found = labels_in(tmp_path / "out")
    assert [mask[0][0] for mask in found.values()] == ["class_0", "class_1"]


def test_names_that_do_not_match(tmp_path: Path) -> None:
    root = tmp_path / "in"
    save(root / "images" / "a.png", noise())
    save(root / "masks" / "b.png", np.zeros((6, 8), np.uint8))
    refused(
        root,
        f"{root}/images, {root}/masks: masks must be named like the images, "
        "got b.png and a.png, none of which match; rename the files",
    )


def test_masks_without_an_image_are_refused_or_left_out(tmp_path: Path) -> None:
    root = pairs(tmp_path / "in", [0, 1], [1, 1], [1, 0])
    (root / "images" / "1.png").unlink()
    save(root / "images" / "7.png", noise())
    refused(
        root,
        f"{root}/images: must hold the image of every mask, got none for {root}/masks/1.png; "
        "add it, or pass --skip-missing",
    )
    report = run(root, skip_missing=True)
    assert report.left_out == (
        "1 masks without an image (1.png)",
        "1 images without a mask (7.png)",
    )


def test_two_files_of_one_name(tmp_path: Path) -> None:
    root = pairs(tmp_path / "in", [0, 1])
    save(root / "images" / "0.jpg", noise())
    refused(root, f"{root}/images/0: must be one file, got 0.jpg, 0.png; take the others away")


def test_folders_of_splits(tmp_path: Path) -> None:
    for name in ("train/x/a", "train/y/a", "validation/b"):
        save(tmp_path / "in" / "images" / f"{name}.png", noise())
        save(tmp_path / "in" / "masks" / f"{name}.png", np.eye(6, 8, dtype=np.uint8))
    run(tmp_path / "in")
    assert listed(tmp_path / "out") == {"train": ["x_a", "y_a"], "val": ["b"]}


def test_ids_of_16_bits_by_rules(tmp_path: Path) -> None:
    root = pairs(tmp_path / "in", [7, 26, 40_000, 255], dtype=np.uint16)
    run(root, map="7=road,26=car,*=void")
    assert rows(root) == [["road", "car", "void", "void"]]


def test_ids_without_names_get_some_and_255_is_void(tmp_path: Path) -> None:
    root = pairs(tmp_path / "in", [3, 9, 255, 3])
    report = run(root)
    assert rows(root) == [["class_3", "class_9", "void", "class_3"]]
    assert report.notes[:2] == (
        "the masks hold ids without names; name them with --map 0=NAME,1=NAME,...",
        "255 in the masks is void",
    )


def test_255_may_be_a_class(tmp_path: Path) -> None:
    root = pairs(tmp_path / "in", [0, 9, 255])
    run(root, map="0=sky,9=road,255=car")
    assert rows(root) == [["sky", "road", "car"]]


def test_an_id_without_a_rule_is_refused(tmp_path: Path) -> None:
    root = pairs(tmp_path / "in", [0, 9])
    text = "--map: every id needs a class, got none for id 9; add 9=NAME or *=void"
    refused(root, text, map="0=sky")


def test_ids_in_rules_that_do_not_occur_are_said(tmp_path: Path) -> None:
    report = run(pairs(tmp_path / "in", [0, 9]), map="0=sky,9=road,11=car")
    assert "id 11 does not occur" in report.notes


@pytest.mark.parametrize("map", [None, "foreground=cat", "255=cat"])
def test_masks_of_0_and_255_alone(map: str | None, tmp_path: Path) -> None:
    root = pairs(tmp_path / "in", [0, 255], [0, 0], [255, 255])
    report = run(root, map=map)
    thing = "cat" if map else "foreground"
    assert rows(root) == [["background", thing], ["background"] * 2, [thing] * 2]
    assert "masks of 0 and 255 alone: 0 is background, 255 is foreground" in report.notes


def test_masks_of_1_bit(tmp_path: Path) -> None:
    root = pairs(tmp_path / "in", [0, 1], [1, 1])
    for path in (root / "masks").iterdir():
        with Image.open(path) as mask:
            bits = np.array(mask) > 0
        Image.fromarray(bits).save(path)
    report = run(root, map="1=cat")
    assert rows(root) == [["background", "cat"], ["cat", "cat"]]
    assert "masks of 1 bit: 0 is background, 1 is foreground" in report.notes


def test_masks_of_0_and_255_beside_others_are_refused_unless_said(tmp_path: Path) -> None:
    root = pairs(tmp_path / "in", [0, 255], [0, 1], [2, 1])
    text = (
        f"{root}/masks: 255 must mean the same in every mask, got masks of 0 and 255 alone (0.png) "
        "beside masks of other values; say what it means with --map 255=NAME or 255=void"
    )
    refused(root, text)
    run(root, map="0=a,1=b,2=c,255=void")
    assert rows(root) == [["a", "void"], ["a", "b"], ["c", "b"]]


def test_255_beside_other_values_is_void_everywhere(tmp_path: Path) -> None:
    root = pairs(tmp_path / "in", [0, 255], [1, 255])
    run(root)
    assert rows(root) == [["class_0", "void"], ["class_1", "void"]]


def test_a_label_map_names_colors_and_numbers(tmp_path: Path) -> None:
    root = pairs(tmp_path / "in", [0, 1, 255], [1, 0, 1])
    colors = np.array([[[9, 9, 9], [0, 0, 255], [224, 224, 192]]], np.uint8)
    save(root / "masks" / "0.png", colors)
    labelmap = tmp_path / "names.txt"
    labelmap.write_text("sky:0,0,255::\nroad:9,9,9::\n")
    run(root, labelmap=labelmap)
    assert rows(root) == [["road", "sky", "void"], ["road", "sky", "road"]]


def test_more_than_255_ids_are_no_classes(tmp_path: Path) -> None:
    root = pairs(tmp_path / "in", list(range(300)), dtype=np.uint16)
    text = (
        f"{root}/masks: masks have at most 255 ids, got 299 ids; "
        "name the ids that are classes with --map 7=road,*=void"
    )
    refused(root, text)


def test_images_without_a_labeled_pixel_are_left_out(tmp_path: Path) -> None:
    root = pairs(tmp_path / "in", [1, 2], [2, 2], [1, 1])
    report = run(root, keep="1")
    assert report.left_out == ("1 images without a labeled pixel (1)",)
    assert rows(root) == [["class_1", "void"], ["class_1", "class_1"]]


def test_nothing_labeled_at_all(tmp_path: Path) -> None:
    root = pairs(tmp_path / "in", [255, 255], [255, 255])
    text = "--map: 1 to 255 classes must be left, got 0; map fewer classes to void"
    refused(root, text)


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    root = pairs(tmp_path / "in", [0, 1])
    save(root / "images" / "0.png", noise(0, 2, 2))
    refused(
        root,
        f"{root}/images/0.png: a mask has the size of its image, 2x2, got 1x2; make the mask again",
    )


def test_one_folder_alone(tmp_path: Path) -> None:
    root = pairs(tmp_path / "in", [0, 1])
    text = (
        "--format folders: needs --images DIR and --masks "
        "DIR, got only --masks; add the other option"
    )
    with refusal(DataError, text):
        imported(root, tmp_path / "out", masks=MASKS)
    with refusal(
        DataError, "--masks: must be a folder, got nowhere, no such folder; check the path"
    ):
        imported(root, tmp_path / "out", masks=Path("nowhere"))
    with refusal(
        ValueError,
        "SOURCE: must be given, got nothing; pass a folder or file, or --images and --masks",
    ):
        imported(None, tmp_path / "out", masks=root / "masks")


def test_two_folders_without_a_source(tmp_path: Path) -> None:
    root = pairs(tmp_path / "in", [0, 1])
    imported(None, tmp_path / "out", images=root / "images", masks=root / "masks")
    assert rows(root) == [["class_0", "class_1"]]


def test_transparent_ids_are_said(tmp_path: Path) -> None:
    root = pairs(tmp_path / "in", [0, 1])
    save(root / "masks" / "0.png", np.array([[[0, 255], [1, 0]]], np.uint8))
    report = run(root)
    assert rows(root) == [["class_0", "class_1"]]
    assert "0.png: transparent pixels of a mask are read by their color" in report.notes
