"""The processes of a stage: all that inherited its mark, found under /proc."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["MARK", "die_with_parent", "end_stage", "stage_memory"]

MARK: Final = "FCNKIT_GPU_STAGE"
"""The environment variable that a stage hands down to whatever it starts."""


_DEATH_SIGNAL: Final = 1
"""PR_SET_PDEATHSIG of Linux."""


def die_with_parent() -> None:
    """Let this process end when its parent does, and be the first to go when memory runs out."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("900", encoding="ascii")


def end_stage(mark: str) -> None:
    """Kill every process of a stage, also those that made their own session."""
    for _ in range(100):
        members = list(_members(mark))
        for process in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if not members:
            return
        time.sleep(0.01)  # what was being started meanwhile is found in the next round


def stage_memory(mark: str) -> int:
    """Return the bytes of memory that a stage's processes hold together, files not counted."""
    total = 0
    for process in _members(mark):
        with contextlib.suppress(OSError, ValueError):
            for line in Path(f"/proc/{process}/status").read_text("utf-8", "replace").splitlines():
                if line.startswith(("RssAnon:", "RssShmem:")):
                    total += int(line.split()[1]) << 10
    return total


def _members(mark: str) -> Iterator[int]:
    """Give the processes that were started with a stage's mark; a dead one has no environment."""
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)
