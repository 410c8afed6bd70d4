"""Whether a process runs."""

from __future__ import annotations

from pathlib import Path


def is_alive(pid: int) -> bool:
    """Look into /proc. A process that has ended but was not waited for does not run."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
