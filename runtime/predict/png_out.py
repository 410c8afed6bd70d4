"""PNG files that are compressed as their rows come: no row is kept."""

from __future__ import annotations

import os
import struct
import zlib
from typing import IO, Final, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["GRAY", "PALETTE", "RGB", "PngFile", "Zlib", "png_size"]

GRAY: Final = 0
RGB: Final = 2
PALETTE: Final = 3
"""PNG's numbers for what a pixel is."""

_BEGIN: Final = b"\x89PNG\r\n\x1a\n"
_END: Final = b"\0\0\0\0IEND\xaeB`\x82"


class Compressor(Protocol):
    """Compresses the rows of a PNG."""

    def add(self, rows: NDArray[np.uint8], /) -> bytes:
        """Compress the next rows, (rows, bytes of a row)."""

    def end(self) -> bytes:
        """Return the rest."""


class Zlib:
    """Compresses rows by zlib, each with the filter that it begins with."""

    def __init__(self, strategy: int = zlib.Z_RLE, *, subtract_left: bool = False) -> None:
        """Begin.

        Args:
            strategy: How zlib looks for what repeats. In a filtered photograph only single bytes
                repeat.
            subtract_left: Whether each byte of an RGB row is stored less the one a pixel to its
                left.
        """
        # Not ISA-L or zlib-ng, which are faster: results must be equal byte by byte, and those of
        # ISA-L were not always, of zlib-ng not on every processor.
        self._deflate = zlib.compressobj(1, zlib.DEFLATED, 15, 9, strategy)
        self._subtract_left = subtract_left

    def add(self, rows: NDArray[np.uint8], /) -> bytes:
        """Compress the next rows, (rows, bytes of a row)."""
        # Each row begins with its filter: 0 is none, 1 subtracts the pixel to the left.
        filtered = np.zeros((len(rows), rows.shape[1] + 1), np.uint8)
        filtered[:, 1:] = rows
        if self._subtract_left and rows.shape[1] > 3:
            filtered[:, 4:] -= rows[:, :-3]
            filtered[:, 0] = 1
        return self._deflate.compress(filtered.data)

    def end(self) -> bytes:
        """Return the rest."""
        return self._deflate.flush()


class PngFile:
    """A PNG of 8 bits per sample, written from top to bottom."""

    def __init__(
        self, file: IO[bytes], size: tuple[int, int], kind: int, compressor: Compressor
    ) -> None:
        """Write the beginning.

        Args:
            file: Where it is written.
            size: Rows and columns.
            kind: ``GRAY``, ``RGB`` or ``PALETTE``.
            compressor: Compresses the rows.
        """
        self._file, self._compressor = file, compressor
        file.write(_BEGIN)
        height, width = size
        self.chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))

    def add(self, pixels: NDArray[np.uint8]) -> None:
        """Write the next rows, (rows, W) or (rows, W, 3)."""
        rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
        self._data(self._compressor.add(rows))

    def close(self) -> None:
        """End the file; without it the file is not whole."""
        self._data(self._compressor.end())
        self._file.write(_END)
        self._file.close()

    def chunk(self, kind: bytes, content: bytes) -> None:
        """Write a chunk."""
        self._file.write(struct.pack(">I", len(content)) + kind)
        self._file.write(content)
        self._file.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))))

    def _data(self, compressed: bytes) -> None:
        if compressed:
            self.chunk(b"IDAT", compressed)


def png_size(file: int, path: str) -> tuple[int, int] | None:
    """Return height and width of an open file; None where it is not whole at both ends."""
    del path
    end = head = os.read(file, 4096)  # a small file whole
    if head[:8] != _BEGIN or len(head) < 24:
        return None
    if len(head) == 4096:
        os.lseek(file, -len(_END), os.SEEK_END)
        end = os.read(file, len(_END))
    width, height = struct.unpack_from(">II", head, 16)
    return (height, width) if end.endswith(_END) else None
