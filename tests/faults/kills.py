"""Processes that are killed, interrupted or stopped in the middle, and workers that die."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from tests.faults.commands import PATIENCE, Done, fcnkit, finish, start_fcnkit
from tests.faults.guarded import guarded
from tests.faults.outputs import broken_results, save_good, torn_lines, write_pictures
from tests.faults.table import Setting, Trial, judged, promise
from tests.runtime.models import make_spec, write_model

ENDED = {signal.SIGINT: (130, -signal.SIGINT), signal.SIGTERM: (130, 143, -signal.SIGTERM)}


def _to_predict(setting: Setting, name: str, pictures: int) -> tuple[Path, Path, list[str], Path]:
    """Return a folder, a model and pictures in it, and where their undisturbed results go."""
    place = setting.scratch(name)
    model = write_model(place / "labels.onnx", make_spec("labels"))
    return place, model, write_pictures(place / "in", pictures, side=128), place / "whole"


@promise("A kill of predict at any moment leaves whole files only, and the same command ends it.")
def kills_of_predict(setting: Setting) -> Iterator[Trial]:
    place, model, names, whole = _to_predict(setting, "predict", 80)
    done = fcnkit("predict", model, place / "in", "-o", whole)
    yield judged("without a kill", done, broken_results(whole, names))
    for number in setting.rounds(0.5):
        out = place / f"out-{number}"
        arguments = ("predict", model, place / "in", "-o", out)
        for _ in range(2):
            process = start_fcnkit(*arguments)
            _wait_for(out, some=setting.random.randrange(60))
            process.kill()
            finish(process)
        there = [name for name in names if (out / name).exists()]
        fault = broken_results(out, there, whole)
        yield Trial("killed", "lost" if fault else "kept", fault or "")
        done = fcnkit(*arguments)
        fault = broken_results(out, names, whole) or _unless(done, 0) or torn_lines(out)
        yield judged("the rerun", done, fault)
        shutil.rmtree(out)


def _wait_for(folder: Path, *, some: int, limit: float = PATIENCE) -> None:
    """Wait until a folder holds this many results."""
    until = time.monotonic() + limit
    while len(list(folder.glob("*.png"))) < some and time.monotonic() < until:
        time.sleep(0.002)


def _unless(done: Done, code: int) -> str | None:
    return None if done.code == code else f"exit code {done.code}: {done.err[-300:]}"


@promise("Ctrl-C and SIGTERM end a command soon, without a traceback and without a process left.")
def signals(setting: Setting) -> Iterator[Trial]:
    place = setting.scratch("signals")
    model = write_model(place / "labels.onnx", make_spec("labels"))
    names = write_pictures(place / "in", 400, side=128)
    for sent in (signal.SIGINT, signal.SIGTERM):
        out = place / f"out-{sent.name}"
        process = start_fcnkit("predict", model, place / "in", "-o", out)
        _wait_for(out, some=20)
        process.send_signal(sent)
        done = finish(process)
        there = [name for name in names if (out / name).exists()]
        fault = broken_results(out, there) or _ended(done, sent) or _left(process.pid)
        yield judged(f"{sent.name} in predict", done, fault)
    data = place / "shapes"
    done = fcnkit("data", "shapes", data, "--train", 8, "--val", 2)
    for sent in (signal.SIGINT, signal.SIGTERM) if setting.full else (signal.SIGINT,):
        run = place / f"run-{sent.name}"
        process = start_fcnkit(*_train(data, run))
        _wait_until((run / "last.pt").exists, PATIENCE)
        process.send_signal(sent)
        done = finish(process)
        fault = _ended(done, sent) or _left(process.pid) or _unloadable(run)
        yield judged(f"{sent.name} in train", done, fault)

    if not setting.full:
        return
    save_good(place / "best.pt")
    out = place / "m.onnx"
    exporting = ("export", "onnx", place / "best.pt", "-o", out)
    measuring = ("bench", "latency", model, "--shape", "320x480", "--duration", 100)
    for case, arguments in (("export onnx", exporting), ("bench latency", measuring)):
        for sent in (signal.SIGINT, signal.SIGTERM):
            process = start_fcnkit(*arguments)
            time.sleep(3)  # Between its imports and its end.
            process.send_signal(sent)
            done = finish(process)
            left = sorted(path.name for path in place.iterdir() if "m.onnx" in path.name)
            fault = _ended(done, sent) or _left(process.pid) or (f"left {left}" if left else None)
            yield judged(f"{sent.name} in {case}", done, fault)


@promise(
    "A kill of training at any moment loses no finished epoch, and --resume ends as if undisturbed."
)
def kills_of_training(setting: Setting) -> Iterator[Trial]:
    place = setting.scratch("training")
    data, whole = place / "shapes", place / "whole"
    fcnkit("data", "shapes", data, "--train", 8, "--val", 2)
    start = time.monotonic()
    done = fcnkit(*_train(data, whole, epochs=6))
    took = time.monotonic() - start
    yield judged("without a kill", done, _unless(done, 0) or _unsound(whole))
    for number in setting.rounds(0.5):
        run = place / f"run-{number}"
        command = [*_train(data, run, epochs=6), "--resume"]
        finished = 0
        for _ in range(3 if setting.full else 1):
            process = start_fcnkit(*command)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(setting.random.uniform(0.4, 1) * took)
            process.kill()
            finish(process)
            fault = _unsound(run)
            epochs = 0 if fault or not run.exists() else len(_rows(run))
            if epochs < finished:
                fault = f"{epochs} epochs after {finished}"
            finished = epochs
            yield Trial("killed", "lost" if fault else "kept", fault or "")
        done = fcnkit(*command)
        fault = _unless(done, 0) or _unsound(run)
        if not fault and _rows(run) != _rows(whole):
            fault = f"other epochs: {_rows(run)}, undisturbed {_rows(whole)}"
        yield judged("the rerun", done, fault)


def _unsound(run: Path) -> str | None:
    """Say which file of a run cannot be read as its readers read it."""
    from fcnkit.errors import FcnkitError
    from fcnkit.train.checkpoint import load_checkpoint

    for path in sorted(run.glob("*.pt")):
        try:
            load_checkpoint(path)
        except FcnkitError as error:
            return str(error)
    for path in sorted(run.rglob("*.png")):
        try:
            with Image.open(path) as picture:
                picture.load()
        except (OSError, SyntaxError) as error:
            return f"{path}: {error}"
    return None


def _rows(run: Path) -> list[dict[str, Any]]:
    """Return what a run says of its finished epochs, but for their speed."""
    path = run / "metrics.jsonl"
    if not (run / "last.pt").exists():
        return []
    from fcnkit.train.checkpoint import load_checkpoint

    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    # Written before the checkpoint that the row tells of, and written again after a kill between.
    done = load_checkpoint(run / "last.pt").epoch
    return [
        {key: value for key, value in row.items() if key != "images_per_second"}
        for row in rows
        if row["epoch"] <= done
    ]


def _train(data: Path, run: Path, **more: object) -> list[object]:
    options = {"recipe": "modern", "crop": "64x64", "batch": 8, "epochs": 50, "workers": 1, **more}
    flags = [text for key, value in options.items() for text in (f"--{key}", value)]
    return ["train", data, "-o", run, "--precision", "fp32", "--device", "cpu", *flags]


def _ended(done: Done, sent: signal.Signals) -> str | None:
    if done.code not in ENDED[sent]:
        return f"exit code {done.code}: {done.err[-300:]}"
    return done.err[-300:] if "Traceback" in done.err else None


def _left(group: int) -> str | None:
    """Say which processes of a process group live on, those of torch's workers for instance."""
    time.sleep(0.3)
    found = subprocess.run(
        ["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True
    )
    lines = [line.split(None, 2) for line in found.stdout.splitlines()]
    alive = [text for text in lines if text[0] == str(group) and "Z" not in text[1]]
    return f"still there: {alive}" if alive else None


def _wait_until(holds: Callable[[], bool], limit: float) -> None:
    until = time.monotonic() + limit
    while not holds() and time.monotonic() < until:
        time.sleep(0.02)


def _unloadable(run: Path) -> str | None:
    from fcnkit.train.checkpoint import load_checkpoint

    if not (run / "last.pt").exists():
        return "no last.pt"
    load_checkpoint(run / "last.pt")
    return None


@promise("A reading process that dies, or a broken picture in it, is one line; the run resumes.")
def workers_that_die(setting: Setting) -> Iterator[Trial]:
    place = setting.scratch("workers")
    data, run = place / "shapes", place / "run"
    fcnkit("data", "shapes", data, "--train", 8, "--val", 2)
    process = start_fcnkit(*_train(data, run))
    _wait_until((run / "last.pt").exists, PATIENCE)
    for child in _children(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    done = finish(process)
    rule = "training: the processes that read pictures must live, got "
    fault = done.one_error() or (None if rule in done.err else done.err[-300:])
    fault = fault or _left(process.pid) or _unloadable(run)
    yield judged("a worker is killed", done, fault)
    broken = sorted((data / "JPEGImages").iterdir())[0]
    for path in (data / "JPEGImages").iterdir():
        path.write_bytes(path.read_bytes()[:300])
    for workers in (0, 1) if setting.full else (1,):
        done = fcnkit(*_train(data, place / f"run-{workers}", workers=workers))
        rule = f"{broken.parent}/"
        fault = done.one_error() or (None if rule in done.err else done.err[-300:])
        if "Caught" in done.err:
            fault = done.err[-300:]
        yield judged(f"broken pictures, {workers} workers", done, fault)


def _children(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    return [int(child) for child in text.split()]


# --- export, engine, checkpoints -----------------------------------------------------------------

_CONTEXT = multiprocessing.get_context("forkserver")


def export(checkpoint: Path, out: Path, ready: Path) -> None:
    """Export as the command does, saying when everything is imported."""
    from fcnkit.export.to_onnx import export_onnx

    ready.write_bytes(b"")
    export_onnx(checkpoint, out, head="labels")


def build(model: Path, out: Path, ready: Path) -> None:
    """Build an engine as the command does."""
    from fcnkit.export.engine import build_engine

    ready.write_bytes(b"")
    build_engine(model, out, flavor="tensorrt-rtx")


def save_for_ever(source: Path, out: Path, ready: Path) -> None:
    """Write a checkpoint again and again."""
    from fcnkit.train.checkpoint import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(source)
    ready.write_bytes(b"")
    while True:
        save_checkpoint(out, checkpoint)


def _killed(
    setting: Setting, call: Callable[..., Any], *arguments: Path, after: float
) -> str | None:
    """Kill a call at a random moment after it is ready; say if it had failed before."""
    ready = arguments[-1]
    ready.unlink(missing_ok=True)
    process = _CONTEXT.Process(target=call, args=arguments)
    process.start()
    _wait_until(lambda: ready.exists() or not process.is_alive(), PATIENCE)
    process.join(setting.random.uniform(0, after))
    ended = process.exitcode
    process.kill()
    process.join()
    return f"it ended by itself with {ended}" if ended else None


def check_checkpoint(path: Path) -> None:
    """Read a checkpoint as its readers do."""
    from fcnkit.train.checkpoint import load_model

    load_model(path)


def check_onnx(path: Path) -> None:
    """Read and run an ONNX file."""
    from tests.faults.models import use

    use(path)


@promise("A kill of a checkpoint's writing or of an export leaves the old file or the new one.")
def kills_of_writers(setting: Setting) -> Iterator[Trial]:
    place = setting.scratch("writers")
    ready, best = place / "ready", place / "best.pt"
    save_good(best)
    out = place / "x.pt"
    out.write_bytes(best.read_bytes())
    for _ in setting.rounds(0.2):
        fault = _killed(setting, save_for_ever, best, out, ready, after=0.5)
        yield _sound("checkpoint", out, check_checkpoint, fault)
    if not setting.full:
        return
    yield from _kill_and_rerun(setting, "export onnx", export, best, place / "m.onnx", _onnx_sound)
    model = write_model(place / "labels.onnx", make_spec("labels"))
    if find_spec("tensorrt_rtx"):
        engine = place / "m.engine"
        yield from _kill_and_rerun(setting, "export engine", build, model, engine, _engine_sound)
    else:
        setting.skipped.append("building of engines: TensorRT-RTX is not installed")


def _kill_and_rerun(
    setting: Setting,
    case: str,
    call: Callable[[Path, Path, Path], None],
    source: Path,
    out: Path,
    sound: Callable[[str, Path], Trial],
    kills: int = 8,
) -> Iterator[Trial]:
    """Time one undisturbed run, kill others at moments within that time, and end with a whole one.

    Every second one finds the undisturbed one's files, the others find none.
    """
    ready = out.with_name("ready")
    start = time.monotonic()
    answer = guarded(call, source, out, ready)
    took = time.monotonic() - start
    yield Trial(f"{case}: undisturbed", "kept" if answer.kind == "value" else "wrong", answer.text)
    whole = {path: path.read_bytes() for path in out.parent.glob(f"{out.stem}.*")}
    for number in range(kills):
        for path, content in whole.items():
            if number % 2:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)
        fault = _killed(setting, call, source, out, ready, after=took)
        if fault:
            yield Trial(f"{case}: killed", "wrong", fault)
        elif out.exists():
            yield sound(f"{case}: killed", out)
        else:
            yield Trial(f"{case}: killed, no file yet", "kept" if number % 2 else "lost")
    answer = guarded(call, source, out, ready)
    yield Trial(f"{case}: the rerun", "kept" if answer.kind == "value" else "wrong", answer.text)
    yield sound(f"{case}: the rerun's file", out)


def _onnx_sound(case: str, out: Path) -> Trial:
    return _sound(case, out, check_onnx)


def _engine_sound(case: str, out: Path) -> Trial:
    done = fcnkit("info", out)
    sidecar = Path(f"{out}.json")
    whole = sidecar.exists() and json.loads(sidecar.read_text())
    # A sidecar that is newer than its engine is refused with its hash, and a rerun mends it.
    fault = None if done.code == 0 and whole else done.one_error()
    return judged(case, done, fault, outcome="lost")


def _sound(case: str, path: Path, check: Callable[[Path], None], fault: str | None = None) -> Trial:
    if fault:
        return Trial(case, "wrong", fault)
    answer = guarded(check, path)
    return Trial(case) if answer.kind == "value" else Trial(case, "lost", str(answer))


@promise("Two runs of predict on one folder: one is refused, or both are right; nothing mixes.")
def two_at_once(setting: Setting) -> Iterator[Trial]:
    place, model, names, whole = _to_predict(setting, "two", 60)
    fcnkit("predict", model, place / "in", "-o", whole)
    for number in setting.rounds(0.3):
        out = place / f"out-{number}"
        arguments = ("predict", model, place / "in", "-o", out)
        both = [finish(process) for process in (start_fcnkit(*arguments), start_fcnkit(*arguments))]
        refused = [done for done in both if done.code != 0]
        faults = [done.one_error() for done in refused]
        fault = broken_results(out, names, whole) or torn_lines(out) or next(iter(faults), None)
        if len(refused) == 2:
            fault = f"both were refused: {both[0].err}"
        yield judged("two at once", both[0], fault)


def manifest_lines(out: Path) -> list[str]:
    """Return the lines of a manifest."""
    return (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()


@promise(
    "A clock that goes backwards changes nothing: what is done stays done, no time is negative."
)
def clock_going_backwards(setting: Setting) -> Iterator[Trial]:
    place = setting.scratch("clock")
    model = write_model(place / "labels.onnx", make_spec("labels"))
    names = write_pictures(place / "in", 5)
    os.utime(place / "in" / names[0], (4_000_000_000, 4_000_000_000))  # made in the year 2096
    backwards = (
        "import time, itertools\ncount = itertools.count()\ntime.time = lambda: 1e9 - next(count)\n"
    )
    for case, skipped in (("a first run", 0), ("a rerun", len(names))):
        done = fcnkit(
            "predict", model, place / "in", "-o", place / "out", "--json", before=backwards
        )
        fault = _unless(done, 0) or broken_results(place / "out", names)
        if not fault:
            found = json.loads(done.out)
            times = [json.loads(line)["milliseconds"] for line in manifest_lines(place / "out")]
            if found["seconds"] < 0 or min(times) < 0:
                fault = "negative time"
            elif found["skipped"] != skipped:
                fault = f"{found['skipped']} skipped"
        yield judged(case, done, fault)
