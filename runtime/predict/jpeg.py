"""JPEG pixels by the package simplejpeg, where they are Pillow's bit for bit.

Both packages hold libjpeg-turbo. Pillow copies a picture twice on its way into an array, simplejpeg
decodes into the array itself. Only whole files of the usual kinds go this way. Everything else is
Pillow's, with its results and its errors.
"""

from __future__ import annotations

import io
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, JpegImagePlugin

__all__ = ["decode_jpeg", "jpeg_library"]

_SUBSAMPLING: Final = {"444": 0, "422": 1, "420": 2}
"""What simplejpeg calls the ways of storing color, and the numbers that Pillow's encoder takes."""

_FRAMES: Final = (0xC0, 0xC1, 0xC2)
"""Markers of files that are compressed with Huffman codes: baseline, extended and progressive."""

_LEAST_LIMIT: Final = 1 << 16
"""Bytes that a file may have in any case."""


@cache
def jpeg_library() -> ModuleType | None:
    """Return simplejpeg where it is installed and decodes as Pillow does, else None.

    The two packages may hold different versions of libjpeg-turbo, so that is tried with small
    pictures of every kind, once per process.
    """
    try:
        library = import_module("simplejpeg")
    except ImportError:
        return None
    return library if all(_is_right(library, content) for content in _examples()) else None


def _examples() -> list[bytes]:
    """Make a JPEG of each kind: gray and color, baseline, progressive and progressive cut short."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    # Odd sides and coarse noise: the decoders upsample color between its samples and at the edges.
    color = Image.fromarray(noise).resize((53, 37), Image.Resampling.BICUBIC)
    found = []
    for picture, subsampling in (
        *((color, number) for number in _SUBSAMPLING.values()),
        (color.convert("L"), 0),
    ):
        for progressive in (False, True):
            file = io.BytesIO()
            picture.save(file, "JPEG", subsampling=subsampling, progressive=progressive)
            found.append(file.getvalue())
        # Without its last scan: the decoder smooths what is missing.
        found.append(found[-1][: found[-1].rindex(b"\xff\xda")] + b"\xff\xd9")
    return found


def _is_right(library: ModuleType, content: bytes) -> bool:
    """Whether a file is decoded as Pillow does it, and refused where its end is missing."""
    with Image.open(io.BytesIO(content)) as picture:
        expected = np.asarray(picture.convert("RGB"))
    image_hwc = _decoded(library, content)
    # Early versions return what there is of a damaged file, and say nothing.
    cut = _decoded(library, content[: len(content) // 2])
    return image_hwc is not None and cut is None and np.array_equal(image_hwc, expected)


def _decoded(library: ModuleType, content: bytes) -> NDArray[np.uint8] | None:
    try:
        image_hwc: NDArray[np.uint8] = library.decode_jpeg(content)
    except ValueError:  # of what libjpeg only warns of, too
        return None
    return image_hwc


def decode_jpeg(picture: Image.Image) -> NDArray[np.uint8] | None:
    """Decode the pixels of a JPEG that Pillow has opened.

    Args:
        picture: Its header read, and its pixels not.

    Returns:
        RGB (H, W, 3), as Pillow gives them, the caller's own. None where Pillow has to decode:
        simplejpeg is absent, or the file is no JPEG, turned by EXIF, of a rare kind or damaged.
    """
    if type(picture) is not JpegImagePlugin.JpegImageFile or picture.format != "JPEG":
        return None
    library = jpeg_library()
    content = None if library is None else _usual(picture)
    if library is None or content is None:
        return None
    try:
        height, width, space, subsampling = library.decode_jpeg_header(content)
    except ValueError:
        return None
    gray, color = space == "Gray", space == "YCbCr" and subsampling in _SUBSAMPLING
    if (width, height) != picture.size or not (gray if picture.mode == "L" else color):
        return None
    return _decoded(library, content)


def _usual(picture: JpegImagePlugin.JpegImageFile) -> bytes | None:
    """Return the file of a picture of a usual kind, None for another."""
    assert picture.fp is not None  # only a closed picture has none
    if picture.mode not in ("L", "RGB") or not _is_upright(picture):
        return None
    picture.fp.seek(0)
    # A file may hold more data behind the picture than fits into memory.
    limit = _LEAST_LIMIT + 4 * picture.width * picture.height
    content: bytes = picture.fp.read(limit)
    usual = len(content) < limit and _frame_of(content) in _FRAMES
    return content if usual else None


def _is_upright(picture: Image.Image) -> bool:
    try:
        return picture.getexif().get(ExifTags.Base.Orientation, 1) in (0, 1)
    except Exception:  # Pillow raises anything for damaged EXIF; it does so again on its way
        return False


def _frame_of(content: bytes) -> int | None:
    """Return the marker that says how a JPEG is compressed, None where it is not found."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return marker
        at += 2 + int.from_bytes(content[at + 2 : at + 4])
    return None
