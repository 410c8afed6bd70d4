"""Where results go: names that would escape, links, folders that cannot be written, full disks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from tests.corpus.make_models import good_checkpoint
from tests.faults.commands import Done, fcnkit
from tests.faults.guarded import guarded
from tests.faults.table import Setting, Trial, judged, promise
from tests.runtime.models import make_spec, write_model


def write_pictures(folder: Path, count: int, side: int = 96) -> list[str]:
    """Write pictures of noise and return the names of their results."""
    random = np.random.default_rng(count)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        noise = random.integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{number:04}.png", compress_level=1)
    return [f"{number:04}.png" for number in range(count)]


def broken_results(out: Path, names: list[str], like: Path | None = None) -> str | None:
    """Say which results are missing or half-written, or differ from those in another folder."""
    for name in names:
        path = out / name
        if not path.is_file():
            return f"{name} is missing"
        try:
            with Image.open(path) as picture:
                pixels = np.array(picture)
        except (OSError, SyntaxError, ValueError) as error:
            return f"{name}: {error}"
        if like is not None:
            with Image.open(like / name) as picture:
                if not np.array_equal(pixels, np.array(picture)):
                    return f"{name} differs"
    return None


def torn_lines(out: Path) -> str | None:
    """Say which line of the manifest is none, the last one apart, which a rerun ends."""
    path = out / "manifest.jsonl"
    if not path.exists():
        return None
    for number, line in enumerate(path.read_text().split("\n")[:-1], start=1):
        try:
            json.loads(line)
        except ValueError:
            return f"line {number} of the manifest: {line[:80]!r}"
    return None


@contextmanager
def tmpfs(folder: Path, size: str, *, mode: str = "rw") -> Iterator[Path]:
    """Mount a small disk; only root can."""
    folder.mkdir(exist_ok=True)
    options = f"size={size},{mode}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def can_mount() -> bool:
    """Whether this process may mount: root in its own right, not in every container."""
    if os.geteuid() != 0 or sys.platform != "linux":
        return False
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return tried.returncode == 0


@promise("Nothing outside the output folder is written: no name and no link leads out of it.")
def outputs_stay_inside(setting: Setting) -> Iterator[Trial]:
    place = setting.scratch("inside")
    model = write_model(place / "labels.onnx", make_spec("labels"))
    write_pictures(place / "in/deep", 1)
    write_pictures(place / "in", 1)
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_bytes(b"kept")
    good = place / "in/0000.png"

    def run(name: str, *inputs: object, out: Path) -> Trial:
        before = _content(place, but=out)
        done = fcnkit("predict", model, *inputs, "-o", out)
        changed = sorted(set(_content(place, but=out).items()) ^ set(before.items()))
        if changed:
            return judged(name, done, f"changed outside: {changed}")
        if done.code != 2:
            return judged(name, done, _unless(done, 0))
        return judged(name, done, done.one_error())

    yield run("pattern with ..", place / "in/*/../../in/0000.png", out=place / "out-1")
    write_pictures(place / "other", 1)
    escaping = place / "in/*/../../other/0000.png"
    yield run("pattern that leads out", escaping, out=place / "below/out-4")
    yield run("pattern with .. inside", place / "in/*/../0000.png", out=place / "out-2")
    listed = place / "list.txt"
    listed.write_text("a/../../x.png\nc.png\n")
    yield run("list that leads out", f"@{listed}", out=place / "out-5")
    (place / "in/..evil.png").write_bytes(good.read_bytes())
    yield run("name that begins with dots", place / "in", out=place / "out-3")
    for name, link, target in (
        ("result is a link to a file", "0000.png", elsewhere / "kept"),
        ("result is a link to a picture", "0000.png", good),
        ("result is a link to itself", "0000.png", Path("0000.png")),
        ("manifest is a link", "manifest.jsonl", elsewhere / "kept"),
        ("partial folder is a link", ".fcnkit-partial", elsewhere),
    ):
        out = place / f"out {name}"
        out.mkdir()
        (out / link).symlink_to(target)
        yield run(name, good, out=out)
    out = place / "out-pipe"
    out.mkdir()
    os.mkfifo(out / "manifest.jsonl")
    done = fcnkit("predict", model, good, "-o", out)
    yield judged("manifest is a pipe", done, done.one_error())


def _content(place: Path, *, but: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file() and not path.is_symlink() and not path.is_relative_to(but)
    }


@promise("An output that cannot be written is one error, and what was there before stays.")
def outputs_that_cannot_be(setting: Setting) -> Iterator[Trial]:
    place = setting.scratch("cannot")
    model = write_model(place / "labels.onnx", make_spec("labels"))
    names = write_pictures(place / "in", 3)
    (place / "file").write_bytes(b"kept")
    done = fcnkit("predict", model, place / "in", "-o", place / "file")
    fault = done.one_error() or (None if (place / "file").read_bytes() == b"kept" else "lost")
    yield judged("the folder is a file", done, fault)
    out = place / "out"
    (out / names[0]).mkdir(parents=True)
    done = fcnkit("predict", model, place / "in", "-o", out)
    yield judged("a result is a folder", done, done.one_error() if done.code != 1 else None)
    (out / names[0]).rmdir()
    done = fcnkit("predict", model, place / "in", "-o", out)
    yield judged("the rerun", done, broken_results(out, names) or _unless(done, 0))
    if not can_mount():
        setting.skipped.append("read-only disks: only root may mount one")
        return
    with tmpfs(place / "small", "1m", mode="ro") as disk:
        for arguments in _commands(model, place, disk):
            done = fcnkit(*arguments)
            yield judged(f"read-only: {arguments[0]} {arguments[1]}", done, done.one_error())


def _unless(done: Done, code: int) -> str | None:
    return None if done.code == code else f"exit code {done.code}: {done.err[-300:]}"


def _commands(model: Path, place: Path, disk: Path) -> list[tuple[object, ...]]:
    checkpoint = place / "best.pt"
    if not checkpoint.exists():
        save_good(checkpoint)
    return [
        ("predict", model, place / "in", "-o", disk / "out"),
        ("export", "onnx", checkpoint, "-o", disk / "m.onnx"),
        ("data", "shapes", disk / "shapes"),
    ]


def save_good(path: Path) -> None:
    """Write the checkpoint of an untrained network."""
    import torch

    torch.save(good_checkpoint(), path)


@promise("A full disk is one error; what was written is whole, and a rerun ends it.")
def full_disks(setting: Setting) -> Iterator[Trial]:
    place = setting.scratch("full")
    model = write_model(place / "labels.onnx", make_spec("labels"))
    names = write_pictures(place / "in", 60)
    # No file may grow beyond 8 kB: no result does, and the manifest does after some twenty.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, -1))"
    out = place / "out"
    done = fcnkit("predict", model, place / "in", "-o", out, before=limit)
    there = [name for name in names if (out / name).exists()]
    said = done.one_error() or (None if "manifest.jsonl" in done.err else done.err[-300:])
    few = None if 0 < len(there) < len(names) else f"{len(there)} results"
    yield judged("a manifest that is full", done, broken_results(out, there) or said or few)
    done = fcnkit("predict", model, place / "in", "-o", out)
    fault = broken_results(out, names) or torn_lines(out) or _unless(done, 0)
    yield judged("the rerun", done, fault)
    if not can_mount():
        setting.skipped.append("full disks: only root may mount a small one")
        return
    for kilobytes in (64, 150, 200, 250) if setting.full else (150,):
        with tmpfs(place / "disk", f"{kilobytes}k") as disk:
            out = disk / "out"
            done = fcnkit("predict", model, place / "in", "-o", out)
            there = [name for name in names if (out / name).exists()]
            said = done.one_error() or _named(done)
            yield judged(f"predict on {kilobytes} kB", done, broken_results(out, there) or said)
            subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
            done = fcnkit("predict", model, place / "in", "-o", out)
            yield judged("the rerun", done, broken_results(out, names) or _unless(done, 0))
            yield judged("its manifest", done, torn_lines(out))
    save_good(place / "best.pt")
    for name, call in (("checkpoint", _save_again), ("weights", _save_weights)):
        with tmpfs(place / "disk", "60m") as disk:
            path = disk / "x.pt"
            path.write_bytes((place / "best.pt").read_bytes())
            answer = guarded(call, path)
            text = f"[Errno 28] No space left on device: '{path}'"
            right = (answer.kind, answer.text.partition(" -> ")[0]) == ("error", text)
            yield Trial(f"{name}: the error", "kept" if right else "wrong", str(answer))
            same = path.read_bytes() == (place / "best.pt").read_bytes()
            whole = same and [left.name for left in disk.iterdir()] == ["x.pt"]
            yield Trial(f"{name}: the file before", "kept" if whole else "lost")
    if setting.full:
        with tmpfs(place / "disk", "10m") as disk:
            arguments = ("export", "onnx", place / "best.pt", "-o", disk / "m.onnx")
            done = fcnkit(*arguments)
            left = list(disk.iterdir())
            fault = done.one_error() or (f"left: {left}" if left else None)
            yield judged("export onnx", done, fault)


def _named(done: Done) -> str | None:
    whole = re.search(r"No space left on device: '\d{4}\.png'|manifest.jsonl", done.err)
    return None if whole else f"says {done.err[-200:]!r}"


def _save_again(path: Path) -> None:
    from fcnkit.train.checkpoint import load_checkpoint, save_checkpoint

    save_checkpoint(path, load_checkpoint(path))


def _save_weights(path: Path) -> None:
    from fcnkit.train.checkpoint import load_checkpoint, save_weights

    save_weights(path, load_checkpoint(path))
