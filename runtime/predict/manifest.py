"""The manifest of an output folder: one JSON line per picture, appended, never rewritten.

The last line of an output counts. A run holds the manifest locked, so two runs on one folder do
not mix; the lock ends with the process, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, Final, Literal, Self

from fcnkit.errors import DataError, message
from fcnkit.runtime.predict.outputs import Format, read_size

__all__ = ["MANIFEST", "Manifest", "Options", "Record", "Stamp"]

MANIFEST: Final = "manifest.jsonl"
"""Name of the file in the output folder."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a result depends on besides the picture and the model."""

    format: Format
    cover: str
    tile: tuple[int, int] | None
    overlap: int
    backend: str
    compute: str
    """The precision the backend computes in."""


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """What tells a file from another of the same name."""

    bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp | None:
        """Return a file's stamp, None where there is no such file."""
        try:
            found = path.stat()
        except OSError:
            return None
        return cls(bytes=found.st_size, mtime_ns=found.st_mtime_ns)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What became of one picture: a line of the manifest."""

    input: str
    input_stamp: Stamp | None
    """Before it was read; None where there is no such file."""
    status: Literal["done", "failed", "skipped"]
    """``skipped``: an earlier run did it; only handed out, not written."""
    output: str
    """Relative to the output folder; where the picture failed, no such file was written."""
    output_stamp: Stamp | None
    size: tuple[int, int] | None
    """Height and width; None where the picture could not be read."""
    milliseconds: float | None
    """Time of covering, model and labels, without decoding and writing."""
    error: str | None
    options: Options
    model_sha256: str


class Manifest:
    """The manifest of one output folder, open and locked for one run."""

    def __init__(self, out: Path, *, options: Options, model_sha256: str, resume: bool) -> None:
        """Open or begin a manifest.

        Args:
            out: The output folder; it exists.
            options: Of this run.
            model_sha256: Of this run's model.
            resume: Read what earlier runs did; otherwise nothing counts as done.

        Raises:
            DataError: Another run holds it.
            OSError: It cannot be read or written.
        """
        self._out, self._options, self._sha256 = out, options, model_sha256
        path = out / MANIFEST
        if path.is_symlink() or (path.exists() and not path.is_file()):
            # A link would be written through, and opening a pipe waits for a reader.
            rule, remedy = "must be a file of its own", "remove it, or choose another folder"
            raise DataError(message(str(path), rule, "a link or no regular file", remedy))
        self._file = path.open("a+b")
        try:
            _lock(self._file, path)
            self._done = _finished(self._file, self._wanted()) if resume else {}
            self._end_torn_line()
        except BaseException:
            self._file.close()
            raise

    def _wanted(self) -> dict[str, Any]:
        """Return what a line of a result that need not be made again says."""
        options = json.loads(json.dumps(asdict(self._options)))
        return {"status": "done", "options": options, "model_sha256": self._sha256}

    def _end_torn_line(self) -> None:
        """A line that a power cut tore must not swallow the next one."""
        if self._file.seek(0, os.SEEK_END) and self._last_byte() != b"\n":
            self._file.write(b"\n")
            self._file.flush()  # lines are written past this buffer

    def _last_byte(self) -> bytes:
        self._file.seek(-1, os.SEEK_END)
        return self._file.read(1)

    def earlier(self, source: Path, output: Path) -> Record | None:
        """Return the record of an earlier run whose result still stands, as ``skipped``.

        It stands if input, model and options are the same, the input has not changed since, and
        the output is the file that was written: whole, and of the size in bytes and pixels.
        """
        offset = self._done.get(output.as_posix())
        if offset is None:
            return None
        self._file.seek(offset)
        record = _parse(self._file.readline(), self._options)
        stamp = Stamp.of(source)
        same = record.input == str(source) and stamp is not None and record.input_stamp == stamp
        if not same or not self._stands(record):
            return None
        return replace(record, status="skipped")

    def _stands(self, record: Record) -> bool:
        path = self._out / record.output
        stamp = Stamp.of(path)
        # Size and time: a run of another model may have been killed before it said what it wrote.
        if stamp is None or stamp != record.output_stamp:
            return False
        return record.size is not None and read_size(path) == record.size

    def append(self, record: Record) -> None:
        """Write a line at once.

        Raises:
            OSError: It cannot be written; the manifest is as it was.
        """
        line = memoryview(json.dumps(asdict(record)).encode() + b"\n")
        file = self._file.fileno()
        end = os.fstat(file).st_size
        try:
            # One write per line, but on a full disk: a kill leaves the line or nothing.
            while line:
                line = line[os.write(file, line) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(file, end)
            raise OSError(error.errno, error.strerror, str(self._out / MANIFEST)) from error

    def close(self) -> None:
        """Unlock the manifest; closing twice is fine."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _finished(file: IO[bytes], wanted: dict[str, Any]) -> dict[str, int]:
    """Return by output where the lines stand that count: a number each, for there may be many."""
    done: dict[str, int] = {}
    for offset, data in _lines(file):
        name = data.get("output")
        if not isinstance(name, str):
            continue
        if all(data.get(key) == value for key, value in wanted.items()):
            done[name] = offset
        else:
            done.pop(name, None)
    return done


def _lines(file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    file.seek(0)
    offset = 0
    for line in file:
        with contextlib.suppress(ValueError, RecursionError):  # torn by a power cut, or made so
            data = json.loads(line)
            if isinstance(data, dict):
                yield offset, data
        offset += len(line)


_STAMP: Final = {"bytes", "mtime_ns"}


def _stamp(data: object) -> Stamp | None:
    return Stamp(**data) if isinstance(data, dict) and set(data) == _STAMP else None


def _parse(line: bytes, options: Options) -> Record:
    data = json.loads(line)
    size = data.get("size")
    return Record(
        input=str(data.get("input")),
        input_stamp=_stamp(data.get("input_stamp")),
        status="done",
        output=str(data["output"]),
        output_stamp=_stamp(data.get("output_stamp")),
        size=(size[0], size[1]) if isinstance(size, list) and len(size) == 2 else None,
        milliseconds=data.get("milliseconds"),
        error=None,
        options=options,
        model_sha256=str(data["model_sha256"]),
    )


def _lock(file: IO[bytes], path: Path) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt

            # A byte far behind the end: locked bytes cannot be read by others.
            file.seek(1 << 40)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            raise  # a file system without locks says so
        rule = "one run at a time writes into an output folder"
        remedy = "wait for the other run, or choose another folder"
        got = "a manifest that another run holds"
        raise DataError(message(str(path), rule, got, remedy)) from error
