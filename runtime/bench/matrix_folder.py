"""Rows that are finished, kept in a folder: a run that was stopped goes on where it was.

A row is known by everything that its figures depend on. It counts again only where all of that is
the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.files import lock_file

__all__ = ["MatrixFolder", "files_key", "key_of", "machine_facts", "open_folder"]

_ROWS: Final = "rows.jsonl"
_WORK: Final = ".work"
_LOCK: Final = ".lock"
_VOLATILE: Final = ("mhz", "load_average", "governor")
"""What is different at every look at the same processor."""


class MatrixFolder:
    """The folder of one run, held by one process at a time."""

    def __init__(self, root: Path, rows: IO[bytes]) -> None:
        self.root = root
        self.models = root / "models"
        """Exported files."""
        self.work = root / _WORK
        """What is of no use after this run; it is empty at the start."""
        self._rows = rows
        self._finished = dict(_read(root / _ROWS))

    def finished(self, key: str) -> dict[str, Any] | None:
        """Return the row of a key; None where it is not finished."""
        return self._finished.get(key)

    def keep(self, key: str, row: Mapping[str, Any]) -> None:
        """Write a row that is finished, so that it outlives this process.

        Args:
            key: From ``key_of``.
            row: Plain data.

        Raises:
            OSError: It cannot be written.
        """
        self._finished[key] = dict(row)
        self._rows.write(json.dumps({"key": key, "row": row}).encode() + b"\n")
        self._rows.flush()


@contextlib.contextmanager
def open_folder(root: Path) -> Iterator[MatrixFolder]:
    """Open a folder for one run, and create it where it is missing.

    Args:
        root: The folder.

    Yields:
        The folder.

    Raises:
        ValueError: Another run uses it.
        OSError: It cannot be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / _LOCK).open("wb") as lock:
        try:
            lock_file(lock, wait=False)
        except OSError:
            rule, remedy = "one run may use a folder at a time", "wait for it, or give another -o"
            raise BadValueError(message("bench matrix", rule, str(root), remedy)) from None
        path = root / _ROWS
        _end_last_line(path)
        with path.open("ab") as rows:
            folder = MatrixFolder(root, rows)
            shutil.rmtree(folder.work, ignore_errors=True)  # of a run that was killed
            folder.models.mkdir(exist_ok=True)
            folder.work.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder.work, ignore_errors=True)


def _end_last_line(path: Path) -> None:
    """End the line that a killed run did not finish, so that the next one stands by itself."""
    if path.is_file() and (held := path.read_bytes()) and not held.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")


def _read(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for line in lines:
        # A line that is cut off is a row that was not finished.
        with contextlib.suppress(ValueError, KeyError, TypeError):
            held = json.loads(line)
            yield str(held["key"]), dict(held["row"])


def key_of(**facts: Any) -> str:
    """Return what a row is known by.

    Args:
        facts: Plain data: everything that its figures depend on.

    Returns:
        A SHA-256.
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def files_key(paths: Iterable[Path]) -> str:
    """Return a hash of files' names, sizes and times of change; none of them is read.

    Args:
        paths: The files.

    Raises:
        OSError: A file is missing.
    """
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return key_of(files=facts)


def machine_facts(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an environment that is the same as long as machine and libraries are.

    Args:
        environment: From ``describe_environment``.
    """
    cpu = {name: value for name, value in environment["cpu"].items() if name not in _VOLATILE}
    gpus = [(one["name"], one["driver_version"]) for one in environment["gpus"] or ()]
    same = ("platform", "python", "packages", "kernels", "variables")
    return {**{name: environment[name] for name in same}, "cpu": cpu, "gpus": gpus}
