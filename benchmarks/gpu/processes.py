"""The processes of a stage: all that are in its session, found under /proc."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["die_with_parent", "end_session", "session_memory"]

_DEATH_SIGNAL: Final = 1
"""PR_SET_PDEATHSIG of Linux."""


def die_with_parent() -> None:
    """Let this process end when its parent does, and be the first to go when memory runs out."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("900", encoding="ascii")


def end_session(session: int) -> None:
    """Kill every process of a session, also those that made a process group of their own."""
    for _ in range(3):  # one more may be started while they are listed
        members = list(_members(session))
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(session, signal.SIGKILL)
        for process in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if not members:
            return


def session_memory(session: int) -> int:
    """Return the bytes of memory that a session's processes hold together, files not counted."""
    total = 0
    for process in _members(session):
        with contextlib.suppress(OSError, ValueError):
            for line in Path(f"/proc/{process}/status").read_text("utf-8", "replace").splitlines():
                if line.startswith(("RssAnon:", "RssShmem:")):
                    total += int(line.split()[1]) << 10
    return total


def _members(session: int) -> Iterator[int]:
    if not Path("/proc/self/stat").exists():
        return
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError):
                # pid (name) state parent group session: the name may hold spaces and brackets
                stat = (folder / "stat").read_text("utf-8", "replace")
                fields = stat.rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] != "Z":
                    yield int(folder.name)
