"""Runs that are killed, repeated, changed or doubled: the manifest and what it proves."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcnkit.errors import DataError
from fcnkit.runtime import Segmenter, load, open_backend
from fcnkit.runtime.predict.folder import MANIFEST, find_jobs, predict_files
from fcnkit.runtime.predict.manifest import Manifest
from fcnkit.runtime.predict.run import RunRequest, context_of
from tests.refusal import refusal
from tests.runtime.models import make_spec, write_model
from tests.runtime.pictures import break_some, manifest_of, write_pictures


def run(segmenter: Segmenter, source: Path, out: Path, **options: Any) -> dict[str, str]:
    """Status of every picture by the name of its result."""
    jobs = find_jobs([source], out)
    records = predict_files(segmenter, jobs, out, **{"model_sha256": "ab", **options})
    return {record.output: record.status for record in records}


def results(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }


def test_what_is_done_is_skipped(tmp_path: Path, segmenter: Segmenter) -> None:
    source, out = write_pictures(tmp_path / "in", 5), tmp_path / "out"
    assert set(run(segmenter, source, out).values()) == {"done"}
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert set(run(segmenter, source, out).values()) == {"skipped"}
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == before
    assert len(manifest_of(out)) == 5
    assert set(run(segmenter, source, out, resume=False).values()) == {"done"}
    assert len(manifest_of(out)) == 10
    write_pictures(tmp_path / "in", 7)  # the first five anew, with the same bytes
    assert sorted(run(segmenter, source, out).values()) == ["done"] * 7


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def zero_the_end(path: Path) -> None:
    """What a power cut leaves of a file that was never synced."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))


def replace_by_another_size(path: Path) -> None:
    size = path.stat().st_size
    Image.new("P", (3, 3)).save(path)
    path.write_bytes(path.read_bytes()[:-12].ljust(size - 12, b"\0") + b"\0\0\0\0IEND\xaeB`\x82")


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("in", touch),
        ("in", grow),
        ("out", Path.unlink),
        ("out", cut),
        ("out", grow),
        ("out", zero_the_end),
        ("out", replace_by_another_size),
    ],
)
def test_what_changed_is_done_again(
    tmp_path: Path, segmenter: Segmenter, where: str, change: Callable[[Path], None]
) -> None:
    source, out = write_pictures(tmp_path / "in", 3), tmp_path / "out"
    run(segmenter, source, out)
    whole = results(out)
    change(tmp_path / where / "00001.png")
    expected = {"00000.png": "skipped", "00001.png": "done", "00002.png": "skipped"}
    assert run(segmenter, source, out) == expected
    assert results(out) == whole


def test_another_model_or_option_does_all_again(tmp_path: Path, model: Path) -> None:
    source, out = write_pictures(tmp_path / "in", 2), tmp_path / "out"
    with load(model, threads=1) as one, load(model, tile=(32, 32), threads=1) as tiled:
        with load(model, cover="pad", threads=1) as padded:
            assert set(run(one, source, out).values()) == {"done"}
            for other, options in (
                (one, {"model_sha256": "cd"}),
                (one, {"format": "color"}),
                (padded, {}),
                (tiled, {}),
            ):
                assert set(run(other, source, out, **options).values()) == {"done"}
                assert set(run(other, source, out, **options).values()) == {"skipped"}
        # The last line of an output counts, so what came first is not done any more.
        assert set(run(one, source, out).values()) == {"done"}


def test_results_of_a_version_that_wrote_f32_are_skipped(
    tmp_path: Path, segmenter: Segmenter
) -> None:
    source, out = write_pictures(tmp_path / "in", 2), tmp_path / "out"
    run(segmenter, source, out)
    manifest = out / MANIFEST
    older = manifest.read_text().replace('"compute": "fp32"', '"compute": "f32"')
    assert older != manifest.read_text()
    manifest.write_text(older)
    assert set(run(segmenter, source, out).values()) == {"skipped"}


def test_failures_are_tried_again(tmp_path: Path, segmenter: Segmenter) -> None:
    source, out = write_pictures(tmp_path / "in", 3), tmp_path / "out"
    good = (source / "00001.png").read_bytes()
    (source / "00001.png").write_text("broken")
    assert run(segmenter, source, out)["00001.png"] == "failed"
    again = run(segmenter, source, out)
    assert again == {"00000.png": "skipped", "00001.png": "failed", "00002.png": "skipped"}
    (source / "00001.png").write_bytes(good)
    assert run(segmenter, source, out)["00001.png"] == "done"


def test_a_torn_line_costs_one_picture(tmp_path: Path, segmenter: Segmenter) -> None:
    source, out = write_pictures(tmp_path / "in", 3), tmp_path / "out"
    run(segmenter, source, out)
    path = out / MANIFEST
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"null\n[]\n{}\n" + b"".join(lines)[:-30])
    assert sorted(run(segmenter, source, out).values()) == ["done", "skipped", "skipped"]
    last = path.read_bytes().splitlines()[-1]
    assert json.loads(last)["status"] == "done"  # on its own line
    assert set(run(segmenter, source, out).values()) == {"skipped"}


def test_a_torn_line_swallows_no_other(tmp_path: Path, segmenter: Segmenter) -> None:
    """Where nothing is read from the manifest, as with ``resume=False``, it is ended too."""
    source, out = write_pictures(tmp_path / "in", 2), tmp_path / "out"
    out.mkdir()
    (out / MANIFEST).write_bytes(b'{"torn')
    run(segmenter, source, out, resume=False)
    torn, *lines = (out / MANIFEST).read_bytes().splitlines()
    assert torn == b'{"torn'
    assert [json.loads(line)["status"] for line in lines] == ["done", "done"]


def test_a_result_of_another_model_that_nobody_logged_is_made_again(
    tmp_path: Path, segmenter: Segmenter
) -> None:
    """A kill may come between a result and its line; an .npy has one size for all models."""
    source, out = write_pictures(tmp_path / "in", 2), tmp_path / "out"

    def again() -> dict[str, str]:
        jobs = find_jobs([source], out, suffix=".npy")
        records = predict_files(segmenter, jobs, out, model_sha256="ab", format="npy")
        return {record.output: record.status for record in records}

    again()
    whole = (out / "00001.npy").read_bytes()
    (out / "00001.npy").write_bytes(whole[:-9] + bytes(9))
    assert again() == {"00000.npy": "skipped", "00001.npy": "done"}
    assert (out / "00001.npy").read_bytes() == whole


def test_one_run_at_a_time(tmp_path: Path, segmenter: Segmenter) -> None:
    source, out = write_pictures(tmp_path / "in", 20), tmp_path / "out"
    first = predict_files(segmenter, find_jobs([source], out), out, model_sha256="ab")
    next(first)
    path = out / MANIFEST
    text = (
        f"{path}: one run at a time writes into an output folder, got a manifest that another "
        "run holds; wait for the other run, or choose another folder"
    )
    with refusal(DataError, text):
        run(segmenter, source, out)
    assert len(list(first)) == 19  # unharmed
    assert set(run(segmenter, source, out).values()) == {"skipped"}


def test_a_closed_manifest_lets_go(tmp_path: Path, segmenter: Segmenter) -> None:
    options = context_of(segmenter, RunRequest(model_sha256="")).options
    for other in (options, replace(options, format="color")):
        with Manifest(tmp_path, options=other, model_sha256="", resume=True) as manifest:
            assert manifest.earlier(tmp_path / "a.png", Path("a.png")) is None


def test_a_stop_finishes_what_is_in_flight(tmp_path: Path, segmenter: Segmenter) -> None:
    source, out = write_pictures(tmp_path / "in", 40), tmp_path / "out"
    stop = threading.Event()
    jobs = find_jobs([source], out)
    done = []
    for record in predict_files(segmenter, jobs, out, model_sha256="ab", stop=stop):
        done.append(record.output)
        stop.set()
    assert 1 <= len(done) < 30
    assert sorted(results(out)) == sorted(done)
    assert [line["output"] for line in manifest_of(out)] == done


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path, segmenter: Segmenter) -> None:
    source, out = write_pictures(tmp_path / "in", 1), tmp_path / "out"
    (out / ".fcnkit-partial").mkdir(parents=True)
    (out / ".fcnkit-partial" / "17").write_text("half a result")
    run(segmenter, source, out)
    assert sorted(path.name for path in out.iterdir()) == ["00000.png", MANIFEST]


def command(model: Path, source: Path, out: Path) -> list[str]:
    code = "from fcnkit.cli import main; main()"
    arguments = ["predict", str(model), str(source), "-o", str(out), "--threads", "1"]
    return [sys.executable, "-c", code, *arguments]


def test_killed_again_and_again_and_resumed(tmp_path: Path, model: Path) -> None:
    """A smaller one of ``python -m benchmarks.endurance``."""
    source, out = write_pictures(tmp_path / "in", 400), tmp_path / "out"
    broken = break_some(source, every=20)
    assert len(set(broken.values())) == 10
    undisturbed = tmp_path / "undisturbed"
    done = subprocess.run(command(model, source, undisturbed), capture_output=True, check=False)
    assert done.returncode == 1
    random.seed(5)
    for kill in range(3):
        with subprocess.Popen(
            command(model, source, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            enough = 40 * (kill + 1) + random.randrange(30)
            while process.poll() is None and len(list(out.rglob("*.png"))) < enough:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    last = subprocess.run(command(model, source, out), capture_output=True, check=False, text=True)
    assert last.returncode == 1
    assert " done before" in last.stdout
    assert results(out) == results(undisturbed)
    assert len(results(out)) == 400 - len(broken)
    final = {line["input"]: line["status"] for line in manifest_of(out)}
    assert {path for path, status in final.items() if status == "failed"} == {
        str(source / name) for name in broken
    }
    for name in results(out):
        with Image.open(out / name) as written:
            assert np.array(written).max() < 4


def test_lines_are_read_right_while_others_are_written(tmp_path: Path) -> None:
    """A manifest longer than a buffer, whose results are all replaced by a second run."""
    model, pictures = write_model(tmp_path / "m.onnx", make_spec("labels")), tmp_path / "in"
    write_pictures(pictures, 40, side=33)
    out = tmp_path / "out"
    for _ in range(3):
        with Segmenter(open_backend(model)) as segmenter:
            jobs = find_jobs([str(pictures)], out)
            records = [*predict_files(segmenter, jobs, out, model_sha256="", resume=False)]
        assert [record.status for record in records] == ["done"] * 40
