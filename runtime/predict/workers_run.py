"""One run over worker processes: who labels what, and who goes on when one dies.

A worker has a few inputs more than it has begun, so that it never waits. Inputs that were with a
worker when it died are tried again one by one, each alone with a worker. So the input that kills
workers is found, and costs no other one.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from fcnkit.errors import BadValueError, DataError, FcnkitError, WorkerWarning, message
from fcnkit.runtime.predict.crew import MOST_DEATHS, check_alike, failed_record, publish_made
from fcnkit.runtime.predict.desk import (
    Answer,
    Broken,
    Doubt,
    Flushed,
    FrameDone,
    Made,
    Opened,
    Ready,
    Took,
    Warned,
)
from fcnkit.runtime.predict.file_task import Place, one_line
from fcnkit.runtime.predict.hand import Hand, Held, Team
from fcnkit.runtime.predict.job_stream import Item, UntilError
from fcnkit.runtime.predict.jobs import Job
from fcnkit.runtime.predict.levels import SAY_IN_TRAINING, RangeWarner
from fcnkit.runtime.predict.manifest import Options, Record
from fcnkit.runtime.predict.run import RunControl, RunRequest
from fcnkit.runtime.predict.video_in import is_video
from fcnkit.runtime.predict.video_records import FrameRecord
from fcnkit.runtime.predict.video_run import IsDone
from fcnkit.runtime.predict.worker import Into, Task

__all__ = ["WorkersRun"]

_AHEAD: Final = 2
"""Inputs that a worker has and has not begun, at most."""

_MOST_IN_A_ROW: Final = 12
"""Deaths without one answer between them, after which the inputs are not to blame. More where
there are many workers, because a lost machine is the death of all its workers."""


class WorkersRun:
    """One run over worker processes; see ``Labeling``."""

    def __init__(
        self,
        team: Team[Hand],
        request: RunRequest,
        control: RunControl,
    ) -> None:
        """Begin a run in every worker that is open; see ``Crew.begin``."""
        if not team.hands:
            rule, remedy = "needs open workers", "make new ones"
            raise BadValueError(message("predict_files", rule, "closed ones", remedy))
        team.wait_until_open()
        self._team, self._request = team, request
        self._control, self._doubt = control, RangeWarner(SAY_IN_TRAINING)
        self._options: Options | None = None
        self._into: Into | None = None
        """Where results are written, once it is known."""
        self._tasks: Iterator[Held | list[Record]] = iter(())
        self._earlier: list[Record] = []
        """Of earlier runs, to be handed out."""
        self._exhausted = self._failed = False
        self._suspects: deque[Held] = deque()
        """Tasks that were with a worker that died."""
        self._deaths = 0
        """Since the last answer."""
        self._most_in_a_row = max(_MOST_IN_A_ROW, MOST_DEATHS * len(team.hands))
        begun = {hand for hand in team.hands if hand.facts is not None}
        for hand in begun:
            hand.begin(request)
        self._wait_until_begun(begun)

    @property
    def sees_this_machine(self) -> bool:
        """See ``Labeling``."""
        return self._team.sees_this_machine

    @property
    def options(self) -> Options:
        """What results depend on besides the image and the model."""
        assert self._options is not None  # every worker has said so
        return self._options

    def labeled(self, items: Iterable[Item], place: Place, is_done: IsDone) -> Iterator[Record]:
        """Do the work; see ``Labeling.labeled``."""
        until_error = UntilError(items)
        self._tasks = (
            Held(self._task(item, place, is_done)) if isinstance(item, Job) else item
            for item in until_error
        )
        self._into = Into(place.staging.out, place.staging.folder.name, place.resume)
        for hand in self._ready():
            hand.send(self._into)
        whole = False
        try:
            while not self._is_over():
                self._deal()
                earlier, self._earlier = self._earlier, []
                yield from earlier
                for hand, answer in self._team.answers(seconds=0 if earlier else 0.2):
                    for made in self._taken(hand, answer, place):
                        publish_made(place, made)
                        yield made.record
            until_error.check()
            whole = True
        except KeyboardInterrupt:
            self._team.kill()
            raise
        finally:
            if not whole:
                self._drain(place)

    def _wait_until_begun(self, left: set[Hand]) -> None:
        """Hear every worker, also where one refuses: the next run must not hear it."""
        errors: list[Exception] = []
        while left:
            for hand, answer in self._team.answers():
                if answer is None:
                    rule, remedy = "must begin the run", "run the same command again"
                    text = message(f"worker {hand.number}", rule, self._team.lose(hand), remedy)
                    errors.append(FcnkitError(text))
                try:
                    if answer is not None:
                        self._follow(hand, answer)
                except Exception as error:  # whatever the worker says
                    errors.append(error)
                if answer is None or isinstance(answer, Ready | Broken):
                    left.discard(hand)
        if errors:
            raise errors[0]

    def _task(self, job: Job, place: Place, is_done: IsDone) -> Task:
        if not (self._request.frames and is_video(job.source)):
            return Task(job)
        done: frozenset[str] = frozenset()
        with contextlib.suppress(OSError):  # none was made yet
            names = [path.name for path in (place.staging.out / job.output).iterdir()]
            done = frozenset(name for name in names if is_done(job.file, job.output / name))
        return Task(job, done)

    # --- who gets what ---------------------------------------------------------------------------

    def _halted(self) -> bool:
        return self._failed or self._control.stop.is_set()

    def _ready(self) -> list[Hand]:
        return [hand for hand in self._team.hands if hand.ready]

    def _is_over(self) -> bool:
        quiet = all(hand.quiet for hand in self._ready())
        nothing_left = self._exhausted and not self._suspects and not self._earlier
        return quiet and (self._halted() or nothing_left)

    def _deal(self) -> None:
        """Give tasks to all who can take one, in turn: early ones must not get them all."""
        ready = self._ready()
        if self._halted():
            for hand in ready:
                if not hand.quiet:
                    hand.stop()
            return
        takers = ready
        while takers:
            takers = [hand for hand in takers if self._give(hand)]
        if self._exhausted:
            for hand in ready:
                hand.flush()

    def _give(self, hand: Hand) -> bool:
        """Give a task to a worker; return whether it may get another one."""
        if hand.alone:
            return False
        if self._suspects and not hand.held:
            hand.give(self._suspects.popleft())
            hand.flush()
            hand.alone = True
            return False
        if hand.waiting >= _AHEAD or self._exhausted:
            return False
        task = next(self._tasks, None)
        if isinstance(task, Held):
            hand.give(task)
            return True
        if task is None:
            self._exhausted = True
        else:
            self._earlier += task
        return False

    # --- what comes back -------------------------------------------------------------------------

    def _taken(self, hand: Hand, answer: Answer | None, place: Place) -> Iterator[Made]:
        """Follow an answer; yield what is to be published."""
        if answer is None:
            yield from self._lost(hand, place)
        elif isinstance(answer, Made):
            record = answer.record
            if not isinstance(record, FrameRecord):
                hand.answered(record.output)
                self._failed |= self._control.fail_fast and record.status != "done"
            self._deaths = 0
            yield answer
        elif isinstance(answer, Broken) and not hand.ready:
            self._give_up(hand, one_line(answer.error, Path()))
        else:
            self._follow(hand, answer)

    def _follow(self, hand: Hand, answer: Answer) -> None:
        match answer:
            case Opened(facts):
                hand.facts = facts
                hand.begin(self._request)
            case Ready(options):
                self._begun(hand, options)
            case Took():
                hand.waiting -= 1
            case FrameDone(video, labeled, total):
                if self._control.on_frame is not None:
                    self._control.on_frame(video, labeled, total)
            case Doubt(what, seen):
                self._doubt(what, seen)
            case Warned():
                self._team.say(answer)
            case Flushed(peak_mb):
                hand.flushed(peak_mb)
            case Broken(error):
                self._broken(hand)
                raise error

    def _begun(self, hand: Hand, options: Options) -> None:
        hand.answered_begin(begun=True)
        if hand.ready:  # else that was an earlier run
            if self._into is not None:  # it comes later than others
                hand.send(self._into)
            self._options = check_alike(self._options, options)

    def _broken(self, hand: Hand) -> None:
        if hand.facts is not None and not hand.ready:
            hand.answered_begin(begun=False)
        else:  # it waits for its end
            hand.kill()
            self._team.lose(hand)

    # --- workers that die ------------------------------------------------------------------------

    def _lost(self, hand: Hand, place: Place) -> Iterator[Made]:
        """Take back the tasks of a worker that has died; yield those that failed for good."""
        how = self._team.lose(hand)
        place.staging.remove(prefix=hand.prefix)
        if self._halted():
            return
        if not hand.ready:
            if hand.tried + 1 < self._team.tries:
                self._team.start(hand.model, tried=hand.tried + 1)
            else:
                self._give_up(hand, how)
            return
        self._deaths += 1
        if self._deaths > self._most_in_a_row:
            rule, got = "workers must give results", f"{self._deaths} that died in a row"
            remedy = "label one image with a single process to see why"
            raise FcnkitError(message("predict", rule, f"{got}, the last by {how}", remedy))
        rule, got = "must live until the run ends", f"{how} with {len(hand.held)} inputs"
        remedy = "they are tried again; if memory ran out, lower --processes"
        text = message(hand.name, rule, got, remedy)
        warnings.warn(text, WorkerWarning, stacklevel=2)
        for held in hand.held.values():
            held.deaths += 1
            if held.deaths < MOST_DEATHS:
                self._suspects.append(held)
            else:
                yield Made(self._given_up(held.task.job, how), None)
        if not self._halted():
            self._team.start(hand.model)

    def _given_up(self, job: Job, how: str) -> Record:
        self._failed |= self._control.fail_fast
        rule, remedy = "a worker must survive an input", "label it alone to see why"
        got = f"{MOST_DEATHS} workers that died with it, the last by {how}"
        error = DataError(message(job.input_name, rule, got, remedy))
        return failed_record(job, error, self.options, self._request)

    def _give_up(self, hand: Hand, why: str) -> None:
        """Go on without a worker that could not be started again."""
        if hand in self._team.hands:
            hand.kill()
            self._team.lose(hand)
        rule, remedy = "must be able to take the place of a dead one", "the others go on"
        if not self._team.hands:
            remedy = "run the same command again"
            raise FcnkitError(message(f"worker {hand.number}", rule, why, remedy))
        text = message(f"worker {hand.number}", rule, why, remedy)
        warnings.warn(text, WorkerWarning, stacklevel=2)

    def _drain(self, place: Place) -> None:
        """Let workers finish what they have begun, and keep it, after an interruption.

        What goes wrong here is passed over: something worse is on its way out already.
        """
        self._failed = True
        try:
            while not self._is_over():
                self._deal()
                for hand, answer in self._team.answers():
                    with contextlib.suppress(Exception):
                        for made in self._taken(hand, answer, place):
                            publish_made(place, made)
        except KeyboardInterrupt:
            self._team.kill()
            raise
