"""Which pictures a run labels, and how their results are named."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final

from fcnkit.errors import BadTypeError, BadValueError, message
from fcnkit.runtime.predict.identity import relative_path
from fcnkit.runtime.predict.jobs import Job, checked
from fcnkit.runtime.predict.lists import ListFile, open_list
from fcnkit.runtime.predict.picture_file import SUFFIXES
from fcnkit.runtime.predict.store_tree import pictures_on
from fcnkit.runtime.predict.stores import Store
from fcnkit.runtime.predict.tree import Tree, fixed_part, in_words
from fcnkit.runtime.predict.urls import FILE, Url, is_url, path_or_url
from fcnkit.runtime.predict.video_in import VIDEO_SUFFIXES
from fcnkit.runtime.predict.video_out import VIDEO_SUFFIX

__all__ = ["SUFFIXES", "Found", "Job", "Listing", "find_jobs", "search"]

_VIDEO_ENDINGS: Final = frozenset(VIDEO_SUFFIXES)


@dataclass(frozen=True)
class Found:
    """The pictures of a run, and what else there was."""

    jobs: list[Job]
    passed_over: Counter[str]
    """How many files in the given folders and patterns are not labeled, by kind; see ``Tree``."""
    data_sets: list[Path | Url]
    """Folders in VOC layout that were searched: only their ``JPEGImages`` are taken."""


def find_jobs(
    inputs: Iterable[str | Path],
    out: str | Path,
    *,
    suffix: str = ".png",
    root: str | Path | None = None,
) -> list[Job]:
    """Find the pictures that files, folders, patterns and lists name, and name their results.

    Results mirror the tree below each given folder (below the fixed part of a pattern); a file
    given by itself goes to the top, and the files of a list mirror the tree below the folder that
    they share. With ``root``, all of them mirror the tree below it. What lies in ``out`` is not
    taken for input, nor is what begins with a dot, unless it is given by itself. Of a data set in
    VOC layout, only ``JPEGImages`` is searched. Videos are taken where a file, a list or a pattern
    with a video's ending names them; their results end in ``.mp4``.

    ``Listing`` gives the same jobs one by one, as they are found.

    Args:
        inputs: Files, folders (searched recursively), glob patterns (``**`` too), ``@list.txt``
            with one file per line, and ``-`` for such a list on standard input.
        out: The output folder; it need not exist.
        suffix: What the names of results end in.
        root: The folder where the mirrored tree begins; every picture lies below it.

    Returns:
        The jobs in order, each picture once: of a folder first its pictures by name, then those of
        the folders in it.

    Raises:
        TypeError: inputs is not a list of paths, or root is not a path.
        ValueError: An input names no picture, a picture lies outside root, two results would have
            the same name, a result would replace a picture or become input, or suffix is not a dot
            and letters.
        OSError: A list cannot be read, or a folder cannot be listed.
    """
    return search(inputs, out, suffix=suffix, root=root).jobs


def search(
    inputs: Iterable[str | Path],
    out: str | Path,
    *,
    suffix: str = ".png",
    root: str | Path | None = None,
) -> Found:
    """Find pictures, and count what is passed over.

    Arguments and errors are those of ``find_jobs``.

    Returns:
        The jobs and the counts.
    """
    data_sets: list[Path | Url] = []
    listing = Listing(inputs, out, suffix=suffix, root=root, on_data_set=data_sets.append)
    jobs = list(checked(listing, Path(out)))
    return Found(jobs=jobs, passed_over=listing.passed_over, data_sets=sorted(data_sets, key=str))


class Listing:
    """The pictures that inputs name, one by one as they are found.

    What is held at a time is the names of one folder, and the paths of the folders so far. So the
    first picture of a million is there at once. Whether two results share a name is found by
    whoever takes all of them: ``predict_files`` and ``find_jobs``.
    """

    def __init__(
        self,
        inputs: Iterable[str | Path],
        out: str | Path,
        *,
        suffix: str = ".png",
        root: str | Path | None = None,
        on_data_set: Callable[[Path | Url], object] = lambda _: None,
    ) -> None:
        """Look whether every input is there, and list nothing yet.

        The arguments are those of ``find_jobs``; ``on_data_set`` is called with each folder in
        VOC layout that is searched, once.

        Raises:
            TypeError: As for ``find_jobs``.
            ValueError: An input names nothing, results would become input, or suffix is not a dot
                and letters.
            OSError: A list is not there.
        """
        self.passed_over: Counter[str] = Counter()
        """How many files so far are not labeled, by kind; see ``Tree``."""
        self._texts = _as_strings(inputs)
        self.on_store = any(map(is_url, self._texts))
        """Whether an input is on an object store; that of a list shows when it is read."""
        _check_suffix(suffix)
        _check_root(root)
        place = path_or_url(out)
        self._out = place if isinstance(place, Url) else place.resolve()
        self._suffix, self._root = suffix, None if root is None else path_or_url(root)
        self._on_data_set, self._data_sets = on_data_set, set[Path | Url]()
        for text in self._texts:
            self._check_there(text)

    def _check_there(self, text: str) -> None:
        if is_url(text):
            self._check_on_store(Url(text))
            return
        path = Path(text)
        if path.is_dir() and self._out == path.resolve() and self._suffix in SUFFIXES:
            raise BadValueError(_becomes_input(text))
        if path.exists() or text == "-":
            return
        if text.startswith("@"):
            Path(text[1:]).stat()
        elif not (glob.has_magic(text) and fixed_part(text).is_dir()):
            raise BadValueError(_nothing_in(text, Counter()))

    def _check_on_store(self, url: Url) -> None:
        if glob.has_magic(str(url)):
            rule, remedy = "patterns name files of this machine", "name the folder, or pass a list"
            raise BadValueError(message("predict", rule, str(url), remedy))
        if url == self._out and self._suffix in SUFFIXES:
            raise BadValueError(_becomes_input(str(url)))
        if Store(url).kind("") is None:
            raise BadValueError(_nothing_in(str(url), Counter()))

    def __iter__(self) -> Iterator[Job]:
        """Yield the jobs.

        Raises:
            ValueError: An input names no picture, a picture lies outside root, or a line of a list
                names none.
            OSError: A list cannot be read, or a folder cannot be listed.
        """
        for text in self._texts:
            before, found = self.passed_over.copy(), False
            for job in self._jobs_of(text):
                found = True
                yield job
            if not found:
                raise BadValueError(_nothing_in(text, self.passed_over - before))

    def _jobs_of(self, text: str) -> Iterator[Job]:
        if is_url(text):
            yield from self._on_store(Url(text))
            return
        path = Path(text)
        if path.is_file():
            yield from self._named([(path.parent, [path.name])], path.parent)
        elif path.is_dir():
            yield from self._named(self._tree(path).pictures(), path)
        elif text == "-" or text.startswith("@"):
            with open_list(None if text == "-" else Path(text[1:])) as names:
                base = None if self._root is not None else names.shared_folder()
                yield from self._named(self._lines(names), base)
        elif glob.has_magic(text):
            base = fixed_part(text)
            yield from self._named(self._tree(base).matches(text), base)

    def _on_store(self, url: Url) -> Iterator[Job]:
        if Store(url).kind("") == "file":
            yield from self._named([(url.parent, [url])], url.parent)
            return
        found = pictures_on(url, self._out, self.passed_over, self._note_data_set)
        yield from self._named(found, url)

    def _lines(self, names: ListFile) -> Iterator[tuple[Path | Url, Sequence[str | Url]]]:
        for path in names.paths():
            self.on_store |= isinstance(path, Url)
            yield path.parent, [path if isinstance(path, Url) else path.name]

    def _tree(self, folder: Path) -> Tree:
        out = Path("/\0") if isinstance(self._out, Url) else self._out  # no folder has that name
        return Tree(folder, out, self.passed_over, self._note_data_set)

    def _note_data_set(self, folder: Path | Url) -> None:
        if folder not in self._data_sets:
            self._data_sets.add(folder)
            self._on_data_set(folder)

    def _named(
        self,
        found: Iterable[tuple[Path | Url, Sequence[str | Url]]],
        base: Path | Url | None,
    ) -> Iterator[Job]:
        """Name the results of the pictures of folders.

        Args:
            found: Folders, each with the names of pictures, or with their addresses.
            base: Results mirror the tree below it, where there is no root; None for results with
                the names of the files alone.
        """
        last: tuple[Path | Url, str] | None = None
        for folder, names in found:
            before = _before(folder)
            is_new = last is None or last[0] != folder
            for name in names:
                if last is None or is_new:
                    first = folder / name if isinstance(name, str) else name
                    last, is_new = (folder, _before(self._place(first, base).parent)), False
                if isinstance(name, str):
                    yield Job(before + name, last[1] + _result_name(name, self._suffix))
                else:
                    yield Job(name, last[1] + _result_name(name.name, self._suffix))

    def _place(self, source: Path | Url, base: Path | Url | None) -> Path:
        """Return the path of a picture below the folder that results mirror."""
        if self._root is not None:
            return _below_root(source, self._root)
        relative = Path(source.name) if base is None else relative_path(source, base)
        if relative is None:
            rule = "a result must lie in the output folder"
            remedy = "write the input without .., or pass --root"
            raise BadValueError(message("predict", rule, str(source), remedy))
        return relative


def _before(folder: PurePath) -> str:
    """Return what comes before the names in a folder."""
    text = str(folder)
    if text == ".":
        return ""
    return text if text.endswith(os.sep) else text + os.sep


def _result_name(name: str, suffix: str) -> str:
    """Return the name of a picture's result, as ``Path.with_suffix`` makes it, or of a video's."""
    dot = name.rfind(".")
    if not 0 < dot < len(name) - 1:
        return name + suffix
    return name[:dot] + (VIDEO_SUFFIX if name[dot:].lower() in _VIDEO_ENDINGS else suffix)


def _becomes_input(text: str) -> str:
    rule = "results must lie apart from a folder of pictures, or they become input"
    return message("predict", rule, text, "choose another output folder")


def _nothing_in(text: str, passed: Counter[str]) -> str:
    got = f"{text}, where nothing is taken of {in_words(passed)}" if passed else text
    remedy = f"give a file, folder or pattern with {' '.join(SUFFIXES)} files"
    videos = [kind for kind in sorted(passed) if kind in VIDEO_SUFFIXES]
    if videos:
        remedy += f", or name the videos: '{text}/*{videos[0]}'"
    return message("predict", "every INPUT must name a picture", got, remedy)


def _as_strings(inputs: Any) -> list[str]:
    """Return the inputs as strings. A single string is refused: its letters would be inputs."""
    try:
        given = None if isinstance(inputs, (str, bytes, os.PathLike)) else iter(inputs)
    except TypeError:
        given = None
    if given is None:
        rule, got = "inputs must be a list of paths", type(inputs).__name__
        raise BadTypeError(message("find_jobs", rule, got, "put it in a list"))
    texts = []
    for one in given:  # one by one: what is not a list of paths may have any length
        if not isinstance(one, (str, Path, Url)):
            rule, got = "every input must be a str or a Path", type(one).__name__
            raise BadTypeError(message("find_jobs", rule, got, "pass str(path)"))
        texts.append(str(path_or_url(one)) if str(one).startswith(FILE) else str(one))
    return texts


def _check_suffix(suffix: object) -> None:
    if not isinstance(suffix, str) or not re.fullmatch(r"\.\w+", suffix):
        rule = "suffix must be a dot and letters"
        raise BadValueError(message("find_jobs", rule, repr(suffix), "leave it out for .png"))


def _check_root(root: object) -> None:
    if root is not None and not isinstance(root, (str, Path, Url)):
        rule, got = "root must be a str or a Path", type(root).__name__
        raise BadTypeError(message("find_jobs", rule, got, "pass str(path)"))
    place = None if root is None else path_or_url(root)
    is_folder = Store(place).kind("") == "directory" if isinstance(place, Url) else None
    if not (is_folder or place is None or (isinstance(place, Path) and place.is_dir())):
        rule, remedy = "root must be a folder", "give one that holds every picture"
        raise BadValueError(message("predict", rule, repr(str(root)), remedy))


def _below_root(source: Path | Url, root: Path | Url) -> Path:
    relative = relative_path(source, root)
    if relative is None:
        rule, got = f"every picture must lie below --root {root}", str(source)
        raise BadValueError(message("predict", rule, got, "give a folder that holds every picture"))
    return relative
