"""A backend that raises, hangs or gives nonsense in the middle of a folder."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.commands import PATIENCE, Done, fcnkit, finish, start_fcnkit
from tests.faults.outputs import broken_results, torn_lines, write_pictures
from tests.faults.table import Setting, Trial, judged, promise
from tests.runtime.models import make_spec, write_model

# The library's own answer is spoiled from a certain call on, below everything that fcnkit checks.
_SPOILED = """
import time
import numpy as np
from fcnkit.runtime.backends.onnxruntime import OnnxRuntimeBackend as backend
whole, calls = backend._call, 0
def call(self, session, batch):
    global calls
    calls += 1
    if calls <= {good}:
        return whole(self, session, batch)
    {fault}
backend._call = call
"""
_MODEL = "error: onnxruntime: the model must give "
_FAULTS = {
    "raises": (
        "raise RuntimeError('out of everything')",
        "error: onnxruntime: the library must be able to run the model, got out of everything; ",
    ),
    "raises without a word": (
        "raise MemoryError",
        "error: onnxruntime: the library must be able to run the model, got MemoryError; ",
    ),
    "NaN": (
        "return whole(self, session, batch) * np.float32('nan')",
        f"{_MODEL}numbers, got NaN; ",
    ),
    "one NaN": (
        "result = whole(self, session, batch); result[0, 2, 5, 7] = np.nan; return result",
        f"{_MODEL}numbers, got NaN; ",
    ),
    "a wrong shape": ("return whole(self, session, batch)[:, :, 1:]", f"{_MODEL}float32 "),
    "a wrong dtype": ("return whole(self, session, batch).astype('f8')", f"{_MODEL}float32 "),
}


@promise("A backend that raises or gives nonsense ends the run with one error and loses nothing.")
def backends_that_fail(setting: Setting) -> Iterator[Trial]:
    place = setting.scratch("backends")
    model = write_model(place / "logits.onnx", make_spec("logits"))
    names = write_pictures(place / "in", 40)
    whole = place / "whole"
    done = fcnkit("predict", model, place / "in", "-o", whole)
    yield judged("without a fault", done, broken_results(whole, names))
    chosen = list(_FAULTS) if setting.full else ["raises", "one NaN"]
    for name in chosen:
        fault, said = _FAULTS[name]
        out = place / f"out {name}"
        arguments = ("predict", model, place / "in", "-o", out)
        done = fcnkit(*arguments, before=_SPOILED.format(good=20, fault=fault))
        yield judged(name, done, done.one_error() or _says(done, said))
        yield _kept(name, out, names, whole)
        yield _rerun(name, arguments, out, names, whole)


@promise("A backend that hangs can be stopped with SIGTERM; what was written stays.")
def backends_that_hang(setting: Setting) -> Iterator[Trial]:
    place = setting.scratch("hang")
    model = write_model(place / "logits.onnx", make_spec("logits"))
    names = write_pictures(place / "in", 40)
    whole, out = place / "whole", place / "out"
    fcnkit("predict", model, place / "in", "-o", whole)
    arguments = ("predict", model, place / "in", "-o", out)
    hangs = _SPOILED.format(good=20, fault="time.sleep(1000)")
    process = start_fcnkit(*arguments, before=hangs)
    until = time.monotonic() + PATIENCE
    while len(list(out.glob("*.png"))) < 10 and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    done = finish(process)
    ended = None if done.code == -signal.SIGTERM else f"exit code {done.code}: {done.err[-300:]}"
    yield judged("SIGTERM", done, ended)
    yield _kept("SIGTERM", out, names, whole)
    yield _rerun("SIGTERM", arguments, out, names, whole)


def _says(done: Done, said: str) -> str | None:
    return None if done.err.splitlines()[-1].startswith(said) else done.err[-300:]


def _kept(name: str, out: Path, names: list[str], whole: Path) -> Trial:
    there = [name for name in names if (out / name).exists()]
    fault = broken_results(out, there, whole)
    if not 10 <= len(there) < len(names):
        fault = f"{len(there)} results of {len(names)}"
    return Trial(f"{name}: what was written", "lost" if fault else "kept", fault or "")


def _rerun(
    name: str, arguments: tuple[object, ...], out: Path, names: list[str], whole: Path
) -> Trial:
    done = fcnkit(*arguments)
    fault = broken_results(out, names, whole) or torn_lines(out)
    if done.code != 0:
        fault = f"exit code {done.code}: {done.err[-300:]}"
    return judged(f"{name}: the rerun", done, fault)
