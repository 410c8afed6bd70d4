"""Worker processes, as the leading process sees them."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.resource_tracker import ensure_running
from multiprocessing.util import Finalize
from typing import Any, Final

from fcnkit.errors import FcnkitError, message
from fcnkit.runtime.predict.crew import ModelRequest
from fcnkit.runtime.predict.desk import Answer, Broken, Opened, Warned
from fcnkit.runtime.predict.worker import Close, Flush, Order, Stop, Task, work

__all__ = ["Hand", "Held", "Team"]

_PATIENCE: Final = 10.0
"""Seconds in which workers end after they were asked to; then they are killed."""


@dataclass
class Held:
    """A task, and how often a worker died with it."""

    task: Task
    deaths: int = 0


class Hand:
    """One worker process."""

    def __init__(self, number: int, model: ModelRequest) -> None:
        """Start it; it opens the model.

        Args:
            number: Of the worker; no other worker has it.
            model: What it opens.
        """
        # A fork would share the libraries' threads and locks with this process.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=work, args=(theirs, model), daemon=True, name=f"fcnkit worker {number}"
        )
        with _signals_blocked():
            self.process.start()
        theirs.close()
        self.number, self.model = number, model
        self.facts: dict[str, Any] | None = None
        """Once the model is open."""
        self.ready = False
        """Whether it takes tasks."""
        self.held: dict[str, Held] = {}
        """Tasks without an answer, by the name of the result."""
        self.waiting = 0
        """Tasks that it has not begun."""
        self.alone = False
        """Whether it holds one task that a worker died with, and gets no other."""
        self.made = 0
        self.peak_mb: float | None = None
        self._flushes, self._unflushed, self._stopped = 0, False, False

    @property
    def prefix(self) -> str:
        """What the names of its files begin with."""
        return f"{self.number}-"

    @property
    def quiet(self) -> bool:
        """Whether it has answered all that it was sent."""
        return not (self.held or self._unflushed or self._flushes)

    def send(self, order: Order) -> None:
        """Say something; that it has died is seen when its answers are read."""
        with contextlib.suppress(OSError):
            self.connection.send(order)

    def give(self, held: Held) -> None:
        """Give it a task."""
        self.held[held.task.job.output_name] = held
        self.waiting += 1
        self._unflushed = True
        self.send(held.task)

    def flush(self) -> None:
        """Let it finish what it has, where it does not do so already."""
        if self._unflushed:
            self._unflushed, self._flushes = False, self._flushes + 1
            self.send(Flush(stopped=self._stopped))

    def stop(self) -> None:
        """Let it finish what it has begun, and forget the rest."""
        if not self._stopped:
            self._stopped = self._unflushed = True
            self.send(Stop())
            self.flush()

    def flushed(self, peak_mb: float | None) -> None:
        """Note that it has finished."""
        self._flushes, self.peak_mb = self._flushes - 1, peak_mb
        if self._stopped and not self._flushes:
            self.held.clear()
            self.waiting, self.alone, self._stopped = 0, False, False

    def answered(self, output: str) -> None:
        """Note that a task is done."""
        if self.held.pop(output, None) is not None:
            self.made += 1
        self.alone &= bool(self.held)

    def how_it_ended(self) -> str:
        """Say how the process ended; it has."""
        self.process.join()
        code = self.process.exitcode or 0
        if code >= 0:
            return f"exit code {code}"
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"

    def told(self) -> dict[str, Any]:
        """Return what is known of it, as plain data."""
        alive = self.process.is_alive()
        return {
            "process": self.process.pid,
            "device": self.model.backend.device,
            "answered": self.made,
            "peak_memory_mb": self.peak_mb,
            "ended": None if alive else self.how_it_ended(),
        }

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.join()
        self.connection.close()


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Let a process begin with Ctrl-C and SIGTERM blocked, until it has said to ignore them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    ensure_running()  # which would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Team:
    """The worker processes of one leader."""

    def __init__(self) -> None:
        """Begin with none."""
        self.hands: list[Hand] = []
        """Those that are there."""
        self._gone: list[Hand] = []
        self._started = 0
        self._said: set[str] = set()
        # At its end Python waits for child processes, even those that wait for it.
        self._at_exit = Finalize(self, _kill_all, args=(self.hands,), exitpriority=100)

    def all(self) -> list[Hand]:
        """Return the processes in the order of their start, those that have ended too."""
        return sorted([*self.hands, *self._gone], key=lambda hand: hand.number)

    def start(self, model: ModelRequest) -> None:
        """Start one more process."""
        self._started += 1
        self.hands.append(Hand(self._started, model))

    def lose(self, hand: Hand) -> str:
        """Note that a process has ended, and say how."""
        how = hand.how_it_ended()
        hand.connection.close()
        self.hands.remove(hand)
        self._gone.append(hand)
        return how

    def answers(self, *, seconds: float = 0.2) -> Iterator[tuple[Hand, Answer | None]]:
        """Yield what workers have said, and None for one that has died, each in its order.

        Args:
            seconds: How long to wait until one says something.
        """
        hands = {id(hand.connection): hand for hand in self.hands}
        for connection in wait([hand.connection for hand in self.hands], seconds):
            hand = hands[id(connection)]
            try:
                more = True
                while more:
                    answer: Answer = hand.connection.recv()
                    yield hand, answer
                    more = hand.connection.poll()
            except (EOFError, OSError):
                yield hand, None

    def say(self, warning: Warned) -> None:
        """Give a warning of a worker, each text once."""
        if warning.text not in self._said:
            self._said.add(warning.text)
            warnings.warn(warning.text, warning.category, stacklevel=2)

    def wait_until_open(self) -> None:
        """Wait until every process has opened the model.

        Raises:
            Exception: What went wrong in one of them.
            FcnkitError: One has ended.
        """
        while any(hand.facts is None for hand in self.hands):
            for hand, answer in self.answers():
                match answer:
                    case Opened(facts):
                        hand.facts = facts
                    case Warned():
                        self.say(answer)
                    case Broken(error):
                        raise error
                    case None:
                        raise _did_not_start(hand, self.lose(hand))

    def kill(self) -> None:
        """End all processes at once."""
        _kill_all(self.hands)

    def close(self) -> None:
        """End all processes; closing twice is fine."""
        for hand in self.hands:
            hand.send(Close())
        end = time.monotonic() + _PATIENCE
        for hand in self.hands:
            hand.process.join(max(0.0, end - time.monotonic()))
        self.kill()


def _kill_all(hands: list[Hand]) -> None:
    while hands:
        hands.pop().kill()


def _did_not_start(hand: Hand, how: str) -> FcnkitError:
    rule = "must open the model"
    remedy = "open it in one process to see why; with fewer processes each has more memory"
    return FcnkitError(message(f"worker {hand.number}", rule, how, remedy))
