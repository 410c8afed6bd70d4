from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcnkit.errors import DataError
from tests.train.data.importers.sources import (
    imported,
    labels_in,
    listed,
    noise,
    nothing_left,
    packed,
    polygon,
    refused,
    save,
    write_labelme,
)

SIZE = (20, 30)
SQUARE = polygon("cat", (2, 2), (8, 2), (8, 8), (2, 8))


def write(root: Path, *shapes: dict[str, Any], name: str = "a", **more: Any) -> Path:
    """Write an image and its file."""
    save(root / f"{name}.png", noise(1, *SIZE))
    write_labelme(root / f"{name}.json", f"{Path(name).name}.png", list(shapes), SIZE, **more)
    return root


def names_in(root: Path, out: Path) -> np.ndarray:
    imported(root, out)
    [labels] = labels_in(out).values()
    return np.array(labels, object)


def test_polygons_rectangles_and_circles(tmp_path: Path) -> None:
    circle = {"label": "dog", "points": [[20, 10], [24, 13]], "shape_type": "circle"}
    rectangle = {"label": "cow", "points": [[5, 19], [1, 15]], "shape_type": "rectangle"}
    labels = names_in(write(tmp_path / "in", SQUARE, circle, rectangle), tmp_path / "out")
    assert (labels[2:9, 2:9] == "cat").all()
    assert (labels[15:20, 1:6] == "cow").all()
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    far = np.hypot(rows - 10, columns - 20)
    assert (labels[far < 4.4] == "dog").all()
    assert (labels[far > 5.6] != "dog").all()
    inside = (labels == "cat").sum() + (labels == "cow").sum() + (labels == "dog").sum()
    assert inside + (labels == "background").sum() == labels.size
    assert math.isclose((labels == "dog").sum(), math.pi * 25, rel_tol=0.2)


def test_the_later_shape_counts(tmp_path: Path) -> None:
    over = polygon("dog", (6, 2), (12, 2), (12, 8), (6, 8))
    labels = names_in(write(tmp_path / "in", SQUARE, over), tmp_path / "out")
    assert labels[4, 5:8].tolist() == ["cat", "dog", "dog"]
    labels = names_in(write(tmp_path / "in", over, SQUARE), tmp_path / "again")
    assert labels[4, 7:10].tolist() == ["cat", "cat", "dog"]


def test_masks_are_pasted_at_their_place(tmp_path: Path) -> None:
    mask = np.array([[1, 0, 1], [0, 1, 1]], bool)
    shape = {"label": "cat", "points": [[4, 5], [6, 6]], "shape_type": "mask", "mask": packed(mask)}
    labels = names_in(write(tmp_path / "in", shape), tmp_path / "out")
    expected = np.full(SIZE, "background", object)
    expected[5:7, 4:7][mask] = "cat"
    np.testing.assert_array_equal(labels, expected)


def test_names_with_a_meaning(tmp_path: Path) -> None:
    ignored = polygon("__ignore__", (10, 2), (14, 2), (14, 8), (10, 8))
    nothing = polygon("_background_", (4, 4), (6, 4), (6, 6), (4, 6))
    labels = names_in(write(tmp_path / "in", SQUARE, ignored, nothing), tmp_path / "out")
    assert (labels[5, 12], labels[5, 5], labels[3, 3]) == ("void", "background", "cat")


def test_shapes_without_area_are_left_out(tmp_path: Path) -> None:
    line = {"label": "dog", "points": [[1, 1], [9, 9]], "shape_type": "linestrip"}
    write(tmp_path / "in", SQUARE, line, polygon("dog", (1, 1), (2, 2)))
    save(tmp_path / "in" / "z.png", noise())
    report = imported(tmp_path / "in", tmp_path / "out")
    assert report.left_out == (
        "1 images without a JSON file (z.png)",
        "1 shapes of type linestrip, which have no area (a.json)",
        "1 polygons of fewer than 3 points (a.json)",
    )


def test_the_image_inside_of_the_file(tmp_path: Path) -> None:
    write(tmp_path / "in", SQUARE)
    content = (tmp_path / "in" / "a.png").read_bytes()
    write(tmp_path / "in", SQUARE, imageData=base64.b64encode(content).decode())
    (tmp_path / "in" / "a.png").unlink()
    report = imported(tmp_path / "in", tmp_path / "out")
    assert report.placed == {"unpacked": 1}
    assert (tmp_path / "out" / "JPEGImages" / "a.png").read_bytes() == content
    nothing_left(tmp_path, "in", "out")


def test_the_image_beside_the_folder(tmp_path: Path) -> None:
    save(tmp_path / "in" / "images" / "a.png", noise(1, *SIZE))
    write_labelme(tmp_path / "in" / "labels" / "a.json", "..\\images\\a.png", [SQUARE], SIZE)
    imported(tmp_path / "in", tmp_path / "out")
    write_labelme(tmp_path / "other" / "a.json", "C:\\photos\\a.png", [SQUARE], SIZE)
    imported(tmp_path / "other", tmp_path / "again", images=tmp_path / "in" / "images")
    assert labels_in(tmp_path / "again")["a"] == labels_in(tmp_path / "out")["labels_a"]


def test_a_folder_of_images_with_the_folders_of_the_json_files(tmp_path: Path) -> None:
    for number, folder in enumerate(("x", "y")):
        save(tmp_path / "photos" / folder / "a.png", noise(number, *SIZE))
        write_labelme(tmp_path / "in" / folder / "a.json", "D:\\old\\a.png", [SQUARE], SIZE)
    report = imported(tmp_path / "in", tmp_path / "out", images=tmp_path / "photos")
    assert sorted(labels_in(tmp_path / "out")) == ["x_a", "y_a"]
    assert report.left_out == ()


def test_folders_are_splits_and_groups(tmp_path: Path) -> None:
    for name in ("train/cam1/a", "train/cam2/a", "val/b"):
        write(tmp_path / "in", SQUARE, name=name)
    imported(tmp_path / "in", tmp_path / "out")
    assert listed(tmp_path / "out") == {"train": ["cam1_a", "cam2_a"], "val": ["b"]}


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "x/../../a.png"])
def test_images_outside_of_the_source_are_refused(name: str, tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(1, *SIZE))
    write_labelme(tmp_path / "in" / "a.json", name, [SQUARE], SIZE)
    refused(
        tmp_path / "in",
        f"{tmp_path}/in/a.json: imagePath: names must be relative paths that stay inside the "
        f"source, got {name!r}; pass --images DIR",
    )


def test_missing_images(tmp_path: Path) -> None:
    write(tmp_path / "in", SQUARE)
    write(tmp_path / "in", SQUARE, name="b")
    (tmp_path / "in" / "b.png").unlink()
    refused(
        tmp_path / "in",
        f"{tmp_path}/in/b.json: imagePath: must name an image, got b.png, no such file; "
        "add it, pass --images DIR, or pass --skip-missing",
    )
    report = imported(tmp_path / "in", tmp_path / "out", skip_missing=True)
    assert report.left_out == ("1 JSON files without an image (b.json)",)


def big_png() -> str:
    buffer = io.BytesIO()
    Image.new("1", (3000, 3000)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


POINTS = [[1, 1], [2, 2]]


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (
            {**SQUARE, "label": 3},
            "in/a.json: shapes: label: must be a string, got 3; export it again",
        ),
        (
            {**SQUARE, "points": [[1, 2, 3]] * 3},
            "in/a.json: shapes[0]: points are pairs [x, y], got something else; "
            "save the file again in LabelMe",
        ),
        (
            {**SQUARE, "points": [[1, 2], [1e300, 2], [3, 3]]},
            "in/a.json: shapes[0]: outlines lie in or near the image of 20x30, got x = 1e+300; "
            "mend the file, or check that it belongs to this image",
        ),
        (
            {**SQUARE, "shape_type": "blob"},
            "in/a.json: shapes[0]: a shape is a polygon, rectangle, circle or mask, "
            "got 'blob' of 4 points; draw it as a polygon",
        ),
        (
            {**SQUARE, "shape_type": "circle"},
            "in/a.json: shapes[0]: a shape is a polygon, rectangle, circle or mask, "
            "got 'circle' of 4 points; draw it as a polygon",
        ),
        (
            {"label": "cat", "points": POINTS, "shape_type": "mask", "mask": "%%"},
            "in/a.json: shapes[0]: mask: must be Base64, got something else; "
            "save the file again in LabelMe",
        ),
        (
            {"label": "cat", "points": POINTS, "shape_type": "mask", "mask": big_png()},
            "in/a.json: shapes[0]: a mask fits into the image, got 3000x3000; "
            "save the file again in LabelMe",
        ),
    ],
    ids=range(7),
)
def test_hostile_shapes(shape: dict[str, Any], text: str, tmp_path: Path) -> None:
    write(tmp_path / "in", shape)
    refused(tmp_path / "in", f"{tmp_path}/{text}")


def test_a_mask_that_is_no_png(tmp_path: Path) -> None:
    no_png = base64.b64encode(b"GIF89a").decode()
    shape = {"label": "cat", "points": POINTS, "shape_type": "mask", "mask": no_png}
    write(tmp_path / "in", shape)
    with pytest.raises(DataError) as caught:
        imported(tmp_path / "in", tmp_path / "out")
    where = f"{tmp_path}/in/a.json: shapes[0]: mask"
    assert str(caught.value).startswith(f"{where}: must be a PNG file, got cannot identify image")
    nothing_left(tmp_path, "in")


def test_a_file_of_another_size(tmp_path: Path) -> None:
    write(tmp_path / "in", SQUARE, imageHeight=30, imageWidth=20)
    refused(
        tmp_path / "in",
        f"{tmp_path}/in/a.json: must have the image's size, 20x30, got 30x20; "
        "put the image there that was labeled",
    )


def test_other_json_files_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "in", SQUARE)
    (tmp_path / "in" / "settings.json").write_text(json.dumps({"a": 1}))
    report = imported(tmp_path / "in", tmp_path / "out")
    assert report.left_out == ("1 JSON files without shapes (settings.json)",)
