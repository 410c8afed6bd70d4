"""Several worker processes and one manifest: the same results, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from fcnkit.errors import ArtifactError, FcnkitError, PictureWarning, WorkerWarning
from fcnkit.runtime import (
    BackendRequest,
    CoverRequest,
    Region,
    Segmenter,
    Window,
    find_jobs,
    load,
    predict_files,
)
from fcnkit.runtime.predict.manifest import Record
from fcnkit.runtime.predict.outputs import SUFFIX_OF
from fcnkit.runtime.predict.run import RunRequest, context_of
from fcnkit.runtime.predict.video_records import FrameRecord, VideoRecord
from fcnkit.runtime.predict.workers import Workers
from tests.refusal import refusal
from tests.runtime.clips import labels_in, write_clip
from tests.runtime.pictures import break_some, manifest_of, write_pictures
from tests.runtime.predict.dying import (
    POISON,
    dies_at_its_start,
    dies_of_poison,
    dies_when_started_again,
    works_slowly,
)
from tests.runtime.predict.killing import Killed, counted_tiles

ONE = BackendRequest(threads=1)
COUNT = 40


@pytest.fixture(scope="module")
def workers(model: Path) -> Iterator[Workers]:
    with Workers(model, processes=2, backend=ONE) as opened:
        yield opened


def begin(crew: Segmenter | Workers, source: Path, out: Path, **options: Any) -> Any:
    suffix = SUFFIX_OF.get(options.get("format", "labels"), ".png")
    jobs = find_jobs([source], out, suffix=suffix)
    return predict_files(crew, jobs, out, model_sha256="ab", **options)


def results(out: Path) -> dict[str, bytes]:
    """Every file of an output folder but its manifests."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and not path.name.startswith("manifest")
    }


def statuses(records: list[Record]) -> dict[str, tuple[str, str | None]]:
    found = {record.output: (record.status, record.error) for record in records}
    assert len(found) == len(records)
    return found


# --- the same results ----------------------------------------------------------------------------


def test_results_equal_those_of_one_process(
    workers: Workers, segmenter: Segmenter, tmp_path: Path
) -> None:
    source = write_pictures(tmp_path / "in", COUNT)
    broken = break_some(source, every=9)
    one = list(begin(segmenter, source, tmp_path / "one"))
    two = list(begin(workers, source, tmp_path / "two"))
    assert statuses(two) == statuses(one)
    assert results(tmp_path / "two") == results(tmp_path / "one")
    lines = manifest_of(tmp_path / "two")
    assert sorted(line["output"] for line in lines) == sorted(record.output for record in one)
    same = {"input", "input_path", "input_stamp", "size", "pixels", "options", "model_sha256"}
    told = {line["output"]: {key: line[key] for key in same} for line in lines}
    assert told == {
        line["output"]: {key: line[key] for key in same} for line in manifest_of(tmp_path / "one")
    }
    assert sum(line["status"] == "failed" for line in lines) == len(broken)
    processes = workers.told()
    assert sum(process["answered"] for process in processes) >= COUNT
    for process in processes:
        assert process["answered"] > 0
        assert process["peak_memory_mb"] > 10
        assert (process["device"], process["ended"]) == (None, None)
    # What is done is not done again, by whichever process.
    again = statuses(list(begin(workers, source, tmp_path / "two")))
    expected = {key: ("skipped" if s == "done" else s, e) for key, (s, e) in statuses(one).items()}
    assert again == expected


@pytest.mark.parametrize(
    "options",
    [
        {"batch": 3},
        {"batch": 32, "format": "overlay"},
        {"format": "tif", "region": Region(window=Window.parse("4:40,0:33"))},
    ],
)
def test_batches_and_formats(
    workers: Workers, segmenter: Segmenter, tmp_path: Path, options: dict[str, Any]
) -> None:
    source = write_pictures(tmp_path / "in", COUNT)
    list(begin(segmenter, source, tmp_path / "one", **options))
    records = list(begin(workers, source, tmp_path / "two", **options))
    assert {record.status for record in records} == {"done"}
    assert results(tmp_path / "two") == results(tmp_path / "one")


def test_covering_parts_and_a_generator_of_jobs(model: Path, tmp_path: Path) -> None:
    source, out = write_pictures(tmp_path / "in", 12, side=100), tmp_path / "two"
    covering = CoverRequest(cover="average", tile=(64, 64), overlap=16, tta="flip")
    with load(model, threads=1, cover="average", tile=(64, 64), overlap=16, tta="flip") as one:
        list(begin(one, source, tmp_path / "one"))
        jobs = find_jobs([source], out)
        with Workers(model, processes=2, backend=ONE, covering=covering) as two:
            assert (two.facts["cover"], two.facts["tile"], two.facts["threads"]) == (
                "average",
                "64x64",
                1,
            )
            for part in ("1/2", "2/2"):
                share = predict_files(two, iter(jobs), out, model_sha256="ab", part=part)
                assert all(record.status == "done" for record in share)
    assert results(out) == results(tmp_path / "one") | {".fcnkit-parts": b""}


def test_videos(workers: Workers, segmenter: Segmenter, tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 3)
    clips = [write_clip(tmp_path / f"in/{name}.mp4", 6) for name in "abc"]
    (tmp_path / "in/cut.mp4").write_bytes(clips[0].read_bytes()[:300])
    inputs = [tmp_path / "in", tmp_path / "in/*.mp4"]
    seen: list[tuple[str, int]] = []

    def label(crew: Segmenter | Workers, out: Path, **options: Any) -> list[Record]:
        jobs = find_jobs(inputs, out)
        return list(predict_files(crew, jobs, out, model_sha256="ab", **options))

    one = label(segmenter, tmp_path / "one")
    two = label(workers, tmp_path / "two", on_frame=lambda name, n, _: seen.append((name, n)))
    assert statuses(two) == statuses(one)
    assert sum(isinstance(record, VideoRecord) for record in two) == 4
    assert sorted(seen) == sorted((str(clip), n) for clip in clips for n in range(1, 7))
    for clip in clips:
        got, _ = labels_in(tmp_path / "two" / clip.name)
        expected, _ = labels_in(tmp_path / "one" / clip.name)
        assert all((a == b).all() for a, b in zip(got, expected, strict=True))


def test_frames_of_videos_are_resumed(workers: Workers, tmp_path: Path) -> None:
    clip, out = write_clip(tmp_path / "a.mp4", 6), tmp_path / "out"
    whole = list(begin(workers, clip, out, frames=True))
    assert [type(record) for record in whole] == [FrameRecord] * 6 + [VideoRecord]
    before = results(out)
    (out / "a/000002.png").unlink()
    again = list(begin(workers, clip, out, frames=True))
    assert [record.output for record in again] == ["a/000002.png", "a"]
    assert results(out) == before


def test_object_stores(workers: Workers, segmenter: Segmenter, tmp_path: Path) -> None:
    store = pytest.importorskip("fsspec").filesystem("memory")
    source = write_pictures(tmp_path / "in", 12)
    store.put(str(source), "/workers-in", recursive=True)
    try:
        jobs = find_jobs(["memory://workers-in"], "memory://workers-out")
        run = predict_files(workers, jobs, "memory://workers-out", model_sha256="ab")
        records = statuses(list(run))
        list(begin(segmenter, source, tmp_path / "one"))
        assert records == dict.fromkeys(results(tmp_path / "one"), ("done", None))
        for name, content in results(tmp_path / "one").items():
            assert store.cat(f"/workers-out/{name}") == content
    finally:
        for path in ("/workers-in", "/workers-out"):
            store.rm(path, recursive=True)


def test_a_range_is_doubted_once(workers: Workers, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for number in range(8):
        Image.new("I;16", (40, 40), 900 + number).save(source / f"{number}.png")
    with pytest.warns(PictureWarning) as caught:
        list(begin(workers, source, tmp_path / "out"))
    assert len(caught) == 1


# --- workers that die ----------------------------------------------------------------------------


def labeled_with_kills(
    workers: Workers, run: Iterator[Record], *kills: int, pause: float = 0
) -> list[Record]:
    """Do the work, and kill a worker after some numbers of records."""
    records = []
    for record in run:
        records.append(record)
        time.sleep(pause)  # so that the run is there when the next worker would be
        if len(records) in kills:
            alive = [one["process"] for one in workers.told() if one["ended"] is None]
            os.kill(alive[0], signal.SIGKILL)
    return records


def test_a_killed_worker_costs_nothing(model: Path, segmenter: Segmenter, tmp_path: Path) -> None:
    source = write_pictures(tmp_path / "in", COUNT)
    list(begin(segmenter, source, tmp_path / "one"))
    with Workers(model, processes=2, backend=ONE, prepare=works_slowly) as workers:
        with pytest.warns(WorkerWarning) as caught:
            records = labeled_with_kills(workers, begin(workers, source, tmp_path / "two"), 5, 15)
        ended = [one["ended"] for one in workers.told()]
    assert sorted(statuses(records)) == [f"{number:05}.png" for number in range(COUNT)]
    assert results(tmp_path / "two") == results(tmp_path / "one")
    outputs = [line["output"] for line in manifest_of(tmp_path / "two")]
    assert len(outputs) == len(set(outputs)) == COUNT
    assert (len(caught), sorted(map(str, ended))) == (2, ["None", "None", "SIGKILL", "SIGKILL"])
    for warning in caught:
        rule, _, got = str(warning.message).partition(": must live until the run ends, got ")
        assert rule.startswith("worker ")
        end = " inputs; they are tried again; if memory ran out, lower --processes"
        assert got.startswith("SIGKILL with ")
        assert got.endswith(end)


@pytest.mark.filterwarnings("ignore::fcnkit.errors.WorkerWarning")
def test_inputs_that_kill_three_workers_fail(
    model: Path, segmenter: Segmenter, tmp_path: Path
) -> None:
    source = write_pictures(tmp_path / "in", 20)
    list(begin(segmenter, source, tmp_path / "one"))
    poisons = [source / f"00007-{POISON}.png", source / f"00011-{POISON}.png"]
    for poison in poisons:
        poison.write_bytes((source / "00000.png").read_bytes())
    with Workers(model, processes=2, backend=ONE, prepare=dies_of_poison) as workers:
        records = list(begin(workers, source, tmp_path / "two"))
    failed = {record.input: record.error for record in records if record.status == "failed"}
    assert failed == {
        str(poison): f"{poison}: a worker must survive an input, got 3 workers that died with it, "
        "the last by SIGKILL; label it alone to see why"
        for poison in poisons
    }
    assert len(records) == 22
    assert results(tmp_path / "two") == results(tmp_path / "one")
    lines = {line["output"]: line["status"] for line in manifest_of(tmp_path / "two")}
    assert sorted(lines.values()) == ["done"] * 20 + ["failed"] * 2


@pytest.mark.filterwarnings("ignore::fcnkit.errors.WorkerWarning")
def test_a_fault_of_every_input_ends_the_run(model: Path, tmp_path: Path) -> None:
    source = write_pictures(tmp_path / "in", 12)
    for path in sorted(source.iterdir()):
        path.rename(path.with_name(f"{path.stem}-{POISON}.png"))
    text = (
        "predict: workers must give results, got 13 that died in a row, the last by SIGKILL; "
        "label one image with a single process to see why"
    )
    with (
        Workers(model, processes=2, backend=ONE, prepare=dies_of_poison) as workers,
        refusal(FcnkitError, text),
    ):
        list(begin(workers, source, tmp_path / "out"))


def test_a_worker_that_cannot_start_is_named(model: Path) -> None:
    text = (
        "worker 1: must open the model, got exit code 7; open it in one process to see why; "
        "with fewer processes each has more memory"
    )
    with refusal(FcnkitError, text):
        Workers(model, processes=1, backend=ONE, prepare=dies_at_its_start)


def test_the_others_go_on_where_none_can_take_the_place(model: Path, tmp_path: Path) -> None:
    source = write_pictures(tmp_path / "in", COUNT)
    (tmp_path / "marks").mkdir()
    prepare = partial(_both, str(tmp_path / "marks"))
    with Workers(model, processes=2, backend=ONE, prepare=prepare) as workers:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run = begin(workers, source, tmp_path / "out")
            records = labeled_with_kills(workers, run, 5, pause=0.1)
        texts = [str(one.message) for one in caught if one.category is WorkerWarning]
    assert len(statuses(records)) == COUNT
    assert texts[1:] == [
        "worker 3: must be able to take the place of a dead one, got exit code 7; the others go on"
    ]


def _both(marks: str) -> None:
    dies_when_started_again(marks, 2)
    works_slowly()


def write_large(path: Path, height: int) -> Path:
    path.parent.mkdir()
    pixels = np.random.default_rng(5).integers(0, 256, (height, 200, 3), np.uint8)
    Image.fromarray(pixels).save(path, compress_level=0)
    return path


def test_a_large_image_goes_on_where_its_worker_died(model: Path, tmp_path: Path) -> None:
    image = write_large(tmp_path / "in" / "large.png", 1500)
    options: dict[str, Any] = {"max_pixels": 100_000}
    tiles = CoverRequest(cover="average", tile=(32, 32), overlap=8)
    with load(model, threads=1, cover="average", tile=(32, 32), overlap=8) as one:
        list(begin(one, image, tmp_path / "one", **options))
    out = tmp_path / "two"
    with Workers(model, processes=1, backend=ONE, covering=tiles) as workers:

        def kill_in_the_middle() -> None:
            bands = out / ".fcnkit-bands"
            end = time.monotonic() + 60
            while time.monotonic() < end and not any(
                path.stat().st_size > 10_000 for path in bands.rglob("*")
            ):
                time.sleep(0.001)
            os.kill(workers.told()[0]["process"], signal.SIGKILL)

        killer = threading.Thread(target=kill_in_the_middle)
        killer.start()
        with pytest.warns(WorkerWarning):
            [record] = begin(workers, image, out, **options)
        killer.join()
    assert record.status == "done"
    assert results(out) == results(tmp_path / "one")


def test_a_kill_of_the_leader_before_the_result_has_its_name_loses_no_band(
    model: Path, tmp_path: Path
) -> None:
    image = write_large(tmp_path / "in" / "large.png", 300)
    options: dict[str, Any] = {"max_pixels": 1000}
    covering = CoverRequest(cover="average", tile=(32, 32), overlap=8)
    publish = "fcnkit.runtime.predict.workers_run.publish_made"
    with (
        Workers(model, processes=1, backend=ONE, covering=covering) as workers,
        mock.patch(publish, side_effect=Killed),
        pytest.raises(Killed),
    ):
        list(begin(workers, image, tmp_path / "two", **options))
    with load(model, threads=1, cover="average", tile=(32, 32), overlap=8) as one:
        list(begin(one, image, tmp_path / "one", **options))
        with counted_tiles() as counts:
            list(begin(one, image, tmp_path / "two", **options))
    assert counts == [0]
    assert results(tmp_path / "two") == results(tmp_path / "one")
    with Workers(model, processes=1, backend=ONE, covering=covering) as workers:
        list(begin(workers, image, tmp_path / "three", **options))
    assert results(tmp_path / "three") == results(tmp_path / "one")  # and no bands are left


# --- how a run ends ------------------------------------------------------------------------------


def whole_and_listed(out: Path) -> int:
    """Every result has its line and the other way around; nothing half written is left."""
    lines = [line["output"] for line in manifest_of(out) if line["status"] == "done"]
    assert sorted(results(out)) == sorted(lines)
    return len(lines)


def test_stopping_and_leaving_early(workers: Workers, tmp_path: Path) -> None:
    source, stop = write_pictures(tmp_path / "in", COUNT), threading.Event()
    for record in begin(workers, source, tmp_path / "stopped", stop=stop):
        assert record.status == "done"
        stop.set()
    assert 0 < whole_and_listed(tmp_path / "stopped") < COUNT
    with closing(begin(workers, source, tmp_path / "left")) as records:
        next(records)
    assert 0 < whole_and_listed(tmp_path / "left") < COUNT
    # The workers are as new.
    assert len(list(begin(workers, source, tmp_path / "left"))) == COUNT
    assert whole_and_listed(tmp_path / "left") == COUNT


def test_fail_fast(workers: Workers, tmp_path: Path) -> None:
    source = write_pictures(tmp_path / "in", 200)
    (source / "00003.png").write_text("broken")
    records = list(begin(workers, source, tmp_path / "out", fail_fast=True))
    assert sum(record.status == "failed" for record in records) == 1
    assert whole_and_listed(tmp_path / "out") < 150


def test_what_cannot_be_written_ends_the_run(workers: Workers, tmp_path: Path) -> None:
    source, out = write_pictures(tmp_path / "in", 12), tmp_path / "out"
    (source / "sub").mkdir()
    (source / "00005.png").rename(source / "sub/00005.png")
    out.mkdir()
    (out / "sub").write_text("in the way")
    with pytest.raises(OSError) as caught:
        list(begin(workers, source, out))
    assert Path(str(caught.value.filename)) == out / "sub"
    (out / "sub").unlink()
    assert len(list(begin(workers, source, out))) == 12
    assert whole_and_listed(out) == 12


def test_arguments_are_checked_as_for_one_process(
    workers: Workers, segmenter: Segmenter, model: Path, tmp_path: Path
) -> None:
    with refusal(ValueError, "predict: batch must be at least 1, got 0; raise it"):
        begin(workers, model, tmp_path / "out", batch=0)
    with pytest.raises(ValueError) as one:
        context_of(segmenter, RunRequest(model_sha256="ab", format="tiff"))  # type: ignore[arg-type]
    with refusal(ValueError, str(one.value)):
        begin(workers, model, tmp_path / "out", format="tiff")
    with refusal(ValueError, "Workers: takes processes or devices, got neither; pass one of them"):
        Workers(model)
    with refusal(
        ValueError, "Workers: takes processes or devices, got 2 and [0]; pass one of them"
    ):
        Workers(model, processes=2, devices=[0])
    text = "Workers: devices must be different numbers, got [0, 0]; name each GPU once"
    with refusal(ValueError, text):
        Workers(model, devices=[0, 0])
    text = "Workers: processes: must be 1..256, got 0; pass a value from 1 to 256"
    with refusal(ValueError, text):
        Workers(model, processes=0)
    closed = Workers(model, processes=1, backend=ONE)
    closed.close()
    closed.close()
    with refusal(ValueError, "predict_files: needs open workers, got closed ones; make new ones"):
        begin(closed, model, tmp_path / "out")


def test_a_model_that_does_not_open_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "m.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(ArtifactError) as one:
        load(broken)
    with refusal(ArtifactError, str(one.value)):
        Workers(broken, processes=2)


def test_python_ends_where_nobody_closes_them(model: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from fcnkit.runtime import Workers\n"
        "left_open = Workers(sys.argv[1], processes=1)\n"
        "print('end')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(model)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
