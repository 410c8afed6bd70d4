"""Broken and odd pictures, one at a time and as a folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from fcnkit.runtime.artifacts.spec import Head
from fcnkit.runtime.predict.picture_file import MAX_PIXELS as DEFAULT_MAX_PIXELS
from tests.corpus import make_pictures
from tests.corpus.make_pictures import MAX_PIXELS, fault_of
from tests.faults.commands import PATIENCE, ROOT, fcnkit, finish, start_fcnkit
from tests.faults.outputs import broken_results, write_pictures
from tests.faults.table import Setting, Trial, judged, promise
from tests.runtime.models import make_spec, write_model

SECONDS = 10
"""Of processor time, within which every picture of the corpus is read or refused."""

BYTES_PER_PIXEL, MEGABYTES = 20, 64
"""Memory for reading a picture: a share per pixel of the limit, and a fixed part."""


@promise("Every picture gives its right result or one clear error, in bounded time and memory.")
def pictures_one_by_one(setting: Setting) -> Iterator[Trial]:
    folder, answers = setting.scratch("pictures"), setting.scratch("answers")
    expected = {picture.name: picture for picture in make_pictures.write_corpus(folder)}
    if setting.full:
        _write_at_the_limit(folder)
    arguments = [str(folder), str(MAX_PIXELS), str(SECONDS), str(answers)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.reader", *arguments],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    for line in done.stdout.splitlines():
        report = json.loads(line)
        yield _judged(report, expected.get(report["name"]), folder)
    shutil.rmtree(answers)


def _judged(report: dict[str, object], expected: make_pictures.Picture | None, at: Path) -> Trial:
    name = str(report["name"])
    case, answer = ascii(name), Path(str(report["answer"]))
    if report["code"] in (-signal.SIGPROF, -signal.SIGALRM):
        return Trial(case, "hung", f"more than {SECONDS} s of processor time, or {PATIENCE} s")
    if report["code"] != 0:
        return Trial(case, "wrong", f"the process ended with {report['code']}")
    limit = MEGABYTES + BYTES_PER_PIXEL * MAX_PIXELS / 1e6
    if float(str(report["megabytes"])) > limit:
        return Trial(case, "wrong", f"{report['megabytes']} MB, more than {limit}")
    got: np.ndarray | str
    if answer.with_suffix(".npy").exists():
        got = np.load(answer.with_suffix(".npy"))
    else:
        got = answer.with_suffix(".txt").read_text("utf-8", "surrogateescape")
    if expected is None:
        return Trial(case) if not isinstance(got, str) else Trial(case, "wrong", got)
    # A file that may not be read was read from within its folder, see reader.
    path = Path(name) if expected.beside == "secret" else at / name
    fault = fault_of(expected, got, path=path)
    return Trial(case) if fault is None else Trial(case, "wrong", fault)


def _write_at_the_limit(folder: Path) -> None:
    """Write pictures of just as many pixels as are allowed, in the modes that cost most."""
    noise = np.random.default_rng(3).integers(0, 256, (2000, 2000, 4), np.uint8)
    picture = Image.fromarray(noise)
    picture.save(folder / "limit-rgba.png", compress_level=1)
    picture.convert("CMYK").save(folder / "limit-cmyk.jpg", progressive=True)
    lying = Image.Exif()
    lying[0x0112] = 6
    picture.convert("RGB").save(folder / "limit-turned.jpg", progressive=True, exif=lying)
    picture.convert("LA").save(folder / "limit-la.png", compress_level=1)
    picture.save(folder / "limit-rgba.tif", compression="tiff_lzw")
    picture.save(folder / "limit-rgba-2.webp", quality=50, method=0)


@promise("A bad picture never stops the others: a folder of them gives all that can be given.")
def pictures_as_a_folder(setting: Setting) -> Iterator[Trial]:
    # One pass of this model covers 2048x2048 at most, which these are not.
    longest = ("1x65500.jpg", "65500x1.jpg", "png-1x65500.png")
    yield from _predicted(setting, "labels", without=longest)
    if setting.full:
        yield from _predicted(setting, "logits", "--cover", "average", without=longest)
    yield from _vanishing(setting)


@promise("Pictures that are read and written row by row keep the same promise.")
def pictures_in_tiles(setting: Setting) -> Iterator[Trial]:
    for head in ("logits", "scores"):
        yield from _predicted(setting, head, "--tile", "32x32", "--overlap", 0)


def _predicted(
    setting: Setting, head: Head, *chosen: object, without: tuple[str, ...] = ()
) -> Iterator[Trial]:
    """Predict the corpus as one folder."""
    folder, out = setting.scratch("folder"), setting.scratch("labels") / "out"
    model = write_model(setting.scratch("model") / f"{head}.onnx", make_spec(head))
    expected = make_pictures.write_corpus(folder)
    for name in without:
        (folder / name).unlink()
    options = ("--max-pixels", MAX_PIXELS, "--threads", 1, *chosen)
    done = fcnkit("predict", model, folder, "-o", out, *options)
    yield judged("exit code", done, None if done.code == 1 else f"{done.code}: {done.err[-300:]}")
    for picture in expected:
        if not (folder / picture.name).is_file():
            continue
        case, result = ascii(picture.name), out / f"{Path(picture.name).stem}.png"
        refused = picture.size is None or (picture.beside == "secret" and os.geteuid() != 0)
        if refused:
            lines = done.err.count("failed: " + " ".join(f"{folder / picture.name}: ".split()))
            yield Trial(case) if lines == 1 else Trial(case, "lost", f"{lines} lines about it")
        elif not result.is_file():
            yield Trial(case, "lost", "no result")
        else:
            with Image.open(result) as labels:
                fits = labels.size == picture.size[::-1]
            yield Trial(case) if fits else Trial(case, "wrong", f"{labels.size}")
    said = ("failed: ", "predict: ", "warning: ")
    noise = [line for line in done.err.splitlines() if not line.startswith(said)]
    yield Trial("what is said") if not noise else Trial("what is said", "wrong", f"{noise[:5]}")


def _vanishing(setting: Setting) -> Iterator[Trial]:
    """Pictures that are removed while the run is under way are failures like any other."""
    place = setting.scratch("vanishing")
    model = write_model(place / "labels.onnx", make_spec("labels"))
    names = write_pictures(place / "in", 300, side=128)
    out = place / "out"
    process = start_fcnkit("predict", model, place / "in", "-o", out, "--threads", 1)
    until = time.monotonic() + PATIENCE
    while len(list(out.glob("*.png"))) < 20 and time.monotonic() < until:
        time.sleep(0.002)
    for name in names[200:]:
        (place / "in" / name).unlink()
    done = finish(process)
    there = [name for name in names if (out / name).exists()]
    failed = done.err.count("failed: ")
    fault = broken_results(out, there)
    if done.code != 1 or failed == 0 or len(there) + failed != len(names):
        fault = f"exit code {done.code}, {len(there)} results, {failed} failures"
    yield judged("pictures that vanish", done, fault)


@promise("--max-pixels decides how large a picture is read, in the library and the command.")
def the_limit_of_pixels(setting: Setting) -> Iterator[Trial]:
    folder = setting.scratch("limit")
    model = write_model(folder / "labels.onnx", make_spec("labels"))
    Image.new("RGB", (60, 50)).save(folder / "a.png")
    for pixels, code in ((2999, 1), (3000, 0), (1, 1), (0, 2), (-1, 2), (DEFAULT_MAX_PIXELS, 0)):
        options = ("-o", folder / f"out-{pixels}", f"--max-pixels={pixels}")
        done = fcnkit("predict", model, folder / "a.png", *options)
        fault = None if done.code == code else f"exit code {done.code}: {done.err[-300:]}"
        yield judged(f"--max-pixels {pixels}", done, fault)
