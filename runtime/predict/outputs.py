"""The formats of results, and how a result is written from top to bottom."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
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
from fcnkit.runtime.predict.png_out import GRAY, PALETTE, RGB, PngFile, Zlib, png_size
from fcnkit.runtime.predict.tiff_out import TiffOutput, check_tifffile, tiff_size

__all__ = [
    "FORMATS",
    "SUFFIX_OF",
    "Format",
    "FormatRow",
    "Output",
    "OutputRequest",
    "look_at",
    "open_output",
    "read_size",
]

Format = Literal["labels", "color", "overlay", "npy", "confidence", "tif"]
"""A palette PNG of labels, an RGB PNG of their colors, the colors laid over the picture, the labels
as a numpy file, uint8 (H, W), a gray PNG of 255 times the probability of each label, or the labels
as a BigTIFF with the palette and the georeference of the picture."""

_READ: Final = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
"""Opening a pipe must not wait for a writer."""


@dataclass(frozen=True, kw_only=True)
class OutputRequest:
    """A result that is wanted."""

    size: tuple[int, int]
    """Rows and columns of the image."""
    spec: ModelSpec
    """The model's promises; its palette is used."""
    format: Format
    style: OverlayStyle | None = None
    """Of an overlay; None for the default."""
    facts: FileFacts | None = None
    """What a TIFF takes over from the picture's file; None for nothing."""


class Output(Protocol):
    """A result that is written from top to bottom."""

    def write(self, image_hwc: NDArray[np.uint8], rows: Prediction) -> None:
        """Write the next rows: of the picture (rows, W, 3), and what the model says of them."""

    def close(self) -> None:
        """End the file; without it the file is not whole."""


Begin = Callable[[Path, OutputRequest], tuple[Output, Callable[[], None]]]
"""See ``FormatRow.begin``."""


class _NpyOutput:
    def __init__(self, file: IO[bytes], request: OutputRequest) -> None:
        self._file = file
        header = {"descr": "|u1", "fortran_order": False, "shape": request.size}
        np.lib.format.write_array_header_1_0(file, header)

    def write(self, image_hwc: NDArray[np.uint8], rows: Prediction) -> None:
        del image_hwc
        self._file.write(np.ascontiguousarray(rows.labels).data)

    def close(self) -> None:
        self._file.close()


class _LabelsOutput(PngFile):
    def __init__(self, file: IO[bytes], request: OutputRequest) -> None:
        super().__init__(file, request.size, PALETTE, LabelDeflate(request.size[1]))
        self.chunk(b"PLTE", all_colors(request.spec.palette))

    def write(self, image_hwc: NDArray[np.uint8], rows: Prediction) -> None:
        del image_hwc
        self.add(rows.labels)


class _ColorOutput(PngFile):
    def __init__(self, file: IO[bytes], request: OutputRequest) -> None:
        # Colors repeat every three bytes.
        super().__init__(file, request.size, RGB, Zlib(zlib.Z_DEFAULT_STRATEGY))
        self._palette = request.spec.palette

    def write(self, image_hwc: NDArray[np.uint8], rows: Prediction) -> None:
        del image_hwc
        self.add(decode(np.ascontiguousarray(rows.labels), self._palette, threads=1))


class _ConfidenceOutput(PngFile):
    def __init__(self, file: IO[bytes], request: OutputRequest) -> None:
        super().__init__(file, request.size, GRAY, Zlib())

    def write(self, image_hwc: NDArray[np.uint8], rows: Prediction) -> None:
        del image_hwc
        assert rows.confidence is not None  # the run computes it for this format
        self.add(rows.confidence)


class _OverlayOutput(PngFile):
    """The image with its labels, and below it the legend."""

    def __init__(self, file: IO[bytes], request: OutputRequest) -> None:
        height, width = request.size
        self._rows = OverlayRows(width, request.spec, request.style or OverlayStyle())
        size = height + len(self._rows.legend), self._rows.width
        super().__init__(file, size, RGB, Zlib(subtract_left=True))

    def write(self, image_hwc: NDArray[np.uint8], rows: Prediction) -> None:
        self.add(self._rows.draw(image_hwc, rows.labels))

    def close(self) -> None:
        if len(self._rows.legend):
            self.add(self._rows.legend)
        super().close()


def _in_file(kind: Callable[[IO[bytes], OutputRequest], Output]) -> Begin:
    """Return what begins an output that writes into one file."""

    def begin(path: Path, request: OutputRequest) -> tuple[Output, Callable[[], None]]:
        file = path.open("wb")
        try:
            return kind(file, request), file.close
        except BaseException:
            file.close()
            raise

    return begin


def _begin_tiff(path: Path, request: OutputRequest) -> tuple[Output, Callable[[], None]]:
    tiff = TiffOutput(path, *request.size, request.spec, request.facts)
    return tiff, tiff.let_go


def _npy_size(file: int, path: str) -> tuple[int, int] | None:
    del path
    with open(file, "rb", closefd=False) as whole:
        try:
            np.lib.format.read_magic(whole)
            shape, _, _ = np.lib.format.read_array_header_1_0(whole)
        except ValueError:
            return None
        begin = whole.tell()
        is_whole = len(shape) == 2 and whole.seek(0, 2) - begin == shape[0] * shape[1]
    return cast("tuple[int, int]", shape) if is_whole else None


def _tiff_size(file: int, path: str) -> tuple[int, int] | None:
    del file
    return tiff_size(Path(path))


@dataclass(frozen=True)
class FormatRow:
    """What is known about a format."""

    suffix: str
    """What the names of results end in. Formats of one suffix are one type of file."""
    says: str
    """What it writes, for the help of ``--format``."""
    begin: Begin
    """Makes a file; returns the output and what lets go of the file without ending it."""
    _: KW_ONLY
    size: Callable[[int, str], tuple[int, int] | None] = png_size
    """Returns height and width of an open file, None where it is not whole; gets its path too."""
    as_video: bool = False
    """Whether a video can hold it."""
    shows_image: bool = False
    """Whether it is drawn over the image."""
    needs_confidence: bool = False
    keeps_place: bool = False
    """Whether it takes over the georeference of the image's file."""
    check: Callable[[], object] = lambda: None
    """Raises where a package is missing."""


FORMATS: Final[dict[Format, FormatRow]] = {
    "labels": FormatRow(".png", "palette PNG", _in_file(_LabelsOutput), as_video=True),
    "color": FormatRow(".png", "RGB PNG", _in_file(_ColorOutput), as_video=True),
    "overlay": FormatRow(
        ".png", "colors over the picture", _in_file(_OverlayOutput), as_video=True, shows_image=True
    ),
    "npy": FormatRow(".npy", "an array", _in_file(_NpyOutput), size=_npy_size),
    "confidence": FormatRow(
        ".png",
        "a gray PNG of confidence",
        _in_file(_ConfidenceOutput),
        as_video=True,
        needs_confidence=True,
    ),
    "tif": FormatRow(
        ".tif",
        "a BigTIFF that keeps the georeference",
        _begin_tiff,
        size=_tiff_size,
        keeps_place=True,
        check=check_tifffile,
    ),
}
"""Every format by its name, in the order of ``--format``."""

SUFFIX_OF: Final = {name: row.suffix for name, row in FORMATS.items()}
_SIZE_OF: Final = {row.suffix: row.size for row in FORMATS.values()}


def open_output(path: Path, request: OutputRequest) -> tuple[Output, Callable[[], None]]:
    """Begin a result.

    Args:
        path: The file to make.
        request: What is written.

    Returns:
        The output, and a function that lets go of the file without ending it.

    Raises:
        OSError: The file cannot be made.
    """
    return FORMATS[request.format].begin(path, request)


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
        size_of = _SIZE_OF.get(path[path.rfind(".") :], png_size)
        return os.fstat(file), size_of(file, path)
    except OSError:
        return None
    finally:
        os.close(file)
