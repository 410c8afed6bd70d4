"""Results as files: written beside their name, put under it when whole.

A run has one folder for what is being written, inside the output folder. A kill leaves that folder
behind and never a half-written result; the next run that holds the manifest removes it. A journal
in it says of every result what its line in the manifest will say, so that a result that a kill
separates from its line is still known.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.closing import Closing
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.predict.outputs import OutputRequest, open_output
from fcnkit.runtime.predict.parts import PARTIAL

__all__ = ["Publishable", "StagedFile", "StagedOutput", "Staging", "read_journal"]

_JOURNAL: Final = "manifest.jsonl"


def read_journal(partial: Path) -> list[bytes]:
    """Return the lines of the journal that a stopped run left.

    Args:
        partial: The folder in which it wrote.

    Raises:
        OSError: The journal is there and cannot be read.
    """
    path = partial / _JOURNAL
    if partial.is_symlink() or not path.is_file():
        return []
    return path.read_bytes().splitlines()


class Staging(Closing):
    """Where the results of one run are written until they are whole."""

    def __init__(self, out: Path, *, name: str = PARTIAL) -> None:
        """Make the folder, empty; what a killed run of the same name left in it is removed.

        Args:
            out: The output folder; it exists.
            name: Of the folder; another one for every writer that shares an output folder.

        Raises:
            OSError: It cannot be made.
        """
        self._join(out, name, "")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def _join(self, out: Path, name: str, prefix: str) -> None:
        self.out = out
        """The output folder."""
        self.folder = out / name
        """The folder in which results are written until they are whole."""
        self._prefix = prefix
        self._numbers = count()
        self._made: set[Path] = set()
        self._unlisted: set[str] = set()

    @classmethod
    def shared(cls, out: Path, *, name: str, prefix: str) -> Self:
        """Join the folder of a run of another process, which publishes what is written there.

        Args:
            out: The output folder.
            name: Of the folder; that run has made it, and closes it.
            prefix: What the names of files begin with; another one for every process.
        """
        made = cls.__new__(cls)
        made._join(out, name, prefix)
        return made

    def remove(self, *, prefix: str) -> None:
        """Remove what a process left that joined and has ended."""
        for path in self.folder.glob(f"{prefix}*"):
            path.unlink(missing_ok=True)

    def file(self, name: str) -> StagedFile:
        """Return a whole file that a process has written that joined."""
        return StagedFile(self, self.folder / name)

    def announce(self, output: str, line: bytes) -> None:
        """Write a result's line to the journal, before the result comes under its name.

        Args:
            output: Its name relative to the output folder.
            line: What the manifest will say of it.

        Raises:
            OSError: It cannot be written.
        """
        self._unlisted.add(output)
        path = self.folder / _JOURNAL
        content = b"\n" + line  # a torn line must not swallow the next one
        # One write per line: those of several threads do not mix.
        with path.open("ab", buffering=0) as file:
            try:
                written = file.write(content)
            except OSError as error:
                error.filename = str(path)  # not the result's name
                raise
            if written != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def listed(self, output: str) -> None:
        """Note that the manifest has a result's line."""
        self._unlisted.discard(output)

    def folds_case(self) -> bool:
        """Whether the file system takes names that differ in case alone for one."""
        return (self.out / self.folder.name.upper()).is_dir()

    def path(self) -> Path:
        """Return a path to write to, another one each time."""
        return self.folder / f"{self._prefix}{next(self._numbers)}"

    def publish(self, temporary: Path, output: Path, *, check: Callable[[], object]) -> None:
        """Put a whole file under its name.

        Args:
            temporary: The file, from ``path``.
            output: Its name relative to the output folder.
            check: Called where a file of that name is there; raises where it must not be replaced.

        Raises:
            OSError: The folder or the file cannot be made, or a link leads out of the output
                folder.
        """
        target = self.out / output
        if target.parent not in self._made:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.parent.resolve().is_relative_to(self.out.resolve()):
                raise OSError(errno.ELOOP, "A link leads out of the output folder", str(target))
            self._made.add(target.parent)
        # Not synced: a result can be made again, and waiting for the disk would double its cost.
        try:
            # Unlike a rename, this never replaces a file that another process has just made.
            os.link(temporary, target)
        except FileExistsError:
            check()
            temporary.replace(target)
        except OSError:  # a file system without hard links
            if os.path.lexists(target):
                check()
            temporary.replace(target)
        else:
            temporary.unlink()

    def close(self) -> None:
        """Remove what is left; closing twice is fine.

        The journal stays where the manifest lacks a line of it: the next run adds the line.
        """
        if not self._unlisted:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        for path in self.folder.iterdir():
            if path.name != _JOURNAL:
                path.unlink(missing_ok=True)


class Publishable(Protocol):
    """A whole file that waits for its name."""

    path: Path

    def publish(self, output: Path, *, check: Callable[[], object]) -> None:
        """Put it under its name; see ``Staging.publish``."""


class StagedFile:
    """A whole file that somebody wrote into the folder of a run, and that waits for its name."""

    def __init__(self, staging: Staging, path: Path) -> None:
        """Take over a file of that folder."""
        self._staging, self.path = staging, path

    def publish(self, output: Path, *, check: Callable[[], object]) -> None:
        """Put it under its name; see ``Staging.publish``."""
        self._staging.publish(self.path, output, check=check)


class StagedOutput(StagedFile):
    """One result: written beside its name, put under it when whole."""

    def __init__(self, staging: Staging, request: OutputRequest) -> None:
        """Begin a result.

        Args:
            staging: Where it is written.
            request: As for ``open_output``.

        Raises:
            OSError: The file cannot be made.
        """
        super().__init__(staging, staging.path())
        self.output, self._let_go = open_output(self.path, request)

    def write(self, image_hwc: NDArray[np.uint8], rows: Prediction) -> None:
        """Write the next rows; see ``Output.write``."""
        self.output.write(image_hwc, rows)

    def end(self) -> None:
        """End the file: it is whole now."""
        self.output.close()

    def drop(self) -> None:
        """Remove what is left of it; nothing is left of a published one."""
        with contextlib.suppress(OSError):
            self._let_go()
        self.path.unlink(missing_ok=True)
