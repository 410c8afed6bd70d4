"""Promises, the trials that put them to the test, and the table of what came of it.

A promise is a function that yields trials: it does something cruel and says what became of it.
``python -m tests.faults`` runs them all; ``tests/faults/test_short.py`` runs a small share of each.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.faults.commands import Done

__all__ = ["PROMISES", "Promise", "Setting", "Trial", "judged", "promise", "tried"]

Outcome = Literal["kept", "lost", "wrong", "hung"]
"""``lost``: something written before is gone or half-written, or something requested is missing.
``wrong``: another answer or error than promised. ``hung``: no end within the limit."""


@dataclass(frozen=True)
class Trial:
    """One case of a promise."""

    case: str
    outcome: Outcome = "kept"
    got: str = ""


@dataclass(kw_only=True)
class Setting:
    """Where and for how long the promises are tried."""

    folder: Path
    """An empty folder for whatever is written."""
    seconds: float
    """What one promise may spend on repetitions; lists of cases are always gone through."""
    full: bool
    soak: float = 3
    """Seconds of long use."""
    random: random.Random = field(default_factory=lambda: random.Random(20))
    skipped: list[str] = field(default_factory=list)
    """What could not be tried on this machine, and why."""

    def scratch(self, name: str) -> Path:
        """Make a new empty folder."""
        path = self.folder / f"{name}-{len(list(self.folder.iterdir()))}"
        path.mkdir()
        return path

    def rounds(self, share: float = 1.0) -> Iterator[int]:
        """Count rounds, at least one, until the share of the promise's time is used up."""
        until = time.monotonic() + self.seconds * share
        number = 0
        while number == 0 or time.monotonic() < until:
            yield number
            number += 1


Check = Callable[[Setting], Iterator[Trial]]


@dataclass(frozen=True)
class Promise:
    """One line of docs/reliability.md and the function that tries it."""

    key: str
    text: str
    check: Check


PROMISES: dict[str, Promise] = {}


def promise(text: str) -> Callable[[Check], Check]:
    """Enter a function into the table under its name, with the promise that it tries."""

    def enter(check: Check) -> Check:
        PROMISES[check.__name__] = Promise(check.__name__, text, check)
        return check

    return enter


def tried(found: Promise, setting: Setting) -> tuple[Counter[str], list[Trial]]:
    """Try one promise; return the outcomes counted, and the trials that did not keep it."""
    counts: Counter[str] = Counter()
    broken: list[Trial] = []
    for trial in found.check(setting):
        counts[trial.outcome] += 1
        if trial.outcome != "kept":
            broken.append(trial)
    return counts, broken


def judged(case: str, done: Done, fault: str | None, *, outcome: Outcome = "wrong") -> Trial:
    """Turn a finished command and what is wrong with it into a trial."""
    if done.code is None:
        return Trial(case, "hung", done.err[-300:])
    return Trial(case) if fault is None else Trial(case, outcome, fault)
