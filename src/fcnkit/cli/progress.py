"""Progress for long commands: a bar on a terminal, a line every tenth when piped.

Both go to standard error, so that what a command answers can be piped on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

__all__ = ["Advance", "progress_of"]

Advance = Callable[[str, int, int | None], None]
"""Called with the stage, how much of it is done, and how much there is (None: unknown)."""


@contextmanager
def progress_of(
    *,
    in_bytes: bool = False,
    unit: str = "",
    lasting: bool = True,
    finished: Callable[[], int] | None = None,
) -> Iterator[Advance]:
    """Show progress while the block runs.

    Args:
        in_bytes: Whether amounts are bytes; else they are things.
        unit: What the things are called, such as images.
        lasting: Leave a stage's bar on the screen when the next stage begins.
        finished: Returns how many things count for the speed, which is their number by the time
            since the block began. By default it is what a stage does after its first call.

    Yields:
        The function to call; a new stage starts a new bar.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console, in_bytes=in_bytes, unit=unit, finished=finished)
        return
    amounts: tuple[ProgressColumn, ...] = (MofNCompleteColumn(), _Speed(unit, finished))
    if in_bytes:
        amounts = (DownloadColumn(), TransferSpeedColumn())
    text = TextColumn("{task.description}")
    columns = (text, BarColumn(), *amounts, TimeRemainingColumn())
    # What the command answers must still go where standard output goes.
    redirect = sys.stdout.isatty()
    with Progress(*columns, console=console, redirect_stdout=redirect) as bars:
        tasks: dict[str, TaskID] = {}

        def advance(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                if not lasting:
                    for past in tasks.values():
                        bars.update(past, visible=False)
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield advance


class _Speed(ProgressColumn):
    """Things per second, as TransferSpeedColumn shows bytes."""

    def __init__(self, unit: str, finished: Callable[[], int] | None) -> None:
        super().__init__()
        self._unit = f" {unit}" if unit else ""
        self._finished, self._began = finished, time.monotonic()
        self._speed: float | None = None

    def render(self, task: Task) -> Text:
        """Return the text; empty until there is a speed."""
        if self._finished is None:
            self._speed = task.finished_speed or task.speed
        elif self._speed is None or not task.finished:
            self._speed = self._finished() / max(1e-9, time.monotonic() - self._began)
        return Text(f"{self._speed:.1f}{self._unit}/s" if self._speed else "")


class _Lines:
    """Writes a line when a stage begins, at every tenth of it, and none in between.

    While nobody knows how much there is, it writes one at 1, 2, ... 9, 10, 20, ... 90, 100 ...
    """

    def __init__(
        self,
        console: Console,
        *,
        in_bytes: bool,
        unit: str,
        finished: Callable[[], int] | None,
    ) -> None:
        self._console = console
        self._in_bytes = in_bytes
        self._unit = f" {unit}" if unit else ""
        self._finished = finished
        self._written: tuple[str, int, int] | None = None
        self._began = (time.monotonic(), 0)

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        digits = str(done)
        mark = (0, 10 * done // total) if total else (len(digits), int(digits[0]))
        if self._written == (stage, *mark):
            return
        begins = self._written is None or self._written[0] != stage
        if begins and self._finished is None:
            self._began = (time.monotonic(), done)
        self._written = (stage, *mark)
        amount = self._amount(done) + (f" of {self._amount(total)}" if total else "")
        amount += self._pace(done, total)
        self._console.print(f"{stage}: {amount}", markup=False, highlight=False, soft_wrap=True)

    def _pace(self, done: int, total: int | None) -> str:
        """Say how fast the stage is, and how long it will take on where that is known."""
        then, before = self._began
        if not self._unit or done <= before:
            return self._unit
        seconds = max(1e-9, time.monotonic() - then)
        counted = done - before if self._finished is None else self._finished()
        speed = f", {counted / seconds:.1f}{self._unit}/s" if counted else ""
        if not total:
            return f"{self._unit}{speed}"
        left = timedelta(seconds=round((total - done) * seconds / (done - before)))
        return f"{self._unit}{speed}, {left} left"

    def _amount(self, count: int) -> str:
        return f"{count / 1e6:.1f} MB" if self._in_bytes else str(count)
