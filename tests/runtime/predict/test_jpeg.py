"""JPEG files give the same pixels and the same errors with simplejpeg as with Pillow alone."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fcnkit.runtime.predict import jpeg
from fcnkit.runtime.predict.codecs import describe_codecs
from fcnkit.runtime.predict.jpeg import decode_jpeg, jpeg_library
from fcnkit.runtime.predict.pictures import read_picture

imagecodecs = pytest.importorskip("imagecodecs")
simplejpeg = pytest.importorskip("simplejpeg")


def drawn(height: int = 61, width: int = 75, *, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def saved(picture: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(drawn(), exif=exif)


def without_last_scan() -> bytes:
    content = saved(drawn(), progressive=True)
    return content[: content.rindex(b"\xff\xda")] + b"\xff\xd9"


PLAIN = saved(drawn())

FAST: dict[str, Callable[[], bytes]] = {
    "4:4:4": lambda: saved(drawn(), subsampling=0),
    "4:2:2": lambda: saved(drawn(), subsampling=1),
    "4:2:0": lambda: saved(drawn(), subsampling=2),
    "gray": lambda: saved(drawn().convert("L")),
    "progressive": lambda: saved(drawn(), progressive=True),
    "progressive gray": lambda: saved(drawn().convert("L"), progressive=True),
    "progressive that lacks a scan": without_last_scan,
    "coarse": lambda: saved(drawn(), quality=3),
    "fine": lambda: saved(drawn(), quality=100, subsampling=0),
    "optimized": lambda: saved(drawn(), optimize=True),
    "restart markers": lambda: saved(drawn(), restart_marker_blocks=2),
    "one pixel": lambda: saved(drawn(1, 1)),
    "one column": lambda: saved(drawn(50, 1)),
    "one row": lambda: saved(drawn(1, 50)),
    "color profile": lambda: saved(drawn(), icc_profile=b"profile" * 20),
    "comment": lambda: saved(drawn(), comment=b"\xff\xd8\xff\xc0 no marker"),
    "upright by EXIF": lambda: turned(1),
    "bytes behind the end": lambda: PLAIN + b"\xff\xd8 more" * 50,
}
"""Whole files of the usual kinds."""

BY_PILLOW: dict[str, Callable[[], bytes]] = {
    **{f"turned by EXIF {number}": lambda number=number: turned(number) for number in range(2, 9)},
    "CMYK": lambda: saved(drawn().convert("CMYK")),
    "stored as RGB": lambda: saved(drawn(), keep_rgb=True, subsampling=0),
    "4:4:0": lambda: imagecodecs.jpeg8_encode(np.array(drawn()), subsampling=(1, 2)),
    "4:1:1": lambda: imagecodecs.jpeg8_encode(np.array(drawn()), subsampling=(4, 1)),
    "12 bits": lambda: imagecodecs.jpeg8_encode(
        np.array(drawn()).astype(np.uint16) << 4, bitspersample=12
    ),
    "lossless": lambda: imagecodecs.jpeg8_encode(np.array(drawn()), lossless=True),
    "several pictures": lambda: saved(
        drawn(), "MPO", save_all=True, append_images=[drawn(30, 40, seed=1)]
    ),
    "cut": lambda: PLAIN[:-200],
    "cut before the end marker": lambda: PLAIN[:-2],
    "cut in the header": lambda: PLAIN[:300],
    "no picture": lambda: PLAIN[:2] + PLAIN[-2:],
    "a broken restart marker": lambda: saved(drawn(), restart_marker_blocks=2).replace(
        b"\xff\xd3", b"\xff\xd5"
    ),
    "zeros in the data": lambda: PLAIN[:-300] + bytes(200) + PLAIN[-100:],
    "much behind the end": lambda: PLAIN + bytes(1 << 17),
}
"""Everything else."""


@contextmanager
def library(found: ModuleType | None) -> Iterator[None]:
    """Let the package be another one, or absent."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "simplejpeg", found)
        jpeg_library.cache_clear()
        yield
    jpeg_library.cache_clear()


def outcome(path: Path) -> NDArray[np.uint8] | str:
    """Return the pixels of a file, or its error."""
    try:
        return read_picture(path)
    except Exception as error:  # of any kind: both ways must give the same one
        return f"{type(error).__name__}: {error}"


def check_same(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    fast = outcome(path)
    with library(None):
        plain = outcome(path)
    if isinstance(fast, str) or isinstance(plain, str):
        assert fast == plain
        return
    np.testing.assert_array_equal(fast, plain)
    assert fast.flags.owndata or fast.base is not None
    assert fast.flags.writeable
    assert fast.flags.c_contiguous
    assert fast.dtype == np.uint8


@pytest.mark.parametrize("kind", FAST)
def test_usual_files_are_decoded_fast(kind: str, tmp_path: Path) -> None:
    content = FAST[kind]()
    check_same(tmp_path / "x.jpg", content)
    with Image.open(io.BytesIO(content)) as picture:
        image_hwc = decode_jpeg(picture)
    assert image_hwc is not None
    assert image_hwc.shape == (picture.height, picture.width, 3)


@pytest.mark.parametrize("kind", BY_PILLOW)
def test_everything_else_is_left_to_pillow(kind: str, tmp_path: Path) -> None:
    content = BY_PILLOW[kind]()
    check_same(tmp_path / "x.jpg", content)
    try:
        picture = Image.open(io.BytesIO(content))
    except (OSError, SyntaxError):
        return  # Pillow has refused it
    with picture:
        assert decode_jpeg(picture) is None


def test_other_formats_are_left_to_pillow(tmp_path: Path) -> None:
    for format in ("PNG", "BMP", "WEBP", "TIFF"):
        with Image.open(io.BytesIO(saved(drawn(), format))) as picture:
            assert decode_jpeg(picture) is None


SOURCES = [FAST[kind]() for kind in ("4:2:0", "gray", "progressive", "restart markers")] + [
    turned(6)
]


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_files_have_the_same_pixels_or_error(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(SOURCES)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(("change", "insert", "remove", "cut", "swap"))):
            case "change":
                content[place] = data.draw(st.integers(0, 255))
            case "insert":
                content[place:place] = data.draw(st.binary(min_size=1, max_size=20))
            case "remove":
                del content[place : place + data.draw(st.integers(1, 20))]
            case "cut":
                del content[max(place, 1) :]
            case "swap":
                content[place : place + 2] = content[place : place + 2][::-1]
        content = content or bytearray(b"\xff")
    check_same(tmp_path / "x.jpg", bytes(content))


@settings(max_examples=50, suppress_health_check=list(HealthCheck))
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    subsampling=st.sampled_from((0, 1, 2)),
    quality=st.integers(1, 100),
    progressive=st.booleans(),
    gray=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_size_and_quality(
    tmp_path: Path,
    height: int,
    width: int,
    subsampling: int,
    quality: int,
    progressive: bool,
    gray: bool,
    seed: int,
) -> None:
    picture = drawn(height, width, seed=seed)
    content = saved(
        picture.convert("L") if gray else picture,
        subsampling=subsampling,
        quality=quality,
        progressive=progressive,
    )
    check_same(tmp_path / "x.jpg", content)


def test_a_library_that_decodes_differently_is_not_used(tmp_path: Path) -> None:
    other = ModuleType("simplejpeg")

    def one_off(content: bytes) -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(content).copy()
        image[-1, -1, 0] ^= 1
        return image

    vars(other).update(decode_jpeg=one_off, decode_jpeg_header=simplejpeg.decode_jpeg_header)
    with library(other):
        assert jpeg_library() is None
        assert "decodes differently" in describe_codecs()["jpeg"]


def test_a_library_that_hides_damage_is_not_used(tmp_path: Path) -> None:
    other = ModuleType("simplejpeg")

    def lenient(content: bytes) -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, strict=False)
        return image

    vars(other).update(decode_jpeg=lenient, decode_jpeg_header=simplejpeg.decode_jpeg_header)
    with library(other):
        assert jpeg_library() is None


def test_without_the_package_pillow_decodes(tmp_path: Path) -> None:
    with library(None):
        assert jpeg_library() is None
        with Image.open(io.BytesIO(PLAIN)) as picture:
            assert decode_jpeg(picture) is None
        said = describe_codecs()["jpeg"]
    assert said.startswith("Pillow ")
    assert said.endswith(" (the extra fast brings simplejpeg)") or "differently" in said


def test_the_package_is_used_here() -> None:
    assert jpeg_library() is simplejpeg
    assert describe_codecs()["jpeg"].startswith("simplejpeg ")
    assert len(jpeg._examples()) == 12
