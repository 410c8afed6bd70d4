"""Zip files from anybody."""

from __future__ import annotations

import stat
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fcnkit.errors import DataError
from fcnkit.train.data.importers.archive import unpack_zip
from tests.corpus.make_exports import FOLDER
from tests.refusal import refusal
from tests.train.data.importers.sources import imported, nothing_left


def archive(tmp_path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    path = tmp_path / "source.zip"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that come twice
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
            for name, content in members:
                opened.writestr(name, content)
    return path


def refused(path: Path, text: str) -> None:
    """Assert that an archive is refused, and that an import of it leaves nothing."""
    folder = path.parent / "unpacked"
    folder.mkdir()
    with refusal(DataError, text):
        unpack_zip(path, folder)
    folder.rename(path.parent.parent / f"{path.parent.name}.gone")
    with pytest.raises(DataError):
        imported(path, path.parent / "out")
    nothing_left(path.parent, path.name)


def test_files_folders_and_windows_names(tmp_path: Path) -> None:
    path = archive(tmp_path, ("a/b.txt", b"1"), ("empty/", b""), ("c\\d.txt", b"2"))
    folder = tmp_path / "out"
    folder.mkdir()
    seen: list[tuple[str, int, int]] = []
    unpack_zip(path, folder, lambda *amount: seen.append(amount))
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == {"a/b.txt", "c/d.txt"}
    assert seen[-1] == ("unpack", 3, 3)


def test_what_macos_adds_is_skipped(tmp_path: Path) -> None:
    path = archive(tmp_path, ("a.txt", b"1"), ("__MACOSX/._a.txt", b"x"), (".DS_Store", b"x"))
    folder = tmp_path / "out"
    folder.mkdir()
    unpack_zip(path, folder)
    nothing_left(folder, "a.txt")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "C:\\evil", "..\\evil"])
def test_names_that_climb_out(name: str, tmp_path: Path) -> None:
    path = archive(tmp_path, ("good.txt", b"1"), (name, b"evil"))
    refused(
        path,
        f"{path}: {name}: names must be relative paths that stay inside the source, got {name!r}; "
        "do not use this archive",
    )
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices(kind: int, tmp_path: Path) -> None:
    member = zipfile.ZipInfo("link")
    member.external_attr = (kind | 0o777) << 16
    path = archive(tmp_path, (member, b"/etc/passwd"))
    refused(
        path,
        f"{path}: link: members must be files and folders, got a link or device; "
        "do not use this archive",
    )


def test_a_bomb(tmp_path: Path) -> None:
    path = tmp_path / "source.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        zeros = b"\0" * (1 << 24)
        with opened.open("zeros", "w") as member:
            for _ in range(18):
                member.write(zeros)
    size = path.stat().st_size
    most = (256 << 20) + 100 * size
    refused(
        path,
        f"{path}: must unpack to at most {most} bytes, got {18 << 24} bytes; "
        "unpack it yourself if you trust it",
    )


def refused_as_broken(path: Path) -> None:
    with pytest.raises(DataError) as caught:
        imported(path, path.with_name("out"))
    assert str(caught.value).startswith(f"{path}: must be a whole zip file, got ")
    nothing_left(path.parent, path.name)


def test_a_member_that_is_larger_than_it_says(tmp_path: Path) -> None:
    path = archive(tmp_path, ("a.txt", b"x" * 1000))
    content = path.read_bytes()
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        at = content.index(signature) + offset
        content = content[:at] + struct.pack("<I", 10) + content[at + 4 :]
    path.write_bytes(content)
    refused_as_broken(path)


def test_a_damaged_archive(tmp_path: Path) -> None:
    path = archive(tmp_path, ("a.txt", bytes(range(256)) * 40))
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(20)
    path.write_bytes(content)
    refused_as_broken(path)


def test_an_encrypted_member(tmp_path: Path) -> None:
    path = archive(tmp_path, ("a.txt", b"1"))
    content = path.read_bytes()
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = content.index(signature) + offset
        content = content[:at] + struct.pack("<H", 1) + content[at + 2 :]
    path.write_bytes(content)
    refused(
        path, f"{path}: a.txt: must not be encrypted, got an encrypted file; unpack it yourself"
    )


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("x/a", "./x//a")])
def test_one_name_twice(names: tuple[str, str], tmp_path: Path) -> None:
    path = archive(tmp_path, *((name, b"1") for name in names))
    refused(
        path,
        f"{path}: a name must stand in the archive once, got {names[1]} twice; "
        "do not use this archive",
    )


def test_folders_nested_too_deep(tmp_path: Path) -> None:
    name = "a/" * 40 + "b"
    path = archive(tmp_path, (name, b"1"))
    refused(
        path,
        f"{path}: {name}: must not nest folders deeper than 32, got more; do not use this archive",
    )


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "source.zip"
    path.write_bytes(b"hello")
    text = f"{path}: must be a folder, a zip file or a JSON file, got another file; export it again"
    with refusal(DataError, text):
        imported(path, tmp_path / "out")


def test_a_flipped_or_cut_archive_is_read_or_refused(tmp_path: Path) -> None:
    whole, random = (FOLDER / "voc.zip").read_bytes(), np.random.default_rng(3)
    for number in range(40):
        content = bytearray(whole)
        if number % 4 == 0:
            content = content[: random.integers(len(content))]
        else:
            # The end of the file holds the table of its members.
            at = len(content) - 1 - random.integers(3000 if number % 2 else len(content))
            content[at] ^= 1 << random.integers(8)
        path = tmp_path / "source.zip"
        path.write_bytes(content)
        out = tmp_path / f"out{number}"
        try:
            imported(path, out)
        except DataError as error:
            assert "\n" not in str(error)
            assert not out.exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
