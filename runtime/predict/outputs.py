"""The formats of results, and how a result is written from top to bottom."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.pixels._kernels import LabelDeflate
from fcnkit.runtime.pixels.palette import all_colors, decode
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.predict.georeference import FileFacts
from fcnkit.runtime.predict.overlays import OverlayRows, OverlayStyle
from fcnkit.runtime.predict.tiff_out import TiffOutput, tiff_size

__all__ = ["FORMATS_SAY", "SUFFIX_OF", "Format", "Output", "look_at", "open_output", "read_size"]

Format = Literal["labels", "color", "overlay", "npy", "confidence", "tif"]
"""A palette PNG of labels, an RGB PNG of their colors, the colors laid over the picture, the labels
as a numpy file, uint8 (H, W), a gray PNG of 255 times the probability of each label, or the labels
as a BigTIFF with the palette and the georeference of the picture."""

SUFFIX_OF: Final[dict[Format, str]] = {
    "labels": ".png",
    "color": ".png",
    "overlay": ".png",
    "npy": ".npy",
    "confidence": ".png",
    "tif": ".tif",
}

FORMATS_SAY: Final = (
    "palette PNG, RGB PNG, colors over the picture, an array, a gray PNG of confidence, or a "
    "BigTIFF that keeps the georeference."
)
"""The formats in their order, for the help of ``--format``."""

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_END: Final = b"\0\0\0\0IEND\xaeB`\x82"
_COLOR_TYPE: Final[dict[Format, int]] = {"labels": 3, "color": 2, "overlay": 2, "confidence": 0}
"""PNG's numbers for palette, RGB and gray."""
_READ: Final = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
"""Opening a pipe must not wait for a writer."""
_STRATEGY: Final[dict[Format, int]] = {
    "color": zlib.Z_DEFAULT_STRATEGY,
    "overlay": zlib.Z_RLE,
    "confidence": zlib.Z_RLE,
}
"""How zlib looks for what repeats. In a filtered photograph nothing repeats but one byte; colors
repeat every three bytes."""


class Output(Protocol):
    """A result that is written from top to bottom."""

    def write(self, image_hwc: NDArray[np.uint8], rows: Prediction) -> None:
        """Write the next rows: of the picture (rows, W, 3), and what the model says of them."""

    def close(self) -> None:
        """End the file; without it the file is not whole."""


def open_output(
    path: Path,
    height: int,
    width: int,
    spec: ModelSpec,
    *,
    format: Format,
    style: OverlayStyle | None = None,
    facts: FileFacts | None = None,
) -> tuple[Output, Callable[[], None]]:
    """Begin a result.

    Args:
        path: The file to make.
        height: Rows of the picture.
        width: Columns of the picture.
        spec: The model's promises; its palette is used.
        format: What to write.
        style: Of an overlay; None for the default.
        facts: What a TIFF takes over from the picture's file; None for nothing.

    Returns:
        The output, and a function that lets go of the file without ending it.

    Raises:
        OSError: The file cannot be made.
    """
    if format == "tif":
        tiff = TiffOutput(path, height, width, spec, facts)
        return tiff, tiff.let_go
    file = path.open("wb")
    try:
        if format == "npy":
            return _NpyOutput(file, height, width), file.close
        if format == "overlay":
            rows = OverlayRows(width, spec, style or OverlayStyle())
            return _OverlayOutput(file, height, rows, spec), file.close
        return _PngOutput(file, height, width, spec, format), file.close
    except BaseException:
        file.close()
        raise


class _NpyOutput:
    def __init__(self, file: IO[bytes], height: int, width: int) -> None:
        self._file = file
        header = {"descr": "|u1", "fortran_order": False, "shape": (height, width)}
        np.lib.format.write_array_header_1_0(file, header)

    def write(self, image_hwc: NDArray[np.uint8], rows: Prediction) -> None:
        del image_hwc
        self._file.write(np.ascontiguousarray(rows.labels).data)

    def close(self) -> None:
        self._file.close()


class _PngOutput:
    """A PNG that is compressed as its rows come: no row is kept."""

    def __init__(
        self, file: IO[bytes], height: int, width: int, spec: ModelSpec, format: Format
    ) -> None:
        self._file, self._spec, self._format = file, spec, format
        self._deflate = LabelDeflate(width) if format == "labels" else _Zlib(format)
        file.write(_PNG)
        header = struct.pack(">IIBBBBB", width, height, 8, _COLOR_TYPE[format], 0, 0, 0)
        self._chunk(b"IHDR", header)
        if format == "labels":
            self._chunk(b"PLTE", all_colors(spec.palette))

    def write(self, image_hwc: NDArray[np.uint8], rows: Prediction) -> None:
        """Compress the next rows."""
        self._add(self._pixels(image_hwc, rows))

    def _add(self, pixels: NDArray[np.uint8]) -> None:
        rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
        self._data(self._deflate.add(rows))

    def _pixels(self, image_hwc: NDArray[np.uint8], rows: Prediction) -> NDArray[np.uint8]:
        del image_hwc
        if self._format == "labels":
            return rows.labels
        if self._format == "confidence":
            assert rows.confidence is not None  # the run computes it for this format
            return rows.confidence
        return decode(np.ascontiguousarray(rows.labels), self._spec.palette, threads=1)

    def close(self) -> None:
        self._data(self._deflate.end())
        self._file.write(_END)
        self._file.close()

    def _data(self, compressed: bytes) -> None:
        if compressed:
            self._chunk(b"IDAT", compressed)

    def _chunk(self, kind: bytes, content: bytes) -> None:
        self._file.write(struct.pack(">I", len(content)) + kind)
        self._file.write(content)
        self._file.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))))


class _Zlib:
    """Compresses rows of colors or confidence."""

    def __init__(self, format: Format) -> None:
        # Not ISA-L or zlib-ng, which are faster: results must be equal byte by byte, and those of
        # ISA-L were not always, of zlib-ng not on every processor.
        self._deflate = zlib.compressobj(1, zlib.DEFLATED, 15, 9, _STRATEGY[format])
        self._filters = format == "overlay"

    def add(self, rows: NDArray[np.uint8]) -> bytes:
        """Compress the next rows, (rows, bytes of a row)."""
        # Each row begins with its filter; 0 is none.
        filtered = np.zeros((len(rows), rows.shape[1] + 1), np.uint8)
        filtered[:, 1:] = rows
        if self._filters and rows.shape[1] > 3:
            _subtract_left(filtered)
        return self._deflate.compress(filtered.data)

    def end(self) -> bytes:
        """Return the rest."""
        return self._deflate.flush()


class _OverlayOutput(_PngOutput):
    """The image with its labels, and below it the legend."""

    def __init__(self, file: IO[bytes], height: int, rows: OverlayRows, spec: ModelSpec) -> None:
        self._rows = rows
        super().__init__(file, height + len(rows.legend), rows.width, spec, "overlay")

    def _pixels(self, image_hwc: NDArray[np.uint8], rows: Prediction) -> NDArray[np.uint8]:
        return self._rows.draw(image_hwc, rows.labels)

    def close(self) -> None:
        if len(self._rows.legend):
            self._add(self._rows.legend)
        super().close()


def _subtract_left(rows: NDArray[np.uint8]) -> None:
    """Filter 1 of PNG, in place: each byte minus the one a pixel to its left."""
    rows[:, 4:] -= rows[:, 1:-3].copy()
    rows[:, 0] = 1


def read_size(path: str) -> tuple[int, int] | None:
    """Return height and width of a result that is whole at both ends, else None.

    Args:
        path: A file that ``open_output`` made, or anything else.
    """
    found = look_at(path)
    return None if found is None else found[1]


def look_at(path: str) -> tuple[os.stat_result, tuple[int, int] | None] | None:
    """Return what the system says of a result, and its size as ``read_size`` does.

    A run on a million results looks at each of them, so it is opened once and without a file
    object, which would take twice as long.

    Args:
        path: As for ``read_size``.

    Returns:
        None if no file can be read there.
    """
    try:
        file = os.open(path, _READ)
    except (OSError, ValueError):
        return None
    try:
        return os.fstat(file), _size_in(file, path)
    except OSError:
        return None
    finally:
        os.close(file)


def _size_in(file: int, path: str) -> tuple[int, int] | None:
    if path.endswith(".npy"):
        with open(file, "rb", closefd=False) as whole:
            return _npy_size(whole)
    if path.endswith(".tif"):
        return tiff_size(Path(path))
    end = head = os.read(file, 4096)  # a small file whole
    if head[:8] != _PNG or len(head) < 24:
        return None
    if len(head) == 4096:
        os.lseek(file, -len(_END), os.SEEK_END)
        end = os.read(file, len(_END))
    width, height = struct.unpack_from(">II", head, 16)
    return (height, width) if end.endswith(_END) else None


def _npy_size(file: IO[bytes]) -> tuple[int, int] | None:
    try:
        np.lib.format.read_magic(file)
        shape, _, _ = np.lib.format.read_array_header_1_0(file)
    except ValueError:
        return None
    begin = file.tell()
    whole = len(shape) == 2 and file.seek(0, 2) - begin == shape[0] * shape[1]
    return cast("tuple[int, int]", shape) if whole else None
