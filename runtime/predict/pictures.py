"""Picture files in: reading what a viewer shows."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin

from fcnkit.errors import DataError, message
from fcnkit.runtime.checks import check_type
from fcnkit.runtime.pixels.tile_plan import MAX_SIDE
from fcnkit.runtime.predict.bands import Bands, check_bands
from fcnkit.runtime.predict.frames import Color, rgb_image
from fcnkit.runtime.predict.jpeg import decode_jpeg
from fcnkit.runtime.predict.layouts import Layout, layout_of, to_rgb
from fcnkit.runtime.predict.levels import (
    Levels,
    LevelsSeen,
    Range,
    RangeWarner,
    WarnOfRange,
    check_range,
)
from fcnkit.runtime.predict.picture_file import (
    MAX_PIXELS,
    UnknownLayoutError,
    open_picture,
    too_large,
)
from fcnkit.runtime.predict.region import (
    Region,
    check_same_size,
    marked,
    void_rule,
)
from fcnkit.runtime.predict.rows import open_plain, open_rows, read_all
from fcnkit.runtime.predict.tiff import DEPTH_REMEDY, DEPTH_RULE

__all__ = ["ReadPicture", "Reading", "read_levels", "read_picture", "take_image"]

_SIMPLE: Final = ("1", "L", "P", "RGB", "YCbCr")

_OTHER_BYTE: Final = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
"""Raw modes of Pillow take one byte of a 16-bit sample; this one takes the other."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How picture files are read; see ``read_picture``.

    Raises:
        TypeError: range is not a pair of integers, bands are not integers, or region is of
            another type.
        ValueError: range is not 0 <= low < high <= 65535, or bands are not three of 1..65535.
    """

    formats: tuple[str, ...] | None = None
    max_pixels: int = MAX_PIXELS
    range: Range | None = None
    bands: Bands | None = None
    region: Region = field(default_factory=Region)
    """The part that is returned, and which of its pixels are labeled; its mask is a file."""

    def __post_init__(self) -> None:
        """Check every field but those that ``open_picture`` checks."""
        object.__setattr__(self, "range", check_range("range", self.range))
        object.__setattr__(self, "bands", check_bands("bands", self.bands))
        check_type("read_picture: region", self.region, Region)


class ReadPicture(NamedTuple):
    """A picture, and which values its file held."""

    image_hwc: NDArray[np.uint8]
    """RGB, the caller's own."""
    seen: LevelsSeen | None
    """None for pictures of 8 bits."""


def read_picture(
    path: str | Path,
    *,
    formats: tuple[str, ...] | None = None,
    max_pixels: int = MAX_PIXELS,
    range: Range | None = None,
    bands: Bands | None = None,
) -> NDArray[np.uint8]:
    """Read a picture the way a viewer shows it.

    The EXIF orientation is applied, transparency is put on white, values of more than 8 bits are
    scaled, and grayscale, palette and CMYK pictures become RGB. Color profiles are not applied.

    Args:
        path: The file.
        formats: As for ``open_picture``.
        max_pixels: As for ``open_picture``.
        range: The stored values (low, high) that become 0 and 255, for gray and RGB pictures of
            more than 8 bits; values outside of it become 0 or 255. By default all that the file
            can hold, with a PictureWarning where the picture uses a quarter of that or less.
        bands: The stored samples, counted from 1, that are red, green and blue. All others are
            left out, transparency too. By default what the file says.

    Returns:
        uint8 RGB picture of shape (H, W, 3), contiguous, the caller's own.

    Raises:
        DataError: As for ``open_picture``, or the file has a layout whose colors are not known,
            such as floats.
        TypeError: range is not a pair of integers, or bands are not integers.
        ValueError: range is not 0 <= low < high <= 65535, or bands are not three of 1..65535.
    """
    how = Reading(formats=formats, max_pixels=max_pixels, range=range, bands=bands)
    return _read_warned(path, how, RangeWarner("if {0} means white, pass range=(0, {0})"))


def take_image(
    source: str | Path | NDArray[np.uint8],
    how: Reading,
    warn: WarnOfRange,
    *,
    color: Color = "RGB",
) -> NDArray[np.uint8]:
    """Return an image as the kernels take it, from a file or from a caller's array.

    Args:
        source: A file, read as ``read_picture`` does, or an array for ``rgb_image``.
        how: How a file is read. An array is taken as it is.
        warn: Warns of an assumed range, once per run.
        color: Of an array, as for ``rgb_image``.

    Returns:
        uint8 (H, W, 3), C-contiguous; with a fourth channel as from ``read_levels``.

    Raises:
        DataError: As for ``read_picture``.
        TypeError: As for ``read_picture`` and ``rgb_image``.
        ValueError: As for ``read_picture`` and ``rgb_image``.
    """
    if isinstance(source, str | Path):
        return _read_warned(source, how, warn)
    return rgb_image(source, color)


def _read_warned(path: str | Path, how: Reading, warn: WarnOfRange) -> NDArray[np.uint8]:
    image_hwc, seen = read_levels(path, how)
    warn(str(path), seen)
    return image_hwc


def read_levels(path: str | Path, how: Reading | None = None) -> ReadPicture:
    """Read a picture as ``read_picture`` does, without its warning.

    Args:
        path: The file.
        how: How it is read; None for the defaults of ``read_picture``.

    Returns:
        The picture and which values there were. The picture has a fourth channel, 0 where it is not
        labeled, where the region leaves out pixels of this file.

    Raises:
        DataError: As for ``read_picture``, or the region does not fit the picture.
        TypeError: As for ``read_picture``.
        ValueError: As for ``read_picture``.
    """
    how = how or Reading()
    try:
        with open_picture(path, formats=how.formats, max_pixels=how.max_pixels) as picture:
            made = _read(picture, Path(path), how)
    except UnknownLayoutError:
        made = _by_rows(Path(path), how)
    return made._replace(image_hwc=_in_region(made.image_hwc, str(path), how))


def _in_region(image_hwc: NDArray[np.uint8], what: str, how: Reading) -> NDArray[np.uint8]:
    """Mask a whole picture, and cut the window out of it."""
    region = how.region
    if region.mask is not None:
        mask_hwc, _ = read_levels(region.mask, Reading(max_pixels=how.max_pixels))
        check_same_size(region.mask, mask_hwc.shape[:2], image_hwc.shape[:2])
        image_hwc = marked(image_hwc, mask_hwc.max(axis=2))
    if region.window is None:
        return image_hwc
    region.window.check(what, *image_hwc.shape[:2])
    return region.window.cut(image_hwc).copy()


def _read(picture: Image.Image, path: Path, how: Reading) -> ReadPicture:
    bands, nodata = how.bands, how.region.nodata
    if picture.format == "PPM":
        plain = open_plain(path, range=how.range, bands=bands, region=Region(nodata=nodata))
        if plain is not None:
            return ReadPicture(read_all(plain), plain.seen)
        return ReadPicture(_read_text(picture, str(path), how), None)
    layout = layout_of(picture, str(path), bands)
    few = bands is not None and len(picture.getbands()) < layout.samples
    if few or (layout.planes and (layout.deep or layout.extras > 1 or layout.unnamed)):
        # Pillow delivers no more than four planes, and of them the upper bytes.
        return _by_rows(path, replace(how, max_pixels=MAX_SIDE * MAX_SIDE))
    if layout.planes:
        _use_libtiff(picture)
    tags = dict(picture.tag_v2) if isinstance(picture, TiffImagePlugin.TiffImageFile) else {}
    rule = void_rule(nodata, layout, tags, str(path))
    simple = layout.colors < 4 and layout.alpha is None and layout.key is None and bands is None
    if rule is None and simple and not layout.deep and picture.mode in _SIMPLE:
        image_hwc = decode_jpeg(picture)
        return ReadPicture(_plain_rgb(picture) if image_hwc is None else image_hwc, None)
    levels = Levels(how.range)
    samples = _samples(picture, layout, path)
    rgb_hwc = to_rgb(samples, layout, levels)
    if rule is not None:
        rgb_hwc = marked(rgb_hwc, rule.valid(samples, layout))
    return ReadPicture(rgb_hwc, levels.seen)


def _plain_rgb(picture: Image.Image) -> NDArray[np.uint8]:
    """Return most pictures: no copy that is not needed."""
    ImageOps.exif_transpose(picture, in_place=True)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _by_rows(path: Path, how: Reading) -> ReadPicture:
    """Read a TIFF by libvips that Pillow does not take."""
    whole = Region(nodata=how.region.nodata)
    rows = open_rows(path, range=how.range, bands=how.bands, region=whole)
    if rows.width * rows.height > how.max_pixels:
        raise too_large(path, (rows.height, rows.width), how.max_pixels)
    image_hwc = read_all(rows)
    return ReadPicture(image_hwc, rows.seen)


def _read_text(picture: Image.Image, what: str, how: Reading) -> NDArray[np.uint8]:
    """Read a PBM, or a PGM or PPM whose values are written as text."""
    assert isinstance(picture, ImageFile.ImageFile)
    args = picture.tile[0].args
    most = args[1] if isinstance(args, tuple) and len(args) == 2 else 255
    if picture.mode == "F":
        got = "a PFM file of floats"
        raise DataError(message(what, DEPTH_RULE, got, DEPTH_REMEDY))
    if how.bands is not None or isinstance(how.region.nodata, int):
        rule = "bands need a binary file"
        if how.bands is None:
            rule = "a nodata value needs a binary file"
        remedy = "save it as binary, P5 or P6"
        raise DataError(message(what, rule, "text", remedy))
    if how.range is not None and isinstance(most, int) and most > 255:
        rule = "a range needs the values as they are stored"
        remedy = "save it as binary, P5 or P6"
        raise DataError(message(what, rule, f"text of values up to {most}", remedy))
    if picture.mode == "I":  # more than 8 bits, which Pillow has scaled to 16
        return np.repeat((np.asarray(picture) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    return np.array(picture.convert("RGB"))


def _use_libtiff(picture: Image.Image) -> None:
    """Let libtiff decode separate planes: Pillow's own way stops at some kinds of them."""
    assert isinstance(picture, TiffImagePlugin.TiffImageFile)
    if not picture.use_load_libtiff:
        size = (picture.tag_v2[256], picture.tag_v2[257])
        args = (
            {"RGBA": "RGBA", "CMYK": "CMYK"}.get(picture.mode, "RGB"),
            False,
            picture.tag_v2.offset,
        )
        picture.use_load_libtiff = True
        picture.tile = [ImageFile._Tile("libtiff", (0, 0, *size), 0, args)]


def _samples(
    picture: Image.Image, layout: Layout, path: Path
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return the samples (H, W, C) of a picture, turned as EXIF says."""
    if layout.deep and picture.mode not in ("I;16", "I;16B"):
        return _deep_samples(picture, layout, path)
    turned = ImageOps.exif_transpose(picture)
    if layout.deep:
        return np.asarray(turned).astype(np.uint16)[..., None]
    if picture.mode == "La":
        turned = turned.convert("LA")
    elif layout.palette or picture.format not in ("PNG", "TIFF"):
        mode = "RGB" if layout.alpha is None else "RGBA"
        turned = turned if turned.mode == "CMYK" else turned.convert(mode)
    elif turned.mode == "1":
        turned = turned.convert("L")
    samples = np.asarray(turned)
    return samples if samples.ndim == 3 else samples[..., None]


def _deep_samples(picture: Image.Image, layout: Layout, path: Path) -> NDArray[np.uint16]:
    """Return samples of 16 bits. Pillow holds 8 of them, so it reads the picture twice."""
    halves = []
    for upper in (True, False):
        with Image.open(path, formats=(str(picture.format),)) as half:
            half.tile = [_with_byte(tile, upper=upper) for tile in half.tile]
            halves.append(np.asarray(ImageOps.exif_transpose(half)).astype(np.uint16))
    if layout.colors == 1:  # gray and transparency: all four bytes came as RGBA, twice
        gray, opacity = (halves[0][..., i] << 8 | halves[0][..., i + 1] for i in (0, 2))
        return np.stack([gray, opacity], axis=-1)
    samples: NDArray[np.uint16] = halves[0] * np.uint16(256) + halves[1]
    if layout.premultiplied:
        opacity = samples[..., 3:].astype(np.float64)
        whole = samples[..., :3] * (65535 / np.maximum(opacity, 1))
        samples[..., :3] = np.rint(whole.clip(0, 65535))
    return samples


def _with_byte(tile: ImageFile._Tile, *, upper: bool) -> ImageFile._Tile:
    """Return a tile whose samples of 16 bits are read as their upper or lower byte."""
    args = tile.args
    raw = str(args[0] if isinstance(args, tuple) else args)
    if raw == "LA;16B":
        raw = "RGBA"
    else:
        raw = raw.replace("RGBa", "RGBA")
        raw = raw if upper else raw[:-1] + _OTHER_BYTE[raw[-1]]
    return tile._replace(args=(raw, *args[1:]) if isinstance(args, tuple) else raw)
