"""Which pictures a run labels, and how their results are named."""

from __future__ import annotations

import glob
import os
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fcnkit.errors import BadTypeError, BadValueError, message
from fcnkit.runtime.predict.identity import common_root, real_path
from fcnkit.runtime.predict.picture_file import SUFFIXES
from fcnkit.runtime.predict.tree import Tree, fixed_part, in_words
from fcnkit.runtime.predict.video_in import VIDEO_SUFFIXES, is_video
from fcnkit.runtime.predict.video_out import VIDEO_SUFFIX

__all__ = [
    "SUFFIXES",
    "Found",
    "Job",
    "check_outputs",
    "find_jobs",
    "relative_path",
    "search",
    "unique_jobs",
]


@dataclass(frozen=True, slots=True)
class Job:
    """One picture or video to label and the name of its result, relative to the output folder."""

    source: Path
    output: Path


@dataclass(frozen=True)
class Found:
    """The pictures of a run, and what else there was."""

    jobs: list[Job]
    passed_over: Counter[str]
    """How many files in the given folders and patterns are not labeled, by kind; see ``Tree``."""
    data_sets: list[Path]
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

    Args:
        inputs: Files, folders (searched recursively), glob patterns (``**`` too), ``@list.txt``
            with one file per line, and ``-`` for such a list on standard input.
        out: The output folder; it need not exist.
        suffix: What the names of results end in.
        root: The folder where the mirrored tree begins; every picture lies below it.

    Returns:
        The jobs in order, each picture once.

    Raises:
        TypeError: inputs is not a list of paths, or root is not a path.
        ValueError: An input names no picture, a picture lies outside root, two results would have
            the same name, a result would replace a picture or become input, or suffix is none.
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
    """Find pictures as ``find_jobs`` does, and count what is passed over.

    Args:
        inputs: As for ``find_jobs``.
        out: As for ``find_jobs``.
        suffix: As for ``find_jobs``.
        root: As for ``find_jobs``.

    Returns:
        The jobs and the counts.

    Raises:
        TypeError: As for ``find_jobs``.
        ValueError: As for ``find_jobs``.
        OSError: As for ``find_jobs``.
    """
    texts = _as_strings(inputs)
    _check_suffix(suffix)
    _check_root(root)
    passed: dict[str, str] = {}
    data_sets: set[Path] = set()
    jobs: dict[tuple[str, Path], Job] = {}
    for text in texts:
        count, before = 0, len(passed)
        tree = partial(Tree, out=Path(out).resolve(), passed=passed, data_sets=data_sets)
        sources, base = _expand(text, Path(out).resolve(), suffix, tree, rooted=root is not None)
        for source in sources:
            relative = _below_root(source, Path(root)) if root is not None else _name(source, base)
            ending = VIDEO_SUFFIX if is_video(source) else suffix
            job = Job(source, relative.with_suffix(ending))
            jobs.setdefault(_key(job), job)
            count += 1
        if not count:
            raise BadValueError(_nothing_in(text, Counter(list(passed.values())[before:])))
    found = Found(
        jobs=list(jobs.values()),
        passed_over=Counter(passed.values()),
        data_sets=sorted(data_sets),
    )
    check_outputs(found.jobs, Path(out))
    return found


def _key(job: Job) -> tuple[str, Path]:
    return os.path.realpath(job.source), job.output


def unique_jobs(jobs: Iterable[Job]) -> list[Job]:
    """Return jobs without repeated ones: same picture, same name."""
    return list({_key(job): job for job in jobs}.values())


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
        if not isinstance(one, (str, Path)):
            rule, got = "every input must be a str or a Path", type(one).__name__
            raise BadTypeError(message("find_jobs", rule, got, "pass str(path)"))
        texts.append(str(one))
    return texts


def _check_suffix(suffix: object) -> None:
    if not isinstance(suffix, str) or not re.fullmatch(r"\.\w+", suffix):
        rule = "suffix must be a dot and letters"
        raise BadValueError(message("find_jobs", rule, repr(suffix), "leave it out for .png"))


def _check_root(root: object) -> None:
    if root is not None and not isinstance(root, (str, Path)):
        rule, got = "root must be a str or a Path", type(root).__name__
        raise BadTypeError(message("find_jobs", rule, got, "pass str(path)"))
    if root is not None and not Path(root).is_dir():
        rule, remedy = "root must be a folder", "give one that holds every picture"
        raise BadValueError(message("predict", rule, repr(str(root)), remedy))


def _expand(
    text: str, out: Path, suffix: str, tree: Callable[[Path], Tree], *, rooted: bool
) -> tuple[Iterable[Path], Path | None]:
    """Return the files that an input names, and the folder that their results mirror.

    Without such a folder, results have the names of the files alone.
    """
    path = Path(text)
    if path.is_file():
        return [path], path.parent
    if path.is_dir():
        if out == path.resolve() and suffix in SUFFIXES:
            rule = "results must lie apart from a folder of pictures, or they become input"
            raise BadValueError(message("predict", rule, text, "choose another output folder"))
        return tree(path).pictures(), path
    if text == "-":
        return _listed(_standard_input(), rooted=rooted)
    if text.startswith("@"):
        return _listed(_decoded(Path(text[1:]).read_bytes()), rooted=rooted)
    if glob.has_magic(text):
        root = fixed_part(text)
        return tree(root).matches(text), root
    return [], None


def _standard_input() -> str:
    # Names of files are bytes. A terminal's encoding may not know all of them.
    buffer = getattr(sys.stdin, "buffer", None)
    return sys.stdin.read() if buffer is None else _decoded(buffer.read())


def _decoded(content: bytes) -> str:
    # A name need not be UTF-8; what is not comes through unchanged.
    return content.decode("utf-8", "surrogateescape")


def _listed(text: str, *, rooted: bool) -> tuple[list[Path], Path | None]:
    """Return the files of a list, whether they exist or not: a missing one fails by itself."""
    # Not splitlines(), which also splits at characters that a name may hold.
    lines = [line.strip() for line in re.split(r"[\r\n]", text.removeprefix("\ufeff"))]
    paths = []
    for line in filter(None, lines):
        path = Path(line)
        if not path.name or path.name == ".." or "\0" in line:
            rule = "a list names one file per line"
            raise BadValueError(message("predict", rule, repr(line), "take the line out"))
        paths.append(path)
    return paths, None if rooted or not paths else _shared_folder(paths)


def _shared_folder(paths: list[Path]) -> Path | None:
    """Return the folder that files share, as it is written where they are written alike.

    Relative paths stay relative, so that a list means the same on another machine.
    """
    folders = {path.parent for path in paths}
    climbing = [path for path in paths if ".." in path.parts]
    for path in climbing:
        if not path.is_absolute() and relative_path(path, Path()) is None:
            rule = "relative paths of a list must lie below the working folder"
            remedy = "write absolute paths or pass --root"
            raise BadValueError(message("predict", rule, str(path), remedy))
    if climbing:
        folders = {Path(real_path(path)).parent for path in paths}
    elif len({folder.is_absolute() for folder in folders}) > 1:
        folders = {folder.absolute() for folder in folders}
    try:
        return Path(os.path.commonpath(folders))
    except ValueError:  # on two drives
        return None


def relative_path(path: Path, root: Path) -> Path | None:
    """Return the path of a file below a folder, None where it lies elsewhere.

    Links to folders on the way keep their names, but where ``..`` leads out of them.
    """
    if ".." not in (*path.parts, *root.parts):
        if path.is_relative_to(root):
            return path.relative_to(root)
        if path.absolute().is_relative_to(root.absolute()):
            return path.absolute().relative_to(root.absolute())
    real, real_root = Path(real_path(path)), Path(os.path.realpath(root))
    return real.relative_to(real_root) if real.is_relative_to(real_root) else None


def _name(source: Path, base: Path | None) -> Path:
    relative = Path(source.name) if base is None else relative_path(source, base)
    if relative is None:
        rule = "a result must lie in the output folder"
        remedy = "write the input without .., or pass --root"
        raise BadValueError(message("predict", rule, str(source), remedy))
    return relative


def _below_root(source: Path, root: Path) -> Path:
    relative = relative_path(source, root)
    if relative is None:
        rule, got = f"every picture must lie below --root {root}", str(source)
        raise BadValueError(message("predict", rule, got, "give a folder that holds every picture"))
    return relative


def check_outputs(jobs: Iterable[Job], out: Path, *, fold: bool = False) -> None:
    """Refuse jobs whose results would replace each other or a picture, or leave the output folder.

    Args:
        jobs: Each picture and name once.
        out: The output folder.
        fold: Whether names that differ in case alone are one name there.

    Raises:
        ValueError: Which they are.
    """
    given = list(jobs)
    sources = {os.path.realpath(job.source) for job in given}
    taken: dict[str, Job] = {}
    for job in given:
        if ".." in job.output.parts or job.output.is_absolute():
            rule = "a result must lie in the output folder"
            raise BadValueError(message("predict", rule, str(job.output), "name it without .."))
        other = taken.setdefault(_folded(job.output) if fold else str(job.output), job)
        if other is not job:
            raise BadValueError(_shared_name(other, job, fold=fold))
        if os.path.realpath(out / job.output) in sources:
            rule = "a result must not replace a picture"
            remedy = "choose another output folder"
            raise BadValueError(message("predict", rule, str(out / job.output), remedy))


def _folded(path: Path) -> str:
    # File systems that ignore case also ignore how an accent is written.
    return unicodedata.normalize("NFC", str(path)).casefold()


def _shared_name(one: Job, other: Job, *, fold: bool) -> str:
    paths = [real_path(job.source) for job in (one, other)]
    common = common_root(*(_folded(Path(path)) if fold else path for path in paths))
    remedy = "rename one, or label them into different folders"
    if common is not None:
        remedy = f"pass --root {common_root(*paths)}"
    got = f"{one.source} and {other.source} for {other.output}"
    return message("predict", "every picture needs its own output name", got, remedy)
