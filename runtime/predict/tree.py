"""Folders that are searched for pictures: what is taken, and what is passed over."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import dropwhile
from pathlib import Path
from typing import Final

from fcnkit.runtime.predict.history import is_results_folder
from fcnkit.runtime.predict.picture_file import SUFFIXES, begins_like_picture
from fcnkit.runtime.predict.video_in import is_video

__all__ = [
    "HIDDEN",
    "NO_ENDING",
    "RESULTS",
    "Tree",
    "ending_of",
    "fixed_part",
    "in_words",
    "is_picture",
    "looked_at",
]

HIDDEN: Final = "hidden"
NO_ENDING: Final = "no ending"
RESULTS: Final = "results of another run"
_FOLDER: Final = "folder"
_BESIDE: Final = "beside JPEGImages"
_IMAGES, _MASKS = "JPEGImages", "SegmentationClass"
"""Folders of a data set in VOC layout: its images, and masks that must not be taken for images."""


class Tree:
    """A folder that is searched for pictures.

    What is held at a time is the names of one folder, and the paths of the folders so far.
    """

    def __init__(
        self,
        root: Path,
        out: Path,
        passed: Counter[str],
        on_data_set: Callable[[Path], object] = lambda _: None,
    ) -> None:
        """Begin a search.

        Args:
            root: The folder.
            out: The output folder, resolved; what lies in it is left out.
            passed: Counts what is passed over by its kind: of files the ending in lower case or
                ``no ending``, of files and folders whose name begins with a dot ``hidden``, of
                others ``results of another run``, ``folder`` where a pattern names one, or
                ``beside JPEGImages`` in a data set.
            on_data_set: Called with each folder in VOC layout. Only its images are taken, not its
                masks.
        """
        self._root, self._passed, self._on_data_set = root, passed, on_data_set
        # A folder inside the output folder holds input all the same: it was given.
        inside = Path(os.path.realpath(root)).is_relative_to(out)
        self._out = None if inside else out
        self._known: dict[Path, bool] = {}
        self._counted: set[str] = set()
        """Folders whose content was counted; a pattern may come to one of them again."""

    def pictures(self) -> Iterator[tuple[Path, list[str]]]:
        """Yield the folders that hold pictures, and the names of their pictures in order.

        The pictures of a folder come before its folders.
        """
        for folder, names in self._folders(self._root):
            taken = sorted(name for name in names if self._is_taken(folder, name))
            if taken:
                yield folder, taken

    def matches(self, pattern: str) -> Iterator[tuple[Path, list[str]]]:
        """Yield the pictures that match a pattern, as ``pictures`` does.

        A pattern that ends like a video, such as ``*.mp4``, gives videos.
        """
        videos = is_video(Path(pattern))
        for folder, names in self._hits(Path(pattern).parts, set()):
            taken = [
                name
                for name in names
                if (videos and is_video(Path(name))) or self._is_taken(folder, name, hidden=True)
            ]
            if taken:
                yield folder, sorted(taken)

    def _hits(
        self, parts: Sequence[str], visited: set[tuple[Path, int]]
    ) -> Iterator[tuple[Path, list[str]]]:
        """Yield the files that match the parts of a pattern, each once, folder by folder.

        They are those of ``glob``, but each folder below ``**`` is entered once.
        """
        if "**" not in parts:
            yield from self._globbed(parts, count_folders=not visited)
            return
        at = parts.index("**")
        # Several in a row mean the same as one.
        rest = list(dropwhile(lambda part: part == "**", parts[at:]))
        for top in sorted(glob.glob(str(Path(*parts[:at])))) if at else ["."]:  # noqa: PTH207
            if not os.path.isdir(top):  # noqa: PTH112 - never raises
                continue
            for folder, names in self._folders(Path(top)):
                if (folder, len(rest)) in visited:
                    continue
                visited.add((folder, len(rest)))
                if rest:
                    yield from self._hits((*Path(glob.escape(str(folder))).parts, *rest), visited)
                elif not self._is_left_out(folder):
                    yield folder, [name for name in names if name[0] != "."]

    def _globbed(
        self, parts: Sequence[str], *, count_folders: bool
    ) -> Iterator[tuple[Path, list[str]]]:
        """Yield the files that match a pattern without ``**``."""
        *above, last = parts
        folders = sorted(glob.glob(str(Path(*above)))) if above else ["."]  # noqa: PTH207
        for top in folders:
            folder, names = Path(top), []
            for hit in glob.glob(str(Path(glob.escape(top), last))):  # noqa: PTH207
                if not os.path.isdir(hit):  # noqa: PTH112 - never raises
                    names.append(os.path.basename(hit))  # noqa: PTH119 - texts
                elif count_folders:
                    self._passed[_FOLDER] += 1
            if names and not self._is_left_out(folder):
                yield folder, names

    def _is_taken(self, folder: Path, name: str, *, hidden: bool = False) -> bool:
        """Whether a file is a picture; see ``is_picture``. Others are counted."""
        is_hidden = name.startswith(".")
        ending = "" if is_hidden and not hidden else ending_of(name)
        if (ending in SUFFIXES) if ending else is_picture(folder / name, hidden=hidden):
            return True
        self._passed[HIDDEN if is_hidden else ending or NO_ENDING] += 1
        return False

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
            passed = Counter[str]() if real in self._counted else self._passed
            self._counted.add(real)
            folders[:], files = self._searched(folder, folders, names, passed)
            yield folder, files

    def _searched(
        self, folder: Path, folders: list[str], names: list[str], passed: Counter[str]
    ) -> tuple[list[str], list[str]]:
        """Return the folders to search further, in order of name, and the files to look at."""
        inner, files, is_data_set = looked_at(folders, names, passed)
        if is_data_set:
            self._on_data_set(folder)
        return sorted(name for name in inner if not self._is_left_out(folder / name)), files

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
            self._passed[RESULTS] += 1
        return found


def looked_at(
    folders: list[str], names: list[str], passed: Counter[str]
) -> tuple[list[str], list[str], bool]:
    """Return which folders and files of a folder are looked at, and whether it is a data set.

    Args:
        folders: Names of the folders in it.
        names: Names of the files in it.
        passed: Counts the others.
    """
    is_data_set = {_IMAGES, _MASKS} <= set(folders)
    if is_data_set:
        passed[_BESIDE] += len(folders) + len(names) - 1
        folders, names = [_IMAGES], []
    inner = [name for name in folders if not name.startswith(".")]
    if len(inner) < len(folders):
        passed[HIDDEN] += len(folders) - len(inner)
    return inner, names, is_data_set


def is_picture(path: Path, *, hidden: bool = False) -> bool:
    """Whether a file in a folder is taken for a picture: by its ending, or its first bytes.

    Args:
        path: The file; one without an ending is opened.
        hidden: Take one whose name begins with a dot, too: macOS leaves such
            files that are not pictures.
    """
    if path.name.startswith(".") and not hidden:
        return False
    if path.suffix:
        return path.suffix.lower() in SUFFIXES
    return begins_like_picture(path)


def ending_of(name: str) -> str:
    """Return the ending of a name in lower case, with its dot, as ``Path.suffix`` does."""
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""


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
