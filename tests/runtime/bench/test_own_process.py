"""Calls in a new process: answers, errors, crashes, the end of the time and of the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import pytest

from fcnkit.errors import DataError, ModelWarning, message
from fcnkit.runtime.bench.own_process import Answer, call_apart
from tests.conftest import ROOT
from tests.processes import is_alive

SLOW = 60.0
"""Seconds in which even a very busy machine starts or ends a process."""


def add(a: int, b: int) -> tuple[int, int, str]:
    return a + b, os.getpid(), os.environ.get("FCNKIT_TEST_BEFORE", "")


def set_variable(text: str) -> None:
    os.environ["FCNKIT_TEST_BEFORE"] = text


def refuse() -> None:
    raise DataError(message("a.png", "must be an image", "3 bytes", "take it out"))


def divide() -> float:
    return 1 / int("0")


def end_by(number: int) -> None:
    os.kill(os.getpid(), number)


def warn() -> str:
    for _ in range(2):
        warnings.warn("a file says little", ModelWarning, stacklevel=1)
    warnings.warn("a library's own", UserWarning, stacklevel=1)
    return "done"


def sleep_after_writing(path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(10 * SLOW)


def wait_for(path: Path) -> int:
    end = time.monotonic() + SLOW
    while not path.is_file() or not path.read_text():
        assert time.monotonic() < end
        time.sleep(0.02)
    return int(path.read_text())


def test_it_returns_what_the_function_does_in_another_process() -> None:
    answer = call_apart(add, 2, 3, before=partial(set_variable, "set"))
    assert (answer.failed, answer.kind, answer.warnings) == (None, "", ())
    total, pid, variable = answer.value
    assert (total, variable) == (5, "set")
    assert pid != os.getpid()
    assert "FCNKIT_TEST_BEFORE" not in os.environ


def test_errors_are_one_line() -> None:
    text = "a.png: must be an image, got 3 bytes; take it out"
    assert call_apart(refuse) == Answer(failed=text, kind="DataError")
    other = call_apart(divide)
    assert other.kind == "ZeroDivisionError"
    assert other.failed is not None
    assert other.failed.startswith("ZeroDivisionError: ")
    assert " (test_own_process.py:" in other.failed


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (signal.SIGSEGV, "its process was ended by SIGSEGV"),
        (
            signal.SIGKILL,
            "its process was ended by SIGKILL, as it does where memory runs out",
        ),
    ],
)
def test_a_crash_is_an_answer(number: int, text: str) -> None:
    assert call_apart(end_by, number) == Answer(failed=text, kind="ChildProcessError")


def test_a_process_that_exits_is_an_answer() -> None:
    text = "its process ended with code 3"
    assert call_apart(os._exit, 3) == Answer(failed=text, kind="ChildProcessError")


def test_only_our_own_warnings_are_collected(capfd: pytest.CaptureFixture[str]) -> None:
    answer = call_apart(warn)
    assert (answer.value, answer.warnings) == ("done", ("a file says little",))
    assert "a library's own" in capfd.readouterr().err


def test_the_process_ends_when_the_time_is_over(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    # Long enough for the process to begin, also on a busy machine.
    for seconds in (2, 10, 40):
        answer = call_apart(sleep_after_writing, path, until=time.monotonic() + seconds)
        assert answer == Answer(failed="the time was over", kind="TimeoutError")
        if path.is_file():
            break
    assert not is_alive(int(path.read_text()))
    late = call_apart(add, 1, 1, until=time.monotonic() - 1)
    assert late.kind == "TimeoutError"


def test_the_process_ends_with_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    code = (
        "import sys; from pathlib import Path; "
        "from fcnkit.runtime.bench.own_process import call_apart; "
        "from tests.runtime.bench.test_own_process import sleep_after_writing; "
        "call_apart(sleep_after_writing, Path(sys.argv[1]))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT)
    try:
        child = wait_for(path)
        assert is_alive(child)
    finally:
        parent.kill()
        parent.wait()
    end = time.monotonic() + SLOW
    while is_alive(child):
        assert time.monotonic() < end
        time.sleep(0.02)


def leave_a_process_behind(number: int, path: Path) -> int:
    """Fork as a library does that reports its use, and answer or crash meanwhile."""
    forked = os.fork()
    path.write_text(str(forked or os.getpid()))
    if forked == 0:
        sys.stdin.close()
        time.sleep(2 * SLOW)
        os._exit(0)
    if number:
        os.kill(os.getpid(), number)
    return 7


@pytest.mark.parametrize("number", [0, signal.SIGSEGV])
def test_a_process_that_a_library_leaves_behind_is_not_waited_for(
    number: int, tmp_path: Path
) -> None:
    path = tmp_path / "pid"
    answer = call_apart(leave_a_process_behind, number, path, until=time.monotonic() + SLOW)
    os.kill(int(path.read_text()), signal.SIGKILL)
    text = "its process was ended by SIGSEGV"
    crashed = Answer(failed=text, kind="ChildProcessError")
    assert answer == (crashed if number else Answer(value=7))
