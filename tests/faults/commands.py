"""Running the command line in another process, with a limit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PATIENCE", "PROGRESS", "ROOT", "Done", "fcnkit", "finish", "start_fcnkit"]

PATIENCE = 600.0
"""Seconds until something counts as hung: no busy machine needs so long for any of the cases."""

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """A finished command; code None says that it had to be killed."""

    code: int | None
    out: str
    err: str

    def one_error(self) -> str | None:
        """Say why this is not a plain error: exit code 2 and one line; None if it is.

        Lines of progress, notes and warnings may come before it.
        """
        lines = [line for line in self.err.splitlines() if not PROGRESS.match(line)]
        if self.code != 2 or len(lines) != 1 or not lines[0].startswith("error: "):
            return f"exit code {self.code}, {self.err[-300:]!r}"
        return None


PROGRESS = re.compile(r"(predict|epoch \d+|[a-z ]+): \d+ of \d+|(note|warning): ")

CODE = (
    # A parent that runs in the background has Ctrl-C ignored, and so would its children.
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from fcnkit.cli import main; main()"
)


def start_fcnkit(
    *arguments: object, before: str = "", user: int | None = None, **environment: str
) -> subprocess.Popen[str]:
    """Start ``fcnkit`` in its own process group; ``before`` is code that runs first."""
    return subprocess.Popen(
        [sys.executable, "-c", f"{before}\n{CODE}", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",
        env={**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1", **environment},
        cwd=ROOT,
        start_new_session=True,
        user=user,
    )


def finish(process: subprocess.Popen[str], *, limit: float = PATIENCE) -> Done:
    """Wait for a command; kill it after ``limit`` seconds."""
    with process:
        try:
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            return Done(None, out, err)
    return Done(process.returncode, out, err)


def fcnkit(
    *arguments: object, before: str = "", limit: float = PATIENCE, **environment: str
) -> Done:
    """Run ``fcnkit`` and wait for it."""
    return finish(start_fcnkit(*arguments, before=before, **environment), limit=limit)
