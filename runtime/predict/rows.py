"""Pictures too large to be held, read from top to bottom.

Plain PPM and PGM files are read here; everything else (TIFF in tiles or strips, PNG, JPEG) by
libvips, from the extra ``large``, which decodes as far as it is asked to.
"""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import DataError, message, missing_extra
from fcnkit.runtime.checks import check_path
from fcnkit.runtime.predict.passes import Rows

__all__ = ["open_rows"]

_PLAIN: Final = re.compile(
    rb"P([56])(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s"
)
"""Header of a binary PGM (5) or PPM (6): width, height and the largest value."""

_HEADER_BYTES: Final = 4096

_STREAMED: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How PNG, JPEG, TIFF and BigTIFF files begin. libvips knows many more kinds, and hands some of
them to libraries that are not meant for files from strangers."""


def open_rows(path: str | Path) -> Rows:
    """Open a picture that is read row by row.

    Args:
        path: The file.

    Returns:
        Its rows as RGB, as a viewer shows them.

    Raises:
        DataError: The file is of another kind, broken, or cannot be read from top to bottom.
        MissingExtraError: pyvips is needed and not installed.
        OSError: The file cannot be read.
        TypeError: path is neither a str nor a Path.
    """
    path = check_path("open_rows: path", path)
    with path.open("rb") as file:
        begin = file.read(_HEADER_BYTES)
    head = _PLAIN.match(begin)
    if head is not None:
        return _PlainRows(path, head)
    if not begin.startswith(_STREAMED):
        rule = "a picture that streams must be PPM, PGM, PNG, JPEG or TIFF"
        raise DataError(message(str(path), rule, "something else", "convert it"))
    try:
        vips: Any = import_module("pyvips")
    except (ImportError, OSError):  # OSError: the package without libvips itself
        raise missing_extra(f"{path}: reading row by row", "pyvips", "large") from None
    return _VipsRows(path, vips)


class _PlainRows:
    """PPM or PGM, 8 or 16 bits."""

    def __init__(self, path: Path, head: re.Match[bytes]) -> None:
        kind, self.width, self.height, most = (int(head[i]) for i in range(1, 5))
        self._path, self._channels = path, 3 if kind == 6 else 1
        if not 1 <= most <= 65535 or min(self.width, self.height) < 1:
            rule = "a PPM has sides and a largest value of 1 or more"
            got = f"{self.width}x{self.height}, {most}"
            raise DataError(message(str(path), rule, got, "replace the file"))
        self._bytes = 1 if most < 256 else 2
        # Pillow scales so, and a picture must not change with the way it is read.
        scaled = np.arange(256**self._bytes) / most
        if kind == 5 and self._bytes == 2:
            table = np.rint(scaled * 65535).clip(0, 65535).astype(np.uint16) >> 8
        else:
            table = np.rint(scaled * 255).clip(0, 255)
        self._table = table.astype(np.uint8)
        self._file: IO[bytes] = path.open("rb")
        self._file.seek(head.end())

    def read(self, count: int) -> NDArray[np.uint8]:
        """Return the next rows."""
        shape = (count, self.width, self._channels)
        data = self._file.read(count * self.width * self._channels * self._bytes)
        if len(data) < np.prod(shape) * self._bytes:
            rule, got = "must be a whole picture file", "a file that ends early"
            raise DataError(message(str(self._path), rule, got, "replace the file"))
        values = np.frombuffer(data, ">u2" if self._bytes == 2 else np.uint8).reshape(shape)
        values = self._table[values]
        if self._channels == 1:
            values = np.repeat(values, 3, axis=2)
        return values

    def __del__(self) -> None:
        # Also where a picture is given up half-way.
        if hasattr(self, "_file"):
            self._file.close()


class _VipsRows:
    """PNG, JPEG and TIFF."""

    def __init__(self, path: Path, vips: Any) -> None:
        self._path, self._error = path, vips.Error
        try:
            # A source and not a name: in names libvips looks for options, and it keeps opened files
            # by name, so it would show what a file held before it was replaced.
            source = vips.Source.new_from_file(os.fsencode(path))
            # Broken data is an error, not a grey area: libjpeg only warns of a picture that ends
            # early, and libvips counts a tile of a TIFF that cannot be decoded as a warning.
            image = vips.Image.new_from_source(source, "", access="sequential", fail_on="warning")
            orientation = image.get("orientation") if "orientation" in image.get_fields() else 1
            if orientation != 1:
                rule = "a picture read row by row must be stored upright"
                remedy = "rotate it first, with vips autorot"
                raise DataError(message(str(path), rule, f"orientation {orientation}", remedy))
            image = _as_rgb(image, str(path))
        except vips.Error as error:
            raise self._broken(error) from None
        self.height, self.width = int(image.height), int(image.width)
        self._region = vips.Region.new(image)
        self._at = 0

    def read(self, count: int) -> NDArray[np.uint8]:
        """Return the next rows."""
        try:
            data = self._region.fetch(0, self._at, self.width, count)
        except self._error as error:
            raise self._broken(error) from None
        self._at += count
        return np.frombuffer(data, np.uint8).reshape(count, self.width, 3)

    def _broken(self, error: Exception) -> DataError:
        got = " ".join(str(error).split())
        return DataError(
            message(str(self._path), "must be a whole picture file", got, "replace it")
        )


def _as_rgb(image: Any, what: str) -> Any:
    """Make 8-bit RGB of it as ``read_picture`` does."""
    if image.format not in ("uchar", "ushort"):
        rule = "a picture has 8 or 16 bits per channel"
        remedy = "convert it, for only you know which values are black and white"
        raise DataError(message(what, rule, f"libvips format {image.format}", remedy))
    if image.format == "ushort":
        image = (image >> 8).cast("uchar")
        image = image.copy(interpretation="b-w" if image.bands < 3 else "srgb")
    if image.interpretation == "cmyk":
        image = image.colourspace("srgb")
    if image.hasalpha():
        image = image.flatten(background=255)
    if image.bands == 1:
        image = image.bandjoin([image, image])
    if image.bands != 3:
        rule, remedy = "a picture has one, three or four channels", "convert it to RGB"
        raise DataError(message(what, rule, f"{image.bands} channels", remedy))
    return image
