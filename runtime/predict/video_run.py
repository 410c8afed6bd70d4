"""Labeling videos: one result video per clip or camera, or one image per frame."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import DataError, FcnkitError, message
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.predict.file_task import Place, RunContext, one_line
from fcnkit.runtime.predict.identity import Origin
from fcnkit.runtime.predict.inputs import Job
from fcnkit.runtime.predict.live import Newest
from fcnkit.runtime.predict.manifest import Record
from fcnkit.runtime.predict.results import Tally
from fcnkit.runtime.predict.staging import Publishable
from fcnkit.runtime.predict.stamp import Stamp
from fcnkit.runtime.predict.video_in import (
    Frame,
    VideoSource,
    open_camera,
    open_video,
    safe_address,
)
from fcnkit.runtime.predict.video_records import FrameRecord, VideoRecord
from fcnkit.runtime.predict.video_result import (
    FrameFiles,
    OneVideo,
    VideoResult,
    frame_name,
)

__all__ = ["IsDone", "OnFrame", "VideoRequest", "label_camera", "label_clip"]

OnFrame = Callable[[str, int, int | None], None]
"""Called after each frame with the name of the video, how many frames of it are labeled, and how
many it has, None where that is not known."""

IsDone = Callable[[Path, Path], bool]
"""Whether the result of an earlier run still stands, given the input and the name of the result."""

_TROUBLE = (FcnkitError, ValueError, OSError, MemoryError)
"""What ends one video without the others suffering."""


def _refuse() -> None:
    raise FileExistsError


def _never(*_: Path) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class VideoRequest:
    """How the videos of a run are to be labeled."""

    frames: bool = False
    """One image per frame, in a folder, instead of one video."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Once set, the video under way ends with the frames that the model has."""
    on_frame: OnFrame | None = None
    is_done: IsDone = _never
    """Asked for the images of frames."""


def label_clip(
    context: RunContext, job: Job, place: Place, request: VideoRequest
) -> Iterator[Record]:
    """Label every frame of a video file.

    Args:
        context: The model and its options.
        job: The file, and the name of its result.
        place: Where results go.
        request: How.

    Yields:
        The records of the frames, where each has an image, and last the record of the video. All
        but the last are kept.

    Raises:
        OSError: A result cannot be written; the frames before it are kept.
    """
    task = _VideoTask(context, context.origin(job.file), job.output, place, request)

    def labeled(source: VideoSource) -> Iterator[_Labeled]:
        return task.every_frame(source, job.file)

    yield from task.records(lambda: open_video(job.file), labeled, str(job.file))


def label_camera(
    context: RunContext,
    camera: int | str,
    output: Path,
    place: Place,
    request: VideoRequest,
    *,
    seconds: float | None = None,
) -> Iterator[Record]:
    """Label the newest frame of a camera or stream again and again, until ``stop``.

    Args:
        context: The model and its options.
        camera: Number of a camera, or an address.
        output: Name of the result, which no other input has.
        place: Where results go.
        request: How.
        seconds: End after that time; None goes on until ``stop``.

    Yields:
        As ``label_clip``.

    Raises:
        OSError: As for ``label_clip``.
    """
    name = f"camera {camera}" if isinstance(camera, int) else safe_address(camera)
    origin = Origin(input=name, input_path=name, input_stamp=None)
    task = _VideoTask(context, origin, output, place, request)

    def labeled(source: VideoSource) -> Iterator[_Labeled]:
        return task.newest_frames(source, seconds)

    yield from task.records(lambda: open_camera(camera), labeled, name)


@dataclass(frozen=True)
class _Labeled:
    frame: Frame
    rows: Prediction
    index: int
    dropped: int


class _VideoTask:
    """One video on its way to its result."""

    def __init__(
        self,
        context: RunContext,
        origin: Origin,
        output: Path,
        place: Place,
        request: VideoRequest,
    ) -> None:
        self._context, self._origin, self._output = context, origin, output
        self._place, self._request = place, request
        self._source: VideoSource | None = None
        self._size: tuple[int, int] | None = None
        self._times: tuple[int, int] | None = None
        """Ticks of the first and the last frame that were labeled."""
        self._labeled = self._dropped = self._skipped = 0
        self._interrupted = False
        spec, options = context.results.spec, context.options
        self._tally = Tally(spec.classes)
        kind = FrameFiles if request.frames else OneVideo
        self._result: VideoResult = kind(
            place.staging, spec, format=options.format, style=options.overlay
        )

    def records(
        self,
        open_it: Callable[[], VideoSource],
        labeled: Callable[[VideoSource], Iterator[_Labeled]],
        what: str,
    ) -> Iterator[Record]:
        """Do the work; see ``label_clip``."""
        start, error = time.perf_counter(), None
        try:
            self._source = open_it()
            self._check_pixels(self._source, what)
            for one in labeled(self._source):
                record = self._write(one, what)
                if record is not None:
                    yield record
            self._check_whole(self._source, what)
        except _TROUBLE as raised:
            error = raised
        except BaseException:
            self._rescue("an interrupt", start)
            raise
        unwritable = self._result.unwritable
        if unwritable is not None:
            self._rescue(one_line(unwritable, self._output), start)
            raise unwritable
        yield self._end(error, start)

    def every_frame(self, source: VideoSource, path: Path) -> Iterator[_Labeled]:
        """Yield all frames with their labels; close the source."""
        waiting: dict[int, tuple[Frame, int]] = {}
        trouble: list[Exception] = []

        def images() -> Iterator[NDArray[np.uint8]]:
            # An error in here would lose what the model has: it is raised after that.
            try:
                for frame in source.read():
                    if self._request.stop.is_set():
                        self._interrupted = True
                        return
                    index = source.frames - 1
                    if self._is_done(path, index):
                        self._skipped += 1
                        continue
                    self._check_size(frame.image_hwc.shape, str(path))
                    waiting[id(frame.image_hwc)] = (frame, index)
                    yield frame.image_hwc
            except _TROUBLE as error:
                trouble.append(error)
            finally:
                source.close()

        sure = self._context.results.needs_confidence
        for one in self._context.segmenter.map(images(), confidence=sure):
            if one.error is not None:
                raise one.error
            assert one.labels_hw is not None
            frame, index = waiting.pop(id(one.source))
            yield _Labeled(frame, one.prediction or Prediction(one.labels_hw), index, 0)
        if trouble:
            raise trouble[0]

    def newest_frames(self, source: VideoSource, seconds: float | None) -> Iterator[_Labeled]:
        """Yield newest frames with their labels; the thread that reads closes the source."""
        end = None if seconds is None else time.monotonic() + seconds
        stop = self._request.stop

        def halted() -> bool:
            return stop.is_set() or (end is not None and time.monotonic() >= end)

        frames = Newest(source.read(), clock=time.monotonic)
        try:
            while not halted() and (arrived := frames.take(halted)) is not None:
                self._check_size(arrived.item.image_hwc.shape, self._origin.input)
                rows = self._label(arrived.item.image_hwc)
                yield _Labeled(arrived.item, rows, arrived.index, arrived.dropped)
        finally:
            frames.stop()

    def _label(self, image_hwc: NDArray[np.uint8]) -> Prediction:
        segmenter = self._context.segmenter
        if self._context.results.needs_confidence:
            return segmenter(image_hwc, confidence=True)
        return Prediction(segmenter(image_hwc))

    def _is_done(self, path: Path, index: int) -> bool:
        if not self._request.frames:
            return False
        name = self._output / frame_name(index, self._context.options.format)
        return self._request.is_done(path, name)

    def _check_pixels(self, source: VideoSource, what: str) -> None:
        height, width = source.stored_size
        if height * width > self._context.max_pixels:
            source.close()
            rule = f"a frame has at most {self._context.max_pixels} pixels"
            remedy = "raise --max-pixels, or make the video smaller"
            raise DataError(message(what, rule, f"{height}x{width}", remedy))

    def _check_size(self, shape: tuple[int, ...], what: str) -> None:
        size = (shape[0], shape[1])
        if self._size is not None and size != self._size and not self._request.frames:
            rule = "the frames of a video have one size"
            got = f"{size[0]}x{size[1]} after {self._size[0]}x{self._size[1]}"
            raise DataError(message(what, rule, got, "pass --frames for one image per frame"))
        self._size = size

    def _check_whole(self, source: VideoSource, what: str) -> None:
        if self._interrupted or source.is_live:
            return
        if not source.frames:
            rule, got = "must hold pictures", "no frame that can be decoded"
            raise DataError(message(what, rule, got, "give a video that plays"))
        missing = source.missing()
        if missing is not None:
            remedy = f"the {source.frames} frames that can be read are labeled; copy the file again"
            raise DataError(message(what, "a video must be whole", missing, remedy))

    def _write(self, one: _Labeled, what: str) -> Record | None:
        """Add a frame to the result; return its record where it has one."""
        assert self._source is not None
        frame, source = one.frame, self._source
        first = frame.ticks if self._times is None else self._times[0]
        rows = self._context.results.apply(one.rows)
        made = self._result.add(frame, rows, source, one.index)
        self._tally.add(rows)
        self._times = (first, frame.ticks)
        self._labeled += 1
        self._dropped += one.dropped
        if self._request.on_frame is not None:
            self._request.on_frame(what, self._labeled, source.expected)
        if made is None:
            return None
        result, name = made
        tally = Tally(self._context.results.spec.classes)
        tally.add(rows)
        record = FrameRecord(
            **self._about((self._output / name).as_posix(), Stamp.of(result.path)),
            status="done",
            error=None,
            milliseconds=None,
            pixels=tally.pixels,
            confidence=tally.confidence,
            frame=one.index,
            seconds=frame.ticks / source.rate,
        )
        with self._result.writing():
            self._place.publish(record, result)
        self._place.keep(record)
        return record

    def _end(self, error: Exception | None, start: float) -> Record:
        """End the result and return the record of the video."""
        try:
            made = self._result.end(rescue=False)
            if error is None and self._interrupted:
                error = self._broken_off("an interrupt")
            return self._published(made, error, start)
        except OSError as unwritable:
            if unwritable is self._result.unwritable:
                self._rescue(one_line(unwritable, self._output), start)
            raise

    def _rescue(self, why: str, start: float) -> None:
        """Keep the frames that were written before the run broke off, as far as that works."""
        made = self._result.end(rescue=True)
        if made is None:
            return
        with contextlib.suppress(OSError, DataError):
            self._place.keep(self._published(made, self._broken_off(why), start))
            return
        # On a full disk there may be no room for the line of the manifest.
        with contextlib.suppress(OSError):
            made.publish(self._output, check=_refuse)

    def _broken_off(self, why: str) -> DataError:
        rule, remedy = "must be labeled to its end", "run the same command again"
        got = f"{why} after {self._labeled} frames"
        return DataError(message(self._origin.input, rule, got, remedy))

    def _published(self, made: Publishable | None, error: Exception | None, start: float) -> Record:
        some = self._labeled + self._skipped > 0
        record = VideoRecord(
            **self._about(self._output.as_posix(), None if made is None else Stamp.of(made.path)),
            status="done" if error is None else "partial" if some else "failed",
            error=None if error is None else one_line(error, Path(self._origin.input)),
            milliseconds=round(1000 * (time.perf_counter() - start), 3),
            pixels=self._tally.pixels if self._labeled else None,
            confidence=self._tally.confidence,
            frames=self._labeled + self._skipped,
            dropped=self._dropped,
            seconds=self._seconds(),
            notes=self._notes(),
        )
        if made is not None:
            with self._result.writing():
                self._place.publish(record, made)
        return record

    def _seconds(self) -> float | None:
        if self._times is None or self._source is None:
            return None
        return (self._times[1] - self._times[0]) / self._source.rate

    def _notes(self) -> tuple[str, ...]:
        source = self._source
        if source is None:
            return ()
        notes = self._result.notes()
        if source.has_sound:
            notes.insert(0, "the sound is not kept")
        if source.guessed:
            notes.append(
                f"{source.guessed} frames had no time stamp, or no later one: each was put behind "
                "the frame before it"
            )
        return tuple(notes)

    def _about(self, output: str, stamp: Stamp | None) -> dict[str, Any]:
        """Return the parts that the records of a video and of its frames share."""
        return {
            "input": self._origin.input,
            "input_path": self._origin.input_path,
            "input_stamp": self._origin.input_stamp,
            "input_sha256": self._origin.input_sha256,
            "output": output,
            "output_stamp": stamp,
            "size": self._size,
            "options": self._context.options,
            "model_sha256": self._context.model_sha256,
            "time_ns": time.time_ns(),
        }
