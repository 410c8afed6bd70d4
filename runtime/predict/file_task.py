"""One picture of a folder run: from its file to the model, and from the model to its result."""

from __future__ import annotations

import contextlib
import math
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import DataError, FcnkitError, message
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.pixels.tile_plan import TilePlan
from fcnkit.runtime.predict.band_store import BandFolder, BandStore
from fcnkit.runtime.predict.beside import RowsAhead, SinkBehind
from fcnkit.runtime.predict.continuing import continued
from fcnkit.runtime.predict.georeference import FileFacts
from fcnkit.runtime.predict.identity import Origin
from fcnkit.runtime.predict.inputs import Job
from fcnkit.runtime.predict.levels import SAY_IN_TRAINING, RangeWarner, WarnOfRange
from fcnkit.runtime.predict.manifest import Options, Record
from fcnkit.runtime.predict.outputs import FORMATS, OutputRequest
from fcnkit.runtime.predict.passes import ROWS_AT_ONCE, Pass, Rows, Sink
from fcnkit.runtime.predict.picture_file import open_picture, too_large
from fcnkit.runtime.predict.pictures import Reading, take_image
from fcnkit.runtime.predict.pipeline import Finished, Work
from fcnkit.runtime.predict.region import Region, mask_stamp
from fcnkit.runtime.predict.results import Results, Tally
from fcnkit.runtime.predict.rows import FileRows, open_rows, read_all
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.runtime.predict.staging import Publishable, StagedOutput, Staging
from fcnkit.runtime.predict.stamp import Stamp

__all__ = ["FileTask", "Place", "RunContext", "one_line"]


_LABEL_OPTIONS: Final = (
    *("cover", "tile", "overlap", "backend", "compute", "tta", "confidence"),
    *("window", "nodata", "mask"),
)
"""Options that the labels of the model depend on, before other classes are made of them."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the results of one run go."""

    staging: Staging
    publish: Callable[[Record, Publishable], None]
    """Called on any thread with a whole result: puts it under its name, or raises a DataError
    where that would replace another image's."""
    keep: Callable[[Record], None]
    """Called on the caller's thread for every image, in the order of the records."""
    resume: bool = True
    """Whether bands that earlier runs labeled of a large image count."""
    leave_bands: Callable[[str], object] | None = None
    """Where another process puts results under their names: gets the names of those whose bands
    stay until then."""


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What the pictures of one run have in common."""

    segmenter: Segmenter
    options: Options
    results: Results
    model_sha256: str
    max_pixels: int
    region: Region = field(default_factory=Region)
    """Which pixels of every image are labeled."""
    warn: WarnOfRange = field(default_factory=lambda: RangeWarner(SAY_IN_TRAINING))
    hash_inputs: bool = False
    """Whether pictures are identified by their hash."""
    unfinished: set[FileTask] = field(default_factory=set)
    """Those whose result is being written."""

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

    def origin(self, source: Path) -> Origin:
        """Return the origin that a result of this picture has now."""
        return Origin.of(source, hashed=self.hash_inputs)

    def drop_unfinished(self) -> None:
        """End the results that an interruption left half written."""
        for task in list(self.unfinished):
            task.drop()


class FileTask:
    """One image on its way to its result."""

    def __init__(self, context: RunContext, job: Job, place: Place) -> None:
        self._context, self._job, self._place = context, job, place
        self._origin = context.origin(job.file)
        self._size: tuple[int, int] | None = None
        self._rows: FileRows | None = None
        """Of an image that is read row by row."""
        self._behind: SinkBehind | None = None
        """Writes the rows of such an image."""
        self._store: BandStore | None = None
        """Keeps them for the next run until the result is whole."""
        self._region = context.region
        self._facts: FileFacts | None = None
        self._mask_stamp = mask_stamp(context.region, job.output)
        self._result: StagedOutput | None = None
        self._tally = Tally(context.results.spec.classes)
        self._writing_seconds = 0.0
        self._unwritable: OSError | None = None
        """Why the result could not be written, where the image is not to blame."""

    def begin(self) -> Work[FileTask]:
        """Read the image; see ``RunContext.begin``.

        Raises:
            ValueError: It cannot be read, or the model cannot cover it.
            OSError: It cannot be read.
        """
        context, source = self._context, self._job.file
        self._region = context.region.of(self._job.output)
        rows = self._large_rows()
        if rows is not None and rows.height * rows.width > context.max_pixels:
            return self._begin_rows(rows)
        if rows is not None:  # a window that can be held
            image_hwc = read_all(rows)
            context.warn(str(source), rows.seen)
        else:
            spec = context.segmenter.spec
            how = Reading(
                max_pixels=context.max_pixels,
                range=spec.range,
                bands=spec.bands,
                region=self._region,
            )
            image_hwc = take_image(source, how, context.warn)
        self._size = (image_hwc.shape[0], image_hwc.shape[1])
        self._read_facts()
        start = time.perf_counter()
        plan = context.segmenter.plan(*self._size)
        one = self._begin(image_hwc, plan, self._write)
        return Work(self, one, seconds=time.perf_counter() - start)

    def _begin(self, source: NDArray[np.uint8] | Rows, plan: TilePlan, sink: Sink) -> Pass:
        context = self._context
        sure, shows = context.results.needs_confidence, FORMATS[context.options.format].shows_image
        return context.segmenter.begin(source, plan, sink, sure=sure, in_worker=True, shows=shows)

    def _read_facts(self) -> None:
        """Read what the result takes over; after the image was opened, so that it is not a pipe."""
        if FORMATS[self._context.options.format].keeps_place:
            self._facts = FileFacts.of(self._job.file, self._region.window)

    def _begin_rows(self, rows: FileRows) -> Work[FileTask]:
        """Begin an image that is read, labeled and written row by row."""
        self._rows, self._size = rows, (rows.height, rows.width)
        self._read_facts()
        plan = self._context.segmenter.plan(*self._size)
        self._behind = SinkBehind(self._write_band)
        self._context.unfinished.add(self)
        with self._writing():
            bands = BandFolder(self._place.staging.out, resume=self._place.resume)
            output = self._job.output.as_posix()
            self._store = bands.open(output, self._band_facts(plan), rows.width)
        ahead = RowsAhead(rows)
        if self._store is None:
            return Work(self, self._begin(ahead, plan, self._behind))
        return Work(self, continued(ahead, plan, self._store, self._behind, self._begin))

    def _band_facts(self, plan: TilePlan) -> dict[str, Any]:
        """Return what the labels of a band depend on."""
        options = asdict(self._context.options)
        stamps = {"image": self._origin.input_stamp, "mask": self._mask_stamp}
        return {
            **{name: stamp and asdict(stamp) for name, stamp in stamps.items()},
            "model": self._context.model_sha256,
            "options": {name: options[name] for name in _LABEL_OPTIONS},
            "size": self._size,
            "tiles": (plan.tile, zlib.crc32(repr((plan.tops, plan.lefts)).encode())),
        }

    def _large_rows(self) -> FileRows | None:
        """Return the picture row by row, where it is too large to be held and a part is not."""
        if self._context.segmenter.tile is None and self._region.window is None:
            return None
        source, limit = self._job.file, self._context.max_pixels
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
            if rows is None or math.prod(rows.whole) <= limit:
                return None
        else:
            rows = self._open_rows()
        if self._context.segmenter.tile is None and rows.width * rows.height > limit:
            raise too_large(source, (rows.height, rows.width), limit)
        return rows

    def _rows_or_none(self) -> FileRows | None:
        try:
            return self._open_rows()
        except (FcnkitError, OSError):
            return None

    def _open_rows(self) -> FileRows:
        spec = self._context.segmenter.spec
        return open_rows(self._job.file, range=spec.range, bands=spec.bands, region=self._region)

    def _write_band(self, image_hwc: NDArray[np.uint8], rows: Prediction) -> None:
        """Keep the next rows of a large image, and write them a few at a time."""
        if self._store is not None:
            with self._writing():
                self._store.add(rows)
        for top in range(0, len(rows.labels), ROWS_AT_ONCE):
            end = top + ROWS_AT_ONCE
            self._write(image_hwc[top:end], rows.rows(top, end))

    def _write(self, image_hwc: NDArray[np.uint8], rows: Prediction) -> None:
        start = time.perf_counter()
        rows = self._context.results.apply(rows)
        self._tally.add(rows)
        with self._writing():
            # Opened only now: an image that waits for the model may be dropped.
            if self._result is None:
                self._result = self._open()
                self._context.unfinished.add(self)
            self._result.write(image_hwc, rows)
        self._writing_seconds += time.perf_counter() - start

    def _open(self) -> StagedOutput:
        assert self._size is not None
        options = self._context.options
        request = OutputRequest(
            size=self._size,
            spec=self._context.results.spec,
            format=options.format,
            style=options.overlay,
            facts=self._facts,
        )
        return StagedOutput(self._place.staging, request)

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

    def finish(self, done: Finished[Any]) -> Record:
        """Write the model's result, or drop what there is of it; any thread.

        Args:
            done: This image, as it came out of the loop.

        Returns:
            The line for the manifest.

        Raises:
            OSError: The result cannot be written.
            DataError: It would replace another image's, written meanwhile.
        """
        if done.picture is None:
            assert done.error is not None
            self.drop(keep=not isinstance(done.error, DataError))
            if self._unwritable is not None:
                raise self._unwritable
            return self._record(error=done.error)
        try:
            start = time.perf_counter()
            done.picture.finish()
            seconds = done.seconds + time.perf_counter() - start
            if self._behind is None:
                seconds -= self._writing_seconds
            else:  # written beside the model
                self._behind.wait()
                self._behind = None  # see drop
            record = self._published(seconds)
        except BaseException as error:
            self.drop(keep=not isinstance(error, DataError))
            raise
        if self._rows is not None:
            self._context.warn(str(self._job.source), self._rows.seen)
        return record

    def _published(self, seconds: float) -> Record:
        result = self._result
        assert result is not None
        with self._writing():
            result.end()
            # Renaming does not change the stamp.
            record = self._record(seconds=seconds, output_stamp=Stamp.of(result.path))
            self._place.publish(record, result)
        self._context.unfinished.discard(self)
        if self._store is not None:
            leave = self._place.leave_bands
            if leave is not None:
                leave(record.output)
            self._store.close(keep=leave is not None)
        return record

    def drop(self, *, keep: bool = True) -> None:
        """Remove what is written of the result.

        Args:
            keep: Whether the bands of a large image stay for the next run: unless the image itself
                is to blame.
        """
        self._context.unfinished.discard(self)
        # It refers to this object. Without a break in the cycle, the image file would stay open.
        behind, self._behind = self._behind, None
        try:
            if behind is not None:
                with contextlib.suppress(Exception):  # the first error is on its way out already
                    behind.wait()
        finally:  # an interrupt may end the waiting
            if self._result is not None:
                self._result.drop()
            if self._store is not None:
                self._store.close(keep=keep)

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
            input_sha256=self._origin.input_sha256,
            status="done" if error is None else "failed",
            output=self._job.output.as_posix(),
            output_stamp=output_stamp,
            size=self._size,
            milliseconds=None if seconds is None else round(1000 * seconds, 3),
            error=None if error is None else one_line(error, self._job.file),
            pixels=None if error is not None else self._tally.pixels,
            confidence=None if error is not None else self._tally.confidence,
            mask_stamp=self._mask_stamp,
            options=self._context.options,
            model_sha256=self._context.model_sha256,
            time_ns=time.time_ns(),
        )


def one_line(error: Exception, source: Path) -> str:
    """Return the text of an error as one line; ``source`` is what it is about."""
    if isinstance(error, MemoryError):
        return message(str(source), "must fit into memory", "too large a picture", "pass --tile")
    return " ".join(str(error).split()) or type(error).__name__
