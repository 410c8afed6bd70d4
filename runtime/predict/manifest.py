"""The manifest of an output folder: one JSON line per picture, appended, never rewritten.

The last line of an output counts. A run holds the manifest locked, so two runs on one folder do
not mix; the lock ends with the process, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any, Final, Literal, Self

from fcnkit.errors import DataError, message
from fcnkit.runtime.artifacts.precisions import full_name
from fcnkit.runtime.files import lock_file
from fcnkit.runtime.predict.identity import Origin, Stamp, check_replaces
from fcnkit.runtime.predict.outputs import Format, read_size
from fcnkit.runtime.predict.overlays import OverlayStyle

__all__ = [
    "MANIFEST",
    "Manifest",
    "Options",
    "Record",
    "is_results_folder",
    "line_of",
    "read_origins",
]

MANIFEST: Final = "manifest.jsonl"
"""Name of the file in the output folder."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a result depends on besides the picture and the model."""

    format: Format
    cover: str
    tile: tuple[int, int] | None
    overlap: int | None
    """None where no tiles share pixels."""
    backend: str
    compute: str
    """The precision the backend computes in."""
    overlay: OverlayStyle | None = None
    """How an overlay looks; None for other formats."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What became of one picture: a line of the manifest."""

    input: str
    """Its path as it was given."""
    input_path: str
    """Its absolute path, links to folders resolved."""
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


_LATER: Final[dict[str, Any]] = {
    field.name: field.default for field in fields(Options) if field.default is not MISSING
}
"""Options that the first manifests do not have."""


class Manifest:
    """The manifest of one output folder, open and locked for one run."""

    def __init__(self, out: Path, *, options: Options, model_sha256: str, resume: bool) -> None:
        """Open or begin a manifest.

        Args:
            out: The output folder; it exists.
            options: Of this run.
            model_sha256: Of this run's model.
            resume: Whether results of earlier runs count as done.

        Raises:
            DataError: Another run holds it.
            OSError: It cannot be read or written.
        """
        self._out, self._options, self._sha256 = out, options, model_sha256
        self._resume, self._wanted = resume, json.loads(json.dumps(asdict(options)))
        path = out / MANIFEST
        if path.is_symlink() or (path.exists() and not path.is_file()):
            # A link would be written through, and opening a pipe waits for a reader.
            rule, remedy = "must be a separate file", "remove it, or choose another folder"
            raise DataError(message(str(path), rule, "a link or no regular file", remedy))
        self._made: dict[str, int] = {}
        """Byte offset of the line that says from which picture a result was made, by output."""
        self._done: set[str] = set()
        """Outputs whose last line says that this run would make the same."""
        self._is_damaged = False
        """Whether a line cannot be read: a power cut tore it."""
        self._using = threading.Lock()
        """Held while the file is read or written: ``check`` may be called on any thread."""
        self._file = path.open("a+b")
        self._reader = path.open("rb")
        """For lines: writing moves the place of ``_file`` under its buffer."""
        try:
            _lock(self._file, path)
            for offset, data in _lines(self._file):
                if data is None:
                    self._is_damaged = True
                else:
                    self._note(offset, data)
            self._end_torn_line()
        except BaseException:
            self.close()
            raise

    def _note(self, offset: int, data: dict[str, Any]) -> None:
        name = data.get("output")
        if not isinstance(name, str):
            return
        if data.get("status") == "done":
            self._made[name] = offset
        if self._resume and self._is_wanted(data):
            self._done.add(name)
        else:
            self._done.discard(name)

    def _is_wanted(self, data: dict[str, Any]) -> bool:
        """Whether a line tells of a result of this run's model and options."""
        if data.get("status") != "done" or data.get("model_sha256") != self._sha256:
            return False
        options = data.get("options")
        if not isinstance(options, dict):
            return False
        # Older lines say f32 and f16, and lack what came later.
        options = {**_LATER, **options, "compute": full_name(str(options.get("compute")))}
        if self._wanted["overlap"] is None:
            options["overlap"] = None  # older lines tell of one that was not used
        return bool(options == self._wanted)

    def adopt(self, lines: Iterable[bytes]) -> None:
        """Append lines about results that a run has made and was stopped before it could say so.

        Args:
            lines: From ``Staging.unlisted``.

        Raises:
            OSError: They cannot be written.
        """
        for line in lines:
            data = _parsed(line)
            if data is None or not isinstance(data.get("output"), str):
                continue
            stamp = Stamp.read(data.get("output_stamp"))
            if stamp is None or stamp != Stamp.of(self._out / data["output"]):
                continue  # stopped before the result came under its name
            if (listed := self._line_of(data["output"])) is None or listed != data:
                offset = self._file.seek(0, os.SEEK_END)
                self._write(line.rstrip(b"\n") + b"\n")
                self._note(offset, data)

    def _line_of(self, output: str) -> dict[str, Any] | None:
        """Return the line that says from which picture a result was made."""
        offset = self._made.get(output)
        if offset is None:
            return None
        with self._using:
            self._reader.seek(offset)
            return _parsed(self._reader.readline())

    def _end_torn_line(self) -> None:
        """A line that a power cut tore must not swallow the next one."""
        if self._file.seek(0, os.SEEK_END) and self._last_byte() != b"\n":
            self._file.write(b"\n")
            self._file.flush()  # lines are written past this buffer

    def _last_byte(self) -> bytes:
        self._file.seek(-1, os.SEEK_END)
        return self._file.read(1)

    def check(self, source: Path, output: Path, claimed: Origin | None) -> None:
        """Refuse a picture whose result would replace another picture's; on any thread.

        Args:
            source: The picture.
            output: Name of its result.
            claimed: The picture that ``Predictor`` made the result from, where it did.

        Raises:
            DataError: See ``check_replaces``.
        """
        if not os.path.lexists(self._out / output):
            return
        line = self._line_of(output.as_posix())
        listed = None if line is None else Origin.read(line)
        if self._is_damaged and listed is claimed is None:
            return  # a line that cannot be read may have told of it
        check_replaces(self._out / output, (listed, claimed), Origin.of(source))

    def earlier(self, source: Path, output: Path) -> Record | None:
        """Return the record of an earlier run whose result still stands, as ``skipped``.

        It stands if picture, model and options are the same, the picture has not changed since,
        and the output is the file that was written: whole, and of the size in bytes and pixels.
        """
        if output.as_posix() not in self._done:
            return None
        line = self._line_of(output.as_posix())
        before = None if line is None else Origin.read(line)
        if line is None or before is None:
            return None
        now = Origin.of(source)
        unchanged = now.input_stamp is not None and now.input_stamp == before.input_stamp
        if not unchanged or not before.is_same_picture(now):
            return None
        record = _record(line, now, self._options, self._sha256)
        return record if self._stands(record) else None

    def _stands(self, record: Record) -> bool:
        path = self._out / record.output
        stamp = Stamp.of(path)
        # Size and time: another run may have written there without saying so here.
        if stamp is None or stamp != record.output_stamp:
            return False
        size, found = record.size, read_size(path)
        if self._options.overlay is not None and size is not None and found is not None:
            # A legend makes an overlay larger than its picture.
            return found[0] >= size[0] and found[1] >= size[1]
        return size is not None and found == size

    def append(self, record: Record) -> None:
        """Write a line at once.

        Raises:
            OSError: It cannot be written; the manifest is as it was.
        """
        self._write(line_of(record))

    def _write(self, content: bytes) -> None:
        line, file = memoryview(content), self._file.fileno()
        with self._using:
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
        self._reader.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def line_of(record: Record) -> bytes:
    """Return a record as a line of the manifest."""
    return json.dumps(asdict(record)).encode() + b"\n"


def read_origins(path: Path) -> dict[str, Origin]:
    """Read from which pictures the results of a folder were made.

    Args:
        path: A manifest, which may be missing.

    Returns:
        The picture of every output that has one.

    Raises:
        OSError: The manifest is there and cannot be read.
    """
    found: dict[str, Origin] = {}
    if not path.is_file():
        return found
    with path.open("rb") as file:
        for _, data in _lines(file):
            if data is None or data.get("status") != "done":
                continue
            origin = Origin.read(data)
            if origin is not None:
                found[str(data.get("output"))] = origin
    return found


def is_results_folder(folder: Path) -> bool:
    """Whether a folder holds a manifest that a run wrote."""
    path = folder / MANIFEST
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            data = _parsed(file.readline(1 << 16))
    except OSError:
        return False
    return data is not None and {"input", "output", "model_sha256"} <= data.keys()


def _lines(file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield where each line begins and what it holds, None where it cannot be read."""
    file.seek(0)
    offset = 0
    for line in file:
        if not line.isspace():
            yield offset, _parsed(line)
        offset += len(line)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return the object that a line holds; None where it was torn by a power cut, or made so."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _record(line: dict[str, Any], now: Origin, options: Options, sha256: str) -> Record:
    """Return what a line says of a result, told of the picture as it was given now."""
    size = line.get("size")
    return Record(
        input=now.input,
        input_path=now.input_path,
        input_stamp=now.input_stamp,
        status="skipped",
        output=str(line["output"]),
        output_stamp=Stamp.read(line.get("output_stamp")),
        size=(size[0], size[1]) if isinstance(size, list) and len(size) == 2 else None,
        milliseconds=line.get("milliseconds"),
        error=None,
        options=options,
        model_sha256=sha256,
    )


def _lock(file: IO[bytes], path: Path) -> None:
    try:
        lock_file(file, wait=False)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            raise  # a file system without locks says so
        rule = "one run at a time writes into an output folder"
        remedy = "wait for the other run, or choose another folder"
        got = "a manifest that another run holds"
        raise DataError(message(str(path), rule, got, remedy)) from error
