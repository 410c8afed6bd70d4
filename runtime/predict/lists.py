"""Lists of files: one name per line, read line by line as often as it takes."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.predict.identity import RealFolders, relative_path
from fcnkit.runtime.predict.urls import Url, path_or_url

__all__ = ["ListFile", "open_list"]


@contextmanager
def open_list(path: Path | None) -> Iterator[ListFile]:
    """Open a list.

    Args:
        path: The file; None for standard input.

    Yields:
        The list. It is gone when the block ends.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") if path is not None else _standard_input() as file:
        if file.seekable():
            yield ListFile(file)
            return
        with tempfile.TemporaryFile() as copy:  # a pipe can be read once
            shutil.copyfileobj(file, copy)
            yield ListFile(copy)


@contextmanager
def _standard_input() -> Iterator[IO[bytes]]:
    buffer = getattr(sys.stdin, "buffer", None)
    with tempfile.TemporaryFile() as copy:
        if buffer is None:  # replaced by a file of text
            copy.write(sys.stdin.read().encode("utf-8", "surrogateescape"))
        else:
            shutil.copyfileobj(buffer, copy)
        yield copy


class ListFile:
    """A list of files; the files need not exist."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def paths(self) -> Iterator[Path | Url]:
        """Yield the files, from the first line on.

        Raises:
            ValueError: A line names no file.
        """
        self._file.seek(0)
        for number, content in enumerate(self._file):
            # A name need not be UTF-8; what is not comes through unchanged.
            text = content.decode("utf-8", "surrogateescape")
            text = text if number else text.removeprefix("\ufeff")
            for line in map(str.strip, re.split(r"[\r\n]", text)):
                if line:
                    yield _path_of(line)

    def shared_folder(self) -> Path | None:
        """Return the folder that the files share, as it is written where they are written alike.

        Relative paths stay relative, so that a list means the same on another machine.

        Returns:
            The folder; None for an empty list, and for files on two drives.

        Raises:
            ValueError: A line names no file, or a file that climbs out of the working folder.
        """
        climbing, kinds = False, set()
        for path in self.paths():
            if isinstance(path, Url):
                rule, remedy = (
                    "a list of objects needs --root",
                    "pass the folder that holds them all",
                )
                raise BadValueError(message("predict", rule, str(path), remedy))
            kinds.add(path.is_absolute())
            if ".." in path.parts:
                climbing = True
                _check_climbing(path)
        real = RealFolders()
        shared, last = None, None
        for path in self.paths():
            folder = Path(path.parent)
            if folder == last:
                continue
            last = folder
            if climbing:
                folder = Path(real.path(str(path))).parent
            elif len(kinds) > 1:
                folder = folder.absolute()
            try:
                shared = folder if shared is None else Path(os.path.commonpath([shared, folder]))
            except ValueError:  # on two drives
                return None
        return shared


def _path_of(line: str) -> Path | Url:
    path = path_or_url(line)
    if not path.name or path.name == ".." or "\0" in line:
        rule = "a list names one file per line"
        raise BadValueError(message("predict", rule, repr(line), "take the line out"))
    return path


def _check_climbing(path: Path) -> None:
    if not path.is_absolute() and relative_path(path, Path()) is None:
        rule = "relative paths of a list must lie below the working folder"
        remedy = "write absolute paths or pass --root"
        raise BadValueError(message("predict", rule, str(path), remedy))
