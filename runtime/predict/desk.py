"""A worker's side of a run, in whatever process: it labels inputs and says what it made.

Results go into the folder of the run, under names that begin with a prefix of the worker. The
leading process puts them under their own names.
"""

from __future__ import annotations

import pickle
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from fcnkit.errors import DataError, message
from fcnkit.runtime.predict.file_task import Place
from fcnkit.runtime.predict.jobs import Job
from fcnkit.runtime.predict.levels import LevelsSeen
from fcnkit.runtime.predict.manifest import Options, Record
from fcnkit.runtime.predict.pipeline import default_workers
from fcnkit.runtime.predict.run import FolderRun, RunControl, RunRequest
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.runtime.predict.staging import Publishable, Staging

__all__ = [
    "Answer",
    "Broken",
    "Desk",
    "Doubt",
    "Flushed",
    "FrameDone",
    "Made",
    "Opened",
    "Ready",
    "Took",
    "Warned",
    "portable",
]


@dataclass(frozen=True)
class Opened:
    """The model is open."""

    facts: dict[str, Any]


@dataclass(frozen=True)
class Ready:
    """The run has begun."""

    options: Options


@dataclass(frozen=True)
class Took:
    """A task is begun, and there is room for the next one."""


@dataclass(frozen=True)
class Made:
    """A record, and the file of its result in the folder of the run."""

    record: Record
    name: str | None
    has_bands: bool = False
    """Whether bands of the image stay until the result is under its name."""


@dataclass(frozen=True)
class FrameDone:
    """A frame of a video is labeled; see ``OnFrame``."""

    video: str
    labeled: int
    total: int | None


@dataclass(frozen=True)
class Warned:
    """A warning was given."""

    category: type[Warning]
    text: str


@dataclass(frozen=True)
class Doubt:
    """The range of an image had to be assumed; see ``RangeWarner``."""

    what: str
    seen: LevelsSeen


@dataclass(frozen=True)
class Flushed:
    """All tasks before a flush are answered, or were not begun before a stop."""

    peak_mb: float | None


@dataclass(frozen=True)
class Broken:
    """The model could not be opened, or the run cannot begin or go on."""

    error: Exception


Answer: TypeAlias = Opened | Ready | Took | Made | FrameDone | Warned | Doubt | Flushed | Broken


def portable(error: Exception) -> Exception:
    """Return an error that another process can read; its frames stay here."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # some libraries raise what cannot be pickled, or not be read again
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class Desk:
    """Where a worker does the tasks of one run."""

    def __init__(
        self,
        segmenter: Segmenter,
        request: RunRequest,
        *,
        prefix: str,
        send: Callable[[Answer], None],
        stop: threading.Event | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            segmenter: The model.
            request: What is made of the inputs.
            prefix: What the names of this worker's files begin with.
            send: Takes the answers; on any thread.
            stop: Once set, nothing is begun any more.

        Raises:
            TypeError: As for ``predict_files``.
            ValueError: As for ``predict_files``.
        """
        if request.workers is None:
            # The cores are divided: beside a GPU, each process decodes with its share of them.
            most = max(2, segmenter.threads)
            request = replace(request, workers=min(default_workers(segmenter.backend), most))
        control = RunControl(stop=stop or threading.Event(), on_frame=self._on_frame)
        self._run = FolderRun(segmenter, request, control)
        self._run.context = replace(self._run.context, warn=self._doubt)
        self._prefix, self._send = prefix, send
        self._place: Place | None = None
        self._files: dict[str, str] = {}
        """Names of whole files by the names of their results."""
        self._with_bands: set[str] = set()
        """Names of results whose bands stay until the leader has put them there."""

    @property
    def options(self) -> Options:
        """What results depend on besides the image and the model."""
        return self._run.options

    def into(self, out: Path, name: str, *, resume: bool) -> None:
        """Say where results are written, before the first task.

        Args:
            out: The output folder.
            name: Of the folder in it where they are written until they are whole.
            resume: Whether bands that earlier runs labeled of a large image count.

        Raises:
            DataError: This machine does not see the folder.
        """
        if not (out / name).is_dir():
            rule, remedy = "every worker must see the output folder", "put it on a shared disk"
            raise DataError(message(str(out), rule, f"none on {socket.gethostname()}", remedy))
        staging = Staging.shared(out, name=name, prefix=self._prefix)
        self._place = Place(
            staging=staging,
            publish=self._publish,
            keep=self._keep,
            resume=resume,
            leave_bands=self._with_bands.add,
        )

    def images(self, jobs: Iterable[Job]) -> None:
        """Label images; asks for the next one as the run comes to it."""
        assert self._place is not None
        for _ in self._run.records(jobs, self._place):
            pass

    def video(self, job: Job, done: frozenset[str] = frozenset()) -> None:
        """Label a video.

        Args:
            job: The video.
            done: Names of the images of its frames that need not be made again.
        """
        assert self._place is not None
        for _ in self._run.video(job, self._place, lambda _, output: output.name in done):
            pass

    def _publish(self, record: Record, result: Publishable) -> None:
        self._files[record.output] = result.path.name

    def _keep(self, record: Record) -> None:
        has_bands = record.output in self._with_bands
        self._with_bands.discard(record.output)
        self._send(Made(record, self._files.pop(record.output, None), has_bands))

    def _on_frame(self, video: str, labeled: int, total: int | None) -> None:
        self._send(FrameDone(video, labeled, total))

    def _doubt(self, what: str, seen: LevelsSeen | None) -> None:
        if seen is not None and seen.doubtful:
            self._send(Doubt(what, seen))
