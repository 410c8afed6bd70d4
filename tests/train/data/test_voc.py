from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fcnkit.errors import DataError
from fcnkit.train.data import voc
from fcnkit.train.data.labelmap import LabelMap, read_labelmap, voc_labelmap
from fcnkit.train.data.masks import decode_mask, read_image, read_mask, size_of
from tests.train.folders import make_folder, real, write_image, write_indices

if TYPE_CHECKING:
    from pathlib import Path

THREE = LabelMap(("background", "cat", "dog"), ((0, 0, 0), (255, 0, 0), (0, 255, 0)))


def refusal(call: object, *args: object, **options: object) -> str:
    assert callable(call)
    with pytest.raises(DataError) as info:
        call(*args, **options)
    return str(info.value)


# --- the layout ---------------------------------------------------------------------------------


def test_open_voc_finds_every_sample_in_the_lists_order(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d", train=["b", "a", "2007_1.x"], val=["c"])
    folder = voc.open_voc(root, split="train")
    assert folder.classes == ("background", "cat", "dog")
    assert folder.palette == ((0, 0, 0), (255, 0, 0), (0, 255, 0))
    assert [sample.name for sample in folder.samples] == ["b", "a", "2007_1.x"]
    assert folder.samples[0].image == root / "JPEGImages" / "b.jpg"
    assert folder.samples[0].mask == root / "SegmentationClass" / "b.png"
    assert voc.split_names(root) == ("train", "val")


def test_without_a_labelmap_the_voc_classes_apply(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d", train=["a"])
    (root / "labelmap.txt").unlink()
    folder = voc.open_voc(root, split="train")
    assert len(folder.classes) == 21
    assert folder.classes[15] == "person"
    assert folder.palette[15] == (192, 128, 128)


@pytest.mark.parametrize("suffix", ["JPG", "jpeg", "png"])
def test_pictures_may_have_other_suffixes(tmp_path: Path, suffix: str) -> None:
    root = make_folder(tmp_path / "d", train=["a"])
    (root / "JPEGImages" / "a.jpg").unlink()
    write_image(root / "JPEGImages" / f"a.{suffix}", 6, 8)
    sample = voc.open_voc(root, split="train").samples[0]
    assert sample.image.name == f"a.{suffix}"
    assert size_of(sample.image) == (6, 8)


def test_list_may_have_blank_lines_carriage_returns_and_a_byte_order_mark(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d", train=["a", "b"])
    (root / "ImageSets/Segmentation/train.txt").write_bytes(b"\xef\xbb\xbfa\r\n\r\n  b  \r\n")
    assert voc.read_split(root, "train") == ("a", "b")


def test_missing_folder(tmp_path: Path) -> None:
    root = tmp_path / "none"
    expected = f"{root}: a data set is a folder, got no such folder; check the path"
    assert refusal(voc.open_voc, root, split="train") == expected


def test_missing_parts_of_the_layout(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d", train=["a"])
    holds = "a data set holds JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/"
    (root / "JPEGImages").rename(root / "Pictures")
    expected = f"{root}: must hold JPEGImages/, got no such folder; {holds}"
    assert refusal(voc.open_voc, root, split="train") == expected


def test_parent_of_the_devkit_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path / "VOCdevkit" / "VOC2012", train=["a"])
    expected = (
        f"{tmp_path}: must hold ImageSets/Segmentation/, got no such folder; "
        f"pass {tmp_path}/VOCdevkit/VOC2012"
    )
    assert refusal(voc.open_voc, tmp_path, split="train") == expected


def test_missing_split(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d", train=["a"], val=["b"])
    expected = (
        f"{root}/ImageSets/Segmentation: must hold the split's list, got no test.txt; "
        "there are: train, val"
    )
    assert refusal(voc.open_voc, root, split="test") == expected
    assert "got no ../train.txt;" in refusal(voc.open_voc, root, split="../train")


def test_empty_split(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d", train=[])
    expected = (
        f"{root}/ImageSets/Segmentation/train.txt: a split must list at least one picture, "
        "got none; write a picture name per line"
    )
    assert refusal(voc.open_voc, root, split="train") == expected


@pytest.mark.parametrize("name", ["../a", "/etc/a", "x/a", "..", "x\\a", "a\0"])
def test_listed_names_are_plain(tmp_path: Path, name: str) -> None:
    root = make_folder(tmp_path / "d", train=["a"])
    path = root / "ImageSets/Segmentation/train.txt"
    path.write_text(f"a\n{name}\n")
    expected = (
        f"{path}:2: a listed name is a plain file name without extension, got {name!r}; "
        "write the bare name"
    )
    assert refusal(voc.open_voc, root, split="train") == expected


def test_listed_twice(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d", train=["a", "b", "a"])
    path = root / "ImageSets/Segmentation/train.txt"
    expected = f"{path}:3: a name is listed once, got a again; take the line out"
    assert refusal(voc.open_voc, root, split="train") == expected


def test_list_that_is_no_text(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d", train=["a"])
    path = root / "ImageSets/Segmentation/train.txt"
    path.write_bytes(b"a\n\xff\xfe")
    expected = f"{path}: must be UTF-8 text, got byte 0xff at position 2; save it as UTF-8"
    assert refusal(voc.open_voc, root, split="train") == expected


def test_missing_pictures_and_masks_are_counted(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d", train=["a", "b", "c", "d", "e"])
    for name in "bcde":
        (root / "JPEGImages" / f"{name}.jpg").unlink()
    remedy = f"run fcnkit data check {root}; names are listed without extension"
    expected = (
        f"{root}/JPEGImages: must hold every name listed in train.txt, "
        f"got 4 missing (b, c, d, ...); {remedy}"
    )
    assert refusal(voc.open_voc, root, split="train") == expected

    root = make_folder(tmp_path / "m", train=["a"])
    (root / "SegmentationClass/a.png").unlink()
    assert refusal(voc.open_voc, root, split="train").startswith(
        f"{root}/SegmentationClass: must hold every name listed in train.txt, got 1 missing (a);"
    )


def test_two_pictures_of_one_name(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d", train=["a"])
    write_image(root / "JPEGImages/a.png", 6, 8)
    expected = f"{root}/JPEGImages/a: must be one file, got a.jpg, a.png; take the others away"
    assert refusal(voc.open_voc, root, split="train") == expected


def test_read_pair_refuses_a_mask_of_another_size(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d", train=["a"])
    folder = voc.open_voc(root, split="train")
    image_hwc, labels_hw = voc.read_pair(folder.samples[0], folder.labelmap)
    assert image_hwc.shape == (6, 8, 3)
    assert (labels_hw == 1).all()
    write_indices(root / "SegmentationClass/a.png", np.ones((8, 6), np.uint8))
    expected = (
        f"{root}/SegmentationClass/a.png: a mask has its picture's size, 6x8, got 8x6; "
        "make it again for a.jpg"
    )
    assert refusal(voc.read_pair, folder.samples[0], folder.labelmap) == expected


def test_pictures_smaller_than_the_crop_are_set_aside(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d", train=["low", "fits", "narrow"])
    write_image(root / "JPEGImages/low.jpg", 31, 64)
    write_image(root / "JPEGImages/fits.jpg", 32, 48)
    write_image(root / "JPEGImages/narrow.jpg", 64, 47)
    kept, dropped = voc.drop_smaller(voc.open_voc(root, split="train").samples, 32, 48)
    assert [sample.name for sample in kept] == ["fits"]
    assert [sample.name for sample in dropped] == ["low", "narrow"]


# --- labelmap.txt -------------------------------------------------------------------------------


def test_labelmap_with_comments_blanks_and_void(tmp_path: Path) -> None:
    path = tmp_path / "labelmap.txt"
    path.write_text(
        "# label:color_rgb:parts:actions\n\n sky : 1, 2,3::\nroad:4,5,6\nvoid:9,9,9::\n"
    )
    assert read_labelmap(path) == LabelMap(("sky", "road"), ((1, 2, 3), (4, 5, 6)), (9, 9, 9))


@pytest.mark.parametrize(
    ("text", "where", "rest"),
    [
        (
            "a:1,2::",
            ":1",
            "a class is written name:r,g,b:: with 0..255, got 'a:1,2::'; mend the line",
        ),
        ("a", ":1", "a class is written name:r,g,b:: with 0..255, got 'a'; mend the line"),
        (
            ":1,2,3::",
            ":1",
            "a class is written name:r,g,b:: with 0..255, got ':1,2,3::'; mend the line",
        ),
        (
            "a:1,2,256",
            ":1",
            "a class is written name:r,g,b:: with 0..255, got 'a:1,2,256'; mend the line",
        ),
        (
            "a:1,2,-3",
            ":1",
            "a class is written name:r,g,b:: with 0..255, got 'a:1,2,-3'; mend the line",
        ),
        ("a:1,2,3::\n\na:4,5,6::", ":3", "class names must differ, got a again; rename one"),
        (
            "a:1,2,3::\nb:1,2,3::",
            ":2",
            "class colors must differ, got 1,2,3 for a and b; change one",
        ),
        (
            "void:1,2,3::\nb:0,0,0::",
            ":2",
            "void must be the last line, got b after it; move it to the end",
        ),
        ("# nothing", "", "must name 1 to 255 classes, got 0; add name:r,g,b:: lines"),
        ("void:1,2,3", "", "must name 1 to 255 classes, got 0; add name:r,g,b:: lines"),
        (
            "a:224,224,192",
            "",
            (
                "no class may have the color of void, 224,224,192, got a; "
                "add a last line void:r,g,b::"
            ),
        ),
    ],
)
def test_labelmap_refused(tmp_path: Path, text: str, where: str, rest: str) -> None:
    path = tmp_path / "labelmap.txt"
    path.write_text(text)
    assert refusal(read_labelmap, path) == f"{path}{where}: {rest}"


def test_labelmap_of_256_classes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labelmap.txt"
    path.write_text("\n".join(f"c{i}:{i},0,0::" for i in range(256)))
    rest = "must name 1 to 255 classes, got 256; add name:r,g,b:: lines"
    assert refusal(read_labelmap, path) == f"{path}: {rest}"


@pytest.mark.parametrize("name", ["background", "Background", "BACKGROUND"])
def test_void_is_background_only_where_there_is_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.png"
    write_indices(path, np.array([[0, 1, 255]], np.uint8))
    colors = ((0, 0, 0), (255, 0, 0))
    for classes, labels in (((name, "cat"), [0, 1, 0]), (("sky", name), [0, 1, 255])):
        labelmap = LabelMap(classes, colors)
        assert read_mask(path, labelmap, void_as_background=True).tolist() == [labels]
        assert read_mask(path, labelmap).tolist() == [[0, 1, 255]]


# --- pictures -----------------------------------------------------------------------------------


def save(path: Path, mode: str, array: object) -> Path:
    Image.fromarray(np.asarray(array, np.uint8)).convert(mode).save(path)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown_hwc = np.zeros((16, 24, 3), np.uint8)
    shown_hwc[:8, :8] = 255  # A white corner at the upper left, as the viewer shows it.
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = Image.fromarray(shown_hwc)
    if orientation in undo:
        stored = stored.transpose(undo[orientation])
    for name in ("a.jpg", "a.png"):
        stored.save(tmp_path / name, exif=exif)
        image_hwc = read_image(tmp_path / name)
        assert image_hwc.shape == (16, 24, 3)
        assert size_of(tmp_path / name) == (16, 24)
        assert image_hwc[:6, :6].min() > 200
        assert image_hwc[10:, 10:].max() < 50


def test_gray_palette_and_transparent_pictures(tmp_path: Path) -> None:
    gray = save(tmp_path / "l.png", "L", [[0, 128, 255]])
    assert read_image(gray).tolist() == [[[0] * 3, [128] * 3, [255] * 3]]
    palette = save(tmp_path / "p.png", "P", [[[255, 0, 0], [0, 0, 255]]])
    assert read_image(palette).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    clear = save(tmp_path / "rgba.png", "RGBA", [[[255, 0, 0, 255], [9, 9, 9, 0]]])
    assert read_image(clear).tolist() == [[[255, 0, 0], [255, 255, 255]]]
    cmyk = save(tmp_path / "c.jpg", "CMYK", np.full((8, 8, 3), 255))
    assert read_image(cmyk).min() > 250


def test_sixteen_bit_gray_is_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 0x8000, 0xFFFF]], np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 128, 255]


def test_image_belongs_to_the_caller(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", 6, 8)
    image_hwc = read_image(tmp_path / "a.jpg")
    image_hwc[:] = 0
    assert image_hwc.flags.c_contiguous
    assert image_hwc.dtype == np.uint8


def test_truncated_jpeg_names_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "a.jpg"
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    text = refusal(read_image, path)
    assert text.startswith(
        f"{path}: must be a whole JPEG or PNG or TIFF file, got image file is truncated"
    )
    assert text.endswith("; replace the file")
    assert size_of(path) == (64, 64)


@given(st.data())
def test_cut_or_damaged_files_raise_data_errors_only(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8))
    path = folder / data.draw(st.sampled_from(["a.jpg", "a.png"]))
    image.save(path)
    whole = bytearray(path.read_bytes())
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for read in (read_image, size_of):
        with contextlib.suppress(DataError):  # Any other exception fails the test.
            read(path)


def test_empty_foreign_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    expected = f"{path}: must be a JPEG or PNG or TIFF file, got no file; check the path"
    assert refusal(read_image, path) == expected
    path.touch()
    expected = f"{path}: must be a JPEG or PNG or TIFF file, got an empty file; replace the file"
    assert refusal(read_image, path) == expected
    path.write_text("hello")
    expected = f"{path}: must be a JPEG or PNG or TIFF file, got something else; replace the file"
    assert refusal(size_of, path) == expected


# --- masks --------------------------------------------------------------------------------------


def test_palette_and_gray_masks_hold_labels(tmp_path: Path) -> None:
    labels_hw = np.array([[0, 1, 2, 255]], np.uint8)
    write_indices(tmp_path / "p.png", labels_hw)
    Image.fromarray(labels_hw).save(tmp_path / "l.png")
    for name in ("p.png", "l.png"):
        assert read_mask(tmp_path / name, THREE).tolist() == [[0, 1, 2, 255]]
        assert read_mask(tmp_path / name, THREE, void_as_background=True).tolist() == [[0, 1, 2, 0]]


def test_rgb_masks_are_looked_up(tmp_path: Path) -> None:
    colors = [[[0, 255, 0], [224, 224, 192], [255, 0, 0], [0, 0, 0]]]
    for mode in ("RGB", "RGBA"):
        path = save(tmp_path / f"{mode}.png", mode, colors)
        assert read_mask(path, THREE).tolist() == [[2, 255, 1, 0]]
    gray_void = LabelMap(THREE.classes, THREE.palette, (9, 9, 9))
    path = save(tmp_path / "v.png", "RGB", [[[9, 9, 9], [255, 0, 0]]])
    assert read_mask(path, gray_void).tolist() == [[255, 1]]


def test_unknown_colors_are_counted(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", "RGB", [[[1, 2, 3]] * 2 + [[4, 5, 6]] * 3 + [[255, 0, 0]]])
    expected = (
        f"{path}: every color must be a class's or void's, got 4,5,6 (3 px), "
        "1,2,3 (2 px); mend the mask or name the class in labelmap.txt"
    )
    assert refusal(read_mask, path, THREE) == expected
    labels_hw, unknown, *_ = decode_mask(path, THREE)
    assert labels_hw.tolist() == [[255, 255, 255, 255, 255, 1]]
    assert unknown == {"4,5,6": 3, "1,2,3": 2}


def test_unknown_labels_are_counted_and_shown_in_part(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_indices(path, np.array([[3, 4, 4, 5, 6, 7, 254, 255, 2]], np.uint8))
    expected = (
        f"{path}: labels are 0..2 or 255, got 4 (2 px), 3 (1 px), 5 (1 px), "
        "6 (1 px), 7 (1 px), and 1 more; mend the mask or name the class in labelmap.txt"
    )
    assert refusal(read_mask, path, THREE) == expected
    assert decode_mask(path, THREE).labels_hw.tolist() == [[255] * 8 + [2]]


def renumbered(path: Path, colors: list[tuple[int, int, int]]) -> Path:
    """Write a mask whose labels 0, 1, ... have these colors."""
    mask = Image.fromarray(np.arange(len(colors), dtype=np.uint8)[None])
    mask.putpalette([value for color in colors for value in color])
    mask.save(path)
    return path


def test_renumbered_palettes_are_refused(tmp_path: Path) -> None:
    path = renumbered(tmp_path / "a.png", [(0, 0, 0), (0, 255, 0), (255, 0, 0)])
    expected = (
        f"{path}: a mask's labels and colors must name the same class, got label 1 in the color "
        "of dog; save the mask as RGB, or give it the label map's palette"
    )
    assert refusal(read_mask, path, THREE) == expected
    path = renumbered(tmp_path / "b.png", [(0, 0, 0), (224, 224, 192)])
    assert "got label 1 in the color of void;" in refusal(read_mask, path, THREE)


def test_palettes_of_other_colors_say_nothing(tmp_path: Path) -> None:
    path = renumbered(tmp_path / "a.png", [(0, 0, 0), (1, 1, 1), (2, 2, 2)])
    assert read_mask(path, THREE).tolist() == [[0, 1, 2]]


def test_masks_of_other_kinds_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", "1", [[0, 255]])
    expected = (
        f"{path}: a mask is a PNG of mode P, L, RGB or RGBA, got mode 1; "
        "save it with 8 bits per channel"
    )
    assert refusal(read_mask, path, THREE) == expected
    path = tmp_path / "a.jpg"
    write_image(path, 6, 8)
    expected = (
        f"{path}: a mask must be a PNG file, got a JPEG file; make it again as PNG from the "
        "labels, because JPEG has changed them"
    )
    assert refusal(read_mask, path, THREE) == expected
    path.write_bytes(b"GIF89a")
    expected = f"{path}: must be a PNG file, got a GIF file; convert it"
    assert refusal(read_mask, path, THREE) == expected


@given(st.lists(st.sampled_from([0, 1, 2, 255]), min_size=1, max_size=64))
def test_colors_and_labels_read_alike(
    tmp_path_factory: pytest.TempPathFactory, labels: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("alike")
    colors = dict(enumerate(THREE.palette)) | {255: THREE.void_color}
    write_indices(folder / "p.png", np.array([labels], np.uint8))
    save(folder / "c.png", "RGB", [[colors[label] for label in labels]])
    assert read_mask(folder / "p.png", THREE).tolist() == [labels]
    assert read_mask(folder / "c.png", THREE).tolist() == [labels]


# --- real data ----------------------------------------------------------------------------------


def test_camvid() -> None:
    folder = voc.open_voc(real("camvid"), split="val")
    assert len(folder.samples) == 101
    assert len(folder.classes) == 11
    image_hwc, labels_hw = voc.read_pair(folder.samples[0], folder.labelmap)
    assert image_hwc.shape == (360, 480, 3)
    assert set(np.unique(labels_hw)) <= {*range(11), 255}


def test_voc_subset_drops_what_the_chapters_crop_does_not_fit() -> None:
    folder = voc.open_voc(real("voc2012-subset"), split="train")
    kept, dropped = voc.drop_smaller(folder.samples, 320, 480)
    assert (len(kept), len(dropped)) == (51, 29)
    for sample in kept[:3]:
        _, labels_hw = voc.read_pair(sample, folder.labelmap, void_as_background=True)
        assert labels_hw.max() <= 20


def test_voc_masks_read_alike_as_colors(tmp_path: Path) -> None:
    folder = voc.open_voc(real("voc2012-subset"), split="val")
    sample = folder.samples[0]
    with Image.open(sample.mask) as mask:
        mask.convert("RGB").save(tmp_path / "rgb.png")
    expected = read_mask(sample.mask, folder.labelmap)
    np.testing.assert_array_equal(read_mask(tmp_path / "rgb.png", voc_labelmap()), expected)


def test_warning_filters_are_left_alone(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", 6, 8)
    before = list(warnings.filters)
    read_image(tmp_path / "a.jpg")
    assert list(warnings.filters) == before
