"""Picture files in: reading what a viewer shows."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fcnkit.errors import DataError, message
from fcnkit.runtime.checks import check_int
from fcnkit.runtime.pixels.tile_plan import MAX_SIDE

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "SUFFIXES",
    "begins_like_picture",
    "checked_image",
    "open_picture",
    "read_picture",
]

MAX_PIXELS: Final = 89_478_485
"""Largest picture that is decoded unless asked: Pillow's own limit, 256 MB as RGB."""

FORMATS: Final = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of what is read, whatever the file's name says. Pillow knows thirty more, and
hands some of them to other programs: EPS goes to Ghostscript, which executes it."""

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

_BEGINNINGS: Final = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|BM.{4}\0{4}|II[*+]\0|MM\0[*+]|RIFF.{4}WEBP|P[1-6]\s",
    re.DOTALL,
)
"""First bytes of the files of FORMATS."""

_BROKEN: Final = (OSError, SyntaxError, ValueError, TypeError, EOFError, KeyError, IndexError)
"""What Pillow raises for files that are cut short or damaged, besides the two kinds below."""


def begins_like_picture(path: Path) -> bool:
    """Whether a regular file that can be read begins as those of FORMATS do."""
    try:
        if not path.is_file():  # opening a pipe would wait for a writer
            return False
        with path.open("rb") as file:
            return _BEGINNINGS.match(file.read(16)) is not None
    except OSError:
        return False


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
        DataError: The file cannot be read, is none of the formats, broken or too large.
        TypeError: max_pixels is no integer.
        ValueError: max_pixels is below 1, or formats are none of FORMATS.
    """
    max_pixels = check_int("max_pixels", max_pixels, 1, 2**63)
    asked: object = formats  # what callers without a type checker pass
    known = isinstance(asked, tuple) and all(
        isinstance(name, str) and name in FORMATS for name in asked
    )
    if asked is not None and not known:
        rule, remedy = f"must be a tuple of {', '.join(FORMATS)}", "leave it out for all of them"
        raise ValueError(message("formats", rule, formats, remedy))
    what, kinds = str(path), f"{' or '.join(formats) if formats else 'picture'} file"
    too_large = f"a picture has at most {max_pixels} pixels"
    remedy = "scale it down or raise max_pixels"
    try:
        if Path(path).exists() and not Path(path).is_file():
            # Opening a pipe would wait for a writer that may never come.
            rule = f"must be a {kinds}"
            raise DataError(message(what, rule, "no regular file", "check the path"))
        with Image.open(path, formats=formats or FORMATS) as picture:
            if picture.width * picture.height > max_pixels:
                got = f"{picture.height}x{picture.width}"
                raise DataError(message(what, too_large, got, remedy))
            yield picture
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(message(what, f"must be a {kinds}", "no file", "check the path")) from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        if Image.MAX_IMAGE_PIXELS is not None and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
            too_large = "Pillow has a limit of its own below max_pixels"
            remedy = "set PIL.Image.MAX_IMAGE_PIXELS = None"
        raise DataError(message(what, too_large, str(error), remedy)) from None
    except UnidentifiedImageError:
        got = "something else" if Path(path).stat().st_size else "an empty file"
        raise DataError(message(what, f"must be a {kinds}", got, "replace the file")) from None
    except (*_BROKEN, struct.error, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not Pillow's
            rule, got = f"must be a {kinds} that can be read", error.strerror or str(error)
            raise DataError(message(what, rule, got, "check its permissions and disk")) from error
        got = str(error) or type(error).__name__
        rule = f"must be a whole {kinds}"
        raise DataError(message(what, rule, got, "replace the file")) from error


def read_picture(
    path: str | Path, *, formats: tuple[str, ...] | None = None, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Read a picture the way a viewer shows it.

    The EXIF orientation is applied, transparency is put on white, 16-bit grayscale is scaled, and
    grayscale, palette and CMYK pictures become RGB.

    Args:
        path: The file.
        formats: As for ``open_picture``.
        max_pixels: As for ``open_picture``.

    Returns:
        uint8 RGB picture of shape (H, W, 3), contiguous, the caller's own.

    Raises:
        DataError: As for ``open_picture``, or the pixels are 32-bit integers or floats.
    """
    with open_picture(path, formats=formats, max_pixels=max_pixels) as picture:
        # The format is forgotten by what is turned.
        plain = picture.format == "PPM"
        return np.array(_as_rgb(ImageOps.exif_transpose(picture), str(path), plain=plain))


def _as_rgb(picture: Image.Image, what: str, *, plain: bool) -> Image.Image:
    if picture.mode.startswith("I;16") or (plain and picture.mode == "I"):  # a PGM of 16 bits
        # convert() would clip at 255 instead of scaling.
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):
        rule = "a picture has 8 or 16 bits per channel"
        remedy = "convert it, for only you know which values are black and white"
        raise DataError(message(what, rule, f"Pillow mode {picture.mode}", remedy))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def checked_image(image_hwc: object) -> NDArray[np.uint8]:
    """Return a picture as the kernels take it, C-contiguous, or say what is wrong with it.

    Args:
        image_hwc: What a caller gave for a picture.

    Returns:
        uint8 (H, W, 3); the array itself where it is contiguous.

    Raises:
        TypeError: It is no uint8 numpy array.
        ValueError: It is not (H, W, 3), or a side is 0 or too long.
    """
    if not isinstance(image_hwc, np.ndarray) or image_hwc.dtype != np.uint8:
        kind = type(image_hwc).__name__
        got = f"array of {image_hwc.dtype}" if isinstance(image_hwc, np.ndarray) else kind
        remedy = "pass np.asarray(picture.convert('RGB')) of a Pillow picture"
        raise TypeError(message("Segmenter", "image must be a numpy array of uint8", got, remedy))
    shape = image_hwc.shape
    rule = f"image must have shape (H, W, 3) with H and W 1..{MAX_SIDE}"
    if len(shape) != 3 or shape[2] != 3:
        remedy = "pass one RGB picture"
        if len(shape) == 3 and shape[0] == 3:
            remedy = "this looks channels-first, pass image.transpose(1, 2, 0)"
        raise ValueError(message("Segmenter", rule, shape, remedy))
    if min(shape) < 1 or max(shape) > MAX_SIDE:
        raise ValueError(message("Segmenter", rule, shape, "pass one picture, with pixels"))
    return np.ascontiguousarray(image_hwc)
