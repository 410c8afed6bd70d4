"""Folders that are searched for pictures: what is taken, and what is passed over."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fcnkit.runtime.predict.identity import real_path
from fcnkit.runtime.predict.manifest import is_results_folder
from fcnkit.runtime.predict.picture_file import SUFFIXES, begins_like_picture

__all__ = ["Tree", "fixed_part", "in_words", "is_picture"]

_HIDDEN: Final = "hidden"
_NO_ENDING: Final = "no ending"
_RESULTS: Final = "results of another run"
_FOLDER: Final = "folder"


class Tree:
    """A folder that is searched for pictures."""

    def __init__(self, root: Path, out: Path, passed: dict[str, str]) -> None:
        """Begin a search.

        Args:
            root: The folder.
            out: The output folder, resolved; what lies in it is left out.
            passed: Gets the kind of everything that is passed over, by its path: of files the
                ending in lower case or ``no ending``, of files and folders whose name begins with
                a dot ``hidden``, of others ``results of another run``, or ``folder`` where a
                pattern names one.
        """
        self._root, self._passed = root, passed
        # A folder inside the output folder holds input all the same: it was given.
        inside = Path(os.path.realpath(root)).is_relative_to(out)
        self._out = None if inside else out
        self._known: dict[Path, bool] = {}

    def pictures(self) -> Iterator[Path]:
        """Yield the pictures below the folder, in order of name."""
        yield from filter(self._is_picture, sorted(self._files()))

    def matches(self, pattern: str) -> Iterator[Path]:
        """Yield the pictures that match a pattern, in order of name."""
        for hit in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207 - absolute patterns
            path = Path(hit)
            if os.path.isdir(path):  # noqa: PTH112 - never raises
                if "**" not in pattern:
                    self._pass_over(path, _FOLDER)
            elif not self._is_left_out(path.parent) and self._is_picture(path, hidden=True):
                yield path

    def _is_picture(self, path: Path, *, hidden: bool = False) -> bool:
        if is_picture(path, hidden=hidden):
            return True
        kind = _HIDDEN if path.name.startswith(".") else path.suffix.lower() or _NO_ENDING
        self._pass_over(path, kind)
        return False

    def _pass_over(self, path: Path, kind: str) -> None:
        self._passed[real_path(path)] = kind

    def _files(self) -> Iterator[Path]:
        """Yield the files below the folder; links to folders are followed.

        Raises:
            OSError: A folder cannot be listed, which would hide its pictures.
        """

        def refuse(error: OSError) -> None:
            raise error

        seen: set[str] = set()
        for folder, folders, names in os.walk(self._root, onerror=refuse, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:  # a circle of links
                folders.clear()
                continue
            seen.add(real)
            for name in filter(lambda name: name.startswith("."), folders):
                self._pass_over(Path(folder, name), _HIDDEN)
            visible = [name for name in folders if not name.startswith(".")]
            folders[:] = [name for name in visible if not self._is_left_out(Path(folder, name))]
            yield from (Path(folder, name) for name in names)

    def _is_left_out(self, folder: Path) -> bool:
        """Whether a folder lies in the output folder, or in the results of another run."""
        if folder in (self._root, folder.parent):
            return False
        if folder not in self._known:
            self._known[folder] = self._is_left_out(folder.parent) or self._holds_results(folder)
        return self._known[folder]

    def _holds_results(self, folder: Path) -> bool:
        if self._out is not None and Path(os.path.realpath(folder)).is_relative_to(self._out):
            return True
        found = is_results_folder(folder)
        if found:
            self._pass_over(folder, _RESULTS)
        return found


def is_picture(path: Path, *, hidden: bool = False) -> bool:
    """Whether a file in a folder is taken for a picture: by its ending, or its first bytes.

    Args:
        path: The file; one without an ending is opened.
        hidden: Take one whose name begins with a dot, too: macOS leaves such files that are none.
    """
    if path.name.startswith(".") and not hidden:
        return False
    if path.suffix:
        return path.suffix.lower() in SUFFIXES
    return begins_like_picture(path)


def fixed_part(pattern: str) -> Path:
    """Return the folders of a glob pattern before its first wildcard."""
    fixed = []
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)


def in_words(passed: Counter[str]) -> str:
    """Return what was passed over as text, such as ``.txt 2, hidden 1``."""
    return ", ".join(f"{kind} {count}" for kind, count in sorted(passed.items()))
