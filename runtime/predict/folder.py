"""Labeling many pictures: a bounded pipeline from picture files to result files.

Decoding and cutting into tiles, and stitching, coloring, encoding and writing run on worker
threads beside the model, which is used from the caller's thread only. What is in flight is
bounded, so memory does not grow with the number of files.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

from fcnkit.errors import BadTypeError, BadValueError, message
from fcnkit.runtime.checks import MAX_THREADS, check_flag, check_type
from fcnkit.runtime.machine import keep_freed_memory
from fcnkit.runtime.predict.claims import Claims, read_claim
from fcnkit.runtime.predict.file_task import FileTask, Place, RunContext
from fcnkit.runtime.predict.inputs import SUFFIXES, Job, check_outputs, find_jobs, unique_jobs
from fcnkit.runtime.predict.manifest import Options, Record
from fcnkit.runtime.predict.output_folder import opened_folder
from fcnkit.runtime.predict.outputs import SUFFIX_OF, Format
from fcnkit.runtime.predict.overlays import OverlayStyle
from fcnkit.runtime.predict.parts import MANIFEST, Part
from fcnkit.runtime.predict.passes import MOST_LOGIT_BYTES, logit_bytes
from fcnkit.runtime.predict.picture_file import MAX_PIXELS
from fcnkit.runtime.predict.pipeline import (
    Behind,
    Finished,
    Run,
    Work,
    ahead_of,
    default_batch,
    default_workers,
    most_ahead,
    on_cpu,
    run_works,
)
from fcnkit.runtime.predict.results import ResultRequest, Results
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.runtime.predict.staging import Staging
from fcnkit.runtime.predict.video_in import is_video
from fcnkit.runtime.predict.video_records import VideoRecord
from fcnkit.runtime.predict.video_result import check_video_format
from fcnkit.runtime.predict.video_run import OnFrame, VideoRequest, label_clip

__all__ = [
    "MANIFEST",
    "SUFFIXES",
    "SUFFIX_OF",
    "Format",
    "Job",
    "Record",
    "context_of",
    "find_jobs",
    "options_of",
    "predict_files",
    "run_into",
]


def options_of(
    segmenter: Segmenter,
    *,
    format: Format,
    wanted: ResultRequest | None = None,
    results: Results | None = None,
    overlay: OverlayStyle | None = None,
) -> Options:
    """Say what a result depends on besides the picture and the model."""
    backend, mapped = segmenter.backend, results is not None and results.labels is not None
    return Options(
        format=format,
        cover=segmenter.cover,
        tile=segmenter.tile,
        overlap=segmenter.overlap,
        backend=backend.name,
        compute=backend.info.precision,
        tta=segmenter.tta,
        classes=results.spec.classes if results and mapped else None,
        labels=results.labels if results else None,
        void_below=wanted.void_below if wanted else None,
        confidence=bool(results and results.needs_confidence),
        overlay=(overlay or OverlayStyle()) if format == "overlay" else None,
    )


def predict_files(
    segmenter: Segmenter,
    jobs: Iterable[Job],
    out: str | Path,
    *,
    model_sha256: str,
    format: Format = "labels",
    wanted: ResultRequest | None = None,
    overlay: OverlayStyle | None = None,
    resume: bool = True,
    fail_fast: bool = False,
    max_pixels: int = MAX_PIXELS,
    batch: int | None = None,
    workers: int | None = None,
    stop: threading.Event | None = None,
    part: str | None = None,
    frames: bool = False,
    on_frame: OnFrame | None = None,
) -> Generator[Record, None, None]:
    """Label pictures and videos and write one result each, and a line of the manifest each.

    A picture that cannot be read or covered is recorded and skipped; a result that cannot be
    written ends the run, because the next ones would fail too.

    Args:
        segmenter: The model; used by this thread only.
        jobs: What ``find_jobs`` found; each has an output name that no other has.
        out: The output folder, made where needed; one run at a time writes into it.
        model_sha256: Hash of the model file, for the manifest.
        format: What to write.
        wanted: What is made of the labels before; by default nothing.
        overlay: How overlays look; None for the default.
        resume: Skip what the manifest and a valid output prove done with the same model and
            options from a picture that has not changed since.
        fail_fast: Stop after the first picture that fails.
        max_pixels: Larger pictures fail before they are decoded, unless the segmenter has a
            ``tile``: then they go through in bands.
        batch: Tiles of one shape that share a batch, of different pictures too; by default 1 on
            a CPU and 8 elsewhere.
        workers: Threads that decode and write; by default 2 beside a model on the CPU, and
            one per core elsewhere.
        stop: Once set, no picture is begun any more; those in flight are finished. A video ends
            there, with the status ``partial``.
        part: ``I/N`` with I from 1 to N: label only the I-th of N shares of the jobs. All parts
            may run at once into one folder. The name of a result decides which part makes it.
        frames: Write an image per frame of a video, and a line of the manifest each, into a
            folder with the name of the result.
        on_frame: Called after each frame of a video.

    Returns:
        A generator that does the work as it is consumed, one record per picture, then per video: a
        ``VideoRecord``, with ``frames`` after a ``FrameRecord`` each. Closing it early waits for
        what is in flight.

    Raises:
        TypeError: max_pixels, batch or workers is not an integer, or format or model_sha256 no
            text; when called.
        ValueError: format is unknown, part is not I/N, max_pixels, batch or workers below 1,
            workers above 256, a rule of wanted does not fit the model, or confidence is needed and
            the model gives none; when called. Two results have one name, or format has no form as
            a video; from the iterator.
        DataError: Another run writes into the folder, or a result would replace one of another
            picture; from the iterator, before anything is written.
        OSError: A result cannot be written; from the iterator.
    """
    check_type("predict_files: segmenter", segmenter, Segmenter)
    run = _Run(
        context_of(segmenter, format, wanted, overlay, model_sha256, max_pixels),
        batch=batch,
        workers=workers,
        fail_fast=check_flag("predict: fail_fast", fail_fast),
        stop=stop,
    )
    share = None if part is None else Part.parse(part)
    video = VideoRequest(
        frames=check_flag("predict: frames", frames), stop=run.stop, on_frame=on_frame
    )
    check_flag("predict: resume", resume)
    return _with_manifest(run, jobs, Path(out), video, resume=resume, part=share)


def run_into(
    segmenter: Segmenter,
    jobs: Iterable[Job],
    staging: Staging,
    claims: Claims,
    *,
    model_sha256: str,
    format: Format = "labels",
    wanted: ResultRequest | None = None,
    overlay: OverlayStyle | None = None,
    max_pixels: int = MAX_PIXELS,
    batch: int | None = None,
) -> Generator[Record, None, None]:
    """Label pictures as ``predict_files`` does, without a manifest.

    Args:
        segmenter: As for ``predict_files``.
        jobs: Asked for as the run comes to them.
        staging: Where results are written until they are whole; says the output folder.
        claims: Of the same output folder.
        model_sha256: As for ``predict_files``.
        format: As for ``predict_files``.
        wanted: As for ``predict_files``.
        overlay: As for ``predict_files``.
        max_pixels: As for ``predict_files``.
        batch: As for ``predict_files``.

    Returns:
        As for ``predict_files``.

    Raises:
        ValueError: As for ``predict_files``.
        DataError: A result would replace another picture's; from the iterator.
        OSError: A result cannot be written; from the iterator.
    """
    context = context_of(segmenter, format, wanted, overlay, model_sha256, max_pixels)
    place = Place(staging=staging, publish=claims.publish, keep=lambda _: None)
    return _Run(context, batch=batch).records(jobs, place)


def context_of(
    segmenter: Segmenter,
    format: Format,
    wanted: ResultRequest | None,
    overlay: OverlayStyle | None,
    model_sha256: str,
    max_pixels: int,
) -> RunContext:
    """Check what the inputs of a run have in common; see ``predict_files``.

    Raises:
        TypeError: An argument is of another type.
        ValueError: format is unknown, or max_pixels is below 1.
    """
    _check_text("format", format, "leave it out for labels")
    if format not in get_args(Format):
        rule = f"format must be one of {', '.join(get_args(Format))}"
        raise BadValueError(message("predict", rule, format, "leave it out for labels"))
    if overlay is not None:
        check_type("predict: overlay", overlay, OverlayStyle)
        if format != "overlay":
            rule, remedy = "goes with format overlay", "leave it out"
            raise BadValueError(message("predict: overlay", rule, f"format {format}", remedy))
    _check_positive("max_pixels", max_pixels)
    _check_text("model_sha256", model_sha256, "pass the hexadecimal digest")
    wanted = ResultRequest() if wanted is None else wanted
    check_type("predict: wanted", wanted, ResultRequest)
    results = wanted.resolve(segmenter.spec, confidence=format == "confidence")
    segmenter.check_confidence(results.needs_confidence)
    return RunContext(
        segmenter=segmenter,
        options=options_of(
            segmenter, format=format, wanted=wanted, results=results, overlay=overlay
        ),
        results=results,
        model_sha256=model_sha256,
        max_pixels=max_pixels,
    )


def _check_text(name: str, value: object, remedy: str) -> None:
    if not isinstance(value, str):
        got = type(value).__name__
        raise BadTypeError(message("predict", f"{name} must be a str", got, remedy))


def _check_positive(name: str, value: int, *, most: int | None = None) -> None:
    try:
        value = operator.index(value)
    except TypeError:
        rule, got = f"{name} must be an integer", type(value).__name__
        raise BadTypeError(message("predict", rule, got, "pass an int")) from None
    if value < 1:
        raise BadValueError(message("predict", f"{name} must be at least 1", value, "raise it"))
    if most is not None and value > most:
        raise BadValueError(message("predict", f"{name} must be at most {most}", value, "lower it"))


def _with_manifest(
    run: _Run,
    jobs: Iterable[Job],
    out: Path,
    video: VideoRequest,
    *,
    resume: bool,
    part: Part | None,
) -> Generator[Record, None, None]:
    with opened_folder(run.context, out, resume=resume, part=part) as (manifest, place, staging):
        wanted = unique_jobs(jobs)
        check_outputs((_named(job, video) for job in wanted), out, fold=staging.folds_case())
        if part is not None:
            wanted = [job for job in wanted if part.holds(job.output)]
        wanted = [_named(job, video) for job in wanted]
        if not video.frames and any(is_video(job.source) for job in wanted):
            check_video_format(run.context.options.format)
        left: list[Job] = []
        for job in wanted:  # all of them before the first result is replaced
            earlier = manifest.earlier(job.source, job.output)
            if earlier is not None:
                yield earlier
                continue
            if not (video.frames and is_video(job.source)):  # their frames are checked one by one
                manifest.check(job.source, job.output, read_claim(out, job.output))
            left.append(job)
        yield from run.records([job for job in left if not is_video(job.source)], place)
        video = replace(video, earlier=manifest.earlier)
        for job in (job for job in left if is_video(job.source)):
            if run.halted():
                return
            for record in label_clip(run.context, job, place, video):
                if isinstance(record, VideoRecord):
                    place.keep(record)
                    run.note(record)
                yield record


def _named(job: Job, video: VideoRequest) -> Job:
    """Return a job with the name of its result: images of frames go into a folder."""
    if not (video.frames and is_video(job.source)):
        return job
    return replace(job, output=job.output.with_suffix(""))


class _Run:
    """One run over many pictures."""

    def __init__(
        self,
        context: RunContext,
        *,
        batch: int | None = None,
        workers: int | None = None,
        fail_fast: bool = False,
        stop: threading.Event | None = None,
    ) -> None:
        backend = context.segmenter.backend
        if workers is None:
            workers = default_workers(backend)
        if batch is None:
            batch = default_batch(backend)
        _check_positive("batch", batch)
        _check_positive("workers", workers, most=MAX_THREADS)
        self.context = context
        self._batch, self._workers = batch, workers
        self._limit = most_ahead(workers)
        self._fail_fast, self.stop = fail_fast, stop or threading.Event()
        self._failed = self._ended = False
        """Each is set when no further picture is begun; ``stop`` belongs to the caller."""

    def records(self, jobs: Iterable[Job], place: Place) -> Generator[Record, None, None]:
        """Do the work; see ``predict_files``. Every record is kept before it is handed out."""
        keep_freed_memory()
        backend = self.context.segmenter.backend
        run: Run = partial(map, backend.infer) if self._sparing() else backend.stream
        with ThreadPoolExecutor(self._workers, thread_name_prefix="fcnkit") as pool:
            works = self._works(pool, jobs, place)
            finished = self._watched(run_works(backend.spec, run, works, batch=self._batch))
            behind = Behind(pool, _finish, limit=self._limit)
            try:
                for record in behind.results(finished):
                    place.keep(record)
                    yield record
            finally:
                # Interrupted: what the model has gets written, and the manifest says so.
                self._ended = True
                behind.drain(finished, place.keep)
                self.context.drop_unfinished()

    def halted(self) -> bool:
        """Whether nothing is begun any more."""
        return self._failed or self.stop.is_set()

    def note(self, record: Record) -> None:
        """Note what became of a video: after a failure nothing more is begun, where wanted."""
        self._failed |= self._fail_fast and record.status != "done"

    def _watched(self, finished: Iterator[Finished[FileTask]]) -> Iterator[Finished[FileTask]]:
        """Begin nothing more after a failure, where that is wanted."""
        for one in finished:
            self._failed |= self._fail_fast and one.error is not None
            yield one

    def _sparing(self) -> bool:
        """Whether tiles are so large that a CPU should run one at a time."""
        segmenter = self.context.segmenter
        if segmenter.tile is None or not on_cpu(segmenter.backend):
            return False
        return logit_bytes(segmenter.spec, segmenter.tile) > MOST_LOGIT_BYTES

    def _works(
        self, pool: ThreadPoolExecutor, jobs: Iterable[Job], place: Place
    ) -> Iterator[Work[FileTask]]:
        """Yield the pictures, each begun by the pool a few ahead of the model."""

        def begin(job: Job) -> Work[FileTask]:
            return self.context.begin(job, place)

        def halted() -> bool:
            return self._ended or self.halted()

        for work in ahead_of(pool, begin, jobs, limit=self._limit, halted=halted):
            self._failed |= self._fail_fast and work.error is not None
            yield work


def _finish(one: Finished[FileTask]) -> Record:
    return one.owner.finish(one)
