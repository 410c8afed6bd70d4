"""Masks of any kind: palette, gray, 1 bit, 16 bits, RGB. Their numbers, or their colors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from fcnkit.errors import DataError, message
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.runtime.pixels.palette import encode, unknown_colors
from fcnkit.runtime.predict.picture_file import open_picture
from fcnkit.train.data.masks import DecodedMask, check_palette, unknown_text

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from fcnkit.train.data.labelmap import LabelMap

__all__ = ["MaskPixels", "read_ids", "read_labels", "read_pixels", "say_transparent"]

_FORMATS = ("PNG", "BMP", "GIF", "TIFF")
"""Formats without loss. JPEG changes labels."""
_DEPTH_AT = 24
"""Which byte of a PNG file tells the bits per channel."""
_SCALED = {2: 85, 4: 17}
"""Pillow multiplies gray values of few bits so that the largest becomes 255."""
_REPAINTED = "a palette with other colors than the label map"
_CLEAR = "transparent pixels of a mask"
_PHOTOMETRIC, _BITS = 262, 258


class MaskPixels(NamedTuple):
    """A mask as its file holds it."""

    array: NDArray[np.uint16] | NDArray[np.uint8]
    """uint16 (H, W) numbers, or uint8 (H, W, 3) colors."""
    palette: list[int] | None = None
    """Where the numbers are a palette's: its colors, three values each."""
    one_bit: bool = False
    transparent: bool = False
    """Whether some pixels are not opaque. Their color or number counts all the same."""

    @property
    def is_rgb(self) -> bool:
        """Whether the mask holds colors."""
        return self.array.ndim == 3


def read_pixels(path: Path) -> MaskPixels:
    """Read a mask without interpreting it. Transparency is ignored.

    Args:
        path: A PNG, BMP, GIF or TIFF file.

    Returns:
        Numbers or colors.

    Raises:
        DataError: The file is missing, damaged, too large, a JPEG file, an animation, or of a
            kind whose numbers Pillow would change.
    """
    with open_picture(path) as mask:
        if mask.format not in _FORMATS:
            rule, got = f"a mask is a {', '.join(_FORMATS)} file", f"a {mask.format} file"
            remedy = "make it again as PNG from the labels, for its compression changes them"
            raise DataError(message(str(path), rule, got, remedy))
        if getattr(mask, "n_frames", 1) > 1:
            got = f"{getattr(mask, 'n_frames', 1)} images"
            raise DataError(message(str(path), "a mask file holds one image", got, "split it"))
        depth = _depth(mask, path)
        if mask.mode in ("P", "PA"):
            palette = mask.getpalette("RGB")
            band = mask if mask.mode == "P" else mask.getchannel("P")
            pixels = MaskPixels(np.array(band).astype(np.uint16), palette)
        elif mask.mode in ("RGB", "RGBA") and depth == 8:
            pixels = MaskPixels(np.array(mask.convert("RGB")))
        else:
            pixels = _gray(mask, depth, path)
        clear = mask.mode.endswith("A") and np.array(mask.getchannel("A")).min() < 255
        return pixels._replace(transparent=bool(clear))


def _gray(mask: Image.Image, depth: int, path: Path) -> MaskPixels:
    if mask.mode == "1":
        return MaskPixels(np.array(mask).astype(np.uint16), one_bit=True)
    if mask.mode in ("L", "LA") and depth in (1, 2, 4, 8):
        values = np.array(mask.getchannel(0)).astype(np.uint16)
        return MaskPixels(values // _SCALED.get(depth, 1))
    if mask.mode.startswith("I"):
        values = np.array(mask)
        if not values.size or (values.min() >= 0 and values.max() <= 0xFFFF):
            return MaskPixels(values.astype(np.uint16))
    rule = "a mask has palette indices, gray values of 1 to 16 bits, or RGB of 8 bits"
    got = f"Pillow's mode {mask.mode} with {depth} bits"
    raise DataError(message(str(path), rule, got, "save it as a PNG of such a kind"))


def _depth(mask: Image.Image, path: Path) -> int:
    """Return the bits per channel in the file."""
    if mask.format == "PNG":
        with path.open("rb") as file:
            return file.read(_DEPTH_AT + 1)[_DEPTH_AT]
    if mask.format != "TIFF":
        return 8
    tags = getattr(mask, "tag_v2", {})
    bits = tags.get(_BITS, (1,))
    depth = max(bits) if isinstance(bits, tuple) else int(bits)
    odd = depth not in (1, 8, 16, 32) or (tags.get(_PHOTOMETRIC) == 0 and depth > 1)
    if odd:
        rule, got = "a TIFF mask has 1, 8 or 16 bits and 0 for black", f"{depth} bits"
        got = f"{got}, photometric interpretation {tags.get(_PHOTOMETRIC)}"
        raise DataError(message(str(path), rule, got, "save it as PNG"))
    return depth


def read_labels(path: Path, labelmap: LabelMap, doubts: list[str]) -> NDArray[np.uint16]:
    """Read a mask by a label map: colors, or numbers that count its lines from 0.

    Args:
        path: The file.
        labelmap: The classes.
        doubts: Gets a line where a palette's colors are others than the label map's, and where
            pixels are transparent.

    Returns:
        uint16 (H, W): places in the label map, and the number of classes for void.

    Raises:
        DataError: As for ``read_pixels``; or a color or number is not a class, or a palette
            contradicts the label map.
    """
    pixels = read_pixels(path)
    say_transparent(path, pixels, doubts)
    classes = len(labelmap.classes)
    if pixels.is_rgb:
        colors = np.ascontiguousarray(pixels.array, np.uint8)
        void = labelmap.void_color
        labels_hw, count = encode(colors, labelmap.palette, void_color=void)
        if count:
            found = unknown_colors(colors, labelmap.palette, void_color=void)
            text = {",".join(map(str, color)): n for color, n in found.items()}
            raise DataError(unknown_text(path, text, labelmap))
    else:
        values, counts = np.unique(pixels.array, return_counts=True)
        strange = [
            (int(value), int(count))
            for value, count in zip(values, counts, strict=True)
            if value >= classes and value != VOID
        ]
        if strange:
            strange.sort(key=lambda pair: -pair[1])
            raise DataError(unknown_text(path, {str(v): n for v, n in strange}, labelmap))
        labels_hw = pixels.array.astype(np.uint8)
        if pixels.palette is not None:
            decoded = DecodedMask(labels_hw, {})
            odd = check_palette(decoded, pixels.palette, labelmap, path)
            if odd and not any(_REPAINTED in doubt for doubt in doubts):
                doubts.append(f"{path.name}: {_REPAINTED}, such as {odd}; its numbers were taken")
    places = labels_hw.astype(np.uint16)
    places[labels_hw == VOID] = classes
    return places


def say_transparent(path: Path, pixels: MaskPixels, doubts: list[str]) -> None:
    """Add a line about transparent pixels, the first time that there are any."""
    if pixels.transparent and not any(_CLEAR in doubt for doubt in doubts):
        doubts.append(f"{path.name}: {_CLEAR} are read by their color")


def read_ids(path: Path) -> MaskPixels:
    """Read a mask whose values are ids.

    Args:
        path: The file; one in RGB must be gray, its value is the id.

    Returns:
        uint16 (H, W).

    Raises:
        DataError: As for ``read_pixels``, or the mask is colored.
    """
    pixels = read_pixels(path)
    if not pixels.is_rgb:
        return pixels
    red, green, blue = np.moveaxis(pixels.array, 2, 0)
    if (red == green).all() and (red == blue).all():
        return MaskPixels(red.astype(np.uint16), transparent=pixels.transparent)
    rule, got = "a mask of ids is gray or has a palette", "an RGB mask with colors"
    raise DataError(message(str(path), rule, got, "name the colors in a file for --labelmap"))
