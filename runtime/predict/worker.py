"""A worker: it opens the model and does what the leading process orders.

The orders are the classes below, the answers those of ``desk.py``.
"""

from __future__ import annotations

import os
import signal
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias

from fcnkit.errors import FcnkitWarning
from fcnkit.runtime.machine import peak_memory_mb
from fcnkit.runtime.predict.crew import ModelRequest, facts_of
from fcnkit.runtime.predict.desk import (
    Answer,
    Broken,
    Desk,
    Flushed,
    Opened,
    Ready,
    Took,
    Warned,
    portable,
)
from fcnkit.runtime.predict.jobs import Job
from fcnkit.runtime.predict.run import RunRequest
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.runtime.predict.video_in import is_video

__all__ = ["Begin", "Close", "Flush", "Into", "Link", "Order", "Stop", "Task", "serve", "work"]


@dataclass(frozen=True)
class Begin:
    """A run begins."""

    request: RunRequest
    prefix: str
    """What the names of the worker's files begin with."""


@dataclass(frozen=True)
class Into:
    """Where results are written; before the first task. See ``Desk.into``."""

    out: Path
    name: str
    resume: bool


@dataclass(frozen=True)
class Task:
    """An image or video to label."""

    job: Job
    done: frozenset[str] = frozenset()
    """Of a video: names of the images of its frames that need not be made again."""


@dataclass(frozen=True)
class Flush:
    """Finish what is under way: nothing follows for now."""

    stopped: bool = False
    """Whether it follows a stop, which it ends."""


@dataclass(frozen=True)
class Stop:
    """Begin nothing more; a flush follows."""


@dataclass(frozen=True)
class Close:
    """End."""


_Queued: TypeAlias = Begin | Into | Task | Flush | Close
Order: TypeAlias = Begin | Into | Task | Flush | Stop | Close


class Link(ABC):
    """The way between a worker and the leader."""

    def __init__(self) -> None:
        self.orders: SimpleQueue[_Queued] = SimpleQueue()
        self.stop = threading.Event()

    def receive(self, order: Order) -> None:
        """Take an order, so that a stop is seen at once; any thread."""
        if isinstance(order, Stop):
            self.stop.set()
        else:
            self.orders.put(order)

    @abstractmethod
    def send(self, answer: Answer) -> None:
        """Say something; any thread."""

    def wait_for_close(self) -> None:
        """Wait until the leader has read what was said."""
        while not isinstance(self.orders.get(), Close):
            pass


class _Pipe(Link):
    """The connection to a leader on this machine."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection, self._sending = connection, threading.Lock()
        threading.Thread(target=self._read, daemon=True, name="fcnkit-orders").start()

    def _read(self) -> None:
        while True:
            try:
                self.receive(self._connection.recv())
            except (EOFError, OSError):
                os._exit(1)  # the leader is gone: nothing takes the results

    def send(self, answer: Answer) -> None:
        """Say something; any thread."""
        try:
            with self._sending:
                self._connection.send(answer)
        except OSError:
            os._exit(1)


def work(connection: Connection, request: ModelRequest) -> None:
    """Serve the leader until it says ``Close``; the target of a process.

    Args:
        connection: To the leader. Its end ends this process at once, whatever it does.
        request: The model to open.
    """
    # Ctrl-C and Slurm's SIGTERM go to all processes of a group. The leader says what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serve(_Pipe(connection), request)


def serve(link: Link, request: ModelRequest) -> None:
    """Open the model and follow orders until ``Close``.

    Args:
        link: To the leader.
        request: The model to open.
    """
    _forward_warnings(link)
    try:
        with request.open() as segmenter:
            link.send(Opened(facts_of(segmenter)))
            _Server(link, segmenter).serve()
    except Exception as error:  # whatever a library raises, the leader raises it
        link.send(Broken(portable(error)))
        link.wait_for_close()


def _forward_warnings(link: Link) -> None:
    show_other = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *more: Any, **options: Any) -> None:
        if issubclass(category, FcnkitWarning):
            link.send(Warned(category, str(message)))
        else:
            show_other(message, category, *more, **options)

    warnings.filterwarnings("always", category=FcnkitWarning)
    warnings.showwarning = show


class _Server:
    """Does the work of a worker process."""

    def __init__(self, link: Link, segmenter: Segmenter) -> None:
        self._link, self._segmenter = link, segmenter
        self._next: _Queued | None = None
        """An order that was read and not followed yet."""
        self._desk: Desk | None = None

    def serve(self) -> None:
        """Follow orders until ``Close``."""
        while True:
            match self._order():
                case Close():
                    return
                case Begin() as begin:
                    self._begin(begin)
                case Into(out, name, resume):
                    assert self._desk is not None  # a run has begun
                    self._desk.into(out, name, resume=resume)
                case Flush(stopped):
                    if stopped:
                        self._link.stop.clear()
                    self._link.send(Flushed(peak_memory_mb()))
                case Task() as task:
                    self._label(task)

    def _order(self) -> _Queued:
        order, self._next = self._next, None
        return self._link.orders.get() if order is None else order

    def _begin(self, begin: Begin) -> None:
        link = self._link
        try:
            self._desk = Desk(
                self._segmenter,
                begin.request,
                prefix=begin.prefix,
                send=link.send,
                stop=link.stop,
            )
        except (TypeError, ValueError, OSError) as error:
            link.send(Broken(portable(error)))
        else:
            link.send(Ready(self._desk.options))

    def _label(self, task: Task) -> None:
        """Label a video, or images until something else is ordered."""
        assert self._desk is not None  # the leader begins a run first
        if not is_video(task.job.source):
            self._desk.images(self._images(task))
        elif not self._link.stop.is_set():
            self._link.send(Took())
            self._desk.video(task.job, task.done)

    def _images(self, order: _Queued) -> Iterator[Job]:
        while isinstance(order, Task) and not is_video(order.job.source):
            self._link.send(Took())
            yield order.job
            order = self._order()
        self._next = order
