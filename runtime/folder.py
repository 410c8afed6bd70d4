"""Labelling many pictures: a bounded pipeline from picture files to result files.

Decoding and cutting into tiles, and stitching, colouring, encoding and writing run on worker
threads beside the model, which is used from the caller's thread only. What is in flight is
bounded, so memory does not grow with the number of files.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, get_args

from fcnkit.errors import message
from fcnkit.runtime.backends.base import Backend
from fcnkit.runtime.inputs import SUFFIXES, Job, find_jobs
from fcnkit.runtime.manifest import MANIFEST, Manifest, Options, Record
from fcnkit.runtime.outputs import SUFFIX_OF, Format, Staging
from fcnkit.runtime.pictures import MAX_PIXELS
from fcnkit.runtime.pipeline import Finished, Work, run_works
from fcnkit.runtime.segmenter import Segmenter
from fcnkit.runtime.sheet import Sheet, Studio

__all__ = [
    "MANIFEST",
    "SUFFIXES",
    "SUFFIX_OF",
    "Format",
    "Job",
    "Record",
    "default_batch",
    "find_jobs",
    "options_of",
    "predict_files",
]

_AHEAD: Final = 4
"""Pictures decoded ahead of the model per worker pair, and results not yet written behind it."""


def options_of(segmenter: Segmenter, *, format: Format) -> Options:
    """Say what a result depends on besides the picture and the model."""
    backend = segmenter.backend
    return Options(
        format=format,
        cover=segmenter.cover,
        tile=segmenter.tile,
        overlap=segmenter.overlap,
        backend=backend.name,
        compute=str(backend.details.get("compute", "")),
    )


def default_batch(backend: Backend) -> int:
    """Return how many tiles share a batch: what pays on the device that the backend runs on."""
    # On a CPU one tile keeps every core busy, and the next one finds its memory in the cache.
    on_cpu = "CPU" in str(backend.details.get("provider", "CPU")).upper()
    return 1 if on_cpu else min(8, backend.spec.shapes.max[0])


def predict_files(
    segmenter: Segmenter,
    jobs: Iterable[Job],
    out: str | Path,
    *,
    model_sha256: str,
    format: Format = "labels",
    resume: bool = True,
    fail_fast: bool = False,
    max_pixels: int = MAX_PIXELS,
    batch: int | None = None,
    workers: int | None = None,
    stop: threading.Event | None = None,
) -> Generator[Record, None, None]:
    """Label pictures and write one result each, and a line of the manifest each.

    A picture that cannot be read or covered is recorded and skipped; a result that cannot be
    written ends the run, for the next ones would fare no better.

    Args:
        segmenter: The model; used by this thread only.
        jobs: What ``find_jobs`` found.
        out: The output folder, made where needed; one run at a time writes into it.
        model_sha256: Hash of the model file, for the manifest.
        format: What to write.
        resume: Skip what the manifest and a valid output prove done with the same model and
            options from a picture that has not changed since.
        fail_fast: Stop after the first picture that fails.
        max_pixels: Larger pictures fail before they are decoded, unless the segmenter has a
            ``tile``: then they go through in bands.
        batch: Tiles of one shape that share a batch, of different pictures too; by default 1 on
            a CPU and 8 elsewhere.
        workers: Threads that decode and write; by default 2 beside a model on the CPU, and
            one per core elsewhere.
        stop: Once set, no picture is begun any more; those in flight are finished.

    Returns:
        A generator that does the work as it is consumed, one record per picture. Closing it early
        waits for what is in flight.

    Raises:
        ValueError: format is unknown, or max_pixels, batch or workers below 1; when called.
        DataError: Another run writes into the folder; from the iterator.
        OSError: A result cannot be written; from the iterator.
    """
    if format not in get_args(Format):
        rule = f"format must be one of {', '.join(get_args(Format))}"
        raise ValueError(message("predict", rule, format, "leave it out for labels"))
    for name, value in (("max_pixels", max_pixels), ("batch", batch), ("workers", workers)):
        if value is not None and value < 1:
            raise ValueError(message("predict", f"{name} must be at least 1", value, "raise it"))
    studio = Studio(
        segmenter=segmenter,
        options=options_of(segmenter, format=format),
        model_sha256=model_sha256,
        max_pixels=max_pixels,
    )
    run = _Run(
        studio,
        batch=batch or default_batch(segmenter.backend),
        workers=workers or _default_workers(segmenter.backend),
        fail_fast=fail_fast,
        stop=stop or threading.Event(),
    )
    return _into_folder(run, jobs, Path(out), resume=resume)


def _default_workers(backend: Backend) -> int:
    return 2 if default_batch(backend) == 1 else max(2, os.cpu_count() or 1)


def _into_folder(
    run: _Run, jobs: Iterable[Job], out: Path, *, resume: bool
) -> Generator[Record, None, None]:
    out.mkdir(parents=True, exist_ok=True)
    studio = run.studio
    options, sha256 = studio.options, studio.model_sha256
    with (
        Manifest(out, options=options, model_sha256=sha256, resume=resume) as manifest,
        Staging(out) as staging,
    ):
        left: list[Job] = []
        for job in jobs:
            earlier = manifest.earlier(job.source, job.output)
            if earlier is None:
                left.append(job)
            else:
                yield earlier
        yield from run.records(left, staging, manifest.append)


class _Run:
    """One run over many pictures."""

    def __init__(
        self,
        studio: Studio,
        *,
        batch: int,
        workers: int,
        fail_fast: bool,
        stop: threading.Event,
    ) -> None:
        self.studio = studio
        self._batch, self._workers = batch, workers
        self._limit = _AHEAD * max(1, workers // 2)
        self._fail_fast, self._stop = fail_fast, stop
        self._ended = False
        """Set where this run itself begins no further picture; ``stop`` belongs to the caller."""

    def records(
        self, jobs: Iterable[Job], staging: Staging, keep: Callable[[Record], None]
    ) -> Generator[Record, None, None]:
        """Do the work; see ``predict_files``. Every record is kept before it is handed out."""
        behind: deque[Future[Record]] = deque()

        def written() -> Record:
            record = behind.popleft().result()
            keep(record)
            return record

        with ThreadPoolExecutor(self._workers, thread_name_prefix="fcnkit") as pool:
            works = self._works(pool, jobs, staging)
            finished = run_works(self.studio.segmenter.backend, works, batch=self._batch)
            try:
                for one in finished:
                    behind.append(pool.submit(one.owner.finish, one.error, one.seconds))
                    while len(behind) > self._limit or (behind and behind[0].done()):
                        yield written()
                while behind:
                    yield written()
            finally:
                # Interrupted: what the model has gets written, and the manifest says so. What
                # goes wrong here goes wrong on the way out of something worse.
                self._ended = True
                with contextlib.suppress(Exception):
                    for one in finished:
                        behind.append(pool.submit(one.owner.finish, one.error, one.seconds))
                while behind:
                    with contextlib.suppress(Exception):
                        written()

    def _works(
        self, pool: ThreadPoolExecutor, jobs: Iterable[Job], staging: Staging
    ) -> Iterator[Work[Sheet]]:
        """Yield the pictures, each begun by the pool a few ahead of the model."""
        ahead: deque[Future[Work[Sheet]]] = deque()
        more = iter(jobs)
        try:
            while True:
                while len(ahead) <= self._limit and not self._stop.is_set():
                    job = next(more, None)
                    if job is None:
                        break
                    ahead.append(pool.submit(self.studio.begin, job, staging))
                # After a stop, what was begun is dropped too: nothing of it is to be seen yet.
                if not ahead or self._ended or self._stop.is_set():
                    return
                work = ahead.popleft().result()
                self._ended = self._fail_fast and work.error is not None
                yield work
        finally:
            for begun in ahead:
                begun.cancel()
