from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from fcnkit.errors import DataError
from fcnkit.train.data.check import check_folder
from fcnkit.train.data.drawing import KINDS, Shape, cover, draw_picture, place_shapes
from fcnkit.train.data.masks import read_mask, size_of
from fcnkit.train.data.shapes import SHAPES, write_shapes
from fcnkit.train.data.voc import open_voc

if TYPE_CHECKING:
    from pathlib import Path


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_same_seed_same_bytes_and_other_seed_other_pictures(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert write_shapes(tmp_path / name, train=3, val=2, test=1, seed=seed)
    first, again, other = (contents(tmp_path / name) for name in "abc")
    assert first == again
    assert first.keys() == other.keys()
    assert len(first) == 2 * 6 + 3 + 2
    picture = "JPEGImages/train_00000.jpg"
    assert first[picture] != other[picture]


def test_a_longer_split_begins_with_the_shorter_one(tmp_path: Path) -> None:
    write_shapes(tmp_path / "a", train=2, val=1)
    write_shapes(tmp_path / "b", train=3, val=1)
    short, long = contents(tmp_path / "a"), contents(tmp_path / "b")
    changed = ("shapes.json", "ImageSets/Segmentation/train.txt")
    assert {k: v for k, v in short.items() if k not in changed}.items() <= long.items()


def test_it_is_a_data_set_in_voc_layout(tmp_path: Path) -> None:
    counts: list[tuple[int, int]] = []
    out = tmp_path / "new" / "shapes"
    write_shapes(out, train=30, val=6, progress=lambda done, total: counts.append((done, total)))
    assert counts == [(n, 36) for n in range(1, 37)]
    report = check_folder(out)
    assert report.ok
    assert report.labelmap == SHAPES
    assert [(split.split, split.pictures) for split in report.splits] == [("train", 30), ("val", 6)]
    train = report.splits[0]
    assert min(train.shares) > 0.01
    assert 0.5 < train.shares[0] < 0.85
    assert train.void > 0


def test_pictures_have_odd_sizes_and_masks_of_mode_p(tmp_path: Path) -> None:
    write_shapes(tmp_path / "d", train=20, val=1)
    for sample in open_voc(tmp_path / "d", split="train").samples:
        height, width = size_of(sample.image)
        assert 104 <= min(height, width) <= max(height, width) <= 221
        assert height % 32
        assert width % 32
        with Image.open(sample.mask) as mask:
            assert mask.mode == "P"
            colors = np.array(mask.getpalette(), np.uint8).reshape(-1, 3)
        assert [tuple(color) for color in colors[: len(SHAPES.palette)]] == list(SHAPES.palette)
        assert tuple(colors[255]) == SHAPES.void_color
        assert set(np.unique(read_mask(sample.mask, SHAPES))) <= {*range(6), 255}


def test_second_run_changes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "d"
    assert write_shapes(out, train=1, val=1)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert not write_shapes(out, train=1, val=1)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    assert write_shapes(tmp_path, train=1, val=1)
    assert check_folder(tmp_path).ok


def test_other_peoples_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError) as info:
        write_shapes(tmp_path, train=1, val=1)
    assert str(info.value) == (
        f"{tmp_path}: shapes are written into a new or empty folder, got one with other files; "
        "choose another folder"
    )
    assert contents(tmp_path) == {"thesis.txt": b"years of work"}
    with pytest.raises(DataError) as info:
        write_shapes(tmp_path / "thesis.txt")
    assert "got a file;" in str(info.value)


def test_shapes_of_other_arguments_are_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "d"
    write_shapes(out, train=1, val=1)
    with pytest.raises(DataError) as info:
        write_shapes(out, train=1, val=1, seed=3)
    assert str(info.value) == (
        f'{out}: already holds shapes, wanted those of {{"format": 1, "seed": 3, "train": 1, '
        '"val": 1, "test": 0}, got {"format": 1, "seed": 0, "train": 1, "val": 1, "test": 0}; '
        "remove the folder or choose another"
    )


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shapes(tmp_path / "d", train=3, val=1, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"train": 0}, "train: must be 1..99999, got 0; pass a value from 1 to 99999"),
        ({"val": 0}, "val: must be 1..99999, got 0; pass a value from 1 to 99999"),
        ({"test": -1}, "test: must be 0..99999, got -1; pass a value from 0 to 99999"),
        ({"train": 100_000}, "train: must be 1..99999, got 100000; pass a value from 1 to 99999"),
        ({"seed": -1}, f"seed: must be 0..{2**63 - 1}, got -1; pass a value from 0 to {2**63 - 1}"),
    ],
)
def test_arguments_refused(tmp_path: Path, options: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match="write_shapes") as info:
        write_shapes(tmp_path / "d", **options)  # type: ignore[arg-type]
    assert str(info.value) == f"write_shapes: {text}"
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_cover_is_the_area_of_the_shape(kind: int) -> None:
    radius = 40.0
    area = cover(Shape(kind, 60.0, 60.0, radius, 0.3), 120, 120).sum()
    # Polygons of n corners at alternating radii: n / 2 * r0 * r1 * sin(2 pi / n).
    expected = {
        "circle": np.pi,
        "square": 2.0,
        "triangle": 1.5 * np.sin(np.pi / 1.5),
        "star": 5 * 0.45 * np.sin(np.pi / 5),
        "ring": np.pi * (1 - 0.45**2),
    }[KINDS[kind]]
    assert area == pytest.approx(expected * radius**2, rel=0.03)


def test_labels_follow_the_shapes_with_a_void_border() -> None:
    for seed in range(10):
        image_hwc, labels_hw = draw_picture(np.random.default_rng(seed), 150, 130, [0, 3, 4])
        assert image_hwc.shape == (150, 130, 3)
        assert image_hwc.dtype == labels_hw.dtype == np.uint8
        # Oracle: labels of different kinds never touch, void lies between them.
        for a, b in ((labels_hw[:-1], labels_hw[1:]), (labels_hw[:, :-1], labels_hw[:, 1:])):
            assert ((a == b) | (a == 255) | (b == 255)).all()
        assert {1, 255} <= set(np.unique(labels_hw)) or {4, 255} <= set(np.unique(labels_hw))


def test_no_shape_is_mostly_hidden() -> None:
    for seed in range(10):
        placed = place_shapes(np.random.default_rng(seed), 120, 120, [0, 1, 2, 3])
        assert placed
        for i, (_, cover_hw) in enumerate(placed):
            seen = cover_hw.copy()
            for _, above in placed[i + 1 :]:
                seen *= 1 - above
            assert seen.sum() >= 0.6 * cover_hw.sum() - 1e-6
