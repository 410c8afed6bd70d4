"""Writing files so that a reader finds the old content or the new one, never half of it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_path", "atomic_write", "sha256_of"]


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
    # Cut, because a name has at most 255 bytes and may use all of them.
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


def sha256_of(path: str | Path) -> str:
    """Return a file's SHA-256 in hexadecimal.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
