"""Labelling many pictures: which files, under which names, and the run over them.

Decoding and writing run on two threads beside the model, which is used from the caller's thread
only. What is in flight is bounded, so memory does not grow with the number of files.
"""

from __future__ import annotations

import contextlib
import glob
import json
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import message
from fcnkit.runtime.pictures import (
    MAX_PIXELS,
    Format,
    read_picture,
    render,
    write_png,
)
from fcnkit.runtime.segmenter import Segmenter

__all__ = ["MANIFEST", "SUFFIXES", "Job", "Record", "find_jobs", "predict_files"]

SUFFIXES: Final = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Endings of the files that a folder is searched for, in any case."""

MANIFEST: Final = "manifest.jsonl"
"""Name of the file in the output folder with one line per input; the last line of one counts."""

_THREADS: Final = 2
_IN_FLIGHT: Final = 4
"""Pictures decoded ahead of the model, and results not yet written behind it."""


@dataclass(frozen=True)
class Job:
    """One picture to label and the name of its result, relative to the output folder."""

    source: Path
    output: Path


@dataclass(frozen=True, kw_only=True)
class Record:
    """What became of one picture: a line of the manifest."""

    input: str
    status: Literal["done", "failed"]
    output: str | None
    """Relative to the output folder; None where the picture failed."""
    size: tuple[int, int] | None
    """Height and width; None where the picture could not be read."""
    milliseconds: float | None
    """Time of covering, model and labels, without decoding and writing."""
    error: str | None
    format: Format
    cover: str
    model_sha256: str


def find_jobs(inputs: Sequence[str | Path], out: str | Path) -> list[Job]:
    """Find the pictures that files, folders and patterns name, and name their results.

    Results mirror the tree below each given folder (below the fixed part of a pattern); a file
    given by itself goes to the top. What lies in ``out`` is not taken for input.

    Args:
        inputs: Files, folders (searched recursively), and glob patterns (``**`` too).
        out: The output folder; it need not exist.

    Returns:
        The jobs in order, each picture once.

    Raises:
        ValueError: An input names no picture, two results would have the same name, or a result
            would replace a picture.
    """
    jobs: dict[tuple[Path, Path], Job] = {}
    for text in inputs:
        found = 0
        for source, relative in _expand(str(text), Path(out).resolve()):
            job = Job(source, relative.with_suffix(".png"))
            jobs.setdefault((source.resolve(), job.output), job)
            found += 1
        if not found:
            rule = "every INPUT must name a picture"
            remedy = f"give a file, folder or pattern with {' '.join(SUFFIXES)} files"
            raise ValueError(message("predict", rule, str(text), remedy))
    _check_names(jobs.values(), Path(out))
    return list(jobs.values())


def _expand(text: str, out: Path) -> Iterator[tuple[Path, Path]]:
    """Yield (file, its name below the given folder) in order of name."""
    path = Path(text)
    if path.is_file():
        yield path, Path(path.name)
    elif path.is_dir():
        yield from _pictures(sorted(path.rglob("*")), path, out)
    elif glob.has_magic(text):
        hits = [Path(hit) for hit in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207 - absolute patterns
        yield from _pictures(hits, _fixed_part(text), out)


def _pictures(paths: Iterable[Path], root: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    # Where the results go below the folder itself, an earlier run's must not become input.
    nested = out.is_relative_to(root.resolve()) and out != root.resolve()
    for path in paths:
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
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


def _check_names(jobs: Iterable[Job], out: Path) -> None:
    sources = {job.source.resolve() for job in jobs}
    taken: dict[Path, Path] = {}
    for job in jobs:
        other = taken.setdefault(job.output, job.source)
        if other != job.source:
            rule = "every picture needs its own output name"
            got = f"{other} and {job.source} for {job.output}"
            raise ValueError(message("predict", rule, got, "rename one or run them apart"))
        if (out / job.output).resolve() in sources:
            rule = "a result must not replace a picture"
            remedy = "choose another output folder"
            raise ValueError(message("predict", rule, str(out / job.output), remedy))


def predict_files(
    segmenter: Segmenter,
    jobs: Sequence[Job],
    out: str | Path,
    *,
    model_sha256: str,
    format: Format = "labels",
    fail_fast: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Generator[Record, None, None]:
    """Label pictures and write one PNG each, and a line of the manifest each.

    A picture that cannot be read or covered is recorded and skipped; a result that cannot be
    written ends the run, for the next ones would fare no better.

    Args:
        segmenter: The model; used by this thread only.
        jobs: What ``find_jobs`` found.
        out: The output folder, made where needed.
        model_sha256: Hash of the model file, for the manifest.
        format: What to write.
        fail_fast: Stop after the first picture that fails.
        max_pixels: Larger pictures fail before they are decoded.

    Returns:
        A generator that does the work as it is consumed, one record per picture, in order.
        Closing it early waits for what is in flight.

    Raises:
        ValueError: format is unknown or max_pixels below 1, when called.
        OSError: A result cannot be written, from the iterator.
    """
    if format not in get_args(Format):
        rule = f"format must be one of {', '.join(get_args(Format))}"
        raise ValueError(message("predict", rule, format, "leave it out for labels"))
    if max_pixels < 1:
        raise ValueError(
            message("predict", "max_pixels must be at least 1", max_pixels, "raise it")
        )
    run = _Run(segmenter, Path(out), model_sha256=model_sha256, format=format)
    return run.records(jobs, fail_fast=fail_fast, max_pixels=max_pixels)


class _Run:
    """The state of one run over many pictures."""

    def __init__(
        self, segmenter: Segmenter, out: Path, *, model_sha256: str, format: Format
    ) -> None:
        self._segmenter = segmenter
        self._out = out
        self._format: Format = format
        self._sha256 = model_sha256

    def records(
        self, jobs: Sequence[Job], *, fail_fast: bool, max_pixels: int
    ) -> Generator[Record, None, None]:
        self._out.mkdir(parents=True, exist_ok=True)
        behind: deque[Future[Record]] = deque()
        with (
            (self._out / MANIFEST).open("a", encoding="utf-8") as manifest,
            ThreadPoolExecutor(_THREADS, thread_name_prefix="fcnkit") as pool,
        ):

            def finish() -> Record:
                record = behind.popleft().result()
                manifest.write(json.dumps(asdict(record)) + "\n")
                manifest.flush()
                return record

            try:
                for job, picture in _decode_ahead(pool, jobs, max_pixels):
                    behind.append(self._label(pool, job, picture))
                    last = behind[-1]
                    if fail_fast and last.done() and last.result().status == "failed":
                        break
                    while len(behind) > _IN_FLIGHT or (behind and behind[0].done()):
                        yield finish()
                while behind:
                    yield finish()
            finally:
                # Interrupted: what is in flight gets written, and the manifest says so.
                while behind:
                    with contextlib.suppress(OSError):
                        finish()

    def _label(
        self, pool: ThreadPoolExecutor, job: Job, picture: Future[NDArray[np.uint8]]
    ) -> Future[Record]:
        """Run the model on a decoded picture and leave the writing to the pool."""
        size = None
        try:
            image_hwc = picture.result()
            size = (image_hwc.shape[0], image_hwc.shape[1])
            start = time.perf_counter()
            labels_hw = self._segmenter(image_hwc)
        except ValueError as error:
            failed: Future[Record] = Future()
            failed.set_result(self._record(job, size=size, error=str(error)))
            return failed
        milliseconds = 1000 * (time.perf_counter() - start)
        return pool.submit(self._write, job, image_hwc, labels_hw, milliseconds)

    def _write(
        self,
        job: Job,
        image_hwc: NDArray[np.uint8],
        labels_hw: NDArray[np.uint8],
        milliseconds: float,
    ) -> Record:
        picture = render(image_hwc, labels_hw, self._segmenter.spec, format=self._format)
        write_png(picture, self._out / job.output)
        size = (labels_hw.shape[0], labels_hw.shape[1])
        return self._record(job, size=size, milliseconds=milliseconds)

    def _record(
        self,
        job: Job,
        *,
        size: tuple[int, int] | None,
        milliseconds: float | None = None,
        error: str | None = None,
    ) -> Record:
        return Record(
            input=str(job.source),
            status="done" if error is None else "failed",
            output=None if error is not None else job.output.as_posix(),
            size=size,
            milliseconds=None if milliseconds is None else round(milliseconds, 3),
            error=error,
            format=self._format,
            cover=self._segmenter.cover,
            model_sha256=self._sha256,
        )


def _decode_ahead(
    pool: ThreadPoolExecutor, jobs: Sequence[Job], max_pixels: int
) -> Iterator[tuple[Job, Future[NDArray[np.uint8]]]]:
    """Yield every job with its decoding under way, a few jobs ahead of the caller."""
    ahead: deque[tuple[Job, Future[NDArray[np.uint8]]]] = deque()
    try:
        for job in jobs:
            ahead.append((job, pool.submit(read_picture, job.source, max_pixels=max_pixels)))
            if len(ahead) > _IN_FLIGHT:
                yield ahead.popleft()
        while ahead:
            yield ahead.popleft()
    finally:
        for _, picture in ahead:
            picture.cancel()
