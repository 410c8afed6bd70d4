"""Actors of a Ray cluster, as the leading process sees them.

Ray starts an actor where there is room and says when it has died. It is told to restart nothing
and to try nothing again: who labels what, and what becomes of the work of a dead worker, is decided
in one place for all kinds of workers.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from fcnkit.errors import FcnkitError, WorkerWarning, message
from fcnkit.runtime.predict.crew import MOST_DEATHS, ModelRequest
from fcnkit.runtime.predict.desk import Answer, FrameDone, Made
from fcnkit.runtime.predict.hand import Hand, Team
from fcnkit.runtime.predict.jobs import Job
from fcnkit.runtime.predict.manifest import Record
from fcnkit.runtime.predict.ray_actor import Place, RayActor
from fcnkit.runtime.predict.worker import Into, Order, Task

__all__ = ["RayHand", "RayTeam"]

_SAY_AFTER: Final = 30.0
"""Seconds without a worker after which it is said that there is no room."""
_PATIENCE: Final = 600.0
"""Seconds without a worker after which a run ends. Clusters that grow take minutes."""

_CAUSES: Final = {"node has died": "the loss of its node", "low on memory": "a lack of memory"}
"""Parts of what Ray says of a dead actor, and what they mean."""


class RayHand(Hand):
    """One actor. Nothing is asked of it before it has started, so that it may wait for room."""

    def __init__(self, ray: Any, room: dict[str, float], number: int, model: ModelRequest) -> None:
        """Ask for it.

        Args:
            ray: The module, connected.
            room: What the actor takes of the cluster.
            number: See ``Hand``.
            model: See ``Hand``.
        """
        super().__init__(number, model)
        self._ray = ray
        kind = ray.remote(max_restarts=0, max_task_retries=0, max_concurrency=2, **room)(RayActor)
        self._actor = kind.remote(model)
        self._posts, self._unsent = 0, list[Order]()
        self._unconfirmed: list[Any] = []
        """Calls with orders that the actor has not confirmed."""
        self._answers = self._actor.take.remote()
        self._death: Exception | None = None
        self._ended = False
        self.place: Place | None = None
        """Once it has started."""

    @property
    def name(self) -> str:
        """See ``Hand.name``."""
        if self.place is None:
            return f"worker {self.number}"
        return f"worker {self.number} (process {self.place.process} on {self.place.node})"

    @property
    def calls(self) -> list[Any]:
        """What Ray has not answered yet."""
        return [self._answers, *self._unconfirmed]

    def send(self, order: Order) -> None:
        """See ``Hand.send``; it goes with the next post."""
        match order:  # the actor has another working folder
            case Task(job):
                order = replace(order, job=Job(job.file.absolute(), job.output))
            case Into(out):
                order = replace(order, out=out.absolute())
        self._unsent.append(order)

    def post(self) -> None:
        """Send what was said since the last post, in one call."""
        if self._unsent:
            self._unconfirmed.append(self._actor.put.remote(self._posts, self._unsent))
            self._posts, self._unsent = self._posts + 1, []

    def heard(self, call: Any) -> list[Answer] | None:
        """Return what is known now that Ray has answered a call; None if the actor has died."""
        try:
            said = self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            self._death = error
            return None
        if call is not self._answers:
            self._unconfirmed.remove(call)
            return []
        self._answers = self._actor.take.remote()
        for one in said:
            if isinstance(one, Place):
                self.place = one
        return [self._as_given(one) for one in said if not isinstance(one, Place)]

    def _as_given(self, answer: Answer) -> Answer:
        """Name the input as it was given here, not as the actor was told."""
        match answer:
            case Made(record):
                held = self.held.get(record.output)
                job = held.task.job if held else self._job_at(record.input)
                if job is not None:
                    return replace(answer, record=_named(record, job))
            case FrameDone(video):
                job = self._job_at(video)
                if job is not None:
                    return replace(answer, video=job.input_name)
        return answer

    def _job_at(self, path: str) -> Job | None:
        jobs = (held.task.job for held in self.held.values())
        return next((job for job in jobs if str(job.file.absolute()) == path), None)

    def how_it_ended(self) -> str:
        """See ``Hand.how_it_ended``."""
        if self._death is None:
            return "an end that was ordered"
        if isinstance(self._death, self._ray.exceptions.ActorUnavailableError):
            return "a lost connection"
        text = str(self._death)
        found = (words for part, words in _CAUSES.items() if part in text)
        return next(found, "the end of its process")

    def told(self) -> dict[str, Any]:
        """See ``Hand.told``."""
        return {
            "node": None if self.place is None else self.place.node,
            "process": None if self.place is None else self.place.process,
            "answered": self.made,
            "peak_memory_mb": self.peak_mb,
            "ended": self.how_it_ended() if self._ended else None,
        }

    def kill(self) -> None:
        """See ``Hand.kill``."""
        if not self._ended:
            self._ended = True
            with contextlib.suppress(Exception):  # it is gone, or the cluster is
                self._ray.kill(self._actor)


def _named(record: Record, job: Job) -> Record:
    sent, given = str(job.file.absolute()), job.input_name
    error = record.error
    if error is not None and sent != given:
        error = error.replace(sent, given)
    return replace(record, input=given, error=error)


class RayTeam(Team[RayHand]):
    """The actors of one leader."""

    sees_this_machine = False

    tries = MOST_DEATHS

    def __init__(self, ray: Any, room: dict[str, float]) -> None:
        """Begin with none; see ``RayHand``."""
        super().__init__()
        self._ray, self._room = ray, room
        self._since, self._said_so = time.monotonic(), False
        """When there was a worker for the last time, and whether it was said that none is there."""
        self._abandoned = False

    @property
    def is_open(self) -> bool:
        """Whether one has opened the model: the others may wait for room."""
        return any(hand.facts is not None for hand in self.hands)

    def _made(self, number: int, model: ModelRequest) -> RayHand:
        return RayHand(self._ray, self._room, number, model)

    def wait_until_open(self) -> None:
        """See ``Team.wait_until_open``."""
        self._since = time.monotonic()
        super().wait_until_open()

    def answers(self, *, seconds: float = 0.2) -> Iterator[tuple[Hand, Answer | None]]:
        """See ``Team.answers``.

        Raises:
            FcnkitError: The cluster has had no room for a worker for ten minutes.
        """
        self._look_for_room()
        for hand in self.hands:
            hand.post()
        callers = {call: hand for hand in self.hands for call in hand.calls}
        calls = list(callers)
        if calls and self._ray.wait(calls, timeout=seconds)[0]:
            calls, _ = self._ray.wait(calls, num_returns=len(calls), timeout=0)
        else:
            calls = []
        dead: set[Hand] = set()
        for call in calls:
            hand = callers[call]
            if hand in dead or hand not in self.hands:
                continue
            answers = hand.heard(call)
            if answers is None:
                dead.add(hand)
                yield hand, None
            else:
                yield from ((hand, answer) for answer in answers)
        if self._abandoned:
            self._abandoned = False
            yield from ((hand, None) for hand in list(self.hands))

    def _look_for_room(self) -> None:
        now = time.monotonic()
        if any(hand.place is not None for hand in self.hands):
            self._since = now
        waited = now - self._since
        rule = "must have room for a worker"
        got = f"none for {waited:.0f} seconds"
        if waited > _PATIENCE:
            remedy = "see ray status, and run the same command again"
            raise FcnkitError(message("ray", rule, got, remedy))
        if waited > _SAY_AFTER and not self._said_so:
            self._said_so = True
            text = message("ray", rule, got, "see ray status; the run waits for ten minutes")
            warnings.warn(text, WorkerWarning, stacklevel=2)

    def abandon(self) -> None:
        """Take all actors for dead from now on; for signal handlers."""
        self._abandoned = True
