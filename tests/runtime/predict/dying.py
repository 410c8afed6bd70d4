"""What kills a worker process, or the order in which it works; to be called in that process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from fcnkit.runtime.predict import file_task

POISON = "poison"
"""Part of the names of images that kill the process that reads them, as a broken library would."""


def dies_of_poison() -> None:
    """Let images of that name kill this process."""
    take = file_task.take_image

    def take_or_die(source: Path, *more: Any, **options: Any) -> Any:
        if POISON in source.name:
            os.kill(os.getpid(), signal.SIGKILL)
        return take(source, *more, **options)

    file_task.take_image = take_or_die  # type: ignore[assignment]


def works_slowly() -> None:
    """Let every image take a while, so that a signal comes in the middle."""
    take = file_task.take_image

    def take_later(source: Path, *more: Any, **options: Any) -> Any:
        time.sleep(0.02)
        return take(source, *more, **options)

    file_task.take_image = take_later  # type: ignore[assignment]


def dies_at_its_start() -> None:
    """End before the model is open."""
    os._exit(7)


def dies_when_started_again(first: str, count: int) -> None:
    """End before the model is open, in all but the first few processes.

    Args:
        first: A folder for marks.
        count: How many may start.
    """
    marks = Path(first)
    (marks / str(os.getpid())).touch()
    if len(list(marks.iterdir())) > count:
        os._exit(7)
