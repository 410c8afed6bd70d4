"""Folders that are searched for pictures: what is taken, and what is passed over."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path
from typing import Final

from fcnkit.runtime.predict.history import is_results_folder
from fcnkit.runtime.predict.identity import real_path
from fcnkit.runtime.predict.picture_file import SUFFIXES, begins_like_picture
from fcnkit.runtime.predict.video_in import is_video

__all__ = ["Tree", "fixed_part", "in_words", "is_picture"]

_HIDDEN: Final = "hidden"
_NO_ENDING: Final = "no ending"
_RESULTS: Final = "results of another run"
_FOLDER: Final = "folder"
_BESIDE: Final = "beside JPEGImages"
_IMAGES, _MASKS = "JPEGImages", "SegmentationClass"
"""Folders of a data set in VOC layout: its images, and masks that must not be taken for images."""


class Tree:
    """A folder that is searched for pictures."""

    def __init__(self, root: Path, out: Path, passed: dict[str, str], data_sets: set[Path]) -> None:
        """Begin a search.

        Args:
            root: The folder.
            out: The output folder, resolved; what lies in it is left out.
            passed: Gets the kind of everything that is passed over, by its path: of files the
                ending in lower case or ``no ending``, of files and folders whose name begins with
                a dot ``hidden``, of others ``results of another run``, ``folder`` where a
                pattern names one, or ``beside JPEGImages`` in a data set.
            data_sets: Gets the folders in VOC layout. Only their images are taken, not their masks.
        """
        self._root, self._passed, self._data_sets = root, passed, data_sets
        # A folder inside the output folder holds input all the same: it was given.
        inside = Path(os.path.realpath(root)).is_relative_to(out)
        self._out = None if inside else out
        self._known: dict[Path, bool] = {}

    def pictures(self) -> Iterator[Path]:
        """Yield the pictures below the folder, in order of name."""
        yield from filter(self._is_picture, sorted(self._files()))

    def matches(self, pattern: str) -> Iterator[Path]:
        """Yield the pictures that match a pattern, in order of name.

        A pattern that ends like a video, such as ``*.mp4``, gives videos.
        """
        videos = is_video(Path(pattern))
        for path in sorted({Path(hit) for hit in self._hits(pattern)}):
            if os.path.isdir(path):  # noqa: PTH112 - never raises
                if "**" not in pattern:
                    self._pass_over(path, _FOLDER)
            elif not self._is_left_out(path.parent) and (
                (videos and is_video(path)) or self._is_picture(path, hidden=True)
            ):
                yield path

    def _hits(self, pattern: str) -> Iterator[str]:
        """Yield what matches a pattern, as ``glob`` does, but each folder below ``**`` once."""
        parts = Path(pattern).parts
        if "**" not in parts:
            yield from glob.glob(pattern)  # noqa: PTH207 - absolute patterns
            return
        at = parts.index("**")
        # Several in a row mean the same as one.
        rest = list(dropwhile(lambda part: part == "**", parts[at:]))
        for top in glob.glob(str(Path(*parts[:at]))) if at else ["."]:  # noqa: PTH207
            if not os.path.isdir(top):  # noqa: PTH112 - never raises
                continue
            for folder, names in self._folders(Path(top)):
                if rest:
                    yield from self._hits(str(Path(glob.escape(str(folder)), *rest)))
                else:
                    yield from (str(folder / name) for name in names if name[0] != ".")

    def _is_picture(self, path: Path, *, hidden: bool = False) -> bool:
        if is_picture(path, hidden=hidden):
            return True
        kind = _HIDDEN if path.name.startswith(".") else path.suffix.lower() or _NO_ENDING
        self._pass_over(path, kind)
        return False

    def _pass_over(self, path: Path, kind: str) -> None:
        self._passed[real_path(path)] = kind

    def _files(self) -> Iterator[Path]:
        """Yield the files below the folder; links to folders are followed."""
        for folder, names in self._folders(self._root):
            yield from (folder / name for name in names)

    def _folders(self, top: Path) -> Iterator[tuple[Path, list[str]]]:
        """Yield the folders from one on, and the names of the files in each; links are followed.

        Raises:
            OSError: A folder cannot be listed, which would hide its pictures.
        """

        def refuse(error: OSError) -> None:
            raise error

        seen: set[str] = set()
        for name, folders, names in os.walk(top, onerror=refuse, followlinks=True):
            folder, real = Path(name), os.path.realpath(name)
            if real in seen:  # a circle of links
                folders.clear()
                continue
            seen.add(real)
            folders[:], files = self._searched(folder, folders, names)
            yield folder, files

    def _searched(
        self, folder: Path, folders: list[str], names: list[str]
    ) -> tuple[list[str], list[str]]:
        """Return the folders to search further, in order of name, and the files to look at."""
        aside = {name: _HIDDEN for name in folders if name.startswith(".")}
        if {_IMAGES, _MASKS} <= set(folders):
            self._data_sets.add(folder)
            aside = dict.fromkeys({*folders, *names} - {_IMAGES}, _BESIDE)
        for name, kind in aside.items():
            self._pass_over(folder / name, kind)
        inner = [name for name in folders if name not in aside]
        searched = sorted(name for name in inner if not self._is_left_out(folder / name))
        return searched, [name for name in names if name not in aside]

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
