"""Workers, as the leading process sees them, wherever they run."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Generic, TypeVar

from fcnkit.errors import FcnkitError, message
from fcnkit.runtime.predict.crew import ModelRequest
from fcnkit.runtime.predict.desk import Answer, Broken, Opened, Warned
from fcnkit.runtime.predict.run import RunRequest
from fcnkit.runtime.predict.worker import Begin, Flush, Order, Stop, Task

__all__ = ["Hand", "Held", "Team"]


@dataclass
class Held:
    """A task, and how often a worker died with it."""

    task: Task
    deaths: int = 0


class Hand(ABC):
    """One worker."""

    def __init__(self, number: int, model: ModelRequest) -> None:
        """Name it.

        Args:
            number: Of the worker; no other worker has it.
            model: What it opens.
        """
        self.number, self.model = number, model
        self.facts: dict[str, Any] | None = None
        """Once the model is open."""
        self.held: dict[str, Held] = {}
        """Tasks without an answer, by the name of the result."""
        self.waiting = 0
        """Tasks that it has not begun."""
        self.alone = False
        """Whether it holds one task that a worker died with, and gets no other."""
        self.tried = 0
        """See ``Team.start``."""
        self.made = 0
        self.peak_mb: float | None = None
        self._begins = 0
        """Runs that it was told to begin and has not."""
        self._begun = False
        self._flushes, self._unflushed, self._stopped = 0, False, False

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called in warnings."""

    @property
    def prefix(self) -> str:
        """What the names of its files begin with."""
        return f"{self.number}-"

    @property
    def ready(self) -> bool:
        """Whether it takes tasks of the run that it was told to begin last."""
        return self._begun and not self._begins

    @property
    def quiet(self) -> bool:
        """Whether it has answered all that it was sent."""
        return not (self.held or self._unflushed or self._flushes)

    @abstractmethod
    def send(self, order: Order) -> None:
        """Say something; that it has died is seen when its answers are read."""

    def begin(self, request: RunRequest) -> None:
        """Let it begin a run."""
        self._begins += 1
        self.send(Begin(request, self.prefix))

    def answered_begin(self, *, begun: bool) -> None:
        """Note whether it has begun a run that it was told to begin."""
        self._begins -= 1
        self._begun = begun

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

    @abstractmethod
    def how_it_ended(self) -> str:
        """Say how it ended; it has."""

    @abstractmethod
    def told(self) -> dict[str, Any]:
        """Return what is known of it, as plain data."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once; what has ended is let go."""


H_co = TypeVar("H_co", bound=Hand, covariant=True)


class Team(ABC, Generic[H_co]):
    """The workers of one leader."""

    def __init__(self) -> None:
        """Begin with none."""
        self._hands: list[H_co] = []
        self._gone: list[H_co] = []
        self._started = 0
        self._said: set[str] = set()

    @property
    def hands(self) -> Sequence[H_co]:
        """Those that are there."""
        return self._hands

    @property
    @abstractmethod
    def sees_this_machine(self) -> bool:
        """See ``Labeling``."""

    @property
    @abstractmethod
    def tries(self) -> int:
        """How many workers in a row may die in one place before they have opened the model."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether enough of them have opened the model for a run to begin."""

    def all(self) -> list[H_co]:
        """Return the workers in the order of their start, those that have ended too."""
        return sorted([*self._hands, *self._gone], key=attrgetter("number"))

    @property
    def facts(self) -> dict[str, Any]:
        """See ``Crew.facts``; one has opened the model."""
        found = [hand.facts for hand in self.all() if hand.facts is not None]
        providers = ", ".join(dict.fromkeys(str(facts["provider"]) for facts in found))
        return {**found[0], "provider": providers}

    def start(self, model: ModelRequest, *, tried: int = 0) -> None:
        """Start one more worker.

        Args:
            model: What it opens.
            tried: Workers that have died in its place before they had opened the model.
        """
        self._started += 1
        hand = self._made(self._started, model)
        hand.tried = tried
        self._hands.append(hand)

    @abstractmethod
    def _made(self, number: int, model: ModelRequest) -> H_co: ...

    def lose(self, hand: Hand) -> str:
        """Note that a worker has ended, and say how."""
        how = hand.how_it_ended()
        hand.kill()
        one = next(one for one in self._hands if one is hand)
        self._hands.remove(one)
        self._gone.append(one)
        return how

    @abstractmethod
    def answers(self, *, seconds: float = 0.2) -> Iterator[tuple[Hand, Answer | None]]:
        """Yield what workers have said, and None for one that has died, each in its order.

        Args:
            seconds: How long to wait until one says something.
        """

    def say(self, warning: Warned) -> None:
        """Give a warning of a worker, each text once."""
        if warning.text not in self._said:
            self._said.add(warning.text)
            warnings.warn(warning.text, warning.category, stacklevel=2)

    def wait_until_open(self) -> None:
        """Wait until a run can begin.

        Raises:
            Exception: What went wrong in one of them.
            FcnkitError: One has ended.
        """
        while not self.is_open:
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
        """End all workers at once."""
        while self._hands:
            self._hands.pop().kill()


def _did_not_start(hand: Hand, how: str) -> FcnkitError:
    rule = "must open the model"
    remedy = "open it in one process to see why; with fewer processes each has more memory"
    return FcnkitError(message(f"worker {hand.number}", rule, how, remedy))
