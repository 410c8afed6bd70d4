"""One picture of a folder run: from its file to the model, and from the model to its result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import DataError, FcnkitError, message
from fcnkit.runtime.pixels.tiling import TilePlan
from fcnkit.runtime.predict.identity import Origin, Stamp
from fcnkit.runtime.predict.inputs import Job
from fcnkit.runtime.predict.levels import SAY_IN_TRAINING, RangeWarner
from fcnkit.runtime.predict.manifest import Options, Record
from fcnkit.runtime.predict.outputs import Output, Staging, open_output
from fcnkit.runtime.predict.passes import BandPass, ImageRows, Rows, WholePass, tiles_at_once
from fcnkit.runtime.predict.picture_file import open_picture
from fcnkit.runtime.predict.pictures import read_levels
from fcnkit.runtime.predict.pipeline import Work
from fcnkit.runtime.predict.rows import FileRows, open_rows
from fcnkit.runtime.predict.segmenter import Segmenter

__all__ = ["FileTask", "Place", "RunContext"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the results of one run go."""

    staging: Staging
    announce: Callable[[Record], None]
    """Called on any thread before a result comes under its name."""
    keep: Callable[[Record], None]
    """Called on the caller's thread for every picture, in the order of the records."""


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What the pictures of one run have in common."""

    segmenter: Segmenter
    options: Options
    model_sha256: str
    max_pixels: int
    warn: RangeWarner = field(default_factory=lambda: RangeWarner(SAY_IN_TRAINING))

    def begin(self, job: Job, place: Place) -> Work[FileTask]:
        """Read a picture and cut it into tiles; any thread.

        Args:
            job: The picture.
            place: Where its result goes.

        Returns:
            The picture, or the error that it has instead.
        """
        task = FileTask(self, job, place)
        try:
            return task.begin()
        except (ValueError, OSError, MemoryError, ImportError) as error:
            return Work(task, None, error)


class FileTask:
    """One picture on its way to its result."""

    def __init__(self, context: RunContext, job: Job, place: Place) -> None:
        self._context, self._job, self._place = context, job, place
        self._origin = Origin.of(job.source)
        self._size: tuple[int, int] | None = None
        self._whole: tuple[NDArray[np.uint8], WholePass] | None = None
        self._file: tuple[Path, Output, Callable[[], None]] | None = None
        self._rows: FileRows | None = None
        self._unwritable: OSError | None = None
        """Why the result could not be written, where the picture is not to blame."""

    def begin(self) -> Work[FileTask]:
        """Read the picture; see ``RunContext.begin``.

        Raises:
            ValueError: It cannot be read, or the model cannot cover it.
            OSError: It cannot be read, or its result cannot be begun.
        """
        segmenter, source = self._context.segmenter, self._job.source
        rows = self._large_rows()
        if rows is not None:
            self._rows = rows
            self._size = (rows.height, rows.width)
            plan = segmenter.plan(*self._size)
            return Work(self, self._bands(rows, plan))
        image_hwc, seen = read_levels(
            source, max_pixels=self._context.max_pixels, range=segmenter.spec.range
        )
        self._context.warn(str(source), seen)
        start = time.perf_counter()
        self._size = (image_hwc.shape[0], image_hwc.shape[1])
        plan = segmenter.plan(*self._size)
        if len(plan) > tiles_at_once(segmenter.spec, plan):
            return Work(self, self._bands(ImageRows(image_hwc), plan))
        # One thread: another picture is begun or finished beside this one.
        picture = WholePass(image_hwc, plan, segmenter.spec, threads=1)
        self._whole = (image_hwc, picture)
        return Work(self, picture, seconds=time.perf_counter() - start)

    def _large_rows(self) -> FileRows | None:
        """Return the picture row by row, where it is too large to be held and tiles are given."""
        if self._context.segmenter.tile is None:
            return None
        source, limit = self._job.source, self._context.max_pixels
        try:
            with open_picture(source, max_pixels=1 << 62) as picture:
                if picture.width * picture.height <= limit:
                    return None
        except DataError:
            if not source.is_file():
                raise  # opening a pipe would wait for a writer
            # Pillow refuses some large files, and TIFFs that it does not know. Both may still be
            # read row by row.
            rows = self._rows_or_none()
            return rows if rows is not None and rows.width * rows.height > limit else None
        return open_rows(source, range=self._context.segmenter.spec.range)

    def _rows_or_none(self) -> FileRows | None:
        try:
            return open_rows(self._job.source, range=self._context.segmenter.spec.range)
        except (FcnkitError, OSError):
            return None

    def _bands(self, rows: Rows, plan: TilePlan) -> BandPass:
        segmenter = self._context.segmenter

        def write(image_hwc: NDArray[np.uint8], labels_hw: NDArray[np.uint8]) -> None:
            with self._writing():
                # Opened only now: a picture that waits for the model may be dropped.
                output = self._file[1] if self._file else self._open()
                output.write(image_hwc, labels_hw)

        return BandPass(rows, plan, segmenter.spec, write, threads=segmenter.threads)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Remember what fails with the result, and name the file: a failed write does not."""
        try:
            yield
        except OSError as error:
            if error.filename is None:
                error.filename = str(self._job.output)
            self._unwritable = error
            raise

    def _open(self) -> Output:
        assert self._size is not None
        path = self._place.staging.path()
        format, spec = self._context.options.format, self._context.segmenter.spec
        output, drop = open_output(path, *self._size, spec, format=format)
        self._file = (path, output, drop)
        return output

    def finish(self, error: Exception | None, seconds: float) -> Record:
        """Write the model's result, or drop what there is of it; any thread.

        Args:
            error: Why there is nothing to write.
            seconds: Time spent on the picture so far.

        Returns:
            The line for the manifest.

        Raises:
            OSError: The result cannot be written.
            DataError: It would replace another picture's, written meanwhile.
        """
        if error is not None:
            self._drop()
            if self._unwritable is not None and error is self._unwritable:
                raise self._unwritable
            return self._record(error=error)
        try:
            with self._writing():
                seconds += self._write()
                assert self._file is not None
                path, output, _ = self._file
                output.close()
                # Renaming does not change the stamp.
                record = self._record(seconds=seconds, output_stamp=Stamp.of(path))
                self._place.announce(record)
                self._place.staging.publish(path, self._job.output)
        except BaseException:
            self._drop()
            raise
        if self._rows is not None:
            self._context.warn(str(self._job.source), self._rows.seen)
        return record

    def _write(self) -> float:
        """Write a picture that came whole; return the seconds that its labels took."""
        if self._whole is None:
            return 0.0
        (image_hwc, picture), self._whole = self._whole, None
        start = time.perf_counter()
        labels_hw = picture.labels()
        seconds = time.perf_counter() - start
        self._open().write(image_hwc, labels_hw)
        return seconds

    def _drop(self) -> None:
        if self._file is not None:
            path, _, drop = self._file
            with contextlib.suppress(OSError):
                drop()
            path.unlink(missing_ok=True)

    def _record(
        self,
        *,
        seconds: float | None = None,
        output_stamp: Stamp | None = None,
        error: Exception | None = None,
    ) -> Record:
        return Record(
            input=self._origin.input,
            input_path=self._origin.input_path,
            input_stamp=self._origin.input_stamp,
            status="done" if error is None else "failed",
            output=self._job.output.as_posix(),
            output_stamp=output_stamp,
            size=self._size,
            milliseconds=None if seconds is None else round(1000 * seconds, 3),
            error=None if error is None else _one_line(error, self._job.source),
            options=self._context.options,
            model_sha256=self._context.model_sha256,
        )


def _one_line(error: Exception, source: Path) -> str:
    if isinstance(error, MemoryError):
        return message(str(source), "must fit into memory", "too large a picture", "pass --tile")
    return " ".join(str(error).split()) or type(error).__name__
