"""Folders that appear when all of them is written, and not before."""

from __future__ import annotations

import glob
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fcnkit.errors import DataError, message

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["check_new", "new_folder", "sweep"]


def check_new(out: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        DataError: out is a file or a folder that is not empty.
    """
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        got = "one with other files" if out.is_dir() else "a file"
        rule, remedy = "must be a new or empty folder", "choose another folder"
        raise DataError(message(str(out), rule, got, remedy))


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a folder beside out; what is written there becomes out when the block ends well.

    Args:
        out: The folder to be, new or empty.

    Yields:
        An empty folder on the same disk. It is removed if the block raises; a later call for the
        same out removes what a killed process has left.

    Raises:
        DataError: out holds something.
        OSError: The folder above is not writable.
    """
    check_new(out)
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    sweep(out.parent, out.name)
    partial = out.parent / f".{out.name}.{os.getpid()}.partial"
    partial.mkdir()
    try:
        yield partial
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sweep(folder: Path, name: str) -> None:
    """Remove what killed processes have left; those that still run are left alone.

    Args:
        folder: Where ``.NAME.PROCESS.partial`` may lie.
        name: The NAME.
    """
    for left in folder.glob(f".{glob.escape(name)}.*.partial"):
        process = left.name.split(".")[-2]
        if os.name != "posix" or not process.isdigit():
            continue
        try:
            os.kill(int(process), 0)  # asks only whether there is such a process
        except ProcessLookupError:
            shutil.rmtree(left, ignore_errors=True)
        except (PermissionError, OverflowError):
            pass
