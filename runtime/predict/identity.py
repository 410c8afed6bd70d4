"""Which picture a result was made from, and whether another picture may replace it.

Two pictures of one output name are the same picture if they have the same path, or the same path
below the root with the same size and time: a folder may be mounted elsewhere. Where both files
can be read, their bytes decide, and where both hashes are known, these.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from fcnkit.errors import DataError, message
from fcnkit.runtime.files import sha256_of
from fcnkit.runtime.predict.stamp import Stamp
from fcnkit.runtime.predict.urls import Url, is_url

__all__ = [
    "Origin",
    "RealFolders",
    "check_replaces",
    "real_path",
    "refuse_another",
    "relative_path",
]


def real_path(source: Path | Url) -> str:
    """Return a file's absolute path, links to folders resolved.

    A link to the file itself stays: the file that it points to may change, the picture is the same.
    An address on a store is what it is.
    """
    if isinstance(source, Url):
        return str(source)
    return str(Path(os.path.realpath(source.parent), source.name))


def relative_path(path: Path | Url, root: Path | Url) -> Path | None:
    """Return the path of a file below a folder, None where it lies elsewhere.

    Links to folders on the way keep their names, but where ``..`` leads out of them.
    """
    if isinstance(path, Url) or isinstance(root, Url):
        return Path(*path.relative_to(root).parts) if path.is_relative_to(root) else None
    if ".." not in (*path.parts, *root.parts):
        if path.is_relative_to(root):
            return path.relative_to(root)
        if path.absolute().is_relative_to(root.absolute()):
            return path.absolute().relative_to(root.absolute())
    real, real_root = Path(real_path(path)), Path(os.path.realpath(root))
    return real.relative_to(real_root) if real.is_relative_to(real_root) else None


class RealFolders:
    """Finds paths as ``real_path`` does, and looks at each folder once while it stays there."""

    def __init__(self) -> None:
        self._last: tuple[str | None, str] = (None, "")

    def path(self, source: str) -> str:
        """Return what ``real_path`` returns, of a path as a string; for any thread."""
        folder, slash, name = source.rpartition(os.sep)
        last, real = self._last
        if folder != last:
            # The folder of an address has no links to follow.
            real = folder if is_url(source) else os.path.realpath(folder or slash)
            real = os.path.join(real, "")  # noqa: PTH118 - ends in a slash
            self._last = folder, real
        return real + name


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """The picture that a result was made from."""

    input: str
    """Its path as it was given."""
    input_path: str
    """Its path from ``real_path``."""
    input_stamp: Stamp | None
    input_sha256: str | None = None
    """Of its bytes, where a run tells pictures by them."""

    @classmethod
    def of(cls, source: Path, *, hashed: bool = False) -> Self:
        """Return the origin that a result of this picture has now.

        Args:
            source: The picture; it need not exist.
            hashed: Whether to read it for its hash.
        """
        digest = None
        if hashed and source.is_file():
            with contextlib.suppress(OSError):  # whoever labels it says why it cannot be read
                digest = sha256_of(source)
        return cls(
            input=str(source),
            input_path=real_path(source),
            input_stamp=Stamp.of(source),
            input_sha256=digest,
        )

    @classmethod
    def read(cls, data: dict[str, Any]) -> Self | None:
        """Return the origin that a line of a manifest tells, None where it tells none.

        Older lines have no ``input_path``; a relative ``input`` means the working folder there.
        """
        given, path = data.get("input"), data.get("input_path")
        if not isinstance(given, str):
            return None
        if not isinstance(path, str):
            try:
                path = real_path(Path(given))
            except (OSError, ValueError):  # it cannot be a path
                return None
        digest = data.get("input_sha256")
        return cls(
            input=given,
            input_path=path,
            input_stamp=Stamp.read(data.get("input_stamp")),
            input_sha256=digest if isinstance(digest, str) else None,
        )

    def is_unchanged(self, now: Origin) -> bool:
        """Whether a picture has the bytes that it had: by its hash if that is known now."""
        if now.input_sha256 is not None:
            return self.input_sha256 == now.input_sha256
        return now.input_stamp is not None and self.input_stamp == now.input_stamp

    def is_same_picture(self, now: Origin) -> bool:
        """Whether a picture with the same output name is this one, changed or not."""
        if self.input_path == now.input_path:
            return True
        before, after = Path(self.input_path), Path(now.input_path)
        if before.suffix != after.suffix:
            return False
        if self.input_sha256 is not None and now.input_sha256 is not None:
            return self.input_sha256 == now.input_sha256
        if self.input_stamp is None:
            return False
        return self.input_stamp == now.input_stamp and not self._differs(before, after)

    def _differs(self, before: Path, after: Path) -> bool:
        """Whether both files are there, as they were, with different bytes."""
        try:
            unchanged = Stamp.of(before) == self.input_stamp
            return unchanged and not filecmp.cmp(before, after, shallow=False)
        except (OSError, ValueError):
            return False


def check_replaces(target: Path, before: Iterable[Origin | None], now: Origin) -> None:
    """Refuse a picture whose result would replace another picture's.

    Args:
        target: The result's path.
        before: What is known of the pictures that the file there was made from.
        now: The picture.

    Raises:
        DataError: The file there was made from another picture, or it is unknown from which.
    """
    if os.path.lexists(target):
        refuse_another(target, before, now)


def refuse_another(target: Path | Url, before: Iterable[Origin | None], now: Origin) -> None:
    """Refuse as ``check_replaces`` does, where a file is known to be there.

    Args:
        target: As for ``check_replaces``.
        before: As for ``check_replaces``.
        now: As for ``check_replaces``.

    Raises:
        DataError: As for ``check_replaces``.
    """
    known = [origin for origin in before if origin is not None]
    for origin in known:
        if not origin.is_same_picture(now):
            raise DataError(_another(target, origin, now))
    if not known:
        rule = "a result replaces no file of unknown origin"
        got = "a file that no manifest lists"
        raise DataError(message(str(target), rule, got, "remove it or choose another folder"))


def _another(target: Path | Url, before: Origin, now: Origin) -> str:
    rule = "a result replaces only results of the same picture"
    got = f"one of {before.input} and now {now.input}"
    remedy = "choose another output folder or remove that result"
    common = common_root(before.input_path, now.input_path)
    if common is not None:
        remedy += f", or pass --root {common}"
    return message(str(target), rule, got, remedy)


def common_root(one: str, other: str) -> str | None:
    """Return the folder below which two pictures have results of different names, if there is one.

    Args:
        one: Path of a picture, absolute.
        other: Path of the other.
    """
    if os.path.splitext(one)[0] == os.path.splitext(other)[0]:  # noqa: PTH122 - texts
        return None
    try:
        common = os.path.commonpath([os.path.dirname(one), os.path.dirname(other)])  # noqa: PTH120
        return str(Url(common)) if is_url(one) else common
    except ValueError:  # two drives
        return None
