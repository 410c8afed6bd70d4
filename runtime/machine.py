"""The load of the machine while a series is measured, and the memory of this process.

Linux tells through /proc; elsewhere the figures are None, and a report says that they are missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

__all__ = [
    "LoadMeter",
    "MachineLoad",
    "host_memory",
    "keep_freed_memory",
    "parse_cpu_times",
    "peak_memory_mb",
    "reset_peak",
    "return_freed_memory",
]

_PROC: Final = Path("/proc")
_SHORTEST: Final = 0.5
"""Shorter intervals are too coarse: the kernel counts CPU time in ticks of 10 ms."""
_LARGEST_KEPT: Final = (1 << 25) - (1 << 13)
"""Just below the largest block that glibc learns from, with its own bytes."""


@dataclass(frozen=True, kw_only=True)
class MachineLoad:
    """Cores in use by others, averaged over an interval."""

    other_cores: float | None
    stolen_cores: float | None


def parse_cpu_times(stat: str, *, ticks: int) -> tuple[float, float] | None:
    """Read the first line of /proc/stat.

    Args:
        stat: The file's text.
        ticks: Clock ticks per second.

    Returns:
        Seconds since boot that cores spent working, and seconds that were stolen from them; None
        where the text is something else.
    """
    words = stat.partition("\n")[0].split()
    if len(words) < 9 or words[0] != "cpu" or not all(word.isdigit() for word in words[1:9]):
        return None
    user, nice, system, _, _, irq, softirq, steal = (int(word) / ticks for word in words[1:9])
    busy = user + nice + system + irq + softirq
    return (busy, steal) if busy else None


class LoadMeter:
    """Measures a MachineLoad from its making to ``stop``."""

    def __init__(self) -> None:
        self._start = _now()

    def stop(self) -> MachineLoad:
        """Return the load since the meter was made; None in it where it is not known."""
        (wall, own, machine), (end_wall, end_own, end_machine) = self._start, _now()
        seconds = end_wall - wall
        if machine is None or end_machine is None or seconds < _SHORTEST:
            return MachineLoad(other_cores=None, stolen_cores=None)
        others = end_machine[0] - machine[0] - (end_own - own)
        return MachineLoad(
            other_cores=max(0.0, others / seconds),
            stolen_cores=max(0.0, (end_machine[1] - machine[1]) / seconds),
        )


def _now() -> tuple[float, float, tuple[float, float] | None]:
    """Return wall seconds, CPU seconds of this process and its ended children, the machine's."""
    machine = None
    with contextlib.suppress(OSError, ValueError, AttributeError):
        text = (_PROC / "stat").read_text(encoding="ascii")
        machine = parse_cpu_times(text, ticks=os.sysconf("SC_CLK_TCK"))
    return time.monotonic(), sum(os.times()[:4]), machine


def host_memory() -> dict[str, float | None]:
    """Return this process's memory: resident now, and its peak since ``reset_peak``.

    Returns:
        ``resident_mb`` and ``peak_mb`` in 2^20 bytes; None where /proc does not tell.
    """
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = (_PROC / "self" / "status").read_text(encoding="utf-8").splitlines()
    held = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS:", "VmHWM:")))
    kilobytes = {key: float(value.split()[0]) for key, value in held.items()}
    names = {"resident_mb": "VmRSS", "peak_mb": "VmHWM"}
    return {
        name: kilobytes[key] / 1024 if key in kilobytes else None for name, key in names.items()
    }


def peak_memory_mb() -> float | None:
    """Return the most memory this process has held so far, in 10^6 bytes; None if unknown."""
    if sys.platform == "win32":
        return None
    # The kernel's figure of this program alone, where there is one; getrusage includes the parent.
    peak_mb = host_memory()["peak_mb"]
    if peak_mb is not None:
        return round(peak_mb * 1.048576, 1)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3 / 1.024), 1)


def reset_peak() -> bool:
    """Let the peak start again from what is resident now.

    Returns:
        Whether the kernel allowed it; the peak is of the whole process where it did not.
    """
    try:
        (_PROC / "self" / "clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def keep_freed_memory() -> None:
    """Let glibc keep freed arrays of up to 32 MB for the next ones; nothing happens elsewhere.

    It gives large arrays back to the kernel, which hands out and clears every page again: a tenth
    of the work on a small image. Freeing a larger array teaches glibc to keep those up to its size.
    """
    np.empty(_LARGEST_KEPT, np.uint8)  # freed at once, and never touched


def return_freed_memory() -> None:
    """Give freed memory back to the system, where the C library would keep it: glibc does.

    Libraries free several copies of a model while they open it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
