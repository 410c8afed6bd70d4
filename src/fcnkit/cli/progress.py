"""Progress for long commands: a bar on a terminal, a line every tenth when piped.

Both go to standard error, so that what a command answers can be piped on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
def progress_of(*, in_bytes: bool = False) -> Iterator[Advance]:
    """Show progress while the block runs.

    Args:
        in_bytes: Whether amounts are bytes; else they are things.

    Yields:
        The function to call; a new stage starts a new bar.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console, in_bytes=in_bytes)
        return
    amounts: tuple[ProgressColumn, ...] = (MofNCompleteColumn(), _Speed())
    if in_bytes:
        amounts = (DownloadColumn(), TransferSpeedColumn())
    text = TextColumn("{task.description}")
    with Progress(text, BarColumn(), *amounts, TimeRemainingColumn(), console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def advance(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield advance


class _Speed(ProgressColumn):
    """Things per second, as TransferSpeedColumn shows bytes."""

    def render(self, task: Task) -> Text:
        """Return the text; empty until there is a speed."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "")


class _Lines:
    """Writes a line when a stage begins, at every tenth of it, and none in between."""

    def __init__(self, console: Console, *, in_bytes: bool) -> None:
        self._console = console
        self._in_bytes = in_bytes
        self._written: tuple[str, int] | None = None

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        tenth = 10 * done // total if total else 0
        if self._written == (stage, tenth):
            return
        self._written = (stage, tenth)
        amount = self._amount(done) + (f" of {self._amount(total)}" if total else "")
        self._console.print(f"{stage}: {amount}", markup=False, highlight=False, soft_wrap=True)

    def _amount(self, count: int) -> str:
        return f"{count / 1e6:.1f} MB" if self._in_bytes else str(count)
