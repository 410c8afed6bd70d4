"""The builder's progress, as one share of the whole."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Advance", "make_monitor"]

Advance = Callable[[str, int, int | None], None]
"""Called with the stage, how much of it is done, and how much there is."""


@dataclass(kw_only=True)
class _Phase:
    name: str
    steps: int
    done: int = 0


def make_monitor(trt: Any, advance: Advance) -> Any:
    """Return a progress monitor of the library that reports per cent of the outermost phase.

    Phases nest: a step of one may be its own phase, of which the builder says how many steps it
    has. So what is done is the outermost phase's steps, the running one counted by what is done of
    the phase inside it, and so on.

    Args:
        trt: The module.
        advance: Called with the outermost phase's name, the per cent done and 100. What it
            raises (Ctrl-C, say) stops the build.

    Returns:
        The monitor. ``raised`` is the exception that stopped the build, or None.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the base is known at run time only
        def __init__(self) -> None:
            super().__init__()
            self.raised: BaseException | None = None
            self._lock = threading.Lock()
            self._phases: list[_Phase] = []
            self._reported = -1

        def phase_start(self, phase_name: str, _parent: str | None, num_steps: int) -> None:
            with self._lock:
                self._phases.append(_Phase(name=phase_name, steps=max(1, num_steps)))
                self._report()

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                for phase in self._phases:
                    if phase.name == phase_name:
                        phase.done = step + 1
                self._report()
            return self.raised is None

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                if self._phases and self._phases[0].name == phase_name:
                    self._phases[0].done = self._phases[0].steps
                    del self._phases[1:]
                    self._report()
                self._phases = [phase for phase in self._phases if phase.name != phase_name]

        def _report(self) -> None:
            share = 0.0
            for phase in reversed(self._phases):
                share = min(1.0, (phase.done + share) / phase.steps)
            done = round(100 * share)
            if done <= self._reported:
                return
            self._reported = done
            try:
                advance(self._phases[0].name, done, 100)
            except BaseException as error:  # it must not unwind through C++
                self.raised = self.raised or error

    return Monitor()
