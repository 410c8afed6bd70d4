"""Reading the pictures and masks of a data set, or saying what is wrong with the file.

``image_hwc`` is uint8 (H, W, 3) RGB; ``labels_hw`` is uint8 (H, W), a class each, 255 = void.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import ExifTags, Image

from fcnkit.errors import DataError, message
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.runtime.pixels.palette import encode, unknown_colors
from fcnkit.runtime.predict.bands import Bands
from fcnkit.runtime.predict.levels import Range
from fcnkit.runtime.predict.picture_file import UnknownLayoutError, open_picture
from fcnkit.runtime.predict.pictures import Reading, ReadPicture, read_levels
from fcnkit.runtime.predict.tiff import size_and_orientation

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from fcnkit.train.data.labelmap import LabelMap

__all__ = [
    "MANY",
    "ON_ITS_SIDE",
    "DecodedMask",
    "check_palette",
    "decode_mask",
    "mask_picture",
    "orientation_of",
    "read_image",
    "read_image_levels",
    "read_mask",
    "size_of",
    "unknown_text",
]

Size = tuple[int, int]
"""Height and width in pixels."""

ON_ITS_SIDE = 5
"""EXIF orientations from here on, up to 8, swap height and width."""

MANY = 16
"""More unknown colors or labels than this come from smoothing or a photo, not a lost class."""

_IMAGES = ("JPEG", "PNG", "TIFF")
_MASKS = ("PNG",)
_JPEG_START, _DEPTH_AT = b"\xff\xd8", 24
"""How a JPEG file begins, and which byte of a PNG file tells the bits per channel."""

_SHOWN = 5
"""At most this many unknown colors or labels are named in an error."""


class DecodedMask(NamedTuple):
    """A mask as labels, and the colors or labels in it that belong to no class."""

    labels_hw: NDArray[np.uint8]
    """Labels; unknown pixels are void."""
    unknown: dict[str, int]
    """Pixels by unknown color (``r,g,b``) or unknown label (``37``), most frequent first."""
    transparent: int = 0
    """Number of pixels that are not opaque. Their color counts all the same."""
    repainted: str = ""
    """A label whose color in the file's palette is not the label map's; empty if there is none."""


def read_image(
    path: Path, *, range: Range | None = None, bands: Bands | None = None
) -> NDArray[np.uint8]:
    """Read a data set's picture, as ``fcnkit.runtime.predict.pictures.read_picture`` does.

    Args:
        path: A JPEG, PNG or TIFF file.
        range: The values that become 0 and 255 in pictures of more than 8 bits; by default all
            that the file can hold. ``data check`` and ``open_data`` warn where that is in doubt.
        bands: The stored samples that are red, green and blue; by default what the file says.

    Returns:
        uint8 array (H, W, 3), RGB.

    Raises:
        DataError: The file is missing, cut short, not a JPEG, PNG or TIFF, or too large.
    """
    return read_image_levels(path, range=range, bands=bands).image_hwc


def read_image_levels(
    path: Path, *, range: Range | None = None, bands: Bands | None = None
) -> ReadPicture:
    """Read a data set's picture, and which values of more than 8 bits there were.

    Args:
        path: The picture's file.
        range: As for ``read_image``.
        bands: As for ``read_image``.

    Returns:
        The picture, and which values of more than 8 bits there were.

    Raises:
        DataError: As for ``read_image``.
    """
    return read_levels(path, Reading(formats=_IMAGES, range=range, bands=bands))


def size_of(path: Path) -> Size:
    """Return the height and width that ``read_image`` gives, from the header where possible.

    Args:
        path: A JPEG, PNG or TIFF file.

    Returns:
        Height and width in pixels.

    Raises:
        DataError: The file is missing, not a JPEG, PNG or TIFF, or too large.
    """
    (height, width), orientation = _header(path)
    return (width, height) if orientation >= ON_ITS_SIDE else (height, width)


def orientation_of(path: Path) -> int:
    """Return how ``read_image`` turns or mirrors a picture: its EXIF orientation, 1 for not at all.

    Args:
        path: A JPEG, PNG or TIFF file.

    Returns:
        1..8, as EXIF counts them; 1 where the file says nothing or something else.

    Raises:
        DataError: The file is missing, not a JPEG, PNG or TIFF, or too large.
    """
    return _header(path)[1]


def _header(path: Path) -> tuple[Size, int]:
    """Return the stored size and the EXIF orientation."""
    try:
        with open_picture(path, formats=_IMAGES) as image:
            size = (image.height, image.width)
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except UnknownLayoutError:  # a TIFF that libvips may read
        size, orientation = size_and_orientation(path)
    return size, orientation if orientation in range(1, 9) else 1


def read_mask(
    path: Path, labelmap: LabelMap, *, void_as_background: bool = False
) -> NDArray[np.uint8]:
    """Read a mask as labels.

    In a palette (mode P) or grayscale PNG the pixel values are the labels, 255 = void. The pixels
    of an RGB or RGBA PNG are looked up in the label map's colors; transparency counts for nothing.

    Args:
        path: A PNG file.
        labelmap: The classes and their colors.
        void_as_background: Give void pixels label 0, as the d2l.ai chapter does, where class 0 is
            named background. Elsewhere they stay void, because class 0 is not background.

    Returns:
        uint8 array (H, W) of labels below the number of classes, and 255 for void.

    Raises:
        DataError: The file is missing, cut short or no such PNG, or a color or label in it belongs
            to no class; the message counts the pixels.
    """
    decoded = decode_mask(path, labelmap)
    if decoded.unknown:
        raise DataError(unknown_text(path, decoded.unknown, labelmap))
    labels_hw = decoded.labels_hw
    if void_as_background and labelmap.has_background:
        labels_hw[labels_hw == VOID] = 0
    return labels_hw


def decode_mask(path: Path, labelmap: LabelMap) -> DecodedMask:
    """Read a mask as labels, and count unknown colors or labels instead of refusing them.

    Args:
        path: A PNG file, see ``read_mask``.
        labelmap: The classes and their colors.

    Returns:
        The labels and the unknown colors or labels.

    Raises:
        DataError: The file is missing, cut short or no such PNG, or its palette contradicts
            its labels.
    """
    start = _start(path)
    if start.startswith(_JPEG_START):
        remedy = "make it again as PNG from the labels, because JPEG has changed them"
        raise DataError(message(str(path), "a mask must be a PNG file", "a JPEG file", remedy))
    with open_picture(path, formats=_MASKS) as mask:
        # A 1-bit mask is refused: its set pixels could be class 1 or void.
        if mask.mode not in ("P", "L", "RGB", "RGBA"):
            rule = "a mask is a PNG of mode P, L, RGB or RGBA"
            raise _depth_error(path, rule, f"mode {mask.mode}")
        # Pillow would multiply labels of 2 or 4 bits and keep the high byte of 16.
        if mask.mode != "P" and start[_DEPTH_AT:] not in (b"", b"\x08"):
            raise _depth_error(path, "a mask has 8 bits per channel", f"{start[_DEPTH_AT]} bits")
        if mask.mode == "P":
            decoded = _check_indices(np.array(mask), labelmap)
            palette = mask.getpalette() or []
            return decoded._replace(repainted=check_palette(decoded, palette, labelmap, path))
        if mask.mode == "L":
            return _check_indices(np.array(mask), labelmap)
        decoded = _decode_colors(np.array(mask.convert("RGB")), labelmap)
        if mask.mode == "RGBA":
            opaque = np.asarray(mask.getchannel("A")) == 255
            return decoded._replace(transparent=opaque.size - int(np.count_nonzero(opaque)))
        return decoded


def mask_picture(labels_hw: NDArray[np.uint8], labelmap: LabelMap) -> Image.Image:
    """Return labels as a palette image in the label map's colors, as masks are saved.

    Args:
        labels_hw: uint8 (H, W), void 255.
        labelmap: The classes.
    """
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(labelmap.palette)] = labelmap.palette
    palette[VOID] = labelmap.void_color
    mask = Image.fromarray(labels_hw)
    mask.putpalette(palette.tobytes())
    return mask


def _start(path: Path) -> bytes:
    """Return a file's first bytes, up to a PNG's bits per channel."""
    if not path.is_file():  # opening a pipe would wait for a writer
        return b""
    try:
        with path.open("rb") as file:
            return file.read(_DEPTH_AT + 1)
    except OSError:  # open_picture raises the error
        return b""


def _depth_error(path: Path, rule: str, got: str) -> DataError:
    return DataError(message(str(path), rule, got, "save it with 8 bits per channel"))


def _check_indices(labels_hw: NDArray[np.uint8], labelmap: LabelMap) -> DecodedMask:
    counts = np.bincount(labels_hw.ravel(), minlength=VOID + 1)
    beyond = [label for label in range(len(labelmap.classes), VOID) if counts[label]]
    beyond.sort(key=lambda label: -counts[label])
    if beyond:
        labels_hw[labels_hw >= len(labelmap.classes)] = VOID
    return DecodedMask(labels_hw, {str(label): int(counts[label]) for label in beyond})


def check_palette(decoded: DecodedMask, values: list[int], labelmap: LabelMap, path: Path) -> str:
    """Refuse a mask whose numbers name other classes than its colors do.

    Tools that shrink PNGs renumber the palette: the picture looks the same, but every label
    changes. Where only some colors are the label map's, this is uncertain, and the difference is
    returned. A grayscale palette says nothing, and neither does the color of 255, which is always
    void.
    """
    names = dict(zip(labelmap.palette, labelmap.classes, strict=True))
    names[labelmap.void_color] = "void"
    colors = list(zip(values[0::3], values[1::3], values[2::3], strict=True))
    counts = np.bincount(decoded.labels_hw.ravel(), minlength=VOID + 1)[: len(labelmap.classes)]
    used = {label: colors[label] for label in np.flatnonzero(counts).tolist()[: len(colors)]}
    wrong = {label: color for label, color in used.items() if color != labelmap.palette[label]}
    grayscale = len(colors) > 1 and all(color == (n,) * 3 for n, color in enumerate(colors))
    if not wrong or grayscale:
        return ""
    renamed = [label for label, color in wrong.items() if color in names]
    label = (renamed or list(wrong))[0]
    if all(color in names for color in used.values()):
        raise DataError(
            message(
                str(path),
                "a mask's labels and colors must name the same class",
                f"label {label} in the color of {names[wrong[label]]}",
                "save the mask as RGB, or give it the label map's palette",
            )
        )
    text = f"label {label} ({labelmap.classes[label]}) in {','.join(map(str, wrong[label]))}"
    return f"{text}, the color of {names[wrong[label]]}" if label in renamed else text


def _decode_colors(rgb_hwc: NDArray[np.uint8], labelmap: LabelMap) -> DecodedMask:
    void_color = labelmap.void_color
    labels_hw, count = encode(rgb_hwc, labelmap.palette, void_color=void_color)
    found = unknown_colors(rgb_hwc, labelmap.palette, void_color=void_color) if count else {}
    return DecodedMask(labels_hw, {",".join(map(str, color)): n for color, n in found.items()})


def unknown_text(path: Path, unknown: dict[str, int], labelmap: LabelMap) -> str:
    """Word the error for a mask with colors or labels that belong to no class, counts in pixels."""
    shown = [f"{value} ({count} px)" for value, count in list(unknown.items())[:_SHOWN]]
    if len(unknown) > _SHOWN:
        shown.append(f"and {len(unknown) - _SHOWN} more")
    if "," in next(iter(unknown)):
        rule = "every color must be a class's or void's"
    else:
        rule = f"labels are 0..{len(labelmap.classes) - 1} or {VOID}"
    return message(str(path), rule, ", ".join(shown), _remedy(list(unknown), labelmap))


def _remedy(unknown: list[str], labelmap: LabelMap) -> str:
    """Say what may have happened to a mask with these unknown colors or labels."""
    if len(unknown) > MANY:
        return "save labels without smoothing or JPEG compression, or check that it is not a photo"
    colors = [tuple(map(int, value.split(","))) for value in unknown if "," in value]
    if colors and all(color[::-1] in labelmap.palette for color in colors):
        return "save it as RGB, for its channels are in the order blue, green, red"
    classes = len(labelmap.classes)
    if colors and all(len(set(color)) == 1 and color[0] < classes for color in colors):
        return "save it in grayscale, for its channels hold labels instead of colors"
    return "mend the mask or name the class in labelmap.txt"
