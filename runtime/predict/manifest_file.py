"""The file of a manifest: locked for one run, only appended to; and how a run begins in a folder.

A run without parts has the output folder for itself. Parts share it with parts of the same count.
What a dead run left is taken over by the next run that begins: the lines of its journal go to the
manifest that they were meant for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final

from fcnkit.errors import DataError, message
from fcnkit.runtime.closing import Closing
from fcnkit.runtime.files import lock_file
from fcnkit.runtime.predict.history import History, check_separate, parsed
from fcnkit.runtime.predict.parts import Found, Part, found_in, manifest_name
from fcnkit.runtime.predict.staging import read_journal
from fcnkit.runtime.predict.stamp import Stamp

__all__ = ["ManifestFile", "begin_run"]

_TURNS: Final = ".fcnkit-parts"
"""Name of the file that a part holds locked while it begins."""


class ManifestFile(Closing):
    """A manifest, open for appending, and locked."""

    def __init__(self, path: Path) -> None:
        """Open or make it; a line that a power cut tore gets an end.

        Raises:
            DataError: It is not a regular file.
            BlockingIOError: Another run holds it.
            OSError: It cannot be written.
        """
        check_separate(path)
        self.path = path
        self._file = path.open("a+b")
        try:
            _lock(self._file)
            # A line that a power cut tore must not swallow the next one.
            if self._file.seek(0, os.SEEK_END) and self._last_byte() != b"\n":
                self.write(b"\n")
        except BaseException:
            self.close()
            raise

    def _last_byte(self) -> bytes:
        self._file.seek(-1, os.SEEK_END)
        return self._file.read(1)

    def write(self, content: bytes) -> None:
        """Append a line at once.

        Raises:
            OSError: It cannot be written; the manifest is as it was.
        """
        line, file = memoryview(content), self._file.fileno()
        end = os.fstat(file).st_size
        try:
            # Usually one write per line, so that a kill leaves the whole line or nothing. On a full
            # disk it takes several.
            while line:
                line = line[os.write(file, line) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(file, end)
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def adopt(self, lines: Iterable[bytes]) -> None:
        """Append lines about results that a run has made and was stopped before it could say so.

        Args:
            lines: From ``read_journal``.

        Raises:
            OSError: They cannot be written.
        """
        out = self.path.parent
        with contextlib.ExitStack() as opened:
            history: History | None = None
            for line in lines:
                data = parsed(line)
                if data is None or not isinstance(output := data.get("output"), str):
                    continue
                stamp = Stamp.read(data.get("output_stamp"))
                if stamp is None or stamp != Stamp.of(out / output):
                    continue  # stopped before the result came under its name
                if history is None:  # most journals are empty
                    history = opened.enter_context(History([self.path]))
                if all(told.line != data for told in history.told(output)):
                    self.write(line.rstrip(b"\n") + b"\n")

    def close(self) -> None:
        """Unlock the manifest; closing twice is fine."""
        self._file.close()


def _lock(file: IO[bytes]) -> None:
    try:
        lock_file(file, wait=False)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            raise  # a file system without locks says so
        raise BlockingIOError(error.errno, error.strerror) from error


def begin_run(out: Path, part: Part | None) -> tuple[ManifestFile, Found]:
    """Lock the manifest of a run, and take over what dead runs left in the folder.

    Args:
        out: The output folder; it exists.
        part: The part that the run labels; None for all pictures.

    Returns:
        The manifest, and what else runs wrote into the folder.

    Raises:
        DataError: Another run writes there that this one must not run beside, or a manifest is not
            a regular file.
        OSError: A manifest cannot be read or written.
    """
    path = out / manifest_name(part)
    with _turn(out) if part is not None else contextlib.nullcontext():
        try:
            file = ManifestFile(path)
        except BlockingIOError as error:
            rule = "one run at a time writes into an output folder"
            if part is not None:
                rule = "one run at a time labels a part"
            got = "a manifest that another run holds"
            raise DataError(message(str(path), rule, got, _WAIT)) from error
        try:
            found = found_in(out)
            for other in found.manifests:
                if part is None or other is None or other.count != part.count:
                    _check_ended(out, part, other)
            _take_over(out, found, part, file)
        except BaseException:
            file.close()
            raise
        return file, found


_WAIT: Final = "wait for the other run, or choose another folder"


@contextlib.contextmanager
def _turn(out: Path) -> Iterator[None]:
    """Wait until no other part begins.

    The locks of manifests that a part tries while it begins would look like those of runs.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(out / _TURNS, flags, 0o666), "r+b") as file:
        lock_file(file, wait=True)
        yield


def _check_ended(out: Path, part: Part | None, other: Part | None) -> None:
    """Refuse a run beside another one."""
    if other == part:
        return
    try:
        # Opened as its run would, which also ends a line that a power cut tore.
        ManifestFile(out / manifest_name(other)).close()
    except BlockingIOError as error:
        rule = "only parts of one count share an output folder"
        got = f"{_named(part)} beside {_named(other)}"
        raise DataError(message(str(out), rule, got, _WAIT)) from error


def _named(part: Part | None) -> str:
    return "a run without --part" if part is None else f"part {part}"


def _take_over(out: Path, found: Found, part: Part | None, own: ManifestFile) -> None:
    """Complete the manifests of runs that were killed, and remove what they were writing."""
    for other, folder in found.partials.items():
        if other == part:
            own.adopt(read_journal(folder))
            continue
        try:
            with ManifestFile(out / manifest_name(other)) as file:
                file.adopt(read_journal(folder))
                shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue  # it is running
