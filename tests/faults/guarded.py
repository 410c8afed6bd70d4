"""A call in its own process, so that a crash or a hang is an outcome like any other."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

__all__ = ["Answer", "guarded"]

_CONTEXT = multiprocessing.get_context("forkserver")
# One server imports the heavy packages once; what it forks is its own process all the same.
_CONTEXT.set_forkserver_preload(
    [
        "fcnkit.train.loop",
        "fcnkit.train.backend",
        "onnxruntime",
        "tests.faults.models",
        "tests.faults.arguments",
        "tests.faults.options",
    ]
)


@dataclass(frozen=True)
class Answer:
    """What became of a call; text is the value's repr, or the error's message."""

    kind: Literal["value", "error", "died", "hung"]
    text: str
    error: str = ""
    """Names of the error's classes, the most special first."""


def guarded(call: Callable[..., object], *arguments: object, seconds: float = 600) -> Answer:
    """Call a function of a module with arguments that pickle, in a forked process."""
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_main, args=(theirs, call, arguments))
    process.start()
    theirs.close()
    try:
        if not ours.poll(seconds):
            return Answer("hung", f"no answer in {seconds:g} s")
        return Answer(*ours.recv())
    except EOFError:
        process.join()
        return Answer("died", f"exit code {process.exitcode}")
    finally:
        process.kill()
        process.join()
        ours.close()


def _main(answer: Connection, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    try:
        answer.send(("value", repr(call(*arguments))[:500], ""))
    except BaseException as error:
        names = " ".join(kind.__name__ for kind in type(error).__mro__)
        answer.send(("error", str(error)[:2000], names))
