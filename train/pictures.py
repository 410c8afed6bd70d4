"""Reading the pictures and masks of a data set, or saying what is wrong with the file.

``image_hwc`` is uint8 (H, W, 3) RGB; ``labels_hw`` is uint8 (H, W), a class each, 255 = void.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from fcnkit.errors import DataError, message
from fcnkit.runtime.palette import VOID, encode, unknown_colors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from .labelmap import LabelMap

__all__ = ["DecodedMask", "decode_mask", "mask_size_of", "read_image", "read_mask", "size_of"]

Size = tuple[int, int]
"""Height and width in pixels."""

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
"""What Pillow raises for files that are cut short or damaged."""

_SHOWN = 5
"""So many unknown colours or labels are named in an error."""


class DecodedMask(NamedTuple):
    """A mask as labels, and what in it is no class."""

    labels_hw: NDArray[np.uint8]
    """Labels; unknown pixels are void."""
    unknown: dict[str, int]
    """Pixels by unknown colour (``r,g,b``) or unknown label (``37``), most frequent first."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a picture the way a viewer shows it.

    The EXIF orientation is applied, transparency is put on white, and grayscale, palette and
    CMYK pictures become RGB.

    Args:
        path: A JPEG or PNG file.

    Returns:
        uint8 array (H, W, 3), RGB.

    Raises:
        DataError: The file is missing, cut short, no JPEG or PNG, or too large.
    """
    with _opened(path) as image:
        return np.array(_as_rgb(ImageOps.exif_transpose(image), path))


def size_of(path: Path) -> Size:
    """Return the height and width that ``read_image`` gives, from the header where possible.

    Args:
        path: A JPEG or PNG file.

    Returns:
        Height and width in pixels.

    Raises:
        DataError: The file is missing, no JPEG or PNG, or too large.
    """
    with _opened(path) as image:
        width, height = image.size
        # Orientations 5 to 8 lie on their side.
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def mask_size_of(path: Path) -> Size:
    """Return a mask's height and width from its header; masks have no orientation.

    Args:
        path: A PNG file.

    Returns:
        Height and width in pixels.

    Raises:
        DataError: The file is missing, no PNG, or too large.
    """
    with _opened(path, formats=("PNG",)) as image:
        return image.height, image.width


def read_mask(
    path: Path, labelmap: LabelMap, *, void_as_background: bool = False
) -> NDArray[np.uint8]:
    """Read a mask as labels.

    In a palette (mode P) or grayscale PNG the pixel values are the labels, 255 = void. The pixels
    of an RGB or RGBA PNG are looked up in the label map's colours; transparency counts for nothing.

    Args:
        path: A PNG file.
        labelmap: The classes and their colours.
        void_as_background: Give void pixels label 0, as the d2l chapter does.

    Returns:
        uint8 array (H, W) of labels below the number of classes, and 255 for void.

    Raises:
        DataError: The file is missing, cut short or no such PNG, or a colour or label in it is
            no class; the message counts the pixels.
    """
    labels_hw, unknown = decode_mask(path, labelmap)
    if unknown:
        raise DataError(unknown_text(path, unknown, labelmap))
    if void_as_background:
        labels_hw[labels_hw == VOID] = 0
    return labels_hw


def decode_mask(path: Path, labelmap: LabelMap) -> DecodedMask:
    """Read a mask as labels and count what is no class, without refusing it.

    Args:
        path: A PNG file, see ``read_mask``.
        labelmap: The classes and their colours.

    Returns:
        The labels and the unknown colours or labels.

    Raises:
        DataError: The file is missing, cut short or no such PNG.
    """
    with _opened(path, formats=("PNG",)) as mask:
        if mask.mode in ("P", "L"):
            return _check_indices(np.array(mask), labelmap)
        # A 1-bit mask is refused: its set pixels could be class 1 or void.
        if mask.mode not in ("RGB", "RGBA"):
            raise DataError(
                message(
                    str(path),
                    "a mask is a PNG of mode P, L, RGB or RGBA",
                    f"mode {mask.mode}",
                    "save it with 8 bits per channel",
                )
            )
        return _decode_colors(np.array(mask.convert("RGB")), labelmap)


def _check_indices(labels_hw: NDArray[np.uint8], labelmap: LabelMap) -> DecodedMask:
    counts = np.bincount(labels_hw.ravel(), minlength=VOID + 1)
    beyond = [label for label in range(len(labelmap.classes), VOID) if counts[label]]
    beyond.sort(key=lambda label: -counts[label])
    if beyond:
        labels_hw[labels_hw >= len(labelmap.classes)] = VOID
    return DecodedMask(labels_hw, {str(label): int(counts[label]) for label in beyond})


def _decode_colors(rgb_hwc: NDArray[np.uint8], labelmap: LabelMap) -> DecodedMask:
    void_color = labelmap.void_color
    labels_hw, count = encode(rgb_hwc, labelmap.palette, void_color=void_color)
    found = unknown_colors(rgb_hwc, labelmap.palette, void_color=void_color) if count else {}
    return DecodedMask(labels_hw, {",".join(map(str, color)): n for color, n in found.items()})


def unknown_text(path: Path, unknown: dict[str, int], labelmap: LabelMap) -> str:
    """Word the error for a mask with colours or labels that are no class, counts in pixels."""
    shown = [f"{value} ({count} pixels)" for value, count in list(unknown.items())[:_SHOWN]]
    if len(unknown) > _SHOWN:
        shown.append(f"and {len(unknown) - _SHOWN} more")
    if "," in next(iter(unknown)):
        rule = "every colour must be a class's or void's"
    else:
        rule = f"labels are 0..{len(labelmap.classes) - 1} or {VOID}"
    remedy = "mend the mask or name the class in labelmap.txt"
    return message(str(path), rule, ", ".join(shown), remedy)


def _as_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith("I;16"):
        # convert() would clip at 255 instead of scaling.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        got = f"mode {image.mode}"
        rule = "a picture has 8 or 16 bits per channel"
        raise DataError(message(str(path), rule, got, "save it with 8 bits per channel"))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


@contextmanager
def _opened(path: Path, formats: tuple[str, ...] = ("JPEG", "PNG")) -> Iterator[Image.Image]:
    """Open a file with Pillow; whatever it raises on the way becomes a DataError."""
    kinds = " or ".join(formats)
    try:
        with warnings.catch_warnings():
            # Pillow warns of damaged EXIF data, which a viewer would not mind either.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=formats) as image:
                yield image
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(
            message(str(path), f"must be a {kinds} file", "no file", "check the path")
        ) from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        rule = f"a picture has at most {Image.MAX_IMAGE_PIXELS} pixels"
        raise DataError(message(str(path), rule, str(error), "scale it down")) from None
    except UnidentifiedImageError:
        got = "something else" if path.stat().st_size else "an empty file"
        raise DataError(
            message(str(path), f"must be a {kinds} file", got, "replace the file")
        ) from None
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # The file system's own word, such as permission denied.
        rule = f"must be a whole {kinds} file"
        raise DataError(message(str(path), rule, str(error), "replace the file")) from error
