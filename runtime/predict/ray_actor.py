"""The worker of a Ray cluster: an actor that opens the model once and labels task after task."""

from __future__ import annotations

import os
import pickle
import secrets
import socket
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcnkit.errors import DataError, FcnkitWarning, message
from fcnkit.runtime.machine import peak_memory_mb
from fcnkit.runtime.predict.crew import ModelRequest, facts_of
from fcnkit.runtime.predict.desk import Answer, Broken, Desk, Doubt, Made, Warned, portable
from fcnkit.runtime.predict.jobs import Job
from fcnkit.runtime.predict.manifest import Options
from fcnkit.runtime.predict.run import RunRequest
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.runtime.predict.video_in import is_video
from fcnkit.runtime.predict.worker import Into

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["RayActor", "RayWork", "tried"]


@dataclass(frozen=True, kw_only=True)
class RayWork:
    """What the actors of one run need."""

    model: ModelRequest
    request: RunRequest
    into: Into | None
    """Where results are written; None before it is there."""


def tried(work: RayWork) -> tuple[dict[str, Any], Options] | Broken:
    """Open the model in the cluster and say how it runs there."""
    try:
        with work.model.open() as segmenter:
            desk = Desk(segmenter, work.request, prefix="", send=lambda _: None)
            return facts_of(segmenter), desk.options
    except Exception as error:  # raised by the leader, without Ray's own around it
        return Broken(portable(error))


class RayActor:
    """A worker: opens the model with its first task, and keeps it."""

    def __init__(self, work: RayWork) -> None:
        self._work = work
        self._segmenter: Segmenter | None = None
        self._desk: Desk | None = None
        self._answers: list[Answer] = []

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.object_]]:
        """Label the inputs of one task; returns one row, the pickled answers."""
        import numpy as np

        self._answers = []
        pairs = zip(batch["source"].tolist(), batch["output"].tolist(), strict=True)
        jobs = [Job(Path(source), Path(output)) for source, output in pairs]
        with warnings.catch_warnings():
            warnings.filterwarnings("always", category=FcnkitWarning)
            warnings.showwarning = self._warned
            try:
                self._label(jobs)
            except Exception as error:  # the leader ends the run with it
                self._answers.append(Broken(portable(error)))
        told = {
            "node": socket.gethostname(),
            "process": os.getpid(),
            "answered": sum(isinstance(answer, Made) for answer in self._answers),
            "peak_memory_mb": peak_memory_mb(),
        }
        row = np.empty(1, object)
        row[0] = pickle.dumps((told, self._answers))
        return {"answers": row}

    def _label(self, jobs: Sequence[Job]) -> None:
        if self._desk is None:
            into = self._work.into
            assert into is not None  # the run is under way
            if not (into.out / into.name).is_dir():
                rule, remedy = "every node must see the output folder", "put it on a shared disk"
                got = f"none on {socket.gethostname()}"
                raise DataError(message(str(into.out), rule, got, remedy))
            self._segmenter = self._work.model.open()
            self._desk = Desk(
                self._segmenter,
                self._work.request,
                prefix=f"{secrets.token_hex(8)}-",
                send=self._take,
            )
            self._desk.into(into.out, into.name, resume=into.resume)
        self._desk.images(job for job in jobs if not is_video(job.source))
        for job in jobs:
            if is_video(job.source):
                self._desk.video(job)

    def _take(self, answer: Answer) -> None:
        if isinstance(answer, Made | Doubt):
            self._answers.append(answer)

    def _warned(self, message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, FcnkitWarning):
            self._answers.append(Warned(category, str(message)))
