"""One run on a Ray cluster: tasks of a few inputs, and what becomes of those that are lost."""

from __future__ import annotations

import pickle
import queue
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from fcnkit.errors import DataError, message
from fcnkit.runtime.predict.crew import MOST_DEATHS, check_alike, failed_record, publish_made
from fcnkit.runtime.predict.desk import Broken, Doubt, Made, Warned
from fcnkit.runtime.predict.file_task import Place
from fcnkit.runtime.predict.job_stream import Item, UntilError
from fcnkit.runtime.predict.jobs import Job
from fcnkit.runtime.predict.levels import SAY_IN_TRAINING, RangeWarner
from fcnkit.runtime.predict.manifest import Options, Record
from fcnkit.runtime.predict.ray_actor import RayActor, RayWork
from fcnkit.runtime.predict.run import RunControl
from fcnkit.runtime.predict.video_in import is_video
from fcnkit.runtime.predict.video_run import IsDone
from fcnkit.runtime.predict.worker import Into

__all__ = ["Cluster", "RayRun"]

_MOST_ROWS: Final = 128
"""Inputs of one task of Ray at most: what is lost with a worker, and how late results come."""
_SLAB: Final = 200_000
"""Inputs whose names Ray holds at a time."""


class Cluster:
    """A Ray cluster, and the room that this program takes in it."""

    def __init__(self, ray: Any, *, threads: int, gpus: float, processes: int | None) -> None:
        """Look how much room there is.

        Args:
            ray: The module, connected.
            threads: Cores of a worker.
            gpus: Share of a GPU of a worker.
            processes: Workers at most; None for as many as there is room for.
        """
        self.ray = ray
        # Beside a GPU, Ray counts GPUs alone.
        self.room: dict[str, float] = {"num_cpus": 0 if gpus else threads, "num_gpus": gpus}
        found = ray.cluster_resources()
        most = found.get("GPU", 0) / gpus if gpus else found.get("CPU", 0) // threads
        self.processes = processes or max(1, int(most))
        self._told: dict[tuple[str, int], dict[str, Any]] = {}

    def labeled(self, rows: Sequence[Mapping[str, str]], work: RayWork, *, each: int) -> Any:
        """Return a data set of answers, to be computed as it is read.

        Args:
            rows: ``source`` and ``output`` of every input.
            work: The run.
            each: Inputs of one task.
        """
        data = self.ray.data
        # As many for every worker: Ray makes them about equally large.
        turns = -(-len(rows) // (each * self.processes))
        blocks = min(len(rows), turns * self.processes)
        workers = min(self.processes, blocks)
        pool = data.ActorPoolStrategy(
            # A worker that cannot start, as where a node is lost, holds up nobody.
            min_size=1,
            max_size=workers,
            initial_size=workers,
            max_tasks_in_flight_per_actor=2,
        )
        dataset = data.from_items(list(rows), override_num_blocks=blocks).map_batches(
            RayActor,
            fn_constructor_args=(work,),
            batch_size=None,
            compute=pool,
            **self.room,
            max_restarts=-1,
            max_task_retries=MOST_DEATHS - 1,
        )
        # A task whose workers have died is left out; the run sees what is missing.
        dataset.context.max_errored_blocks = -1
        dataset.context.enable_progress_bars = False
        return dataset

    def rows_each(self, count: int, batch: int | None) -> int:
        """Return how many inputs go into one task: some tasks for every worker, filled batches."""
        fair = -(-count // (8 * self.processes))
        return max(batch or 1, min(_MOST_ROWS, fair))

    def note(self, told: Mapping[str, Any]) -> None:
        """Add up what a worker said of itself."""
        key = (str(told["node"]), int(told["process"]))
        before = self._told.get(key, {"answered": 0})
        self._told[key] = {**told, "answered": before["answered"] + told["answered"]}

    def told(self) -> list[dict[str, Any]]:
        """Return what workers have said of themselves, by node and process."""
        return [self._told[key] for key in sorted(self._told)]


class RayRun:
    """One run on a Ray cluster; see ``Labeling``."""

    def __init__(
        self,
        cluster: Cluster,
        work: RayWork,
        options: Options,
        control: RunControl,
    ) -> None:
        self._cluster, self._work = cluster, work
        self.options = options
        """What results depend on besides the image and the model."""
        # It tells of no frames: records come when a task is done.
        self._control = control
        self._failed = False
        self._doubt, self._said = RangeWarner(SAY_IN_TRAINING), set[str]()

    sees_this_machine = False
    """See ``Labeling``."""

    def labeled(self, items: Iterable[Item], place: Place, is_done: IsDone) -> Iterator[Record]:
        """Do the work, videos last; see ``Labeling.labeled``."""
        del is_done  # of frames, which are refused
        staging = place.staging
        into = Into(staging.out.absolute(), staging.folder.name, place.resume)
        self._work = replace(self._work, into=into)
        until_error = UntilError(items)
        pictures: list[Job] = []
        videos: list[Job] = []
        for item in until_error:
            if not isinstance(item, Job):
                yield from item
                continue
            (videos if is_video(item.source) else pictures).append(item)
            if len(pictures) == _SLAB:
                yield from self._kept(pictures, place)
                pictures = []
            if self._halted():
                return
        for some in (pictures, videos):
            if some and not self._halted():
                yield from self._kept(some, place, one_by_one=some is videos)
        until_error.check()

    def _kept(
        self, jobs: Sequence[Job], place: Place, *, one_by_one: bool = False
    ) -> Iterator[Record]:
        for record, name in self._slab(jobs, one_by_one=one_by_one):
            publish_made(place, record, name)
            yield record

    def _halted(self) -> bool:
        return self._failed or self._control.stop.is_set()

    def _slab(
        self, jobs: Sequence[Job], *, one_by_one: bool
    ) -> Iterator[tuple[Record, str | None]]:
        """Yield the records of some inputs, and the files of their results."""
        left = {job.output_name: job for job in jobs}
        each = 1 if one_by_one else self._cluster.rows_each(len(left), self._work.request.batch)
        # Tasks whose workers died again and again come again, with one input each.
        for size in dict.fromkeys((each, 1)):
            for made in self._answers(list(left.values()), size):
                job = left.pop(made.record.output, None)
                if job is None:
                    continue  # computed twice
                record = _as_given(made.record, job)
                check_alike(self.options, record.options)
                self._failed |= self._control.fail_fast and record.status != "done"
                yield record, made.name
            if not left or self._halted():
                return
        for job in left.values():
            self._failed |= self._control.fail_fast
            rule, remedy = "a worker must survive an input", "label it alone to see why"
            got = f"{MOST_DEATHS} workers that died with it"
            error = DataError(message(job.input_name, rule, got, remedy))
            yield failed_record(job, error, self.options, self._work.request), None

    def _answers(self, jobs: Sequence[Job], each: int) -> Iterator[Made]:
        rows = [{"source": str(job.file.absolute()), "output": job.output_name} for job in jobs]
        dataset = self._cluster.labeled(rows, self._work, each=each)
        for row in _beside(dataset, self._halted):
            told, answers = pickle.loads(row)
            self._cluster.note(told)
            for answer in answers:
                match answer:
                    case Made():
                        yield answer
                    case Doubt(what, seen):
                        self._doubt(what, seen)
                    case Warned(category, text) if text not in self._said:
                        self._said.add(text)
                        warnings.warn(text, category, stacklevel=2)
                    case Broken(error):
                        raise error


def _as_given(record: Record, job: Job) -> Record:
    """Return a record that names the input as it was given here, not as the nodes were told."""
    sent, given = str(job.file.absolute()), job.input_name
    error = record.error
    if error is not None and sent != given:
        error = error.replace(sent, given)
    return replace(record, input=given, error=error)


def _beside(dataset: Any, halted: Callable[[], bool]) -> Iterator[bytes]:
    """Yield the rows of a data set, read by another thread, so that a halt is seen at once."""
    rows: queue.Queue[bytes | BaseException | None] = queue.Queue(maxsize=2)
    left = threading.Event()

    def put(one: bytes | BaseException | None) -> None:
        while not left.is_set():
            try:
                rows.put(one, timeout=0.2)
            except queue.Full:
                continue
            return

    def read() -> None:
        try:
            for batch in dataset.iter_batches(batch_size=None, batch_format="numpy"):
                for row in batch["answers"].tolist():
                    put(row)
                if left.is_set():
                    return
            put(None)
        except BaseException as error:  # raised by the thread that takes the rows
            put(error)

    threading.Thread(target=read, daemon=True, name="fcnkit-ray").start()
    try:
        while not halted():
            try:
                one = rows.get(timeout=0.2)
            except queue.Empty:
                continue
            if one is None:
                return
            if isinstance(one, BaseException):
                raise one
            yield one
    finally:
        left.set()
