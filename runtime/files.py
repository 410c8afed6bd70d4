"""Atomic file writes, locks between processes, and the SHA-256 of a file."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["atomic_path", "atomic_write", "lock_file", "sha256_of"]


@contextmanager
def atomic_path(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Give a temporary path beside ``path``; what is written there replaces it on success.

    Args:
        path: The file to be; its folder exists. It keeps its content if the block raises.
        sync: Wait for the disk first, so that a power cut leaves the old file or the new one too.
            Without it that holds for kills and errors only, at half the time for a small file.

    Yields:
        A path with the same suffix in the same folder, no file there yet.

    Raises:
        OSError: The folder is not writable.
    """
    # Cut, for a name may have 255 bytes and needs none to spare for this one.
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name[:50]}.", dir=path.parent))
    temporary = folder / path.name
    try:
        yield temporary
        if sync:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename is None:  # a write does not say where
            error.filename = str(path)
        raise
    finally:
        for left in folder.iterdir():
            left.unlink()
        folder.rmdir()


def atomic_write(path: Path, content: bytes) -> None:
    """Write bytes by way of ``atomic_path``.

    Args:
        path: The file to be; its folder exists.
        content: What it will hold.

    Raises:
        OSError: It cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def lock_file(file: IO[bytes], *, wait: bool) -> None:
    """Lock an open file against other processes, until it is closed.

    Args:
        file: Opened for writing.
        wait: Wait until no other process holds it.

    Raises:
        OSError: Another process holds it and ``wait`` is False, or the file system has no locks.
    """
    if sys.platform == "win32":
        import msvcrt

        # A byte far behind the end: locked bytes cannot be read by others.
        file.seek(1 << 40)
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def sha256_of(path: str | Path) -> str:
    """Return a file's SHA-256 in hexadecimal.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
