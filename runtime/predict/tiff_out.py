"""Labels as a tiled, compressed BigTIFF that keeps the georeference of its image.

The tiles are compressed as rows come, into a temporary file. tifffile puts them together with the
tags at the end.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray
from PIL import TiffTags

from fcnkit.errors import missing_extra
from fcnkit.runtime.artifacts.spec import VOID, ModelSpec
from fcnkit.runtime.pixels.palette import all_colors
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.predict.georeference import (
    GDAL_METADATA,
    GDAL_NODATA,
    GEO_KEYS,
    GEO_TEXTS,
    FileFacts,
)
from fcnkit.runtime.predict.tiff import TILE_BYTES, TILES, numbers, tags_of

__all__ = ["TiffOutput", "check_tifffile", "tiff_size"]

_TILE: Final = 256
"""Rows and columns of a tile of the file, as most programs write and cache them."""


def check_tifffile() -> Any:
    """Return the module tifffile.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return import_module("tifffile")
    except ImportError:
        raise missing_extra("--format tif", "tifffile", "large") from None


class TiffOutput:
    """A TIFF of labels with the palette, written from top to bottom."""

    def __init__(
        self, path: Path, height: int, width: int, spec: ModelSpec, facts: FileFacts | None
    ) -> None:
        """Begin a file.

        Args:
            path: The file to make.
            height: Rows of the labels.
            width: Columns of the labels.
            spec: Its classes and palette are written.
            facts: Of the image file; None for an image without one.

        Raises:
            MissingExtraError: tifffile is not installed.
            OSError: No file can be made in the folder.
        """
        self._tifffile = check_tifffile()
        self._path, self._size, self._spec = path, (height, width), spec
        self._facts = FileFacts() if facts is None else facts
        # It has no name, so nothing is left of it after a kill.
        self._spool = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - closed by let_go
        self._counts: list[int] = []
        """Bytes of every tile in the temporary file."""
        columns = -(-width // _TILE)
        self._rows = np.zeros((_TILE, columns * _TILE), np.uint8)
        """Rows that do not fill a row of tiles yet."""
        self._filled = 0

    def write(self, image_hwc: NDArray[np.uint8], rows: Prediction) -> None:
        """Compress the rows of tiles that are filled."""
        del image_hwc
        labels_hw = rows.labels
        while len(labels_hw):
            taken = labels_hw[: _TILE - self._filled]
            self._rows[self._filled : self._filled + len(taken), : taken.shape[1]] = taken
            self._filled += len(taken)
            labels_hw = labels_hw[len(taken) :]
            if self._filled == _TILE:
                self._compress()

    def _compress(self) -> None:
        self._rows[self._filled :] = 0
        for left in range(0, self._rows.shape[1], _TILE):
            tile = np.ascontiguousarray(self._rows[:, left : left + _TILE])
            content = zlib.compress(tile.data, 6)
            self._spool.write(content)
            self._counts.append(len(content))
        self._filled = 0

    def close(self) -> None:
        """Write the file."""
        if self._filled:
            self._compress()
        self._spool.seek(0)
        height, width = self._size
        facts, palette = self._facts, np.frombuffer(all_colors(self._spec.palette), np.uint8)
        with self._tifffile.TiffWriter(self._path, bigtiff=True, byteorder="<") as writer:
            writer.write(
                self._tiles(),
                shape=(height, width),
                dtype=np.uint8,
                tile=(_TILE, _TILE),
                compression="adobe_deflate",
                photometric="palette",
                colormap=palette.reshape(256, 3).T.astype(np.uint16) * 257,
                resolution=facts.resolution,
                resolutionunit=facts.unit if facts.resolution else None,
                software="fcnkit",
                metadata=None,
                extratags=self._extra_tags(),
            )
        self.let_go()

    def let_go(self) -> None:
        """Drop the tiles; doing so twice is fine."""
        self._spool.close()

    def _tiles(self) -> Iterator[bytes]:
        for count in self._counts:
            yield self._spool.read(count)

    def _extra_tags(self) -> list[tuple[int, int, int, Any, bool]]:
        facts, void = self._facts, str(VOID).encode()
        tags: list[tuple[int, int, int, Any, bool]] = [
            (tag, TiffTags.DOUBLE, len(values), values, True) for tag, values in facts.doubles
        ]
        if facts.keys:
            tags.append((GEO_KEYS, TiffTags.SHORT, len(facts.keys), facts.keys, True))
        for tag, text in (
            (GEO_TEXTS, facts.texts),
            (GDAL_METADATA, self._metadata()),
            (GDAL_NODATA, void),
        ):
            if text:
                tags.append((tag, TiffTags.ASCII, len(text), text, True))
        return tags

    def _metadata(self) -> bytes:
        """Return GDAL's form of the names of the classes, and of what the image file said."""
        names = {f"CLASS_{label}": name for label, name in enumerate(self._spec.classes)}
        root = ET.Element("GDALMetadata")
        for name, value in {**dict(self._facts.items), **names}.items():
            ET.SubElement(root, "Item", name=name).text = value
        content: bytes = ET.tostring(root, encoding="utf-8")
        return content


def tiff_size(path: Path) -> tuple[int, int] | None:
    """Return height and width of a TIFF of ``TiffOutput`` that is whole, else None.

    Args:
        path: Any file.

    Raises:
        OSError: It cannot be read.
    """
    try:
        return _size(path)
    except (ValueError, TypeError, OverflowError):  # tags may hold anything
        return None


def _size(path: Path) -> tuple[int, int] | None:
    tags = tags_of(path)
    if tags is None:
        return None
    offsets, counts = numbers(tags, TILES, ()), numbers(tags, TILE_BYTES, ())
    tiles = -(-int(tags[257]) // _TILE) * -(-int(tags[256]) // _TILE)
    if not len(offsets) == len(counts) == tiles:
        return None
    with path.open("rb") as file:  # the last tile ends the file, and says whether it is whole
        file.seek(offsets[-1])
        try:
            zlib.decompress(file.read(counts[-1]))
        except zlib.error:
            return None
        whole = not file.read(1)
    return (int(tags[257]), int(tags[256])) if whole else None
