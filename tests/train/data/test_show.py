from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnkit.errors import DataError
from fcnkit.train.data.labelmap import LabelMap
from fcnkit.train.data.show import Shown, draw_sheet, positions, save_sheets, spread
from fcnkit.train.data.voc import open_voc
from tests.refusal import refusal
from tests.train.data.sets import Drawing

MAP = LabelMap(("sky", "road", "car"), ((0, 0, 255), (90, 90, 90), (200, 0, 0)), (1, 2, 3))


def sheet(labels: np.ndarray) -> np.ndarray:
    image = np.full((*labels.shape, 3), 77, np.uint8)
    return np.array(draw_sheet(Shown("picture 7", image, labels), MAP))


def has_color(sheet: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((sheet == np.array(color, np.uint8)).all(axis=-1).any())


def test_a_sheet_holds_the_image_the_mask_and_both() -> None:
    labels = np.zeros((480, 480), np.uint8)
    labels[:, 240:] = 2
    drawn = sheet(labels)
    top, gap = 26, 8
    panels = [drawn[top + 240, gap + n * (480 + gap) :][:480] for n in range(3)]
    assert (panels[0] == 77).all()
    assert panels[1][10].tolist() == [0, 0, 255]
    assert panels[1][470].tolist() == [200, 0, 0]
    # Half of each color, as overlay says.
    assert panels[2][10].tolist() == [39, 39, 166]


def test_the_legend_shows_the_classes_that_occur_and_void() -> None:
    labels = np.zeros((40, 60), np.uint8)
    legend = sheet(labels)[-34:]
    assert has_color(legend, (0, 0, 255))
    assert not has_color(legend, (200, 0, 0))
    assert not has_color(legend, (1, 2, 3))
    labels[:3], labels[3:5] = 2, 255
    legend = sheet(labels)[-34:]
    assert has_color(legend, (200, 0, 0))
    assert has_color(legend, (1, 2, 3))


def test_the_legend_has_a_text_per_class_in_black() -> None:
    few, many = (sheet(np.full((40, 60), n, np.uint8)) for n in (0, 255))
    dark = [(np.array(drawn[-34:]) < 60).all(axis=-1).sum() for drawn in (few, many)]
    assert min(dark) > 20
    assert not np.array_equal(few[-34:], many[-34:])


def test_a_small_image_is_drawn_large_and_a_large_one_small() -> None:
    assert sheet(np.zeros((10, 20), np.uint8)).shape[1] == 3 * (480 + 8) + 8
    assert sheet(np.zeros((100, 2000), np.uint8)).shape[1] == 3 * (480 + 8) + 8


def test_many_classes_with_long_names_stay_on_the_sheet() -> None:
    names = tuple(f"a rather long name of class number {n}" for n in range(40))
    colors = tuple((n, 255 - n, 3 * n) for n in range(40))
    labels = np.resize(np.arange(40, dtype=np.uint8), (64, 64))
    image = np.zeros((64, 64, 3), np.uint8)
    drawn = np.array(draw_sheet(Shown("x", image, labels), LabelMap(names, colors, (9, 9, 9))))
    assert all(has_color(drawn[26 + 448 + 8 :], color) for color in colors)
    assert (drawn[:, -1] == 255).all()
    assert (drawn[-1] == 255).all()


@pytest.mark.parametrize(
    ("length", "count", "places"),
    [(5, 3, [0, 2, 4]), (2, 9, [0, 1]), (9, 1, [0]), (0, 3, [])],
)
def test_images_are_spread_over_the_list(length: int, count: int, places: list[int]) -> None:
    assert positions(length, count) == places


def test_a_folder_of_sheets(tmp_path: Path) -> None:
    folder = open_voc(Drawing().write(tmp_path / "d"), split="train")
    seen: list[int] = []
    assert (
        save_sheets(tmp_path / "out", spread(folder, 3), folder.labelmap, progress=seen.append) == 3
    )
    assert seen == [1, 2, 3]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["train0.png", "train2.png", "train5.png"]
    with Image.open(tmp_path / "out" / names[0]) as opened:
        assert opened.mode == "RGB"
    text = (
        f"{tmp_path}/out: must be a new or empty folder, got one with other files; "
        "choose another folder"
    )
    with refusal(DataError, text):
        save_sheets(tmp_path / "out", spread(folder, 3), folder.labelmap)


def test_a_broken_image_leaves_no_folder(tmp_path: Path) -> None:
    folder = open_voc(Drawing().write(tmp_path / "d"), split="train")
    folder.samples[2].image.write_bytes(b"x")
    with pytest.raises(DataError):
        save_sheets(tmp_path / "out", spread(folder, 9), folder.labelmap)
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
