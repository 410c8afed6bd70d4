"""Bands of a large image that are labeled, kept on disk until its result is whole.

A run that is killed leaves them in the output folder. The next one takes them over if it labels the
same image with the same model and options.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import PictureWarning, message
from fcnkit.runtime.files import lock_file
from fcnkit.runtime.pixels.prediction import Prediction

__all__ = ["BandFolder", "BandStore"]

_FOLDER: Final = ".fcnkit-bands"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<III")
"""Of a band: rows, bytes of the labels, bytes of the confidence. The CRC-32 of all this and of the
bytes that follow stands behind them."""
_CHECK: Final = struct.Struct("<I")
_LONGEST_HEADER: Final = 1 << 20
_TRIES: Final = 100


class BandFolder:
    """Where an output folder keeps the bands of images that are under way."""

    def __init__(self, out: Path, *, resume: bool = True) -> None:
        """Name the folder. It is made when the first large image begins.

        Args:
            out: The output folder.
            resume: Whether bands of earlier runs count.
        """
        self._folder, self._resume = out / _FOLDER, resume
        self._was_there = self._folder.is_dir()

    def _path(self, output: str) -> Path:
        return self._folder / hashlib.sha256(output.encode("utf-8", "surrogatepass")).hexdigest()

    def open(self, output: str, facts: Mapping[str, Any], width: int) -> BandStore | None:
        """Open the bands of one result.

        Args:
            output: Name of the result, relative to the output folder.
            facts: All that its labels depend on, by name; values of JSON.
            width: Columns of the result.

        Returns:
            The bands: those of an earlier run with the same facts, or none yet. None where another
            process is labeling the same image.

        Raises:
            OSError: The file cannot be read or written.
        """
        path = self._path(output)
        file = self._opened(path)
        try:
            lock_file(file, wait=False)
        except OSError:
            file.close()
            return None
        try:
            facts = json.loads(json.dumps({"version": _VERSION, **facts}))
            found = _header(file)
            usable = self._resume and found == facts
            if self._resume and found is not None and not usable:
                _say_unusable(output, found, facts)
            if not usable:
                _begin(file, facts)
            return BandStore(file, path, width)
        except BaseException:
            file.close()
            raise

    def _opened(self, path: Path) -> IO[bytes]:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        for _ in range(_TRIES):
            self._folder.mkdir(exist_ok=True)
            # Another image that ends may remove the folder in between.
            with contextlib.suppress(FileNotFoundError):
                return os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    def forget(self, output: str) -> None:
        """Remove the bands of a result that is whole, where an earlier run left them."""
        if self._was_there:
            with contextlib.suppress(OSError):
                self._path(output).unlink(missing_ok=True)
                self._folder.rmdir()


def _begin(file: IO[bytes], facts: Mapping[str, Any]) -> None:
    file.seek(0)
    file.truncate()
    _write(file, json.dumps(facts).encode() + b"\n")


def _header(file: IO[bytes]) -> dict[str, Any] | None:
    """Return the facts at the beginning of a file of bands, None where there are none."""
    file.seek(0)  # locking may move it
    line, newline, _ = file.read(_LONGEST_HEADER).partition(b"\n")
    try:
        facts = json.loads(line) if newline else None
    except ValueError:
        return None
    file.seek(len(line) + 1)
    return facts if isinstance(facts, dict) else None


def _say_unusable(output: str, found: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    names = sorted({*found, *facts})
    other = [name for name in names if found.get(name) != facts.get(name)]
    rule = "bands that an earlier run labeled are used for the same image, model and options"
    got = f"a change of {' and '.join(other)}"
    warnings.warn(
        message(output, rule, got, "it begins again from the first row"),
        PictureWarning,
        stacklevel=2,
    )


def _write(file: IO[bytes], content: bytes) -> None:
    """Write bytes at the end of a file, all of them or none."""
    end = file.seek(0, os.SEEK_END)
    view = memoryview(content)
    try:
        while view:
            written = file.write(view)
            if not written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            view = view[written:]
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(end)
        raise


class BandStore:
    """The bands of one image, in a locked file; for one thread at a time."""

    def __init__(self, file: IO[bytes], path: Path, width: int) -> None:
        """Take over an open file that stands behind its header.

        Args:
            file: Unbuffered and locked. A band that a kill tore is cut off.
            path: Its name.
            width: Columns of the labels.
        """
        self._file, self._path, self._width = file, path, width
        self._places: list[int] = []
        self.rows = 0
        """Rows of the bands that were there."""
        end = file.tell()
        while (band := self._read_at(end)) is not None:
            self._places.append(end)
            self.rows += len(band.labels)
            end = file.tell()
        file.truncate(end)
        self._repeated = 0
        """Rows that were given again of those that were there."""

    def __len__(self) -> int:
        """Bands that were there."""
        return len(self._places)

    def bands(self) -> Iterator[Prediction]:
        """Yield the bands that were there, from top to bottom, without margin."""
        for place in self._places:
            band = self._read_at(place)
            if band is None:
                raise OSError(errno.EIO, "a band has changed since it was opened", str(self._path))
            yield band

    def add(self, band: Prediction) -> None:
        """Write the next rows, unless they were there.

        Raises:
            OSError: They cannot be written; the bands before stay.
        """
        if self._repeated < self.rows:
            self._repeated += len(band.labels)
            return
        packed = [
            b"" if rows_hw is None else zlib.compress(np.ascontiguousarray(rows_hw).data, 1)
            for rows_hw in (band.labels, band.confidence)
        ]
        content = _HEAD.pack(len(band.labels), *map(len, packed)) + packed[0] + packed[1]
        _write(self._file, content + _CHECK.pack(zlib.crc32(content)))

    def _read_at(self, place: int) -> Prediction | None:
        """Return a band, None where no whole one stands there."""
        self._file.seek(place)
        head = self._file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        rows, labels, confidence = _HEAD.unpack(head)
        packed = [_read(self._file, count) for count in (labels, confidence)]
        check = _read(self._file, _CHECK.size)
        if check != _CHECK.pack(zlib.crc32(head + packed[0] + packed[1])):
            return None
        labels_hw = self._unpacked(packed[0], rows)
        return Prediction(labels_hw, self._unpacked(packed[1], rows) if confidence else None)

    def _unpacked(self, packed: bytes, rows: int) -> NDArray[np.uint8]:
        return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(rows, self._width)

    def close(self, *, keep: bool) -> None:
        """Let go of the file; closing twice is fine.

        Args:
            keep: Whether the bands stay for the next run.
        """
        if self._file.closed:
            return
        removed = keep
        if not keep:
            # While it is locked: afterwards, another process may have made a new one. Windows
            # does not remove open files.
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
                removed = True
        self._file.close()
        with contextlib.suppress(OSError):  # bands of other images may be there
            if not removed:
                self._path.unlink()
            if not keep:
                self._path.parent.rmdir()


def _read(file: IO[bytes], count: int) -> bytes:
    """Read bytes of an unbuffered file, fewer only where it ends."""
    parts = []
    while count and (part := file.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
