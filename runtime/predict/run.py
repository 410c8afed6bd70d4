"""One run over pictures and videos in one process: a bounded pipeline from files to results.

Decoding and cutting into tiles, and stitching, coloring, encoding and writing run on worker
threads beside the model, which is used from the caller's thread only. What is in flight is
bounded, so memory does not grow with the number of files.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import get_args

from fcnkit.errors import BadTypeError, BadValueError, message
from fcnkit.runtime.checks import MAX_THREADS, check_flag, check_type
from fcnkit.runtime.machine import keep_freed_memory
from fcnkit.runtime.predict.file_task import FileTask, Place, RunContext
from fcnkit.runtime.predict.job_stream import Item, UntilError
from fcnkit.runtime.predict.jobs import Job
from fcnkit.runtime.predict.manifest import Options, Record
from fcnkit.runtime.predict.outputs import FORMATS, Format
from fcnkit.runtime.predict.overlays import OverlayStyle
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
from fcnkit.runtime.predict.region import Region
from fcnkit.runtime.predict.results import ResultRequest, Results
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.runtime.predict.video_in import is_video
from fcnkit.runtime.predict.video_records import VideoRecord
from fcnkit.runtime.predict.video_run import IsDone, OnFrame, VideoRequest, label_clip

__all__ = ["FolderRun", "RunControl", "RunRequest", "context_of"]


def _options_of(segmenter: Segmenter, request: RunRequest, results: Results) -> Options:
    """Say what a result depends on besides the picture and the model."""
    backend, wanted, overlay = segmenter.backend, request.wanted, request.overlay
    return Options(
        format=request.format,
        cover=segmenter.cover,
        tile=segmenter.tile,
        overlap=segmenter.overlap,
        backend=backend.name,
        compute=backend.info.precision,
        tta=segmenter.tta,
        classes=None if results.labels is None else results.spec.classes,
        labels=results.labels,
        void_below=wanted.void_below if wanted else None,
        confidence=results.needs_confidence,
        overlay=(overlay or OverlayStyle()) if request.format == "overlay" else None,
        **(request.region or Region()).facts(),
    )


def context_of(segmenter: Segmenter, request: RunRequest) -> RunContext:
    """Check what the inputs of a run have in common; see ``predict_files``.

    Raises:
        TypeError: An argument is of another type.
        ValueError: format is unknown, max_pixels is below 1, or the mask is not there.
        MissingExtraError: format is tif, and tifffile is not installed.
    """
    format, overlay = request.format, request.overlay
    _check_text("format", format, "leave it out for labels")
    if format not in get_args(Format):
        rule = f"format must be one of {', '.join(get_args(Format))}"
        raise BadValueError(message("predict", rule, format, "leave it out for labels"))
    if overlay is not None:
        check_type("predict: overlay", overlay, OverlayStyle)
        if format != "overlay":
            rule, remedy = "goes with format overlay", "leave it out"
            raise BadValueError(message("predict: overlay", rule, f"format {format}", remedy))
    _check_positive("max_pixels", request.max_pixels)
    _check_text("model_sha256", request.model_sha256, "pass the hexadecimal digest")
    FORMATS[format].check()
    region = Region() if request.region is None else request.region
    check_type("predict: region", region, Region)
    region.check_mask()
    wanted = ResultRequest() if request.wanted is None else request.wanted
    check_type("predict: wanted", wanted, ResultRequest)
    results = wanted.resolve(segmenter.spec, confidence=FORMATS[format].needs_confidence)
    segmenter.check_confidence(results.needs_confidence)
    return RunContext(
        segmenter=segmenter,
        options=_options_of(segmenter, request, results),
        results=results,
        model_sha256=request.model_sha256,
        max_pixels=request.max_pixels,
        region=region,
        hash_inputs=request.hash_inputs,
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


_Task = FileTask | list[Record]
"""A picture on its way, or what earlier runs recorded, which goes along."""


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What a run makes of its inputs; see ``predict_files``."""

    model_sha256: str
    format: Format = "labels"
    wanted: ResultRequest | None = None
    overlay: OverlayStyle | None = None
    region: Region | None = None
    max_pixels: int = MAX_PIXELS
    batch: int | None = None
    workers: int | None = None
    frames: bool = False
    hash_inputs: bool = False

    def __post_init__(self) -> None:
        """Check the flags; ``context_of`` and ``FolderRun`` check the rest."""
        check_flag("predict: frames", self.frames)
        check_flag("predict: hash_inputs", self.hash_inputs)


@dataclass(frozen=True, kw_only=True)
class RunControl:
    """What a run obeys, and whom it tells how far it is; see ``predict_files``."""

    fail_fast: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    on_frame: OnFrame | None = None


def one_at_a_time(segmenter: Segmenter) -> bool:
    """Whether tiles are so large that a CPU should run one after the other."""
    if segmenter.tile is None or not on_cpu(segmenter.backend):
        return False
    return logit_bytes(segmenter.spec, segmenter.tile) > MOST_LOGIT_BYTES


class FolderRun:
    """One run over many pictures and videos in this process."""

    sees_this_machine = True
    """See ``Labeling``."""

    def __init__(
        self, segmenter: Segmenter, request: RunRequest, control: RunControl | None = None
    ) -> None:
        """Check what is wanted; see ``predict_files``.

        Raises:
            TypeError: As for ``predict_files``.
            ValueError: As for ``predict_files``.
        """
        self.context = context_of(segmenter, request)
        workers, batch = request.workers, request.batch
        if workers is None:
            workers = default_workers(segmenter.backend)
        if batch is None:
            batch = default_batch(segmenter.backend)
        _check_positive("batch", batch)
        _check_positive("workers", workers, most=MAX_THREADS)
        self._batch, self._workers = batch, workers
        self._limit = most_ahead(workers)
        self._control, self._frames = control or RunControl(), request.frames
        self._failed = self._ended = False
        """Each is set when no further picture is begun; the event belongs to the caller."""

    @property
    def options(self) -> Options:
        """What results depend on besides the picture and the model."""
        return self.context.options

    def labeled(self, items: Iterable[Item], place: Place, is_done: IsDone) -> Iterator[Record]:
        """Do the work; see ``Labeling.labeled``."""
        until_error = UntilError(items)
        for is_clip, some in groupby(until_error, key=_is_clip):
            if not is_clip:
                yield from self.records(some, place)
            for job in some if is_clip else ():
                assert isinstance(job, Job)
                yield from self.video(job, place, is_done)
                if self._halted():
                    return
            if self._halted():
                return
        until_error.check()

    def video(self, job: Job, place: Place, is_done: IsDone) -> Iterator[Record]:
        """Label one video; every record is kept before it is handed out.

        Args:
            job: The video.
            place: Where its result goes.
            is_done: As for ``Labeling.labeled``.
        """
        control = self._control
        request = VideoRequest(
            frames=self._frames, stop=control.stop, on_frame=control.on_frame, is_done=is_done
        )
        for record in label_clip(self.context, job, place, request):
            if isinstance(record, VideoRecord):
                place.keep(record)
                self._failed |= control.fail_fast and record.status != "done"
            yield record

    def records(self, jobs: Iterable[Item], place: Place) -> Generator[Record, None, None]:
        """Label pictures; every record is kept before it is handed out.

        Args:
            jobs: Asked for as the run comes to them.
            place: Where results go.
        """
        keep_freed_memory()

        def keep(records: list[Record]) -> None:
            for record in records:
                place.keep(record)

        backend = self.context.segmenter.backend
        run: Run = (
            partial(map, backend.infer) if one_at_a_time(self.context.segmenter) else backend.stream
        )
        self._ended = False  # a worker has many runs, and pictures may follow a video
        try:
            with ThreadPoolExecutor(self._workers, thread_name_prefix="fcnkit") as pool:
                works = self._works(pool, jobs, place)
                finished = self._watched(run_works(backend.spec, run, works, batch=self._batch))
                behind = Behind(pool, _finish, limit=self._limit)
                try:
                    for records in behind.results(finished):
                        keep(records)
                        yield from records
                finally:
                    # Interrupted: what the model has gets written, and the manifest says so.
                    self._ended = True
                    behind.drain(finished, keep)
        finally:
            # The pool has ended: nothing begins any more.
            self.context.drop_unfinished()

    def _halted(self) -> bool:
        """Whether nothing is begun any more."""
        return self._failed or self._control.stop.is_set()

    def _watched(self, finished: Iterator[Finished[_Task]]) -> Iterator[Finished[_Task]]:
        """Begin nothing more after a failure, where that is wanted."""
        for one in finished:
            self._failed |= self._control.fail_fast and one.error is not None
            yield one

    def _works(
        self, pool: ThreadPoolExecutor, jobs: Iterable[Item], place: Place
    ) -> Iterator[Work[_Task]]:
        """Yield the pictures, each begun by the pool a few ahead of the model."""

        def begin(item: Item) -> Work[_Task]:
            if isinstance(item, Job):
                begun = self.context.begin(item, place)
                return Work(begun.owner, begun.picture, begun.error, begun.seconds)
            return Work(item, None)

        def halted() -> bool:
            return self._ended or self._halted()

        for work in ahead_of(pool, begin, jobs, limit=self._limit, halted=halted):
            self._failed |= self._control.fail_fast and work.error is not None
            yield work


def _finish(one: Finished[_Task]) -> list[Record]:
    return [one.owner.finish(one)] if isinstance(one.owner, FileTask) else one.owner


def _is_clip(item: Item) -> bool:
    return isinstance(item, Job) and is_video(item.source)
