from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from fcnkit.errors import DataError
from fcnkit.train.data import download
from fcnkit.train.data.download import download_voc2012

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "VOCtrainval_11-May-2012.tar"
AGAIN = "run the same command again, it resumes"


@dataclass
class Site:
    """A web server with one file that does as it is told."""

    content: bytes
    ranges: bool = True
    etag: str = '"one"'
    cut_at: int | None = None
    """Close the connection after this many bytes of the body."""
    status: int | None = None
    range_start: int | None = None
    """Claim to go on at this byte."""
    url: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site(archive())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, site)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.url = f"http://127.0.0.1:{server.server_address[1]}/voc.tar"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        server.shutdown()
        thread.join()


def answer(handler: BaseHTTPRequestHandler, site: Site) -> None:
    site.asked.append(dict(handler.headers.items()))
    if site.status is not None:
        handler.send_error(site.status)
        return
    start, total = 0, len(site.content)
    asked = handler.headers.get("Range")
    if asked and site.ranges and handler.headers.get("If-Range", site.etag) == site.etag:
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= total:
            handler.send_error(416)
            return
        handler.send_response(206)
        claimed = start if site.range_start is None else site.range_start
        handler.send_header("Content-Range", f"bytes {claimed}-{total - 1}/{total}")
    else:
        handler.send_response(200)
    handler.send_header("Content-Length", str(total - start))
    handler.send_header("ETag", site.etag)
    handler.end_headers()
    handler.wfile.write(site.content[start : site.cut_at])


def archive(*extra: tarfile.TarInfo, members: dict[str, bytes] | None = None) -> bytes:
    """Return a tar that looks like VOC 2012, with extra members at its end."""
    if members is None:
        members = {
            "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt": b"a\n",
            "VOCdevkit/VOC2012/JPEGImages/a.jpg": bytes(range(256)) * 300,
        }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in extra:
            tar.addfile(info, io.BytesIO(b"x" * info.size))
    return buffer.getvalue()


def fetch(site: Site, out: Path, **options: object) -> Path:
    sha1 = hashlib.sha1(site.content, usedforsecurity=False).hexdigest()
    return download_voc2012(out, url=site.url, sha1=sha1, **options)  # type: ignore[arg-type]


def refusal(site: Site, out: Path) -> str:
    with pytest.raises(DataError) as info:
        fetch(site, out)
    return str(info.value)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_whole_way(site: Site, tmp_path: Path) -> None:
    stages: list[tuple[str, int, int | None]] = []
    folder = fetch(site, tmp_path / "new" / "out", progress=lambda *step: stages.append(step))
    assert folder == tmp_path / "new" / "out" / "VOCdevkit" / "VOC2012"
    assert (folder / "JPEGImages/a.jpg").read_bytes() == bytes(range(256)) * 300
    assert names(tmp_path / "new" / "out") == ["VOCdevkit", NAME]
    total = len(site.content)
    assert stages[0] == ("download", 0, total)
    assert ("download", total, total) in stages
    assert ("verify", total, total) in stages
    assert stages[-1][0] == "unpack"


def test_second_run_asks_for_nothing(site: Site, tmp_path: Path) -> None:
    folder = fetch(site, tmp_path)
    assert fetch(site, tmp_path) == folder
    assert len(site.asked) == 1


def test_archive_that_is_there_is_unpacked_again(site: Site, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(site.content)
    assert (fetch(site, tmp_path) / "JPEGImages/a.jpg").exists()
    assert site.asked == []
    assert (tmp_path / NAME).exists()


def test_cut_connection_then_resumed(site: Site, tmp_path: Path) -> None:
    site.cut_at = 50_000
    got = f"50000 of {len(site.content)} bytes"
    expected = f"{site.url}: the connection must last to the end, got {got}; {AGAIN}"
    assert refusal(site, tmp_path) == expected
    assert (tmp_path / f"{NAME}.part").read_bytes() == site.content[:50_000]
    site.cut_at = None
    assert (fetch(site, tmp_path) / "JPEGImages/a.jpg").exists()
    assert site.asked[1]["Range"] == "bytes=50000-"
    assert site.asked[1]["If-Range"] == '"one"'
    assert names(tmp_path) == ["VOCdevkit", NAME]


def test_server_that_ignores_ranges_starts_again(site: Site, tmp_path: Path) -> None:
    site.ranges, site.cut_at = False, 50_000
    refusal(site, tmp_path)
    site.cut_at = None
    assert (fetch(site, tmp_path) / "JPEGImages/a.jpg").exists()


def test_file_that_changed_on_the_server_comes_whole(site: Site, tmp_path: Path) -> None:
    site.cut_at = 50_000
    refusal(site, tmp_path)
    site.cut_at, site.etag = None, '"two"'
    site.content = archive(tarfile.TarInfo("VOCdevkit/VOC2012/new"))
    assert (fetch(site, tmp_path) / "new").exists()
    assert site.asked[1]["Range"] == "bytes=50000-"


def test_part_that_is_complete_is_only_verified(site: Site, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(site.content)
    assert (fetch(site, tmp_path) / "JPEGImages/a.jpg").exists()


def test_server_that_goes_on_elsewhere(site: Site, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(site.content[:100])
    site.range_start = 7
    total = len(site.content)
    expected = (
        f"{site.url}: the server must go on at byte 100, "
        f"got Content-Range: bytes 7-{total - 1}/{total}; remove the .part file"
    )
    assert refusal(site, tmp_path) == expected


def test_wrong_hash_removes_the_download(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError) as info:
        download_voc2012(tmp_path, url=site.url, sha1="0" * 40)
    got = hashlib.sha1(site.content, usedforsecurity=False).hexdigest()
    assert str(info.value) == (
        f"{tmp_path}/{NAME}.part: must have the SHA-1 {'0' * 40}, got {got}; "
        "it was removed, run the same command again"
    )
    assert names(tmp_path) == []


def test_wrong_hash_leaves_a_users_archive(site: Site, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"mine")
    assert refusal(site, tmp_path).endswith(f"; remove {NAME} and run the same command again")
    assert (tmp_path / NAME).read_bytes() == b"mine"


@pytest.mark.parametrize(("status", "reason"), [(404, "Not Found"), (503, "Service Unavailable")])
def test_http_errors(site: Site, tmp_path: Path, status: int, reason: str) -> None:
    site.status = status
    expected = (
        f"{site.url}: the server must answer 200 or 206, got {status} {reason}; try again later"
    )
    assert refusal(site, tmp_path) == expected


def test_server_that_is_not_there(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/voc.tar"
    with pytest.raises(DataError) as info:
        download_voc2012(tmp_path, url=url)
    text = str(info.value)
    assert text.startswith(f"{url}: the server must be reachable, got [Errno ")
    assert text.endswith(f"; {AGAIN}")


def test_server_that_falls_silent(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_TIMEOUT", 0.05)
    released = threading.Event()
    monkeypatch.setattr(f"{__name__}.answer", lambda handler, site: released.wait(5))
    try:
        expected = f"{site.url}: the server must be reachable, got timed out; {AGAIN}"
        assert refusal(site, tmp_path) == expected
    finally:
        released.set()


def test_other_kinds_of_address_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as info:
        download_voc2012(tmp_path, url="file:///etc/passwd")
    assert str(info.value) == (
        "url: must be http:// or https://, got 'file:///etc/passwd'; pass an address of that kind"
    )


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def sparse(name: str) -> tarfile.TarInfo:
    """A member of 512 bytes that says that it unpacks to a gigabyte."""
    info = tarfile.TarInfo(name)
    info.size = 512
    info.pax_headers = {"GNU.sparse.size": str(2**30), "GNU.sparse.map": "0,512"}
    return info


@pytest.mark.parametrize(
    ("member", "got"),
    [
        (sparse("VOCdevkit/hole"), "member 'VOCdevkit/hole'"),
        (tarfile.TarInfo("../evil"), "member '../evil'"),
        (tarfile.TarInfo("VOCdevkit/../../evil"), "member 'VOCdevkit/../../evil'"),
        (tarfile.TarInfo("/tmp/evil"), "member '/tmp/evil'"),
        (tarfile.TarInfo(""), "member ''"),
        (tarfile.TarInfo("."), "member '.'"),
        (link("VOCdevkit/out", "/tmp", tarfile.SYMTYPE), "link 'VOCdevkit/out'"),
        (link("VOCdevkit/out", "../../x", tarfile.LNKTYPE), "link 'VOCdevkit/out'"),
        (link("VOCdevkit/pipe", "", tarfile.FIFOTYPE), "member 'VOCdevkit/pipe'"),
    ],
)
def test_hostile_members(site: Site, tmp_path: Path, member: tarfile.TarInfo, got: str) -> None:
    site.content = archive(member)
    out = tmp_path / "out"
    expected = (
        f"{out}/{NAME}: members must be files and folders inside the archive, got {got}; "
        "do not use this archive"
    )
    assert refusal(site, out) == expected
    assert names(out) == [NAME]
    assert names(tmp_path) == ["out"]


@pytest.mark.skipif(os.name != "posix", reason="processes are found by number")
def test_what_a_killed_unpacking_left_is_removed(site: Site, tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for process in (str(ended.pid), str(os.getppid()), "x", "9" * 30):
        left = tmp_path / f".unpack.{process}.partial" / "VOCdevkit"
        left.mkdir(parents=True)
        (left / "half").write_bytes(b"x")
    fetch(site, tmp_path)
    # What may belong to a process that still runs is left alone.
    kept = {f".unpack.{process}.partial" for process in (os.getppid(), "x", "9" * 30)}
    assert {name for name in names(tmp_path) if name.startswith(".")} == kept


def test_archive_that_unpacks_to_too_much(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_MAX_BYTES", 1000)
    expected = (
        f"{tmp_path}/{NAME}: must unpack to at most 1000 bytes, got more; do not use this archive"
    )
    assert refusal(site, tmp_path) == expected
    assert names(tmp_path) == [NAME]


def test_archive_that_is_none(site: Site, tmp_path: Path) -> None:
    site.content = b"no tar at all" * 100
    expected = f"{tmp_path}/{NAME}: must be a whole tar archive, got invalid header; remove it"
    assert refusal(site, tmp_path) == expected
    assert names(tmp_path) == [NAME]


def test_archive_of_something_else(site: Site, tmp_path: Path) -> None:
    site.content = archive(members={"other/readme": b"hello"})
    expected = (
        f"{tmp_path}/{NAME}: must hold VOCdevkit/VOC2012/ImageSets/, got none; "
        "use the archive of VOC 2012"
    )
    assert refusal(site, tmp_path) == expected
    assert names(tmp_path) == [NAME]


def test_half_a_folder_is_left_alone(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "VOCdevkit/VOC2012"
    folder.mkdir(parents=True)
    expected = (
        f"{folder}: must be a whole VOC 2012 or nothing, got something else; "
        "remove it, then run this again"
    )
    assert refusal(site, tmp_path) == expected
    assert site.asked == []


def test_other_years_beside_it_are_left_alone(site: Site, tmp_path: Path) -> None:
    (tmp_path / "VOCdevkit/VOC2007").mkdir(parents=True)
    fetch(site, tmp_path)
    assert names(tmp_path / "VOCdevkit") == ["VOC2007", "VOC2012"]
