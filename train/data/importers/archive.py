"""Unpacks a zip file from anybody: nothing outside of its folder, nothing larger than it says."""

from __future__ import annotations

import lzma
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from fcnkit.errors import DataError, message
from fcnkit.train.data.importers.source import below

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["unpack_zip"]

_MOST_FILES: Final = 2_000_000
_DEEPEST: Final = 32
_FREE: Final = 256 << 20
_RATIO: Final = 100
"""An archive unpacks to at most 256 MB and 100 times its size: images hardly shrink, and JSON
files shrink to a tenth."""
_CHUNK: Final = 1 << 20
_BROKEN: Final = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError),
    *(OverflowError, RuntimeError),
)
"""What zipfile raises for damaged files and for methods that it does not know."""
_BAD: Final = "do not use this archive"


def unpack_zip(
    archive: Path, folder: Path, progress: Callable[[str, int, int], None] | None = None
) -> None:
    """Unpack a zip file.

    Args:
        archive: The file.
        folder: An existing empty folder.
        progress: Called with "unpack", the files done and the number of all.

    Raises:
        DataError: The file is not a zip file, damaged, encrypted, too large when unpacked, or holds
            links or names that lead out of the folder.
        OSError: It cannot be read or written.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not _is_hidden(member)]
            paths = _check(archive, members, folder)
            for number, (member, path) in enumerate(zip(members, paths, strict=True), start=1):
                _unpack(opened, member, path, archive)
                if progress is not None:
                    progress("unpack", number, len(members))
    except (*_BROKEN, OSError) as error:
        system = isinstance(error, OSError) and error.errno is not None
        if system or isinstance(error, DataError):
            raise
        got = str(error) or type(error).__name__
        raise DataError(
            message(str(archive), "must be a whole zip file", got, "export it again")
        ) from error


def _is_hidden(member: zipfile.ZipInfo) -> bool:
    """Whether a member is what macOS adds to archives."""
    parts = PurePosixPath(member.filename.replace("\\", "/")).parts
    last = parts[-1] if parts else ""
    return "__MACOSX" in parts or (last.startswith(".") and last != "..")


def _check(archive: Path, members: list[zipfile.ZipInfo], folder: Path) -> list[Path]:
    """Return where every member goes, and refuse an archive before any of it is unpacked."""
    if len(members) > _MOST_FILES:
        rule = f"must hold at most {_MOST_FILES} files"
        raise DataError(message(str(archive), rule, len(members), _BAD))
    most = min(_FREE + _RATIO * archive.stat().st_size, shutil.disk_usage(folder).free)
    total = sum(member.file_size for member in members)
    if total > most:
        rule, got = f"must unpack to at most {most} bytes", f"{total} bytes"
        raise DataError(message(str(archive), rule, got, "unpack it yourself if you trust it"))
    return [_path(archive, member, folder) for member in members]


def _path(archive: Path, member: zipfile.ZipInfo, folder: Path) -> Path:
    where = f"{archive}: {member.filename}"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        rule, got = "members must be files and folders", "a link or device"
        raise DataError(message(where, rule, got, _BAD))
    if member.flag_bits & 1:
        rule, remedy = "must not be encrypted", "unpack it yourself"
        raise DataError(message(where, rule, "an encrypted file", remedy))
    path = below(folder, member.filename, where, _BAD)
    if len(path.relative_to(folder).parts) > _DEEPEST:
        rule = f"must not nest folders deeper than {_DEEPEST}"
        raise DataError(message(where, rule, "more", _BAD))
    return path


def _unpack(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, archive: Path) -> None:
    try:
        if member.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(member) as source, path.open("xb") as target:
            shutil.copyfileobj(source, target, _CHUNK)
    except (FileExistsError, NotADirectoryError):
        rule = "a name must stand in the archive once"
        raise DataError(message(str(archive), rule, f"{member.filename} twice", _BAD)) from None
    if path.stat().st_size != member.file_size:
        rule, got = f"must unpack to {member.file_size} bytes", path.stat().st_size
        raise DataError(message(f"{archive}: {member.filename}", rule, got, _BAD))
