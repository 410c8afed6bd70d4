"""What several processes that label the inputs of one run have in common, wherever they run.

One process leads: it holds the manifest, puts results under their names and counts. The others
hold the model, and write results into the folder of the run. A result that its worker could not
report is never published, so lost work is done again without a trace.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from fcnkit.errors import DataError, message
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.closing import Closing
from fcnkit.runtime.predict.band_store import BandFolder
from fcnkit.runtime.predict.covering import CoverRequest
from fcnkit.runtime.predict.desk import Made
from fcnkit.runtime.predict.file_task import Place, one_line
from fcnkit.runtime.predict.identity import Origin
from fcnkit.runtime.predict.job_stream import Item
from fcnkit.runtime.predict.jobs import Job
from fcnkit.runtime.predict.manifest import Options, Record
from fcnkit.runtime.predict.opening import open_segmenter
from fcnkit.runtime.predict.run import RunControl, RunRequest
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.runtime.predict.video_in import is_video
from fcnkit.runtime.predict.video_records import VideoRecord
from fcnkit.runtime.predict.video_run import IsDone

__all__ = [
    "MOST_DEATHS",
    "Crew",
    "Labeling",
    "ModelRequest",
    "check_alike",
    "facts_of",
    "failed_record",
    "publish_made",
]

MOST_DEATHS: Final = 3
"""An input that so often was with a worker that died is not tried again."""


def _nothing() -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class ModelRequest:
    """A model and how each process opens it."""

    path: str
    backend: BackendRequest = field(default_factory=BackendRequest)
    covering: CoverRequest = field(default_factory=CoverRequest)
    prepare: Callable[[], object] = _nothing
    """Called in each process first; it can be pickled."""

    def open(self) -> Segmenter:
        """Open the model in this process."""
        self.prepare()
        return open_segmenter(self.path, self.backend, self.covering)


def facts_of(segmenter: Segmenter) -> dict[str, Any]:
    """Return how a model covers images and what runs it, as plain data for reports."""
    tile = segmenter.tile
    return {
        "cover": segmenter.cover,
        "tile": None if tile is None else f"{tile[0]}x{tile[1]}",
        "overlap": segmenter.overlap,
        "tta": segmenter.tta,
        "backend": segmenter.backend.name,
        **segmenter.backend.details,
    }


class Labeling(Protocol):
    """One run that is about to begin."""

    @property
    def sees_this_machine(self) -> bool:
        """Whether all its processes see the temporary files of this machine."""

    @property
    def options(self) -> Options:
        """What results depend on besides the image and the model."""

    def labeled(self, items: Iterable[Item], place: Place, is_done: IsDone) -> Iterator[Record]:
        """Label images and videos as they come; an error of theirs waits for what was begun.

        Args:
            items: What is to be done, and records of what earlier runs did, which go along.
            place: Where results go.
            is_done: Tells of the images of frames that need not be made again.

        Yields:
            The records, each kept by ``place`` before.
        """


class Crew(Closing):
    """Processes that hold a model open; one run at a time uses them."""

    @property
    @abstractmethod
    def facts(self) -> Mapping[str, Any]:
        """Of ``facts_of``; where the processes run the model, all their devices."""

    @abstractmethod
    def begin(self, request: RunRequest, control: RunControl) -> Labeling:
        """Prepare a run; see ``predict_files``.

        Args:
            request: What is made of the inputs.
            control: What the run obeys.

        Raises:
            TypeError: As for ``predict_files``.
            ValueError: As for ``predict_files``.
            FcnkitError: A process has ended.
        """

    @abstractmethod
    def told(self) -> list[dict[str, Any]]:
        """Return what is known of each process: where it runs, what it did, its peak memory."""

    @abstractmethod
    def abandon(self) -> None:
        """End the processes at once; a run ends with what they have said. For signal handlers."""

    @abstractmethod
    def close(self) -> None:
        """End the processes; closing twice is fine."""


def check_alike(before: Options | None, options: Options) -> Options:
    """Return the options of all workers of a run, or refuse those of one that differs.

    Args:
        before: Of the others; None where there are none.
        options: Of one worker.

    Raises:
        DataError: It would give other results.
    """
    if before is not None and options != before:
        rule, remedy = "all workers must run the model alike", "name --backend and --compute"
        got = f"{before.backend} in {before.compute} and {options.backend} in {options.compute}"
        raise DataError(message("predict", rule, got, remedy))
    return options


def publish_made(place: Place, made: Made) -> None:
    """Put what a worker made under its name, and keep its record.

    Args:
        place: Of the run.
        made: From the worker.

    Raises:
        DataError: It would replace the result of another image.
        OSError: The file or the line cannot be written.
    """
    record = made.record
    if made.name is not None:
        try:
            place.publish(record, place.staging.file(made.name))
        except OSError as error:
            if error.filename is None:
                error.filename = record.output
            raise
    place.keep(record)
    if made.has_bands:  # only now: a kill of this process loses none
        BandFolder(place.staging.out).forget(record.output)


def failed_record(job: Job, error: Exception, options: Options, request: RunRequest) -> Record:
    """Return the line of an input that no worker could label."""
    origin = Origin.of(job.file, hashed=request.hash_inputs)
    what: dict[str, Any] = {
        "input": origin.input,
        "input_path": origin.input_path,
        "input_stamp": origin.input_stamp,
        "status": "failed",
        "output": job.output_name,
        "output_stamp": None,
        "size": None,
        "milliseconds": None,
        "error": one_line(error, job.file),
        "options": options,
        "model_sha256": request.model_sha256,
        "time_ns": time.time_ns(),
    }
    if is_video(job.source):
        return VideoRecord(**what, frames=0, dropped=0, seconds=None, notes=())
    return Record(**what)
