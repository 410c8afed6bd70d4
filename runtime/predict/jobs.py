"""A picture to label and the name of its result, and that no two pictures share a name."""

from __future__ import annotations

import os
import sqlite3
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from operator import attrgetter
from pathlib import Path

from fcnkit.errors import BadValueError, DataError, message
from fcnkit.runtime.predict.identity import RealFolders, common_root, real_path
from fcnkit.runtime.predict.urls import Url, path_or_url

__all__ = ["Job", "checked"]


class Job:
    """One picture or video to label and the name of its result, relative to the output folder.

    A million of them are made and most are only looked at by name. So strings become paths where
    somebody asks for them.
    """

    __slots__ = ("_output", "_source")

    def __init__(self, source: Path | Url | str, output: Path | str) -> None:
        """Name a picture and its result.

        Args:
            source: The picture. A string is the path of a file, written as ``Path`` writes it.
            output: Of the result, written in the same way.
        """
        self._source, self._output = source, output

    @property
    def source(self) -> Path | Url:
        """The picture."""
        if isinstance(self._source, str):
            self._source = Path(self._source)
        return self._source

    @property
    def output(self) -> Path:
        """The name of its result."""
        if isinstance(self._output, str):
            self._output = Path(self._output)
        return self._output

    @property
    def input_name(self) -> str:
        """The picture as a string."""
        return str(self._source)

    @property
    def output_name(self) -> str:
        """The name of its result as a string, with slashes."""
        return str(self._output).replace(os.sep, "/")

    def named(self, output: Path) -> Job:
        """Return the same picture with another name of its result."""
        return Job(self._source, output)

    def __eq__(self, other: object) -> bool:
        """Whether picture and name are the same."""
        if not isinstance(other, Job):
            return NotImplemented
        return (self.source, self.output) == (other.source, other.output)

    def __hash__(self) -> int:
        """Return the same for equal jobs."""
        return hash((self.source, self.output))

    def __repr__(self) -> str:
        """Say both."""
        return f"Job({self.input_name!r}, {self.output_name!r})"

    @property
    def file(self) -> Path:
        """The picture as a file of this machine.

        Raises:
            ValueError: It is on an object store.
        """
        if isinstance(self.source, Url):
            rule, got = "must be a file of this machine", "an object on a store"
            remedy = "copy it here, or put an object first in a list that holds objects"
            raise BadValueError(message(str(self.source), rule, got, remedy))
        return self.source


def checked(
    jobs: Iterable[Job],
    out: Path | Url,
    *,
    fold: bool = False,
    named: Callable[[Job], str] = attrgetter("output_name"),
) -> Iterator[Job]:
    """Yield jobs as they come, each once, and refuse one whose result has the name of another.

    The names so far are in a temporary database on disk, so any number of jobs takes little memory.

    Args:
        jobs: Taken one by one.
        out: The output folder.
        fold: Whether names that differ in case alone are one name there.
        named: Returns the name that a job's result gets.

    Raises:
        ValueError: A result would replace another one or a picture, or leave the output folder.
        DataError: The temporary database cannot be written.
    """
    real_out = f"{out}/" if isinstance(out, Url) else f"{os.path.realpath(out)}{os.sep}"
    folders = RealFolders()
    with closing(_Names()) as names:
        for job in jobs:
            name, given = named(job), job.input_name
            if (".." in name or name[:1] in "/\\" or name[1:2] == ":") and _leaves(Path(name)):
                rule = "a result must lie in the output folder"
                raise BadValueError(message("predict", rule, name, "name it without .."))
            source = folders.path(given)
            if source.startswith(real_out):
                # The image itself lies in the output folder: no result may have its name.
                inner = source.removeprefix(real_out)
                if names.add(_folded(inner) if fold else inner, None) is not None:
                    raise BadValueError(_replaces_picture(out / inner))
            taken = names.add(_folded(name) if fold else name, given)
            if taken is None:
                yield job
            elif not taken:
                raise BadValueError(_replaces_picture(out / name))
            elif not _is_same(first := path_or_url(taken), job.source):
                raise BadValueError(_shared_name(first, job.source, name, fold=fold))


def _is_same(one: Path | Url, other: Path | Url) -> bool:
    if isinstance(one, Url) or isinstance(other, Url):
        return one == other
    return os.path.realpath(one) == os.path.realpath(other)


def _leaves(output: Path) -> bool:
    return ".." in output.parts or output.is_absolute()


class _Names:
    """Names of results, each with its picture, in a temporary database."""

    def __init__(self) -> None:
        # Without a name it is a file that SQLite removes, and memory as long as it is small.
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE names (name BLOB PRIMARY KEY, source BLOB) WITHOUT ROWID")
        self._db.execute("BEGIN")

    def add(self, name: str, source: str | None) -> str | None:
        """Add a name that is free.

        Args:
            name: Of a result.
            source: Its picture; None for the name of a picture, which a result must not get.

        Returns:
            None if the name was free, else its picture, empty for the name of a picture. Adding
            the name of a picture again is fine.

        Raises:
            DataError: The database cannot be written.
        """
        # Names of files may be any bytes.
        row = [text.encode("utf-8", "surrogateescape") for text in (name, source or "")]
        try:
            if self._db.execute("INSERT OR IGNORE INTO names VALUES (?, ?)", row).rowcount:
                return None
            found = self._db.execute("SELECT source FROM names WHERE name = ?", row[:1]).fetchone()
        except sqlite3.Error as error:
            rule = "must have room for the names of the results"
            remedy = "set SQLITE_TMPDIR to a folder with more room"
            raise DataError(message("temporary folder", rule, str(error), remedy)) from error
        taken = found[0].decode("utf-8", "surrogateescape")
        return None if source is None and not taken else taken

    def close(self) -> None:
        """Remove the database."""
        self._db.close()


def _replaces_picture(path: Path | Url) -> str:
    rule, remedy = "a result must not replace a picture", "choose another output folder"
    return message("predict", rule, str(path), remedy)


def _folded(name: str) -> str:
    # File systems that ignore case also ignore how an accent is written.
    return unicodedata.normalize("NFC", name).casefold()


def _shared_name(first: Path | Url, second: Path | Url, output: str, *, fold: bool) -> str:
    paths = [real_path(source) for source in (first, second)]
    common = common_root(*(_folded(path) if fold else path for path in paths))
    remedy = "rename one, or label them into different folders"
    if common is not None:
        remedy = f"pass --root {common_root(*paths)}"
    got = f"{first} and {second} for {output}"
    return message("predict", "every picture needs its own output name", got, remedy)
