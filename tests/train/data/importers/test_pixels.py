"""Masks of every kind."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnkit.errors import DataError
from fcnkit.train.data.importers.pixels import read_ids, read_labels, read_pixels
from fcnkit.train.data.labelmap import LabelMap
from tests.refusal import refusal

TRUTH = np.array([[0, 1, 1, 0, 1], [1, 0, 0, 0, 1]], np.uint8)
MAP = LabelMap(("sky", "road", "car"), ((0, 0, 255), (90, 90, 90), (200, 0, 0)))


def refused(path: Path, text: str) -> None:
    """Assert that a mask is refused with exactly this text after its path."""
    with refusal(DataError, text):
        read_pixels(path)


def gray_png(path: Path, values: np.ndarray, bits: int) -> Path:
    """Write a gray PNG of few bits by hand: Pillow writes 1, 8 and 16."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    height, width = values.shape
    rows = b""
    for row in values.tolist():
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + int(text, 2).to_bytes(len(text) // 8, "big")
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
    path.write_bytes(content + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_gray_of_any_depth_holds_the_numbers_of_the_file(bits: int, tmp_path: Path) -> None:
    values = np.random.default_rng(bits).integers(0, 1 << bits, (5, 7))
    values[0, 0] = (1 << bits) - 1
    np.testing.assert_array_equal(
        read_ids(gray_png(tmp_path / "a.png", values, bits)).array, values
    )


@pytest.mark.parametrize("ending", ["png", "bmp", "gif", "tif"])
def test_palette_masks_hold_the_numbers(ending: str, tmp_path: Path) -> None:
    values = TRUTH * (1 if ending == "gif" else 2)  # Pillow writes no GIF with unused numbers
    mask = Image.fromarray(values)
    mask.putpalette([9, 9, 9, 200, 0, 0, 5, 5, 5] + [7] * 759)
    mask.save(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(read_ids(tmp_path / f"a.{ending}").array, values)


@pytest.mark.parametrize("ending", ["png", "bmp", "tif"])
def test_one_bit(ending: str, tmp_path: Path) -> None:
    Image.fromarray(TRUTH.astype(bool)).save(tmp_path / f"a.{ending}")
    pixels = read_ids(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(pixels.array > 0, TRUTH > 0)


def test_sixteen_bits_of_a_tiff(tmp_path: Path) -> None:
    Image.fromarray(TRUTH.astype(np.uint16) * 40_000).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(
        read_ids(tmp_path / "a.tif").array, TRUTH.astype(np.uint16) * 40_000
    )


def test_gray_as_rgb_holds_ids_and_colors_do_not(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([TRUTH * 26] * 3)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_ids(tmp_path / "a.png").array, TRUTH * 26)
    Image.fromarray(np.dstack([TRUTH * 26, TRUTH, TRUTH])).save(tmp_path / "a.png")
    text = (
        f"{tmp_path}/a.png: a mask of ids is gray or has a palette, got an RGB mask with colors; "
        "name the colors in a file for --labelmap"
    )
    with refusal(DataError, text):
        read_ids(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_a_label_map_reads_colors_and_numbers(mode: str, tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2], [255, 2, 0]], np.uint8)
    colors = np.zeros((256, 3), np.uint8)
    colors[:3], colors[255] = MAP.palette, MAP.void_color
    mask = Image.fromarray(labels)
    if mode == "P":
        mask.putpalette(colors.tobytes())
    elif mode != "L":
        mask = Image.fromarray(colors[labels]).convert(mode)
    mask.save(tmp_path / "a.png")
    places = read_labels(tmp_path / "a.png", MAP, [])
    np.testing.assert_array_equal(places, [[0, 1, 2], [3, 2, 0]])


def test_a_palette_with_colors_that_are_no_classes_is_said(tmp_path: Path) -> None:
    mask = Image.fromarray(TRUTH)
    mask.putpalette([1, 2, 3, 4, 5, 6] + [0] * 762)
    mask.save(tmp_path / "a.png")
    doubts: list[str] = []
    for _ in range(2):
        np.testing.assert_array_equal(read_labels(tmp_path / "a.png", MAP, doubts), TRUTH)
    assert doubts == [
        "a.png: a palette with other colors than the label map, such as label 0 (sky) in 1,2,3; "
        "its numbers were taken"
    ]


def test_a_renumbered_palette_is_refused(tmp_path: Path) -> None:
    mask = Image.fromarray(TRUTH)
    mask.putpalette([*MAP.palette[1], *MAP.palette[0]] + [0] * 762)
    mask.save(tmp_path / "a.png")
    text = (
        f"{tmp_path}/a.png: a mask's labels and colors must name the same class, got label 0 in "
        "the color of road; save the mask as RGB, or give it the label map's palette"
    )
    with refusal(DataError, text):
        read_labels(tmp_path / "a.png", MAP, [])


@pytest.mark.parametrize(
    ("values", "got"),
    [
        (np.array([[0, 3, 9, 9]], np.uint8), "9 (2 px), 3 (1 px)"),
        (np.array([[0, 300]], np.uint16), "300 (1 px)"),
    ],
)
def test_numbers_beyond_the_label_map(values: np.ndarray, got: str, tmp_path: Path) -> None:
    Image.fromarray(values).save(tmp_path / "a.png")
    text = (
        f"{tmp_path}/a.png: labels are 0..2 or 255, got {got}; "
        "mend the mask or name the class in labelmap.txt"
    )
    with refusal(DataError, text):
        read_labels(tmp_path / "a.png", MAP, [])


def test_colors_beyond_the_label_map(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2, 3), 77, np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(DataError) as caught:
        read_labels(tmp_path / "a.png", MAP, [])
    assert str(caught.value).startswith(
        f"{tmp_path}/a.png: every color must be a class's or void's, got 77,77,77 (4 px); "
    )


def test_masks_with_loss_and_animations_are_refused(tmp_path: Path) -> None:
    jpeg = tmp_path / "a.png"
    Image.fromarray(TRUTH).save(jpeg, "JPEG")
    text = (
        f"{jpeg}: a mask is a PNG, BMP, GIF, TIFF file, got a JPEG file; "
        "make it again as PNG from the labels, for its compression changes them"
    )
    refused(jpeg, text)
    moving = tmp_path / "a.gif"
    frames = [Image.fromarray(TRUTH * n) for n in (1, 2)]
    frames[0].save(moving, save_all=True, append_images=frames[1:])
    with refusal(DataError, f"{moving}: a mask file holds one image, got 2 images; split it"):
        read_pixels(moving)


def test_kinds_whose_numbers_would_change_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(TRUTH.astype(np.float32)).save(path)
    text = (
        f"{path}: a mask has palette indices, gray values of 1 to 16 bits, or RGB of 8 bits, "
        "got Pillow's mode F with 32 bits; save it as a PNG of such a kind"
    )
    refused(path, text)
    Image.fromarray(TRUTH.astype(np.int32) - 1).save(path)
    with pytest.raises(DataError):
        read_pixels(path)
    Image.fromarray(TRUTH).save(path, tiffinfo={262: 0})
    text = (
        f"{path}: a TIFF mask has 1, 8 or 16 bits and 0 for black, got 8 bits, "
        "photometric interpretation 0; save it as PNG"
    )
    refused(path, text)


def test_rgb_of_16_bits_is_refused(tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(np.full((2, 3, 3), 300, np.uint16)))
    text = (
        f"{path}: a mask has palette indices, gray values of 1 to 16 bits, or RGB of 8 bits, "
        "got Pillow's mode RGB with 16 bits; save it as a PNG of such a kind"
    )
    refused(path, text)


def test_a_huge_mask_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = gray_png(tmp_path / "a.png", TRUTH, 8)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 100_000, 100_000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_pixels(path)
    assert "a picture has at most 89478485 pixels" in str(caught.value)


def test_transparent_pixels_are_said(tmp_path: Path) -> None:
    colors = np.array(MAP.palette, np.uint8)[TRUTH]
    clear = np.dstack([colors, np.full(TRUTH.shape, 255, np.uint8)])
    Image.fromarray(clear).save(tmp_path / "a.png")
    doubts: list[str] = []
    read_labels(tmp_path / "a.png", MAP, doubts)
    assert doubts == []
    clear[0, 0, 3] = 0
    Image.fromarray(clear).save(tmp_path / "a.png")
    for _ in range(2):
        np.testing.assert_array_equal(read_labels(tmp_path / "a.png", MAP, doubts), TRUTH)
    assert doubts == ["a.png: transparent pixels of a mask are read by their color"]
