from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from fcnkit.errors import DataError, MissingExtraError
from fcnkit.train.data.importers.coco_masks import run_lengths
from tests.refusal import refusal
from tests.train.data.importers.sources import (
    Coco,
    box,
    imported,
    labels_in,
    listed,
    noise,
    refused,
    save,
)

mask_library = pytest.importorskip("pycocotools.mask")


def masks_of(coco: Coco, tmp_path: Path, **options: Any) -> list[list[str]]:
    """Import a source of one image and return its labels as names."""
    root = coco.root if (coco.root / "annotations").exists() else coco.write()
    imported(root, tmp_path / "out", **options)
    [labels] = labels_in(tmp_path / "out").values()
    return labels


def painted(height: int, width: int, *boxes: tuple[str, int, int, int, int]) -> list[list[str]]:
    """Return labels as names: boxes one over another on background."""
    labels = np.full((height, width), "background", object)
    for name, left, top, right, bottom in boxes:
        labels[top:bottom, left:right] = name
    found: list[list[str]] = labels.tolist()
    return found


def slow_runs(mask: np.ndarray) -> list[int]:
    """Return run lengths, columns first, beginning with zeros."""
    runs, current = [0], False
    for value in mask.T.ravel().tolist():
        if bool(value) != current:
            runs.append(0)
            current = not current
        runs[-1] += 1
    return runs


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_packed_run_lengths_are_those_of_the_mask(mask: np.ndarray) -> None:
    packed = mask_library.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = packed["counts"].decode()
    size = (mask.shape[0], mask.shape[1])
    assert run_lengths({"counts": text, "size": list(size)}, size, "x") == slow_runs(mask)


@given(st.text(st.characters(codec="ascii"), max_size=20))
def test_any_packed_text_is_run_lengths_or_refused(text: str) -> None:
    try:
        runs = run_lengths({"counts": text, "size": [3, 4]}, (3, 4), "x")
    except DataError as error:
        assert "x: counts must be run lengths that add up to 12 pixels" in str(error)
    else:
        assert sum(runs) == 12
        assert min(runs) >= 0


def test_polygons_and_runs_of_every_kind(tmp_path: Path) -> None:
    mask = np.zeros((6, 8), np.uint8)
    mask[4:6, 5:8] = 1
    packed = mask_library.encode(np.asfortranarray(mask))["counts"].decode()
    coco = Coco(tmp_path / "in", "cat", "dog", "cow").image()
    coco.add(1, [box(0, 0, 2, 2), box(0, 4, 2, 6)])
    coco.add(2, {"counts": [18, 2, 28], "size": [6, 8]}, iscrowd=1)
    coco.add(3, {"counts": packed, "size": [6, 8]})
    expected = painted(
        6, 8, ("cat", 0, 0, 2, 2), ("cat", 0, 4, 2, 6), ("dog", 3, 0, 4, 2), ("cow", 5, 4, 8, 6)
    )
    assert masks_of(coco, tmp_path) == expected


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_overlapping_annotations_the_smaller_counts(
    order: tuple[int, int], tmp_path: Path
) -> None:
    coco = Coco(tmp_path / "in", "cat", "dog").image()
    both = [(1, box(0, 0, 8, 4)), (2, box(2, 1, 4, 3))]
    for index in order:
        coco.add(both[index][0], [both[index][1]])
    assert masks_of(coco, tmp_path) == painted(6, 8, ("cat", 0, 0, 8, 4), ("dog", 2, 1, 4, 3))


def test_of_equal_areas_the_later_counts_and_the_overlap_is_said(tmp_path: Path) -> None:
    coco = Coco(tmp_path / "in", "cat", "dog").image()
    coco.add(1, [box(0, 0, 4, 2)]).add(2, [box(2, 0, 6, 2)])
    report = imported(coco.write(), tmp_path / "out")
    [labels] = labels_in(tmp_path / "out").values()
    assert labels == painted(6, 8, ("cat", 0, 0, 4, 2), ("dog", 2, 0, 6, 2))
    assert (
        "4 pixels lie in annotations of two classes: the smaller annotation counts" in report.notes
    )


def test_overlaps_within_a_class_are_not_counted(tmp_path: Path) -> None:
    coco = Coco(tmp_path / "in", "cat").image().add(1, [box(0, 0, 4, 2)]).add(1, [box(2, 0, 6, 2)])
    report = imported(coco.write(), tmp_path / "out")
    assert not [note for note in report.notes if "two classes" in note]


def test_crowds_are_their_class_or_void(tmp_path: Path) -> None:
    coco = Coco(tmp_path / "in", "cat", "dog").image()
    coco.add(1, {"counts": [0, 24, 24], "size": [6, 8]}, iscrowd=1)  # the left half
    coco.add(2, [box(1, 1, 6, 6)])
    expected = ("cat", 0, 0, 4, 6), ("dog", 1, 1, 6, 6)
    # The crowd is the smaller one, and counts.
    assert masks_of(coco, tmp_path) == painted(6, 8, *expected[::-1])
    (tmp_path / "out").rename(tmp_path / "first")
    # As void it counts nowhere that something else is.
    void = ("void", 0, 0, 4, 6)
    assert masks_of(coco, tmp_path, crowd="void") == painted(6, 8, void, expected[1])


def test_a_box_without_an_outline_is_void_and_counted(tmp_path: Path) -> None:
    coco = Coco(tmp_path / "in", "cat", "dog").image()
    coco.add(1, [], bbox=[1.5, 1, 2, 2]).add(2, [box(2, 2, 6, 6)]).add(1, None)
    report = imported(coco.write(), tmp_path / "out")
    [labels] = labels_in(tmp_path / "out").values()
    assert labels == painted(6, 8, ("void", 1, 1, 4, 4), ("dog", 2, 2, 6, 6))
    assert report.left_out == (
        "1 annotations without segmentation, whose boxes are void (annotations[0])",
        "1 annotations without segmentation and box (annotations[2])",
    )


def test_boxes_alone_are_refused(tmp_path: Path) -> None:
    root = Coco(tmp_path / "in", "cat").image().add(1, [], bbox=[1, 1, 2, 2]).write()
    text = (
        f"{root}/annotations/instances_default.json: some annotation must have a segmentation, "
        "got boxes alone; export masks or polygons"
    )
    refused(root, text)


def test_polygons_without_area_are_left_out(tmp_path: Path) -> None:
    coco = Coco(tmp_path / "in", "cat").image()
    coco.add(1, [[1, 1, 5, 5]]).add(1, [box(0, 0, 2, 2), [1, 1]])
    report = imported(coco.write(), tmp_path / "out")
    [labels] = labels_in(tmp_path / "out").values()
    assert labels == painted(6, 8, ("cat", 0, 0, 2, 2))
    assert report.left_out == (
        "2 polygons of fewer than 3 points (annotations[0], annotations[1])",
    )


def test_images_without_annotations_are_background(tmp_path: Path) -> None:
    coco = Coco(tmp_path / "in", "cat").image().add(1, [box(0, 0, 2, 2)]).image("bb.png")
    imported(coco.write(), tmp_path / "out")
    assert labels_in(tmp_path / "out")["bb"] == painted(6, 8)


def test_a_category_named_background_or_void(tmp_path: Path) -> None:
    coco = Coco(tmp_path / "in", "cat", "background", "Void").image()
    coco.add(2, [box(0, 0, 8, 6)]).add(1, [box(0, 0, 4, 4)]).add(3, [box(0, 0, 2, 2)])
    expected = painted(6, 8, ("cat", 0, 0, 4, 4), ("void", 0, 0, 2, 2))
    assert masks_of(coco, tmp_path) == expected


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("images/default/cam1/a.png", "cam1/a.png"),
        ("images/cam1/a.png", "cam1/a.png"),
        ("cam1/a.png", "cam1/a.png"),
        ("images/cam1/a.png", "cam1\\\\a.png"),
        ("images/cam1/a.png", "./cam1//a.png"),
        ("annotations/cam1/a.png", "cam1/a.png"),
    ],
)
def test_where_images_lie(place: str, name: str, tmp_path: Path) -> None:
    coco = Coco(tmp_path / "in", "cat").entry("NAME").add(1, [box(0, 0, 2, 2)])
    root = coco.write_text("NAME", name)
    save(root / place, noise())
    imported(root, tmp_path / "out")
    assert list(labels_in(tmp_path / "out")) == ["cam1_a"]


def test_roboflows_folders_are_the_splits(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for split in ("train", "valid", "test"):
        coco = Coco(tmp_path / split, "cat").entry(f"{split}.png").add(1, [box(0, 0, 2, 2)])
        save(root / split / f"{split}.png", noise())
        (root / split / "_annotations.coco.json").write_text(json.dumps(coco.data))
    imported(root, tmp_path / "out")
    assert listed(tmp_path / "out") == {"train": ["train"], "val": ["valid"], "test": ["test"]}


def test_the_names_of_two_splits_may_be_the_same(tmp_path: Path) -> None:
    for split in ("train2017", "val2017"):
        coco = Coco(tmp_path / "in", "cat").entry("a.png").add(1, [box(0, 0, 2, 2)])
        save(tmp_path / "in" / split / "a.png", noise())
        coco.write(f"instances_{split}.json")
    imported(tmp_path / "in", tmp_path / "out")
    assert listed(tmp_path / "out") == {"train": ["train_a"], "val": ["val_a"]}


def test_one_json_file_and_images_elsewhere(tmp_path: Path) -> None:
    coco = Coco(tmp_path / "in", "cat").entry("a.png").add(1, [box(0, 0, 2, 2)])
    coco.write()
    save(tmp_path / "elsewhere" / "a.png", noise())
    file = tmp_path / "in" / "annotations" / "instances_default.json"
    imported(file, tmp_path / "out", images=tmp_path / "elsewhere")
    assert list(labels_in(tmp_path / "out")) == ["a"]


def test_missing_images_are_refused_or_left_out(tmp_path: Path) -> None:
    coco = Coco(tmp_path / "in", "cat").image("a.png").add(1, [box(0, 0, 2, 2)])
    for name in ("b", "c", "d", "e"):
        coco.entry(f"{name}.png")
    root = coco.write()
    text = (
        f"{root}/annotations/instances_default.json: every image must be there, got 4 of 5 missing "
        "(b.png, c.png, d.png, ...); add them, pass --images DIR, or pass --skip-missing"
    )
    refused(root, text)
    report = imported(root, tmp_path / "out", skip_missing=True)
    assert report.left_out == ("4 listed images that are missing (b.png, c.png, d.png, ...)",)


@pytest.mark.parametrize(
    "name", ["../a.png", "/etc/a.png", "x/../../a.png", "C:\\\\a.png", "..", "\\\\\\\\s\\\\a"]
)
def test_names_that_climb_out_are_refused(name: str, tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise())
    root = (
        Coco(tmp_path / "in", "cat")
        .entry("NAME")
        .add(1, [box(0, 0, 2, 2)])
        .write_text("NAME", name)
    )
    shown = repr(json.loads(f'"{name}"'))
    text = (
        f"{root}/annotations/instances_default.json: images: file_name: names must be relative "
        f"paths that stay inside the source, got {shown}; "
        "write the path below the folder of the images"
    )
    refused(root, text)


@pytest.mark.parametrize(
    ("segmentation", "what", "rest"),
    [
        (
            {"counts": [40], "size": [6, 8]},
            "segmentation",
            "counts must be run lengths that add up to 48 pixels, got 40; export it again",
        ),
        (
            {"counts": [2**62, 2**62], "size": [6, 8]},
            "segmentation",
            f"counts must be run lengths that add up to 48 pixels, got {2**63}; export it again",
        ),
        (
            {"counts": [-1, 49], "size": [6, 8]},
            "segmentation",
            (
                "counts must be run lengths that add up to 48 "
                "pixels, got no run lengths; export it again"
            ),
        ),
        (
            {"counts": "PPPP", "size": [6, 8]},
            "segmentation",
            (
                "counts must be run lengths that add up to 48 "
                "pixels, got no run lengths; export it again"
            ),
        ),
        (
            {"counts": "é", "size": [6, 8]},
            "segmentation",
            (
                "counts must be run lengths that add up to 48 "
                "pixels, got no run lengths; export it again"
            ),
        ),
        (
            {"counts": [48], "size": [48, 1]},
            "segmentation",
            "size must be the image's, [6, 8], got [48, 1]; export it again",
        ),
        (
            {"counts": [0, 10**10], "size": [10**5, 10**5]},
            "segmentation",
            "size must be the image's, [6, 8], got [100000, 100000]; export it again",
        ),
        (
            [1, 2, 3, 4, 5, 6],
            "segmentation",
            "is a list of polygons, or run lengths, got something else; export it again",
        ),
        (
            [[0, 0, 1e9, 0, 1e9, 1e9]],
            "segmentation",
            "outlines lie in or near the image of 6x8, got x = 1000000000.0; "
            "mend the file, or check that it belongs to this image",
        ),
        (
            [[0, 0, 4, 0, 4]],
            "segmentation",
            "an outline has at most 100000 pairs x, y, got 5 numbers; mend the file",
        ),
        ([[0, 0, "4", 0, 4, 4]], "segmentation", "must be a finite number, got '4'; mend the file"),
        (
            [[0, 0, True, 0, 4, 4]],
            "segmentation",
            "must be a finite number, got True; mend the file",
        ),
        (
            [[0, 0, 10**400, 0, 4, 4]],
            "segmentation",
            "must be a finite number, got 1" + "0" * 400 + "; mend the file",
        ),
        (
            [[[[]]], 0, 1, 2, 3, 4],
            "segmentation",
            ("is a list of polygons, or run lengths, got something else; export it again"),
        ),
    ],
)
def test_hostile_outlines(segmentation: Any, what: str, rest: str, tmp_path: Path) -> None:
    root = Coco(tmp_path / "in", "cat").image().add(1, segmentation).write()
    where = f"{root}/annotations/instances_default.json: annotations[0]: {what}"
    refused(root, f"{where}: {rest}")


def test_an_outline_of_endless_length(tmp_path: Path) -> None:
    zigzag = [0, 0, 160, 120] * 50_000
    root = Coco(tmp_path / "in", "cat").image("a.png", 60, 80).add(1, [zigzag]).write()
    text = (
        f"{root}/annotations/instances_default.json: annotations[0]: segmentation: an outline is "
        "at most 5000000 pixels long, got a longer one; do not use this file"
    )
    refused(root, text)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            '"height": 6',
            '"height": 1000000',
            "FILE: image a.png: must have the image's size, 6x8, got 1000000x8; "
            "put the image there that was labeled",
        ),
        (
            '"height": 6, "width": 8',
            '"height": 8, "width": 6',
            "FILE: image a.png: must have the image's size, 6x8, got 8x6; "
            "put the image there that was labeled",
        ),
        (
            '"category_id": 1',
            '"category_id": 7',
            (
                "FILE: annotations[0]: category_id: must be the id "
                "of a category, got 7; export it again"
            ),
        ),
        (
            '"category_id": 1',
            '"category_id": true',
            "FILE: annotations[0]: category_id: must be an integer, got True; export it again",
        ),
        (
            '"image_id": 1',
            '"image_id": 9',
            (
                "FILE: annotations: annotations belong to listed "
                "images, got image_id 9; export it again"
            ),
        ),
        (
            '"file_name": "a.png"',
            '"file_name": 3',
            "FILE: images: file_name: must be a string, got 3; export it again",
        ),
        (
            '"name": "cat"',
            '"name": null',
            "FILE: categories: name: must be a string, got nothing; export it again",
        ),
        (
            "[[0, 0",
            "[[NaN, 0",
            "FILE: must be JSON, got NaN, which JSON does not allow; export it again",
        ),
        (
            '{"images"',
            '{"deep": ' + "[" * 100_000 + "]" * 100_000 + ', "images"',
            "FILE: must be JSON, got lists nested too deep; do not use this file",
        ),
    ],
    ids=range(9),
)
def test_hostile_files(old: str, new: str, text: str, tmp_path: Path) -> None:
    coco = Coco(tmp_path / "in", "cat").image().add(1, [box(0, 0, 2, 2)])
    root = coco.write_text(old, new)
    refused(root, text.replace("FILE", f"{root}/annotations/instances_default.json"))


def test_numbers_of_any_length(tmp_path: Path) -> None:
    coco = Coco(tmp_path / "in", "cat").image().add(1, [box(0, 0, 2, 2)])
    root = coco.write_text('"height": 6', '"height": ' + "9" * 5000)
    with pytest.raises(DataError) as caught:
        imported(root, tmp_path / "out")
    file = f"{root}/annotations/instances_default.json"
    assert str(caught.value).startswith(f"{file}: must be JSON, got Exceeds the limit")


def test_one_image_twice(tmp_path: Path) -> None:
    coco = Coco(tmp_path / "in", "cat").image().add(1, [box(0, 0, 2, 2)]).entry("a.png")
    root = coco.write()
    text = f"{root}/images/a.png: an image is labeled once, got a twice; take it off one list"
    refused(root, text)


def test_ids_of_two_files_that_contradict(tmp_path: Path) -> None:
    for split, category in (("train", "cat"), ("val", "dog")):
        coco = Coco(tmp_path / "in", category).image(f"{split}.png").add(1, [box(0, 0, 2, 2)])
        coco.write(f"instances_{split}.json")
    text = (
        f"{tmp_path}/in/annotations/instances_val.json: categories: an id belongs to one category, "
        "got id 1 for cat and dog; number them anew"
    )
    refused(tmp_path / "in", text)


def test_without_the_library_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Coco(tmp_path / "in", "cat").image().add(1, [box(0, 0, 2, 2)]).write()
    real = builtins.__import__

    def absent(name: str, *args: Any, **more: Any) -> Any:
        if name.startswith("pycocotools"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    text = (
        "--format coco: needs the package pycocotools, got "
        "no such package; pip install 'fcnkit[coco]'"
    )
    with refusal(MissingExtraError, text):
        imported(root, tmp_path / "out")


def test_images_that_no_file_names_are_counted(tmp_path: Path) -> None:
    coco = Coco(tmp_path / "in", "cat").image().add(1, [box(0, 0, 2, 2)])
    save(tmp_path / "in" / "images" / "z.png", noise())
    report = imported(coco.write(), tmp_path / "out")
    assert report.left_out == ("1 images that no JSON file names (z.png)",)
    assert report.notes[0] == "pixels outside of every annotation are background"


def test_a_16_bit_image_keeps_its_bytes(tmp_path: Path) -> None:
    coco = Coco(tmp_path / "in", "cat").entry("a.png").add(1, [box(0, 0, 2, 2)])
    path = tmp_path / "in" / "images" / "a.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000).save(path)
    imported(coco.write(), tmp_path / "out")
    assert (tmp_path / "out" / "JPEGImages" / "a.png").read_bytes() == path.read_bytes()


def test_json_files_of_another_kind_beside_it(tmp_path: Path) -> None:
    coco = Coco(tmp_path / "in", "cat").image().add(1, [box(0, 0, 2, 2)])
    coco.write("things.json")
    (tmp_path / "in" / "annotations" / "captions.json").write_text('{"images": []}')
    imported(tmp_path / "in", tmp_path / "out")
    assert list(labels_in(tmp_path / "out")) == ["a"]
