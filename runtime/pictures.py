"""Picture files in, picture files out: reading what a viewer shows, writing atomically."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fcnkit.errors import DataError, message
from fcnkit.runtime.files import atomic_path
from fcnkit.runtime.palette import decode, overlay, voc_palette
from fcnkit.runtime.spec import ModelSpec

__all__ = ["MAX_PIXELS", "Format", "read_picture", "render", "write_png"]

Format = Literal["labels", "color", "overlay"]
"""A palette PNG of labels, an RGB PNG of their colours, or the colours laid over the picture."""

MAX_PIXELS: Final = 89_478_485
"""Largest picture that is decoded unless asked: Pillow's own limit, 256 MB as RGB."""


def read_picture(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a picture, turned upright as its EXIF orientation says.

    Args:
        path: A file of any 8-bit format that Pillow reads; alpha is dropped.
        max_pixels: Larger pictures are refused before they are decoded.

    Returns:
        uint8 RGB picture of shape (H, W, 3), contiguous.

    Raises:
        DataError: The file is no picture, broken, too large or of more than 8 bits.
    """
    what = str(path)
    try:
        with Image.open(path) as picture:
            _check_picture(picture, max_pixels, what=what)
            upright = ImageOps.exif_transpose(picture)
            return np.array(upright.convert("RGB"))
    except DataError:
        raise
    except Exception as error:  # a broken file makes Pillow's decoders raise whatever they met
        got = getattr(error, "strerror", None) or str(error) or type(error).__name__
        got = got.removesuffix(f" {str(path)!r}")  # Pillow names the file once more
        rule = "must be a complete picture"
        raise DataError(message(what, rule, got, "replace or remove the file")) from error


def _check_picture(picture: Image.Image, max_pixels: int, *, what: str) -> None:
    width, height = picture.size
    if width * height > max_pixels:
        rule = f"a picture may have at most {max_pixels} pixels"
        raise DataError(message(what, rule, f"{height}x{width}", "raise --max-pixels"))
    if picture.mode[0] in "IF":  # 16 or 32 bits, which convert("RGB") would clip to white
        rule = "a picture must have 8 bits per channel"
        remedy = "convert it, for only you know which values are black and white"
        raise DataError(message(what, rule, f"Pillow mode {picture.mode}", remedy))


def render(
    image_hwc: NDArray[np.uint8], labels_hw: NDArray[np.uint8], spec: ModelSpec, *, format: Format
) -> Image.Image:
    """Turn labels into the picture that is written.

    Args:
        image_hwc: The picture, used by ``overlay`` only.
        labels_hw: Its labels, of the same height and width.
        spec: The model's promises; its palette is used.
        format: What to show.

    Returns:
        A mode-P picture whose indices are the labels for ``labels``, else RGB.
    """
    if format == "overlay":
        return Image.fromarray(overlay(image_hwc, labels_hw, spec.palette))
    if format == "color":
        return Image.fromarray(decode(labels_hw, spec.palette))
    # All 256 entries, so that viewers show void at 255 in VOC's colour for it.
    palette = voc_palette()
    palette[: spec.num_classes] = spec.palette
    picture = Image.fromarray(labels_hw)
    picture.putpalette(palette.tobytes())
    return picture


def write_png(picture: Image.Image, path: Path) -> None:
    """Write a PNG that is either whole or not there, making its folder where needed.

    Args:
        picture: What to write.
        path: Where; a file of that name is replaced.

    Raises:
        OSError: The folder or file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=1)
