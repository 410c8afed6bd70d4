"""Reading the pictures and masks of a data set, or saying what is wrong with the file.

``image_hwc`` is uint8 (H, W, 3) RGB; ``labels_hw`` is uint8 (H, W), a class each, 255 = void.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import ExifTags

from fcnkit.errors import DataError, message
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.runtime.pixels.palette import encode, unknown_colors
from fcnkit.runtime.predict.levels import Range
from fcnkit.runtime.predict.picture_file import open_picture
from fcnkit.runtime.predict.pictures import ReadPicture, read_levels

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from fcnkit.train.data.labelmap import LabelMap

__all__ = [
    "DecodedMask",
    "decode_mask",
    "read_image",
    "read_image_levels",
    "read_mask",
    "size_of",
    "unknown_text",
]

Size = tuple[int, int]
"""Height and width in pixels."""

_IMAGES = ("JPEG", "PNG")
_MASKS = ("PNG",)

_SHOWN = 5
"""So many unknown colours or labels are named in an error."""


class DecodedMask(NamedTuple):
    """A mask as labels, and what in it is no class."""

    labels_hw: NDArray[np.uint8]
    """Labels; unknown pixels are void."""
    unknown: dict[str, int]
    """Pixels by unknown colour (``r,g,b``) or unknown label (``37``), most frequent first."""


def read_image(path: Path, *, range: Range | None = None) -> NDArray[np.uint8]:
    """Read a data set's picture, as ``fcnkit.runtime.predict.pictures.read_picture`` does.

    Args:
        path: A JPEG or PNG file.
        range: The values that become 0 and 255 in pictures of more than 8 bits; by default all
            that the file can hold. ``data check`` and ``open_data`` warn where that is in doubt.

    Returns:
        uint8 array (H, W, 3), RGB.

    Raises:
        DataError: The file is missing, cut short, no JPEG or PNG, or too large.
    """
    return read_image_levels(path, range=range).image_hwc


def read_image_levels(path: Path, *, range: Range | None = None) -> ReadPicture:
    """Read a data set's picture, and which values of more than 8 bits there were.

    Args:
        path: As for ``read_image``.
        range: As for ``read_image``.

    Returns:
        The picture and its values.

    Raises:
        DataError: As for ``read_image``.
    """
    return read_levels(path, formats=_IMAGES, range=range)


def size_of(path: Path) -> Size:
    """Return the height and width that ``read_image`` gives, from the header where possible.

    Args:
        path: A JPEG or PNG file.

    Returns:
        Height and width in pixels.

    Raises:
        DataError: The file is missing, no JPEG or PNG, or too large.
    """
    with open_picture(path, formats=_IMAGES) as image:
        width, height = image.size
        # Orientations 5 to 8 lie on their side.
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


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
        DataError: The file is missing, cut short or no such PNG, or its palette contradicts
            its labels.
    """
    with open_picture(path, formats=_MASKS) as mask:
        if mask.mode in ("P", "L"):
            decoded = _check_indices(np.array(mask), labelmap)
            if mask.mode == "P":
                _check_palette(np.asarray(mask), mask.getpalette() or [], labelmap, path)
            return decoded
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


def _check_palette(
    labels_hw: NDArray[np.uint8], values: list[int], labelmap: LabelMap, path: Path
) -> None:
    """Refuse a mask whose numbers name other classes than its colours do.

    Tools that shrink PNGs renumber the palette: the picture looks the same, and every label is
    another. Colours that are not the label map's say nothing, such as a grayscale palette's.
    """
    names = dict(zip(labelmap.palette, labelmap.classes, strict=True))
    names[labelmap.void_color] = "void"
    colors = list(zip(values[0::3], values[1::3], values[2::3], strict=True))
    used = np.flatnonzero(np.bincount(labels_hw.ravel(), minlength=VOID + 1)).tolist()
    if not all(label < len(colors) and colors[label] in names for label in used):
        return
    for label in used:
        expected = labelmap.palette[label] if label < len(labelmap.palette) else labelmap.void_color
        if colors[label] != expected:
            raise DataError(
                message(
                    str(path),
                    "a mask's labels and colours must name the same class",
                    f"label {label} in the colour of {names[colors[label]]}",
                    "save the mask as RGB, or give it the label map's palette",
                )
            )


def _decode_colors(rgb_hwc: NDArray[np.uint8], labelmap: LabelMap) -> DecodedMask:
    void_color = labelmap.void_color
    labels_hw, count = encode(rgb_hwc, labelmap.palette, void_color=void_color)
    found = unknown_colors(rgb_hwc, labelmap.palette, void_color=void_color) if count else {}
    return DecodedMask(labels_hw, {",".join(map(str, color)): n for color, n in found.items()})


def unknown_text(path: Path, unknown: dict[str, int], labelmap: LabelMap) -> str:
    """Word the error for a mask with colours or labels that are no class, counts in pixels."""
    shown = [f"{value} ({count} px)" for value, count in list(unknown.items())[:_SHOWN]]
    if len(unknown) > _SHOWN:
        shown.append(f"and {len(unknown) - _SHOWN} more")
    if "," in next(iter(unknown)):
        rule = "every colour must be a class's or void's"
    else:
        rule = f"labels are 0..{len(labelmap.classes) - 1} or {VOID}"
    remedy = "mend the mask or name the class in labelmap.txt"
    return message(str(path), rule, ", ".join(shown), remedy)
