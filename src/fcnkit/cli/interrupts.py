"""Ctrl-C and SIGTERM while ``fcnkit predict`` runs."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Interrupt", "interruptible"]


@dataclass
class Interrupt:
    """Whether a signal came."""

    stop: threading.Event = field(default_factory=threading.Event)
    """Set by the signal."""
    code: int = 0
    """Exit code of a command that it ended."""


@contextmanager
def interruptible(abandon: Callable[[], object] | None = None) -> Iterator[Interrupt]:
    """Turn the first Ctrl-C into an event; a second one stops at once.

    Args:
        abandon: Ends other processes at once. With it, SIGTERM ends them and becomes the event
            too. Without it SIGTERM ends this process, also while a library hangs.

    Yields:
        What came.
    """
    interrupt = Interrupt()

    def on_interrupt(*_: object) -> None:
        interrupt.code = 128 + signal.SIGINT
        interrupt.stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stderr.write("\nstopping: what is in flight is finished first; again to stop now\n")

    def on_terminate(*_: object) -> None:
        interrupt.code = 128 + signal.SIGTERM
        interrupt.stop.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if abandon is not None:
            abandon()

    # What is ignored stays so, such as Ctrl-C under nohup.
    handles_interrupt = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    handles_terminate = abandon is not None and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if handles_interrupt:
        signal.signal(signal.SIGINT, on_interrupt)
    if handles_terminate:
        signal.signal(signal.SIGTERM, on_terminate)
    try:
        yield interrupt
    finally:
        if handles_interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if handles_terminate:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
