"""Stages that misbehave, for the runner: each is started by it in a separate process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.context import Context


def good(context: Context) -> None:
    context.say("before", 1)
    context.attempt("fails", lambda: 1 / 0)
    context.attempt("after", lambda: {"images_per_second": 2.5})
    context.attempt("not finite", lambda: float("nan"))


def crash(context: Context) -> None:
    context.say("before", 1)
    os.kill(os.getpid(), signal.SIGSEGV)


def fail(context: Context) -> None:
    context.say("before", 1)
    raise RuntimeError("a stage's own error")


def leave(context: Context) -> None:
    context.say("before", 1)
    os._exit(7)


def hang(context: Context) -> None:
    """Hang in a way that no signal but SIGKILL ends, with a child in another session."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    context.say("child", child.pid)
    time.sleep(600)


def leave_a_child(context: Context) -> None:
    """End while a child holds the pipes open."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    context.say("child", child.pid)


def fill_memory(context: Context) -> None:
    context.say("before", 1)
    held = []
    while True:
        held.append(bytearray(os.urandom(1 << 20)) * 16)
        time.sleep(0.02)


def fill_memory_in_children(context: Context) -> None:
    """Neither process is over the limit alone."""
    code = "import time; held = bytearray(b'x' * (160 << 20)); time.sleep(600)"
    for _ in range(2):
        subprocess.Popen([sys.executable, "-c", code])
    context.say("before", 1)
    time.sleep(600)


def garbage(context: Context) -> None:
    """Print what nobody can read, on its output and among its findings."""
    sys.stdout.buffer.write(b"\xff\x00\xfe" * 2_000_000)
    sys.stdout.flush()
    channel = context._channel
    for line in (b"\xff\xfe\x00\n", b"no JSON\n", b"[1]\n", b'{"key": 3, "value": 4}\n'):
        os.write(channel, line)
    os.write(channel, b'{"key": "nan", "value": NaN}\n')
    os.write(channel, b'{"key": "infinite", "value": 1e999}\n')
    for depth in range(31, 1000, 10):  # at some depth JSON can be read and not be written
        os.write(channel, b'{"key": "deep", "value": %s%s}\n' % (b"[" * depth, b"]" * depth))
    os.write(channel, b"[" * 500_000 + b"\n")
    os.write(channel, b'{"value": 1}\n{"key": "cut", "val')
    os.write(channel, b"\n")
    context.say("after", "\ud800 \x00 ok")


def many_findings(context: Context) -> None:
    for number in range(3000):
        context.say(f"finding {number}", number)


def large_findings(context: Context) -> None:
    for number in range(200):
        context.say(f"finding {number}", "x" * 100_000)


def steady(context: Context) -> None:
    """Say something all the time, for a run that is killed meanwhile."""
    Path(context.folder, "pid").write_text(str(os.getpid()))
    number = 0
    while True:
        context.say(f"finding {number % 200}", "x" * 500)
        number += 1
