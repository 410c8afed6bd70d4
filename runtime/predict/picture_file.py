"""Opening picture files, and saying what a file is where it cannot be read."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from PIL import Image, UnidentifiedImageError

from fcnkit.errors import BadValueError, DataError, message
from fcnkit.runtime.checks import check_int
from fcnkit.runtime.predict.tiff import describe, tags_of

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "SUFFIXES",
    "UnknownLayoutError",
    "begins_like_picture",
    "format_of",
    "open_picture",
    "too_large",
    "worded",
]

MAX_PIXELS: Final = 89_478_485
"""Largest picture that is decoded by default: Pillow's own limit, 256 MB as RGB."""

FORMATS: Final = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of what is read, whatever the file's name says. Pillow knows thirty more, and
hands some of them to other programs: EPS goes to Ghostscript, which executes it."""

_BROKEN: Final = (OSError, SyntaxError, ValueError, TypeError, EOFError, KeyError, IndexError)
"""What Pillow raises for files that are cut short or damaged, besides the two kinds below."""


SUFFIXES: Final = (
    ".bmp",
    ".gif",
    ".jfif",
    ".jpe",
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
"""Endings of the files that a folder is searched for, in any case."""

_BEGIN: Final = {
    name: re.compile(begin, re.DOTALL)
    for name, begin in {
        "BMP": rb"BM.{4}\0{4}",
        "GIF": rb"GIF8[79]a",
        "JPEG": rb"\xff\xd8\xff",
        "PNG": rb"\x89PNG\r\n\x1a\n",
        "PPM": rb"P[1-6f]\s",
        "TIFF": rb"II[*+]\0|MM\0[*+]",
        "WEBP": rb"RIFF.{4}WEBP",
    }.items()
}
"""How files of a format begin."""


class UnknownLayoutError(DataError):
    """The file is a TIFF that Pillow does not take; libvips may."""


@contextmanager
def open_picture(
    path: str | Path, *, formats: tuple[str, ...] | None = None, max_pixels: int = MAX_PIXELS
) -> Iterator[Image.Image]:
    """Open a file with Pillow; whatever Pillow raises in the block becomes a DataError.

    Args:
        path: The file.
        formats: Pillow's names of the formats to accept, all of FORMATS by default.
        max_pixels: Larger pictures are refused before they are decoded.

    Yields:
        The picture, its header read and its pixels not.

    Raises:
        DataError: The file cannot be read, has another format, is damaged or too large.
        TypeError: max_pixels is not an integer.
        ValueError: max_pixels is below 1, or formats are not of FORMATS.
    """
    max_pixels = check_int("max_pixels", max_pixels, 1, 2**63)
    asked: object = formats  # what callers without a type checker pass
    known = isinstance(asked, tuple) and all(
        isinstance(name, str) and name in FORMATS for name in asked
    )
    if asked is not None and not known:
        rule, remedy = f"must be a tuple of {', '.join(FORMATS)}", "leave it out for all of them"
        raise BadValueError(message("formats", rule, formats, remedy))
    kinds = f"{' or '.join(formats) if formats else 'picture'} file"
    with (
        worded(Path(path), kinds, max_pixels),
        _opened(Path(path), formats or FORMATS) as picture,
    ):
        if picture.width * picture.height > max_pixels:
            raise too_large(Path(path), (picture.height, picture.width), max_pixels)
        yield picture


def _opened(path: Path, formats: tuple[str, ...]) -> Image.Image:
    with path.open("rb") as file:
        if file.read(4) == b"MM\0+":  # BigTIFF in an order that Pillow does not know
            raise UnidentifiedImageError
    return Image.open(path, formats=formats)


def too_large(path: Path, got: tuple[int, int] | str, max_pixels: int) -> DataError:
    """Word the error for a picture above a limit; got is height and width, or Pillow's words."""
    rule = f"a picture has at most {max_pixels} pixels"
    size = got if isinstance(got, str) else f"{got[0]}x{got[1]}"
    return DataError(message(str(path), rule, size, "scale it down or raise max_pixels"))


@contextmanager
def worded(path: Path, kinds: str, max_pixels: int) -> Iterator[None]:
    """Make a DataError of whatever Pillow raises in the block.

    Args:
        path: The file.
        kinds: What it must be, such as ``picture file``.
        max_pixels: Named where a picture is larger than Pillow allows.

    Raises:
        DataError: The file is not what it must be, or cannot be read.
    """
    what = str(path)
    try:
        if path.exists() and not path.is_file():
            # Opening a pipe would wait for a writer that may never come.
            rule = f"must be a {kinds}"
            raise DataError(message(what, rule, "no regular file", "check the path"))
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(message(what, f"must be a {kinds}", "no file", "check the path")) from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        if Image.MAX_IMAGE_PIXELS is None or max_pixels <= 2 * Image.MAX_IMAGE_PIXELS:
            raise too_large(path, str(error), max_pixels) from None
        rule = "Pillow has its own limit below max_pixels"
        remedy = "set PIL.Image.MAX_IMAGE_PIXELS = None"
        raise DataError(message(what, rule, str(error), remedy)) from None
    except UnidentifiedImageError:
        raise _unidentified(path, kinds) from None
    except (*_BROKEN, struct.error, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not Pillow's
            rule, got = f"must be a {kinds} that can be read", error.strerror or str(error)
            raise DataError(message(what, rule, got, "check its permissions and disk")) from error
        got = str(error) or type(error).__name__
        rule = f"must be a whole {kinds}"
        raise DataError(message(what, rule, got, "replace the file")) from error


def format_of(path: Path) -> str | None:
    """Return Pillow's name of a file's format by its first bytes, None where it is another."""
    with path.open("rb") as file:
        begin = file.read(16)
    return next((name for name, pattern in _BEGIN.items() if pattern.match(begin)), None)


def begins_like_picture(path: Path) -> bool:
    """Whether a regular file that can be read begins as those of FORMATS do."""
    try:
        # Opening a pipe would wait for a writer.
        return path.is_file() and format_of(path) is not None
    except OSError:
        return False


def _unidentified(path: Path, kinds: str) -> DataError:
    """Say what a file is that Pillow does not take."""
    rule, format = f"must be a {kinds}", format_of(path)
    if not path.stat().st_size:
        return DataError(message(str(path), rule, "an empty file", "replace the file"))
    if format is None:
        return DataError(message(str(path), rule, "something else", "replace the file"))
    if kinds != "picture file" and format not in kinds:
        return DataError(message(str(path), rule, f"a {format} file", "convert it"))
    tags = tags_of(path) if format == "TIFF" else None
    if tags is not None:
        rule = "must be a picture file of a layout that is read"
        remedy = "convert it to RGB of 8 bits"
        return UnknownLayoutError(message(str(path), rule, describe(tags), remedy))
    got = f"a {format} file that is damaged or of a rare kind"
    return DataError(message(str(path), rule, got, "replace or convert the file"))
