"""Files that appear whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fcnkit.runtime.files import atomic_path, atomic_write


def test_the_content_is_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    seen: list[tuple[bytes, bytes]] = []
    fsync = os.fsync

    def remember(file: int) -> None:
        written = Path(f"/proc/self/fd/{file}").resolve().read_bytes()
        seen.append((written, path.read_bytes()))
        fsync(file)

    monkeypatch.setattr(os, "fsync", remember)
    atomic_write(path, b"new")
    assert seen == [(b"new", b"old")]
    assert path.read_bytes() == b"new"
    with atomic_path(path, sync=False) as temporary:
        temporary.write_bytes(b"newer")
    assert len(seen) == 1
    assert path.read_bytes() == b"newer"


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 120)
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
