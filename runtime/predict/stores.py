"""Object stores such as ``s3://``, through fsspec: list, read, write.

An object is there when it is whole: the store sees to that. In a folder of this machine, files are
written under another name and renamed. There are no locks, and nothing can be appended to.
"""

from __future__ import annotations

import errno
import hashlib
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from fcnkit.errors import BadValueError, DataError, MissingExtraError, message, missing_extra
from fcnkit.runtime.predict.stamp import Stamp
from fcnkit.runtime.predict.urls import Url

__all__ = ["Store"]


class Store:
    """A folder on a store; names are relative to it."""

    def __init__(self, place: Path | Url) -> None:
        """Open it; nothing need be there.

        Args:
            place: Its address; a folder of this machine too.

        Raises:
            MissingExtraError: fsspec is not installed, or the package for this kind of store.
            ValueError: fsspec does not know such stores.
        """
        try:
            import fsspec
        except ImportError as error:
            raise missing_extra(str(place), "fsspec", "objects") from error
        self.place = place
        text = str(place) if isinstance(place, Url) else str(place.absolute())
        try:
            # Without a cache, so that files of other writers are seen.
            self._fs, self._root = fsspec.core.url_to_fs(text, use_listings_cache=False)
        except ImportError as error:
            rule, got = "needs the package for this kind of store", " ".join(str(error).split())
            remedy = "install it with pip, such as s3fs or gcsfs"
            raise MissingExtraError(message(text, rule, got, remedy)) from error
        except ValueError as error:
            rule, remedy = "must be a store that fsspec knows", "check the address"
            raise BadValueError(message(text, rule, str(error), remedy)) from error
        self._root = self._root.rstrip("/")

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def kind(self, name: str) -> str | None:
        """Return ``file`` or ``directory``; None where nothing has that name.

        Raises:
            OSError: The store does not answer.
        """
        info = self._info(name)
        return None if info is None else str(info["type"])

    def stamp(self, name: str) -> Stamp | None:
        """Return the size and the time of an object; None where there is none.

        Raises:
            DataError: The store does not say what tells an object from an earlier one.
            OSError: The store does not answer.
        """
        info = self._info(name)
        return None if info is None else _stamp_of(info)

    def _info(self, name: str) -> dict[str, Any] | None:
        try:
            with self._answering(name):
                return dict(self._fs.info(self._path(name)))
        except (FileNotFoundError, NotADirectoryError):
            return None

    @contextmanager
    def _answering(self, name: str) -> Iterator[None]:
        """Let what libraries of stores raise be an OSError."""
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise OSError(errno.EIO, text, f"{self.place}/{name}") from error

    def folder(self, name: str) -> tuple[list[str], dict[str, Stamp]]:
        """Return the names of the folders in a folder, and the objects with their stamps.

        Raises:
            DataError: As for ``stamp``.
            OSError: The store does not answer.
        """
        folders, objects = [], {}
        try:
            with self._answering(name):
                listed = self._fs.ls(self._path(name), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return [], {}
        for info in listed:
            inner = str(info["name"]).rstrip("/").rpartition("/")[2]
            if info["type"] == "directory":
                folders.append(inner)
            elif str(info["name"]).rstrip("/") != self._path(name):  # a folder's own marker
                objects[inner] = _stamp_of(info)
        return sorted(folders), dict(sorted(objects.items()))

    def walk(self) -> Iterator[tuple[str, list[str], dict[str, Stamp]]]:
        """Yield folder by folder its name, its folders and its objects; a folder before its own.

        The caller may take folders out of the list, which are not entered then.

        Raises:
            DataError: As for ``stamp``.
            OSError: The store does not answer.
        """
        left = [""]
        while left:
            name = left.pop()
            folders, objects = self.folder(name)
            yield name, folders, objects
            left += [f"{name}/{inner}" if name else inner for inner in reversed(folders)]

    def fetch(self, name: str, path: Path) -> None:
        """Copy an object into a file.

        Raises:
            OSError: There is no such object, or it cannot be read or written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._answering(name):
            self._fs.get_file(self._path(name), str(path))

    def write(self, content: bytes, name: str) -> None:
        """Write a small object.

        Raises:
            OSError: It cannot be written.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "content")
            path.write_bytes(content)
            self.put(path, name)

    def put(self, path: Path, name: str) -> None:
        """Copy a file to an object, which is there when it is whole.

        Raises:
            OSError: It cannot be written.
        """
        target = self._path(name)
        if isinstance(self.place, Url):
            with self._answering(name):
                self._fs.put_file(str(path), target)
            return
        # Beside its name, because a rename does not lead from one disk to another.
        folder, _, last = target.rpartition("/")
        partial = f"{folder}/.fcnkit-{secrets.token_hex(8)}-{last[:100]}"
        self._fs.makedirs(folder, exist_ok=True)
        try:
            self._fs.put_file(str(path), partial)
            self._fs.mv(partial, target)
        except BaseException:
            if self._fs.exists(partial):
                self._fs.rm_file(partial)
            raise


def _stamp_of(info: dict[str, Any]) -> Stamp:
    """Return the stamp that a store tells, the same in a listing and for a single object."""
    for key in ("mtime", "LastModified", "updated", "last_modified", "created"):
        if info.get(key) is not None:
            return Stamp(int(info["size"]), _nanoseconds(info[key]))
    for key in ("ETag", "etag", "md5Hash"):  # no time, but what changes with the content
        if info.get(key) is not None:
            digest = hashlib.blake2b(str(info[key]).encode(), digest_size=7).digest()
            return Stamp(int(info["size"]), int.from_bytes(digest, "big"))
    rule, remedy = "must have a time or a checksum", "copy the objects to another store"
    raise DataError(message(str(info["name"]), rule, "neither", remedy))


def _nanoseconds(when: object) -> int:
    """Return a time since 1970. Some stores tell it once as a number and once as a date."""
    if isinstance(when, str):
        when = datetime.fromisoformat(when.replace("Z", "+00:00"))
    seconds = when.timestamp() if isinstance(when, datetime) else float(str(when))
    return round(seconds * 1_000_000) * 1000
