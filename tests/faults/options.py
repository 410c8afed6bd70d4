"""Every option and argument of every command, given what is not a value for it or a strange one."""

from __future__ import annotations

import ast
import os
import re
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import typer.main
from PIL import Image

from fcnkit.cli import app, main
from tests.export.adopt import graphs
from tests.faults.commands import PROGRESS
from tests.faults.guarded import guarded
from tests.faults.outputs import save_good, write_pictures
from tests.faults.table import Setting, Trial, promise
from tests.runtime.models import CLASSES, PALETTE, make_spec, write_model
from tests.train.folders import empty_folder

VALUES = (
    *("", " ", "x", "=", "a=b", "--", "\n", "\x1b[2J", "é", "\udcff", "a" * 5000),
    *("-1", "0", "1", "7", "0.5", "-0.5", "1e400", "nan", "inf", "007", "1_0", "٣", "0x10"),
    *("1x1", "32x32", "1x32x32", "0x0x0", "32x32x32x32", "33x32", "1x33x32", "-1x32x32"),
    *("2..1", "nan..nan", "0.5..", "1..1", "5%", "-5%", "nan%"),
    *("..", "/dev/null", "none/none", "/proc/self/mem", "auto:f32", "cuda:99999999999999999999"),
    *("labels", "fp32", "1,2,3", "[1]", "@none", "-"),
)

HUGE = ("2147483648", "9223372036854775808", "2147483648x2147483648", "1x2147483648x32")

COUNTS = {
    *("--epochs", "--runs", "--duration", "--warmup", "--rounds", "--load", "--streams"),
    *("--train", "--val", "--test"),
}
"""Of what a user may ask for any amount: a huge number is legal, and has no end."""

LIMIT_BYTES = 16 * 2**30

_FOUR_PARTS = re.compile(r"error: [^\n]+: [^\n]+, got [^\n]*; [^\n]+")
_SYSTEM = re.compile(r"error: \[Errno \d+\] [^\n]+")
_USAGE = re.compile(r"(Usage: fcnkit [^╭]*)?╭─ Error ─")


@dataclass(frozen=True)
class Slot:
    """A place in a command line."""

    command: tuple[str, ...]
    name: str
    """An option, or a number for an argument."""
    is_flag: bool

    def values(self) -> tuple[str, ...]:
        """What is put there."""
        if self.is_flag:
            return ("x", "")
        return VALUES if self.name in COUNTS else VALUES + HUGE


def command_lines(given: Path) -> dict[tuple[str, ...], tuple[list[str], list[str]]]:
    """Return a command line that works for each command: its arguments and its options.

    ``data voc2012`` is left out, for it has no option and downloads.
    """
    model, data, pictures = (str(given / name) for name in ("m.onnx", "data", "in"))
    lines: dict[tuple[str, ...], tuple[list[str], list[str]]] = {
        ("data", "shapes"): (["out"], ["--train=1", "--val=1"]),
        ("data", "check"): ([data], []),
        ("data", "import"): ([data], ["--out=out"]),
        # It writes into the data set that it is given.
        ("data", "split"): ([str(given.parent / "to-split")], ["--force"]),
        ("data", "show"): ([data], ["--out=out", "--count=1"]),
        ("train",): (
            [data],
            ["--run=out", "--epochs=1", "--crop=32x32", "--batch=2", "--workers=0"],
        ),
        ("eval",): ([model, data], []),
        ("adopt",): (
            [str(given / "foreign.onnx")],
            ["--out=out.onnx", "--mean=0", "--std=1", "--shape=1x32x32"],
        ),
        ("export", "onnx"): ([str(given / "best.pt")], ["--out=out.onnx"]),
        ("export", "engine"): ([model], ["--out=out.engine"]),
        ("export", "triton"): ([model], ["--out=out"]),
        ("verify",): ([model, model], []),
        ("predict",): ([model, pictures], ["--out=out"]),
        ("bench", "latency"): ([model], ["--runs=1", "--warmup=1", "--shape=32x32"]),
        ("bench", "throughput"): ([model, pictures], ["--rounds=1", "--duration=0.1"]),
        ("bench", "matrix"): (
            [model, pictures],
            ["--backend=onnxruntime", "--minutes=0.05", "--shape=32x32", "--threads=1"],
        ),
        ("bench", "compare"): ([str(given / "bench" / "report.json")] * 2, []),
        ("info",): ([model], []),
        ("doctor",): ([], []),
    }
    if find_spec("tensorrt_rtx") is None:
        del lines["export", "engine"]
    return lines


def slots(given: Path) -> list[Slot]:
    """Return every option and argument of the commands."""
    found = []
    for name in command_lines(given):
        command: Any = typer.main.get_command(app)
        for word in name:
            command = command.commands[word]
        arguments = 0
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                found.append(Slot(name, str(arguments), is_flag=False))
                arguments += 1
            elif parameter.name != "help":
                found.append(Slot(name, parameter.opts[-1], is_flag=parameter.is_flag))
    return found


def words_of(slot: Slot, value: str, given: Path) -> list[str]:
    """Put a value into its place in a command line that works without it."""
    arguments, options = command_lines(given)[slot.command]
    if slot.name.isdigit():
        place = int(slot.name)
        arguments = [*arguments[:place], value, *arguments[place + 1 :]]
        # What follows is not an option, whatever it looks like.
        return [*slot.command, *options, "--", *arguments]
    options = [word for word in options if not word.startswith(f"{slot.name}=")]
    return [*slot.command, *arguments, *options, f"{slot.name}={value}"]


def run(words: list[str], cwd: str) -> str:
    """Run a command line in this process; return its exit code, and what is wrong with its end."""
    os.chdir(cwd)
    # What asks for all memory is to get an error, and not this machine.
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        code: object = 0
        try:
            main(words)
        except SystemExit as ended:
            code = ended.code or 0
        sys.stderr.flush()
        said.seek(0)
        text = said.read().decode(errors="backslashreplace")
    fault = _fault(code, text)
    if code == 2 and "must be finite, got" in text:
        code = 1  # It was not a wrong value: the run began, and diverged.
    return f"{code} {fault}".strip()


def _fault(code: object, text: str) -> str:
    """Say why this is no proper end of a command, or nothing."""
    if code == 0 or (code == 1 and "error: " not in text and "Traceback" not in text):
        return ""
    if code != 2:
        return ascii(text)[-200:]
    if _USAGE.match(text):
        return ""
    lines = [line for line in text.splitlines() if not PROGRESS.match(line)]
    if len(lines) == 1 and (_FOUR_PARTS.fullmatch(lines[0]) or _SYSTEM.fullmatch(lines[0])):
        return ""
    return ascii(text)[-200:]


def prepare(given: Path) -> None:
    """Write what the command lines name."""
    write_model(given / "m.onnx", make_spec("labels"))
    graphs.save(given / "foreign.onnx", graphs.full())
    save_good(given / "best.pt")
    names = write_pictures(given / "in", 2, side=40)
    data = given / "data"
    rows = [
        f"{name}:{','.join(map(str, color))}::"
        for name, color in zip(CLASSES, PALETTE, strict=True)
    ]
    empty_folder(data, "\n".join(rows) + "\n")
    labels_hw = np.arange(40 * 40, dtype=np.uint8).reshape(40, 40) % len(CLASSES)
    for name in names:
        stem = Path(name).stem
        Image.open(given / "in" / name).save(data / "JPEGImages" / f"{stem}.jpg")
        mask = Image.fromarray(np.array(PALETTE, np.uint8)[labels_hw])
        mask.save(data / "SegmentationClass" / f"{stem}.png")
    for split in ("train", "val"):
        stems = [Path(name).stem for name in names]
        (data / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(stems) + "\n")
    shutil.copytree(data, given.parent / "to-split")
    report = ["bench", "latency", str(given / "m.onnx"), "--runs=3", "--warmup=1"]
    guarded(run, [*report, f"--out={given / 'bench'}", "--no-plots"], str(given))


def _tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


@promise("A wrong value of any option or argument is one clear error, and nothing is written.")
def wrong_options(setting: Setting) -> Iterator[Trial]:
    place = setting.scratch("options")
    given = place / "given"
    given.mkdir()
    prepare(given)
    before = _tree(given)
    every = slots(given)
    if ("export", "engine") not in command_lines(given):
        setting.skipped.append("export engine: tensorrt_rtx is not installed")
    counts = {"0": 0, "1": 0, "2": 0}
    for number in setting.rounds():
        if number and not setting.full:
            break
        for slot in every if setting.full else setting.random.sample(every, 12):
            value = setting.random.choice(slot.values())
            words = words_of(slot, value, given)
            # Two levels deep, so that ".." is a place for results too.
            cwd = place / f"{sum(counts.values())}" / "cwd"
            cwd.mkdir(parents=True)
            answer = guarded(run, words, str(cwd))
            shown = " ".join(word if len(word) < 99 else f"{word[:99]}..." for word in words)
            case = ascii(shown.replace(f"{given}/", ""))
            if answer.kind != "value":
                yield Trial(case, "hung" if answer.kind == "hung" else "wrong", answer.text)
                counts["1"] += 1
                continue
            code, _, fault = ast.literal_eval(answer.text).partition(" ")
            counts[code] = counts.get(code, 0) + 1
            if code == "2" and not fault and (left := sorted(_tree(cwd.parent))):
                fault = f"refused, and left {left[:3]}"
            if not fault and _tree(given) != before:
                fault = "what was given has changed"
            yield Trial(case, "wrong" if fault else "kept", fault)
    # Where all is taken or all refused, the values try nothing. Twelve may all be refused.
    text = f"{counts} by exit code"
    both = counts["2"] and (counts["0"] or not setting.full)
    yield Trial(text, "kept" if both else "wrong", text)
