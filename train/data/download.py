"""Fetching Pascal VOC 2012: a resumable download, a checked hash, a careful unpacking."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import tarfile
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from fcnkit.errors import DataError, message
from fcnkit.train.data.beside import sweep

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Progress = Callable[["Stage", int, int | None], None]

__all__ = ["VOC2012_SHA1", "VOC2012_URL", "Stage", "download_voc2012"]

VOC2012_URL: Final = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
VOC2012_SHA1: Final = "4e443f8a2eca6b1dac8a6c57641b67dd40621a49"

Stage = Literal["download", "verify", "unpack"]

_FOLDER = "VOCdevkit/VOC2012"
_ARCHIVE = "VOCtrainval_11-May-2012.tar"
_CHUNK = 1 << 20
_TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as dead."""

_MAX_BYTES = 4 << 30
"""Twice what the archive holds; more is not VOC 2012."""

_MAX_DEPTH = 32

_MAX_MEMBERS = 200_000
"""Four times what the archive holds; empty files use up a disk's inodes."""

_AGAIN = "run the same command again, it resumes"


def download_voc2012(
    out: Path,
    *,
    url: str = VOC2012_URL,
    sha1: str = VOC2012_SHA1,
    progress: Progress | None = None,
) -> Path:
    """Download and unpack the training and validation part of Pascal VOC 2012.

    An interrupted download resumes where it stopped. The archive stays in out, so that a folder
    removed by accident needs no second download; it may be deleted.

    Args:
        out: The folder that gets ``VOCdevkit/VOC2012``; made where it is missing.
        url: Where the archive is, http or https.
        sha1: The archive's SHA-1, 40 hexadecimal digits.
        progress: Called with the stage, the bytes done, and the bytes of the stage where known.

    Returns:
        The folder in VOC layout. Nothing is done when it is already there.

    Raises:
        DataError: The server cannot be reached or refuses, the connection ends early, the archive
            has another hash, or it holds anything but its own files and folders.
        OSError: out cannot be written.
    """
    report = progress or _silent
    folder = out / _FOLDER
    if (folder / "ImageSets").is_dir():
        return folder
    if folder.exists():
        rule, remedy = "must be a whole VOC 2012 or nothing", "remove it, then run this again"
        raise DataError(message(str(folder), rule, "something else", remedy))
    out.mkdir(parents=True, exist_ok=True)
    archive = out / _ARCHIVE
    if not archive.exists():
        part = archive.with_name(f"{_ARCHIVE}.part")
        _download(url, part, report)
        _verify(part, sha1, report)
        part.rename(archive)
        _validator_file(part).unlink(missing_ok=True)
    else:
        _verify(archive, sha1, report)
    _unpack(archive, out, report)
    return folder


def _silent(stage: Stage, done: int, total: int | None) -> None:
    """Report nothing."""


class _Start(NamedTuple):
    """Where the body of a response belongs in the file."""

    offset: int
    total: int | None
    """Bytes of the whole file, where the server says so."""


def _validator_file(part: Path) -> Path:
    """Return the file that keeps the server's ETag or date beside a part file."""
    return part.with_name(f"{part.name}.etag")


def _download(url: str, part: Path, report: Progress) -> None:
    """Fetch url into part, going on from where part ends."""
    have = part.stat().st_size if part.exists() else 0
    response = _open(_request(url, part, have), url, have)
    if response is None:
        return
    with response:
        start = _start(response, have, url)
        if start.offset == 0:
            _validator_file(part).write_text(_validator(response))
        done = _copy(response, part, start, report, url)
    if start.total is not None and done != start.total:
        got = f"{done} of {start.total} bytes"
        raise DataError(message(url, "the connection must last to the end", got, _AGAIN))


def _request(url: str, part: Path, have: int) -> urllib.request.Request:
    if not url.startswith(("http://", "https://")):
        remedy = "pass an address of that kind"
        raise DataError(message("url", "must be http:// or https://", repr(url), remedy))
    request = urllib.request.Request(url)
    if have:
        request.add_header("Range", f"bytes={have}-")
        validator = _validator_file(part)
        # With If-Range a file that changed on the server comes whole instead of from the middle.
        if validator.exists() and (text := validator.read_text()):
            request.add_header("If-Range", text)
    return request


def _open(request: urllib.request.Request, url: str, have: int) -> http.client.HTTPResponse | None:
    """Send the request; None if the server has nothing more."""
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if have and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return None
        rule, got = "the server must answer 200 or 206", f"{error.code} {error.reason}"
        raise DataError(message(url, rule, got, "try again later")) from None
    except (OSError, http.client.HTTPException) as error:
        raise _network_error(error, url) from error
    return response


def _network_error(error: Exception, url: str) -> DataError:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    got = str(reason) or type(reason).__name__
    return DataError(message(url, "the server must be reachable", got, _AGAIN))


def _start(response: http.client.HTTPResponse, have: int, url: str) -> _Start:
    """Read from the headers where the body belongs."""
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        length = response.headers.get("Content-Length", "")
        return _Start(0, int(length) if length.isdigit() else None)
    text = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", text)
    if match is None or int(match[1]) != have:
        rule = f"the server must go on at byte {have}"
        raise DataError(message(url, rule, f"Content-Range: {text}", "remove the .part file"))
    return _Start(have, None if match[2] == "*" else int(match[2]))


def _validator(response: http.client.HTTPResponse) -> str:
    """Return what If-Range may carry: a strong ETag, or else the date."""
    etag: str = response.headers.get("ETag", "")
    if etag.startswith('"'):
        return etag
    return str(response.headers.get("Last-Modified", ""))


def _copy(
    response: http.client.HTTPResponse, part: Path, start: _Start, report: Progress, url: str
) -> int:
    """Write the body to part and return how long part is then."""
    done = start.offset
    with part.open("ab" if start.offset else "wb") as file:
        report("download", done, start.total)
        while True:
            try:
                # read1 and not read: what came before a cut connection is kept.
                chunk = response.read1(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _network_error(error, url) from error
            if not chunk:
                return done
            file.write(chunk)
            done += len(chunk)
            report("download", done, start.total)


def _verify(path: Path, sha1: str, report: Progress) -> None:
    """Refuse an archive with another hash; a downloaded part is removed, it cannot be repaired."""
    digest = hashlib.sha1(usedforsecurity=False)
    done, total = 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            report("verify", done, total)
    if digest.hexdigest() == sha1:
        return
    remedy = f"remove {path.name} and run the same command again"
    if path.suffix == ".part":
        path.unlink()
        _validator_file(path).unlink(missing_ok=True)
        remedy = "it was removed, run the same command again"
    got = digest.hexdigest()
    raise DataError(message(str(path), f"must have the SHA-1 {sha1}", got, remedy))


def _unpack(archive: Path, out: Path, report: Progress) -> None:
    """Unpack beside the destination and move the folder there when all of it is unpacked."""
    sweep(out, "unpack")
    partial = out / f".unpack.{os.getpid()}.partial"
    total = archive.stat().st_size
    try:
        done = 0
        with tarfile.open(archive, "r:") as tar:
            for count, member in enumerate(tar):
                _check_member(member, done, count, archive)
                tar.extract(member, partial, filter="data")
                done += member.size
                report("unpack", done, total)
            _check_end(archive, tar.offset)
        if not (partial / _FOLDER / "ImageSets").is_dir():
            rule = f"must hold {_FOLDER}/ImageSets/"
            raise DataError(message(str(archive), rule, "none", "use the archive of VOC 2012"))
        (out / _FOLDER).parent.mkdir(exist_ok=True)
        (partial / _FOLDER).rename(out / _FOLDER)
    except DataError:
        raise
    except (tarfile.TarError, ValueError, EOFError, OverflowError, RecursionError) as error:
        # tarfile raises its own errors, and whatever Python raises for a malformed header.
        got = str(error) or type(error).__name__
        raise DataError(
            message(str(archive), "must be a whole tar archive", got, "remove it")
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_end(archive: Path, offset: int) -> None:
    """Refuse an archive with data behind the place where tarfile stopped: a damaged header."""
    with archive.open("rb") as file:
        file.seek(offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            rule, got = "must be a whole tar archive", f"a damaged header at byte {offset}"
            raise DataError(message(str(archive), rule, got, "remove it"))


def _check_member(member: tarfile.TarInfo, done: int, count: int, archive: Path) -> None:
    path = PurePosixPath(member.name)
    # Sparse files can be larger than the archive; Pascal VOC has none. A file without a name would
    # replace the folder that is unpacked into.
    plain = (member.isreg() and not member.issparse() and path.parts) or member.isdir()
    if path.is_absolute() or ".." in path.parts or not plain:
        rule = "members must be files and folders inside the archive"
        kind = "link" if member.issym() or member.islnk() else "member"
        got = f"{kind} {member.name!r}"
        raise DataError(message(str(archive), rule, got, "do not use this archive"))
    if len(path.parts) > _MAX_DEPTH:
        rule = f"must not nest folders deeper than {_MAX_DEPTH}"
        raise DataError(message(str(archive), rule, "more", "do not use this archive"))
    if done + member.size > _MAX_BYTES:
        rule = f"must unpack to at most {_MAX_BYTES} bytes"
        raise DataError(message(str(archive), rule, "more", "do not use this archive"))
    if count >= _MAX_MEMBERS:
        rule = f"must hold at most {_MAX_MEMBERS} files"
        raise DataError(message(str(archive), rule, "more", "do not use this archive"))
