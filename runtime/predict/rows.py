"""Pictures too large to be held, read from top to bottom.

Binary PPM and PGM files are read here; everything else (TIFF in tiles or strips, PNG, JPEG) by
libvips, from the extra ``large``, which decodes only as far as needed.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, JpegImagePlugin, PngImagePlugin

from fcnkit.errors import DataError, message, missing_extra
from fcnkit.runtime.checks import check_path
from fcnkit.runtime.predict.bands import Bands, check_bands
from fcnkit.runtime.predict.layouts import Layout, layout_of, layout_of_tiff, to_rgb, with_bands
from fcnkit.runtime.predict.levels import DEEPEST, Levels, LevelsSeen, Range, check_range
from fcnkit.runtime.predict.passes import Rows
from fcnkit.runtime.predict.picture_file import MAX_PIXELS, format_of, worded
from fcnkit.runtime.predict.region import (
    Region,
    VoidRule,
    check_same_size,
    checked_region,
    marked,
    void_rule,
)
from fcnkit.runtime.predict.tiff import tags_of
from fcnkit.runtime.predict.window import Window

__all__ = ["FileRows", "open_plain", "open_rows", "read_all"]

_PLAIN: Final = re.compile(
    rb"P([56])(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s"
)
"""Header of a binary PGM (5) or PPM (6): width, height and the largest value."""

_HEADER_BYTES: Final = 4096


class FileRows(Rows, Protocol):
    """The rows of a file, or those of a window of it."""

    whole: tuple[int, int]
    """Height and width of the picture in the file."""

    @property
    def seen(self) -> LevelsSeen | None:
        """Which values of more than 8 bits there were so far; None for pictures of 8 bits."""


def open_rows(
    path: str | Path,
    *,
    range: Range | None = None,
    bands: Bands | None = None,
    region: Region | None = None,
) -> FileRows:
    """Open a picture that is read row by row; its pixels are those that ``read_picture`` gives.

    Args:
        path: The file.
        range: As for ``read_picture``.
        bands: As for ``read_picture``.
        region: The part that is read, and which of its pixels are labeled; its mask is a file.

    Returns:
        Its rows as RGB, as a viewer shows them. They have a fourth channel where the region leaves
        out pixels of this file.

    Raises:
        DataError: The file is of another kind, broken, has a layout whose colors are not known,
            or cannot be read from top to bottom.
        MissingExtraError: pyvips is needed and not installed.
        TypeError: path is neither a str nor a Path, or range or bands are not integers.
        ValueError: range is not 0 <= low < high <= 65535, or bands are not three of 1..65535.
    """
    path, range = check_path("open_rows: path", path), check_range("range", range)
    bands, region = check_bands("bands", bands), checked_region("open_rows", region)
    rows = _open(path, range, bands, region)
    if region.mask is None:
        return rows
    return _MaskedRows(rows, region.mask, _open(region.mask, None, None, region.of_mask))


def _open(path: Path, range: Range | None, bands: Bands | None, region: Region) -> FileRows:
    with worded(path, "picture file", MAX_PIXELS):
        plain = open_plain(path, range=range, bands=bands, region=region)
        if plain is not None:
            return plain
        layout, orientation = _header_of(path, bands)
        tags = (tags_of(path) or {}) if format_of(path) == "TIFF" else {}
        rule = void_rule(region.nodata, layout, tags, str(path))
    if layout.planes and layout.tiles:
        needs, remedy = "a picture read row by row must not have planes in tiles", "use strips"
        raise DataError(message(str(path), needs, "a TIFF of tiles in separate planes", remedy))
    if orientation not in (0, 1):
        needs = "a picture read row by row must be stored upright"
        remedy = "rotate it first, with vips autorot"
        raise DataError(message(str(path), needs, f"orientation {orientation}", remedy))
    try:
        vips: Any = import_module("pyvips")
    except (ImportError, OSError):  # OSError: the package without libvips itself
        raise missing_extra(f"{path}: reading row by row", "pyvips", "large") from None
    return _VipsRows(path, vips, layout, Levels(range), region.window, rule)


def open_plain(
    path: Path, *, range: Range | None, bands: Bands | None, region: Region
) -> FileRows | None:
    """Open a binary PPM or PGM.

    Args:
        path: The file.
        range: As for ``read_picture``, checked.
        bands: As for ``read_picture``, checked.
        region: As for ``open_rows``; its mask is not used.

    Returns:
        Its rows; None for other files.

    Raises:
        DataError: The header makes no sense.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        head = _PLAIN.match(file.read(_HEADER_BYTES))
    return None if head is None else _PlainRows(path, head, range, bands, region)


def read_all(rows: Rows) -> NDArray[np.uint8]:
    """Read all rows at once, uint8 (H, W, 3 or 4), the caller's own."""
    return np.ascontiguousarray(rows.read(rows.height))


def _header_of(path: Path, bands: Bands | None) -> tuple[Layout, int]:
    """Return the layout of a PNG, JPEG or TIFF and its EXIF orientation.

    Pillow's limit on pixels does not apply: nothing is decoded.
    """
    format = format_of(path)
    if format == "TIFF":
        tags = tags_of(path)
        if tags is None:
            raise DataError(
                message(str(path), "must be a whole picture file", "damaged tags", "replace it")
            )
        orientation = tags.get(int(ExifTags.Base.Orientation), 1)
        return layout_of_tiff(tags, str(path), bands), orientation
    # libvips knows many more formats, and hands some of them to libraries that are not meant for
    # files from strangers.
    if format not in ("PNG", "JPEG"):
        rule = "a picture that streams must be PPM or PGM of kind P5 or P6, PNG, JPEG or TIFF"
        got = "something else" if format is None else f"a {format} file"
        raise DataError(message(str(path), rule, got, "convert it"))
    opened = PngImagePlugin.PngImageFile if format == "PNG" else JpegImagePlugin.JpegImageFile
    with opened(str(path)) as picture:
        # Not picture.getexif(): of a PNG, it decodes the pixels.
        exif = Image.Image.getexif(picture)
        if format == "PNG":
            exif.load(_exif_behind_pixels(path) or exif.tobytes())
        return layout_of(picture, str(path), bands), exif.get(ExifTags.Base.Orientation, 1)


def _exif_behind_pixels(path: Path) -> bytes | None:
    """Return the EXIF data of a PNG that stands behind its pixels, where it is allowed to."""
    with path.open("rb") as file:
        place, end = 8, os.fstat(file.fileno()).st_size
        behind = False
        while place + 8 <= end:
            file.seek(place)
            length, kind = struct.unpack(">I4s", file.read(8))
            behind |= kind == b"IDAT"
            if kind == b"eXIf" and behind:
                return file.read(length)
            place += 12 + length
    return None


class _PlainRows:
    """PPM or PGM, 8 or 16 bits."""

    def __init__(
        self,
        path: Path,
        head: re.Match[bytes],
        range: Range | None,
        bands: Bands | None,
        region: Region,
    ) -> None:
        kind, width, height, most = (int(head[i]) for i in (1, 2, 3, 4))
        self._path, self._channels = path, 3 if kind == 6 else 1
        if not 1 <= most <= DEEPEST or min(width, height) < 1:
            rule = "a PPM has sides and a largest value of 1 or more"
            got = f"{width}x{height}, {most}"
            raise DataError(message(str(path), rule, got, "replace the file"))
        self._layout = with_bands(Layout(colors=self._channels), bands, str(path))
        self._rule = void_rule(region.nodata, self._layout, {}, str(path))
        self.whole = (height, width)
        window = region.window or Window(0, height, 0, width)
        window.check(str(path), height, width)
        (self.height, self.width), self._left = window.size, window.left
        self._bytes = 1 if most < 256 else 2
        # As Pillow scales.
        scaled = np.arange(DEEPEST + 1) / most
        if kind == 5 and self._bytes == 2:
            table = np.rint(scaled * DEEPEST).clip(0, DEEPEST).astype(np.uint16) >> 8
        else:
            table = np.rint(scaled * 255).clip(0, 255)
        self._table = table.astype(np.uint8)
        self._levels = Levels(range, most=most, table=self._table)
        self._file: IO[bytes] = path.open("rb")
        self._file.seek(head.end() + window.top * width * self._channels * self._bytes)

    @property
    def seen(self) -> LevelsSeen | None:
        """See ``FileRows``."""
        return self._levels.seen

    def read(self, count: int) -> NDArray[np.uint8]:
        """Return the next rows."""
        shape = (count, self.whole[1], self._channels)
        data = self._file.read(int(np.prod(shape)) * self._bytes)
        if len(data) < np.prod(shape) * self._bytes:
            rule, got = "must be a whole picture file", "a file that ends early"
            raise DataError(message(str(self._path), rule, got, "replace the file"))
        stored = np.frombuffer(data, ">u2" if self._bytes == 2 else np.uint8).reshape(shape)
        stored = stored[:, self._left : self._left + self.width]
        if self._bytes == 2:
            values = self._levels.scale(stored.astype(np.uint16))
        else:
            values = self._table[stored]
        if self._layout.bands is not None:
            values = values[..., [band - 1 for band in self._layout.bands]]
        elif self._channels == 1:
            values = np.repeat(values, 3, axis=2)
        return (
            values if self._rule is None else marked(values, self._rule.valid(stored, self._layout))
        )

    def __del__(self) -> None:
        # Also where a picture is given up half-way.
        if hasattr(self, "_file"):
            self._file.close()


class _VipsRows:
    """PNG, JPEG and TIFF."""

    def __init__(
        self,
        path: Path,
        vips: Any,
        layout: Layout,
        levels: Levels,
        window: Window | None,
        void: VoidRule | None,
    ) -> None:
        self._path, self._error, self._levels, self._void = path, vips.Error, levels, void
        try:
            # A source and not a name: in names libvips looks for options, and it keeps opened files
            # by name, so it would show what a file held before it was replaced.
            source = vips.Source.new_from_file(os.fsencode(path))
            # Damaged data is an error: libjpeg only warns of a picture that ends early, and libvips
            # counts a tile of a TIFF that cannot be decoded as a warning. In strips, though,
            # libtiff's warning of unnamed samples would count for every strip.
            least = "error" if layout.unnamed and not layout.tiles else "warning"
            image = vips.Image.new_from_source(source, "", access="sequential", fail_on=least)
        except vips.Error as error:
            raise self._broken(error) from None
        self.whole = (int(image.height), int(image.width))
        if window is not None:
            window.check(str(path), *self.whole)
            image = image.crop(window.left, window.top, *reversed(window.size))
        self.height, self.width = int(image.height), int(image.width)
        self._bands = int(image.bands)
        self._layout = _delivered(layout, self._bands)
        wanted = "ushort" if layout.deep else "uchar"
        if self._layout is None or image.format != wanted:
            rule = f"libvips must deliver samples as {wanted}"
            got = f"{self._bands} as {image.format}"
            raise DataError(message(str(path), rule, got, "convert it to RGB of 8 bits"))
        self._region = vips.Region.new(image)
        self._at = 0

    @property
    def seen(self) -> LevelsSeen | None:
        """See ``FileRows``."""
        return self._levels.seen

    def read(self, count: int) -> NDArray[np.uint8]:
        """Return the next rows."""
        assert self._layout is not None
        try:
            data = self._region.fetch(0, self._at, self.width, count)
        except self._error as error:
            raise self._broken(error) from None
        self._at += count
        dtype = np.uint16 if self._layout.deep else np.uint8
        samples: NDArray[Any] = np.frombuffer(data, dtype).reshape(count, self.width, self._bands)
        valid_hw = None if self._void is None else self._void.valid(samples, self._layout)
        if self._layout == Layout(colors=3):
            rgb_hwc = np.ascontiguousarray(samples[..., :3])
        else:
            if self._layout.inverted:
                samples = DEEPEST - samples  # libvips has inverted them
            rgb_hwc = to_rgb(samples, self._layout, self._levels)
        return rgb_hwc if valid_hw is None else marked(rgb_hwc, valid_hw)

    def _broken(self, error: Exception) -> DataError:
        got = " ".join(str(error).split())
        if "not configured" in got or "not implemented" in got:
            rule = "must be compressed in a way that this libvips knows"
            return DataError(message(str(self._path), rule, got, "save it with deflate or LZW"))
        return DataError(
            message(str(self._path), "must be a whole picture file", got, "replace it")
        )


class _MaskedRows:
    """A picture whose mask is read beside it."""

    def __init__(self, rows: FileRows, mask: Path, mask_rows: FileRows) -> None:
        check_same_size(mask, mask_rows.whole, rows.whole)
        self.height, self.width, self.whole = rows.height, rows.width, rows.whole
        self._rows, self._mask = rows, mask_rows

    @property
    def seen(self) -> LevelsSeen | None:
        """See ``FileRows``."""
        return self._rows.seen

    def read(self, count: int) -> NDArray[np.uint8]:
        """Return the next rows."""
        mask_hwc = self._mask.read(count)
        return marked(self._rows.read(count), mask_hwc.max(axis=2))


def _delivered(layout: Layout, bands: int) -> Layout | None:
    """Return the layout of what libvips delivers of a file; None where it cannot be."""
    if layout.bands is not None:
        return layout if bands >= layout.samples else None
    plain = Layout(
        colors=layout.colors, deep=layout.deep, alpha=layout.alpha, inverted=layout.inverted
    )
    if layout.palette:
        # Resolved to gray or RGB, and transparency where the file has any.
        colors = 3 if bands >= 3 else 1
        return replace(plain, colors=colors, alpha=colors if bands in (2, 4) else None)
    if layout.key is not None:
        # The color that counts as transparent has become transparency.
        plain = replace(plain, alpha=layout.colors)
    needed = max(layout.colors, 0 if plain.alpha is None else plain.alpha + 1)
    return plain if bands >= needed else None
