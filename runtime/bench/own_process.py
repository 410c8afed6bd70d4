"""Calls a function in a new process: its memory and its first call are true, and it may crash."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final

from fcnkit.errors import FcnkitError, pass_warnings_to, printable

__all__ = ["Answer", "call_apart", "serve"]

_LOOK: Final = 0.1
"""Seconds between two looks at the process and the time."""
_GRACE: Final = 1.0
"""Seconds to read the answer of a process that ended."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of a call in another process."""

    value: Any = None
    """What the function returned; None where it did not return."""
    failed: str | None = None
    """Why it did not return, in one line; None where it did."""
    kind: str = ""
    """Name of the error's class; ``TimeoutError`` where the time was over, and
    ``ChildProcessError`` where the process ended by itself."""
    warnings: tuple[str, ...] = ()
    """fcnkit's own warnings, each once."""


def call_apart(
    function: Callable[..., Any],
    *arguments: Any,
    until: float | None = None,
    before: Callable[[], object] | None = None,
) -> Answer:
    """Call a function in a new Python process and wait for it.

    The process ends with this one, also where this one is killed. What it prints goes to standard
    error. The script of this process is not run again, as multiprocessing would do.

    Args:
        function: A function of a module, which is imported by its name.
        arguments: What it is called with; they and the result are pickled.
        until: When to give up and end the process, by ``time.monotonic``; None never does.
        before: Called first, in the new process.

    Returns:
        The answer; an error in the function is part of it.
    """
    code = f"from {__name__} import serve; serve()"
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    received: list[Answer] = []
    reader = threading.Thread(target=_read, args=(process.stdout, received), daemon=True)
    try:
        with contextlib.suppress(BrokenPipeError):  # it ended already, and its code says why
            # The path comes first: the function's module may be found by it alone.
            pickle.dump(sys.path, process.stdin)
            pickle.dump((before, function, arguments), process.stdin)
            process.stdin.flush()
        reader.start()
        while reader.is_alive():
            if until is not None and time.monotonic() >= until:
                return Answer(failed="the time was over", kind="TimeoutError")
            # A process that a library forked may hold the pipe open after a crash.
            ended = process.poll() is not None
            reader.join(_GRACE if ended else _LOOK)
            if ended:
                break
        if not received:
            return Answer(failed=_ending(process.wait()), kind="ChildProcessError")
        return received[0]
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _read(source: IO[bytes], received: list[Answer]) -> None:
    # The process may end before its answer.
    with source, contextlib.suppress(EOFError, pickle.UnpicklingError):
        received.append(pickle.load(source))


def _ending(code: int) -> str:
    """Say how a process ended that gave no answer."""
    if code >= 0:
        return f"its process ended with code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    often = ", as it does where memory runs out" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{often}"


def serve() -> None:
    """Run in the new process: read a call from standard input and write what became of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends this one
    # Libraries print to standard output, which must not get into the answer. They also start
    # processes that close standard input, which must not be the file that a thread waits on.
    given, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    with warnings.catch_warnings():
        # Pillow warns of damaged metadata that it goes on without.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        seen: list[str] = []
        pass_warnings_to(seen.append)
        try:
            sys.path[:] = pickle.load(given)
            before, function, arguments = pickle.load(given)
            threading.Thread(target=_end_with_parent, args=(given,), daemon=True).start()
            if before is not None:
                before()
            answer = Answer(value=function(*arguments))
        except Exception as error:
            answer = Answer(failed=_reason(error), kind=type(error).__name__)
    pickle.dump(replace(answer, warnings=tuple(seen)), answers)
    answers.flush()
    # Not every library can be torn down; the answer is out, and nothing else is left to do.
    os._exit(0)


def _end_with_parent(given: IO[bytes]) -> None:
    given.read()  # returns when the first process is gone
    os._exit(1)


def _reason(error: Exception) -> str:
    """Word an error in one line. What a library raised is named with its class and its place."""
    text = printable(" ".join(str(error).split()))
    if isinstance(error, (FcnkitError, ValueError, TypeError, OSError, MemoryError)) and text:
        return text
    [*_, last] = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__}: {text} ({Path(last.filename).name}:{last.lineno})"
