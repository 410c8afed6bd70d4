"""The worker of a Ray cluster: an actor that opens the model once and labels run after run."""

from __future__ import annotations

import os
import queue
import socket
import threading
from dataclasses import dataclass
from typing import Final

from fcnkit.runtime.predict.crew import ModelRequest
from fcnkit.runtime.predict.desk import Answer
from fcnkit.runtime.predict.worker import Link, Order, serve

__all__ = ["Place", "RayActor"]

_MOST_ANSWERS: Final = 64
"""Answers that go through Ray at a time."""


@dataclass(frozen=True)
class Place:
    """Where an actor runs: what it says first."""

    node: str
    process: int


class RayActor:
    """A worker. Its calls go to a thread that holds the model; two may run at a time."""

    def __init__(self, model: ModelRequest) -> None:
        self._link = _Calls()
        self._link.said.put(Place(socket.gethostname(), os.getpid()))
        self._lock, self._next, self._early = threading.Lock(), 0, dict[int, list[Order]]()
        threading.Thread(
            target=_work, args=(self._link, model), daemon=True, name="fcnkit-worker"
        ).start()

    def put(self, number: int, orders: list[Order]) -> None:
        """Take orders.

        Args:
            number: Of the call, from 0. Ray may swap calls.
            orders: What is to be done.
        """
        with self._lock:
            self._early[number] = orders
            while self._next in self._early:
                for order in self._early.pop(self._next):
                    self._link.receive(order)
                self._next += 1

    def take(self) -> list[Answer | Place]:
        """Return what the worker has said since the last call; waits until it says something."""
        said = self._link.said
        answers = [said.get()]
        while len(answers) < _MOST_ANSWERS:
            try:
                answers.append(said.get_nowait())
            except queue.Empty:
                break
        return answers


def _work(link: Link, model: ModelRequest) -> None:
    try:
        serve(link, model)
    finally:  # such as SystemExit: the leader, which waits for answers, must see the end
        os._exit(1)


class _Calls(Link):
    """The way to a leader that calls."""

    def __init__(self) -> None:
        super().__init__()
        self.said: queue.SimpleQueue[Answer | Place] = queue.SimpleQueue()

    def send(self, answer: Answer) -> None:
        """Keep it until the leader takes it."""
        self.said.put(answer)
