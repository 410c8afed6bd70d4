"""Running the command line in a process of its own, as a shell does."""

from __future__ import annotations

import os
import subprocess
import sys


def fcnkit(
    *arguments: object, before: str = "", stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``fcnkit`` with the arguments; ``before`` is code that runs first."""
    code = f"{before}from fcnkit.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200", **environment},
    )


def refused(done: subprocess.CompletedProcess[str], text: str) -> None:
    """Assert that a run was refused with exactly that line and wrote nothing else."""
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {text}\n")
