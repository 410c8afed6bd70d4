"""Broken and hostile models and checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import fcnkit
from fcnkit.runtime.artifacts.description import kind_of
from tests.corpus import make_models
from tests.faults.commands import Done
from tests.faults.commands import fcnkit as command
from tests.faults.guarded import Answer, guarded
from tests.faults.table import Setting, Trial, judged, promise

_FOUR_PARTS = r"[^\n]+, got [^\n]*; [^\n]+"


def use(path: Path) -> tuple[int, ...]:
    """Open a model and label a small picture; return the shape of the labels."""
    picture = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
    if kind_of(path) == "checkpoint":
        with fcnkit.load(path) as segmenter:
            labels = segmenter(picture)
    else:
        with fcnkit.load(path, threads=1) as segmenter:
            labels = segmenter(picture)
            if labels.max() >= segmenter.spec.num_classes:
                raise AssertionError("a label without a class")
    return labels.shape


def about(path: Path) -> str:
    """Say what a model file is, as ``fcnkit info`` does."""
    from fcnkit.runtime.artifacts.description import describe
    from fcnkit.train.description import describe_checkpoint

    is_checkpoint = kind_of(path) == "checkpoint"
    return str(describe_checkpoint(path) if is_checkpoint else describe(path))


@promise("A broken or hostile model is refused with one clear error; nothing in it is executed.")
def models_are_refused(setting: Setting) -> Iterator[Trial]:
    folder = setting.scratch("models")
    for number, model in enumerate(make_models.write_corpus(folder)):
        path = folder / "models" / model.name
        of_a_series = model.name.startswith(("cut-", "flipped-", "recipe-"))
        if model.name.endswith(".json") or (of_a_series and number % 3 and not setting.full):
            continue
        yield _judged(model.name, guarded(use, path), model.rule)
        if setting.full:
            yield _judged(f"info {model.name}", guarded(about, path), None)
    evil = [str(path) for place in (folder, Path.cwd()) for path in place.rglob("evil")]
    yield Trial("no code was run", "wrong" if evil else "kept", f"{evil}")
    secret = (folder / "secret").read_bytes() == make_models.SECRET
    yield Trial("nothing outside was written", "kept" if secret else "lost")


def _judged(case: str, answer: Answer, rule: str | None) -> Trial:
    if answer.kind == "hung":
        return Trial(case, "hung", answer.text)
    if answer.kind == "died":
        return Trial(case, "wrong", f"the process died: {answer.text}")
    if answer.kind == "value":
        return Trial(case) if rule is None else Trial(case, "wrong", f"it gave {answer.text}")
    kinds = answer.error.split()
    known = {"FcnkitError", "ValueError", "TypeError"} & set(kinds)
    if not known or not re.fullmatch(_FOUR_PARTS, answer.text) or (rule or "") not in answer.text:
        return Trial(case, "wrong", f"{kinds[0]}: {answer.text[:400]}")
    return Trial(case)


@promise("fcnkit info and predict refuse such a model in one line and leave nothing behind.")
def models_in_the_command(setting: Setting) -> Iterator[Trial]:
    folder = setting.scratch("models")
    make_models.write_corpus(folder)
    chosen = ["empty.onnx", "cut-10-of-20.onnx", "outside-climbing.onnx", "spec-steering.onnx",
              "graph-other_name.onnx", "code.pt", "recipe-3.pt", "deep-sidecar.engine"]  # fmt: skip
    for name in chosen if setting.full else chosen[2::2]:
        path, out = folder / "models" / name, folder / "out"
        told = command("info", path)
        # What the graph computes is no affair of info; it may show the file.
        yield judged(f"info {name}", told, (told.code != 0 and told.one_error()) or _steers(told))
        done = command("predict", path, folder, "-o", out)
        fault = "an output folder was made" if out.exists() else done.one_error()
        yield judged(f"predict {name}", done, fault or _steers(done))


def _steers(done: Done) -> str | None:
    """Say whether the output could steer a terminal."""
    lines = (done.out + done.err).splitlines()
    return None if all(map(str.isprintable, lines)) else "control characters are printed"
