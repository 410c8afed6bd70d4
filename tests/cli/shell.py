"""Running the command line: in its own process, as a shell does, or in this one."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys

from fcnkit.cli import main


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


def called(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``fcnkit`` in this process; a new one would load PyTorch to refuse an option."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def refused(done: subprocess.CompletedProcess[str], text: str) -> None:
    """Assert that a run was refused with exactly that line and wrote nothing else."""
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {text}\n")
