"""Streamed images whose run is killed, or whose disk is full, and that go on after their bands."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.commands import PATIENCE, Done, fcnkit, finish, start_fcnkit
from tests.faults.outputs import write_pictures
from tests.faults.table import Setting, Trial, judged, promise
from tests.runtime.models import make_spec, write_model

_TILES = ("--tile", "32x32", "--max-pixels", 1000, "--threads", 1)
_WAYS = (
    "logits --overlap 8",
    "logits --overlap 8 --processes 2",
    "logits --overlap 8 --keep sky,tree",
    "logits --overlap 12",
    "logits --overlap 8 --tta flip",
    "scores --overlap 8",
)
"""A model and options each. The bands of some serve others, those of most do not."""
_ENOUGH = 40_000
"""Bytes of bands below which a run is killed; a whole image has more."""


@dataclass(frozen=True)
class _Image:
    """One image in a folder, and the models beside it."""

    place: Path
    name: str

    def command(self, way: str, out: Path) -> tuple[object, ...]:
        head, *options = way.split()
        model = self.place / f"{head}.onnx"
        return ("predict", model, self.place / "in", "-o", out, *_TILES, *options)

    def undisturbed(self, way: str) -> bytes:
        """Return the result of an undisturbed run; no bytes where there is none."""
        out = self.place / f"whole-{_WAYS.index(way)}"
        if not out.exists():
            fcnkit(*self.command(way, out))
        return _content(out / self.name)

    def fault(self, out: Path, *ways: str) -> str | None:
        """Say that there is no result, or none that one of some ways gives."""
        found = _content(out / self.name)
        if not found:
            return "no result"
        right = any(found == self.undisturbed(way) for way in ways)
        return None if right else f"another result than with {' or '.join(ways)}"


@promise(
    "A streamed image that is killed, or whose disk is full, ends as if undisturbed, also where "
    "model or options change in between."
)
def kills_inside_an_image(setting: Setting) -> Iterator[Trial]:
    place = setting.scratch("bands")
    for head in ("logits", "scores"):
        write_model(place / f"{head}.onnx", make_spec(head))
    (name,) = write_pictures(place / "in", 1, side=600)
    image = _Image(place, name)
    for number in setting.rounds(0.5):
        out, tried = place / f"out-{number}", set[str]()
        for _ in range(setting.random.randrange(1, 4)):
            way = setting.random.choice(_WAYS)
            tried.add(way)
            process = start_fcnkit(*image.command(way, out))
            _wait_for_bands(process, out, more=setting.random.randrange(_ENOUGH))
            process.kill()
            finish(process)
            yield _killed(image, out, way, tried)
        yield _ended(image, out, setting.random.choice(_WAYS))
    for number in setting.rounds(0.3):
        out, way = place / f"full-{number}", setting.random.choice(_WAYS)
        size = setting.random.randrange(2_000, _ENOUGH)
        limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, -1))"
        done = fcnkit(*image.command(way, out), before=limit)
        fault = _refused(done) or (
            f"{image.name} is there" if (out / image.name).exists() else None
        )
        yield judged(f"no file beyond {size} bytes, {way}", done, fault)
        yield _ended(image, out, way)


def _killed(image: _Image, out: Path, way: str, tried: Collection[str]) -> Trial:
    """Judge what a kill left: nothing, or the result of a run that ended before its kill."""
    fault = image.fault(out, *tried) if (out / image.name).exists() else None
    return Trial(f"killed, {way}", "wrong" if fault else "kept", fault or "")


def _ended(image: _Image, out: Path, way: str) -> Trial:
    """End a run, judge it, and remove its folder."""
    done = fcnkit(*image.command(way, out))
    left = _bands(out)
    fault = image.fault(out, way) or (f"{left} bytes of bands are left" if left else None)
    shutil.rmtree(out)
    return judged(f"the rerun, {way}", done, fault)


def _refused(done: Done) -> str | None:
    return done.one_error() or (None if "File too large" in done.err else done.err[-300:])


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _bands(out: Path) -> int:
    """Return how many bytes of bands there are."""
    return sum(path.stat().st_size for path in (out / ".fcnkit-bands").glob("*"))


def _wait_for_bands(process: subprocess.Popen[str], out: Path, *, more: int) -> None:
    """Wait until a run has kept this many bytes more, or has ended."""
    until, before = time.monotonic() + PATIENCE, None
    while process.poll() is None and time.monotonic() < until:
        try:
            found = _bands(out)
        except FileNotFoundError:  # it was whole just now
            return
        before = found if before is None else before
        if found - before >= more:
            return
        time.sleep(0.002)
