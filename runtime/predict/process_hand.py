"""Worker processes of this machine, as the leading process sees them."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import wait
from multiprocessing.resource_tracker import ensure_running
from multiprocessing.util import Finalize
from typing import Any, Final

from fcnkit.runtime.predict.crew import ModelRequest
from fcnkit.runtime.predict.desk import Answer
from fcnkit.runtime.predict.hand import Hand, Team
from fcnkit.runtime.predict.worker import Close, Order, work

__all__ = ["ProcessHand", "ProcessTeam"]

_PATIENCE: Final = 10.0
"""Seconds in which workers end after they were asked to; then they are killed."""


class ProcessHand(Hand):
    """One worker process."""

    def __init__(self, number: int, model: ModelRequest) -> None:
        """Start it; it opens the model. See ``Hand``."""
        super().__init__(number, model)
        # A fork would share the libraries' threads and locks with this process.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=work, args=(theirs, model), daemon=True, name=f"fcnkit worker {number}"
        )
        with _signals_blocked():
            self.process.start()
        theirs.close()

    @property
    def name(self) -> str:
        """See ``Hand.name``."""
        return f"worker {self.number} (process {self.process.pid})"

    def send(self, order: Order) -> None:
        """See ``Hand.send``."""
        with contextlib.suppress(OSError):
            self.connection.send(order)

    def how_it_ended(self) -> str:
        """See ``Hand.how_it_ended``."""
        self.process.join()
        code = self.process.exitcode or 0
        if code >= 0:
            return f"exit code {code}"
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"

    def told(self) -> dict[str, Any]:
        """See ``Hand.told``."""
        alive = self.process.is_alive()
        return {
            "process": self.process.pid,
            "device": self.model.backend.device,
            "answered": self.made,
            "peak_memory_mb": self.peak_mb,
            "ended": None if alive else self.how_it_ended(),
        }

    def kill(self) -> None:
        """See ``Hand.kill``."""
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


class ProcessTeam(Team[ProcessHand]):
    """The worker processes of one leader."""

    sees_this_machine = True

    tries = 1

    def __init__(self) -> None:
        """Begin with none."""
        super().__init__()
        # At its end Python waits for child processes, even those that wait for it.
        self._at_exit = Finalize(self, _kill_all, args=(self._hands,), exitpriority=100)

    @property
    def is_open(self) -> bool:
        """Whether all have opened the model."""
        return all(hand.facts is not None for hand in self.hands)

    def _made(self, number: int, model: ModelRequest) -> ProcessHand:
        return ProcessHand(number, model)

    def answers(self, *, seconds: float = 0.2) -> Iterator[tuple[Hand, Answer | None]]:
        """See ``Team.answers``."""
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

    def abandon(self) -> None:
        """End all processes, and leave it to a run to see that; for signal handlers."""
        for hand in self.hands:
            hand.process.kill()

    def close(self) -> None:
        """End all processes; closing twice is fine."""
        for hand in self.hands:
            hand.send(Close())
        end = time.monotonic() + _PATIENCE
        for hand in self.hands:
            hand.process.join(max(0.0, end - time.monotonic()))
        self.kill()


def _kill_all(hands: list[ProcessHand]) -> None:
    while hands:
        hands.pop().kill()
