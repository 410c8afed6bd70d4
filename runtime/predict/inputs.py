"""Which pictures a run is about, and under which names their results go."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fcnkit.errors import message

__all__ = ["SUFFIXES", "Job", "find_jobs"]

SUFFIXES: Final = (
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
"""Endings of the files that a folder is searched for, in any case."""


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to label and the name of its result, relative to the output folder."""

    source: Path
    output: Path


def find_jobs(inputs: Iterable[str | Path], out: str | Path, *, suffix: str = ".png") -> list[Job]:
    """Find the pictures that files, folders, patterns and lists name, and name their results.

    Results mirror the tree below each given folder (below the fixed part of a pattern); a file
    given by itself goes to the top, and the files of a list mirror the tree below the folder that
    they share. What lies in ``out`` is not taken for input.

    Args:
        inputs: Files, folders (searched recursively), glob patterns (``**`` too), ``@list.txt``
            with one file per line, and ``-`` for such a list on standard input.
        out: The output folder; it need not exist.
        suffix: What the names of results end in.

    Returns:
        The jobs in order, each picture once.

    Raises:
        TypeError: inputs are no list of paths.
        ValueError: An input names no picture, two results would have the same name, a result
            would replace a picture or become input, or suffix is none.
        OSError: A list cannot be read, or a folder cannot be listed.
    """
    texts = _texts(inputs)
    _check_suffix(suffix)
    jobs: dict[tuple[str, Path], Job] = {}
    for text in texts:
        found = 0
        for source, relative in _expand(text, Path(out).resolve(), suffix):
            job = Job(source, relative.with_suffix(suffix))
            jobs.setdefault((os.path.realpath(source), job.output), job)
            found += 1
        if not found:
            rule = "every INPUT must name a picture"
            remedy = f"give a file, folder or pattern with {' '.join(SUFFIXES)} files"
            raise ValueError(message("predict", rule, text, remedy))
    _check_names(jobs.items(), Path(out))
    return list(jobs.values())


def _texts(inputs: Any) -> list[str]:
    """Return the inputs as texts; one by itself is refused, for its letters would be taken."""
    try:
        given = None if isinstance(inputs, (str, bytes, os.PathLike)) else iter(inputs)
    except TypeError:
        given = None
    if given is None:
        rule, got = "inputs must be a list of paths", type(inputs).__name__
        raise TypeError(message("find_jobs", rule, got, "put it in a list"))
    texts = []
    for one in given:  # one by one: what is no list of paths may have any length
        if not isinstance(one, (str, Path)):
            rule, got = "every input must be a text or a Path", type(one).__name__
            raise TypeError(message("find_jobs", rule, got, "pass str(path)"))
        texts.append(str(one))
    return texts


def _check_suffix(suffix: object) -> None:
    if not isinstance(suffix, str) or not re.fullmatch(r"\.\w+", suffix):
        rule = "suffix must be a dot and letters"
        raise ValueError(message("find_jobs", rule, repr(suffix), "leave it out for .png"))


def _expand(text: str, out: Path, suffix: str) -> Iterator[tuple[Path, Path]]:
    """Yield (file, its name below the given folder) in order of name."""
    path = Path(text)
    if path.is_file():
        yield path, Path(path.name)
    elif path.is_dir():
        if out == path.resolve() and suffix in SUFFIXES:
            rule = "results must lie apart from a folder of pictures, or they become input"
            raise ValueError(message("predict", rule, text, "choose another output folder"))
        yield from _pictures(sorted(_below(path)), path, out)
    elif text == "-":
        yield from _listed(sys.stdin.read())
    elif text.startswith("@"):
        # A name need not be UTF-8; what is not comes through unchanged.
        yield from _listed(Path(text[1:]).read_text(encoding="utf-8", errors="surrogateescape"))
    elif glob.has_magic(text):
        hits = [Path(hit) for hit in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207 - absolute patterns
        yield from _pictures(hits, _fixed_part(text), out)


def _listed(text: str) -> Iterator[tuple[Path, Path]]:
    """Yield the files of a list, whether they exist or not: a missing one fails by itself."""
    lines = [line.strip() for line in text.removeprefix("\ufeff").splitlines()]
    paths = [Path(line) for line in lines if line]
    if not paths:
        return
    for line, path in zip(filter(None, lines), paths, strict=True):
        if not path.name or "\0" in line:
            rule = "a list names one file per line"
            raise ValueError(message("predict", rule, repr(line), "take the line out"))
    # As given where they are relative, so that a list means the same on another machine.
    folders = {path.parent for path in paths}
    kinds = {folder.is_absolute() for folder in folders}
    common = Path(os.path.commonpath(folders)) if len(kinds) == 1 else None
    for path in paths:
        yield path, path.relative_to(common) if common is not None else Path(path.name)


def _below(root: Path) -> Iterator[Path]:
    """Yield what lies below a folder and is no folder, through links to folders too.

    Raises:
        OSError: A folder cannot be listed, which would hide its pictures.
    """

    def refuse(error: OSError) -> None:
        raise error

    seen: set[str] = set()
    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        folders.sort()
        real = os.path.realpath(folder)
        if real in seen:  # a circle of links
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(folder, name) for name in names)


def _pictures(paths: Iterable[Path], root: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    # Where the results go below the folder itself, an earlier run's must not become input.
    nested = out.is_relative_to(root.resolve()) and out != root.resolve()
    for path in paths:
        # A pipe or a link to nothing fails by itself: it must not be passed over in silence.
        if path.suffix.lower() not in SUFFIXES or os.path.isdir(path):  # noqa: PTH112 - never raises
            continue
        if not (nested and path.resolve().is_relative_to(out)):
            yield path, path.relative_to(root)


def _fixed_part(pattern: str) -> Path:
    """Return the folders of a pattern before its first wildcard."""
    fixed = []
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)


def _check_names(jobs: Iterable[tuple[tuple[str, Path], Job]], out: Path) -> None:
    pairs = list(jobs)
    sources = {real for (real, _), _ in pairs}
    taken: dict[Path, Path] = {}
    for _, job in pairs:
        if ".." in job.output.parts:
            rule = "a result must lie in the output folder"
            remedy = "write the list with absolute paths, or without .."
            raise ValueError(message("predict", rule, str(job.output), remedy))
        other = taken.setdefault(job.output, job.source)
        if other != job.source:
            rule = "every picture needs its own output name"
            got = f"{other} and {job.source} for {job.output}"
            raise ValueError(message("predict", rule, got, "rename one or run them apart"))
        if os.path.realpath(out / job.output) in sources:
            rule = "a result must not replace a picture"
            remedy = "choose another output folder"
            raise ValueError(message("predict", rule, str(out / job.output), remedy))
