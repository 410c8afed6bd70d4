"""Promises, the trials that put them to the test, and the table of what came of it.

A promise is a function that yields trials: it does something cruel and says what became of it.
``python -m tests.faults`` runs them all; ``tests/faults/test_short.py`` runs a small share of each.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["PATIENCE", "PROMISES", "Done", "Promise", "Setting", "Trial", "promise", "start_fcnkit"]

PATIENCE = 600.0
"""Seconds until something counts as hung: no busy machine needs so long for any of the cases."""

Outcome = Literal["kept", "lost", "wrong", "hung"]
"""``lost``: something written before is gone or half-written, or something requested is missing.
``wrong``: another answer or error than promised. ``hung``: no end within the limit."""

ROOT = Path(__file__).parents[2]


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


# --- running the command line --------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """A finished command; code None says that it had to be killed."""

    code: int | None
    out: str
    err: str

    def one_error(self) -> str | None:
        """Say why this is not a plain error: exit code 2 and one line; None if it is.

        Lines of progress, notes and warnings may come before it.
        """
        lines = [line for line in self.err.splitlines() if not PROGRESS.match(line)]
        if self.code != 2 or len(lines) != 1 or not lines[0].startswith("error: "):
            return f"exit code {self.code}, {self.err[-300:]!r}"
        return None


PROGRESS = re.compile(r"(predict|epoch \d+|[a-z ]+): \d+ of \d+|(note|warning): ")

CODE = (
    # A parent that runs in the background has Ctrl-C ignored, and so would its children.
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from fcnkit.cli import main; main()"
)


def start_fcnkit(
    *arguments: object, before: str = "", user: int | None = None, **environment: str
) -> subprocess.Popen[str]:
    """Start ``fcnkit`` in its own process group; ``before`` is code that runs first."""
    return subprocess.Popen(
        [sys.executable, "-c", f"{before}\n{CODE}", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",
        env={**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1", **environment},
        cwd=ROOT,
        start_new_session=True,
        user=user,
    )


def finish(process: subprocess.Popen[str], *, limit: float = PATIENCE) -> Done:
    """Wait for a command; kill it after ``limit`` seconds."""
    with process:
        try:
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            return Done(None, out, err)
    return Done(process.returncode, out, err)


def fcnkit(
    *arguments: object, before: str = "", limit: float = PATIENCE, **environment: str
) -> Done:
    """Run ``fcnkit`` and wait for it."""
    return finish(start_fcnkit(*arguments, before=before, **environment), limit=limit)


def judged(case: str, done: Done, fault: str | None, *, outcome: Outcome = "wrong") -> Trial:
    """Turn a finished command and what is wrong with it into a trial."""
    if done.code is None:
        return Trial(case, "hung", done.err[-300:])
    return Trial(case) if fault is None else Trial(case, outcome, fault)
