"""The curves of a run for TensorBoard, where that is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fcnkit.train import parallel

__all__ = ["EVENTS", "open_board"]

EVENTS = "tensorboard"
"""Folder of the event files in the run folder."""


@contextmanager
def open_board(run: Path, *, done: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Open the event files of a run.

    Args:
        run: The run folder.
        done: Number of finished epochs; events after them, of a run that was cut off, are void.

    Yields:
        The function that writes a row of metrics.jsonl; it does nothing without tensorboard or
        in other processes than the first.
    """
    if find_spec("tensorboard") is None or not parallel.is_first():
        yield lambda _: None
        return
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(run / EVENTS), purge_step=done + 1)

    def write(row: dict[str, Any]) -> None:
        for name, value in row.items():
            if name != "epoch" and isinstance(value, (int, float)):
                writer.add_scalar(name, value, row["epoch"])
        writer.flush()

    try:
        yield write
    finally:
        writer.close()
