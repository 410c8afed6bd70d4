"""Two Ray nodes on this machine: one result and one line each, whatever is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fcnkit.errors import ArtifactError, FcnkitError, PictureWarning, WorkerWarning
from fcnkit.runtime import (
    BackendRequest,
    Predictor,
    RayWorkers,
    Segmenter,
    find_jobs,
    load,
    predict_files,
)
from fcnkit.runtime.predict.manifest import Record
from tests.refusal import refusal
from tests.runtime.clips import write_clip
from tests.runtime.pictures import break_some, manifest_of, write_pictures
from tests.runtime.predict.dying import POISON, dies_of_poison, works_slowly

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")

# Warnings about the code of Ray.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::ResourceWarning",
    "ignore::UserWarning:ray",
)

ONE = BackendRequest(threads=1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head node of one core, to which this process is connected."""
    from ray.cluster_utils import Cluster

    room = {"num_cpus": 1, "object_store_memory": 80 << 20}
    made = Cluster(initialize_head=True, head_node_args={**room, "include_dashboard": False})
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    made.room = room
    yield made
    ray.shutdown()
    made.shutdown()


def run(crew: Any, source: Path, out: Path, **options: Any) -> Iterator[Record]:
    return predict_files(crew, find_jobs([source], out), out, model_sha256="ab", **options)


def results(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.png")}


def labeled_with_losses(
    cluster: Any, model: Path, source: Path, out: Path, prepare: Callable[[], object]
) -> list[Record]:
    """Label on two nodes, kill a worker, and remove a node later."""
    count = len(list(source.iterdir()))
    second = cluster.add_node(**cluster.room)
    cluster.wait_for_nodes()
    records: list[Record] = []
    removed = False
    try:
        with RayWorkers(model, processes=2, backend=ONE, prepare=prepare) as workers:
            for record in run(workers, source, out):
                records.append(record)
                if len(records) == count // 4:
                    os.kill(workers.told()[0]["process"], signal.SIGKILL)
                if len(records) == count // 2:
                    cluster.remove_node(second, allow_graceful=False)
                    removed = True
    finally:
        if not removed:
            cluster.remove_node(second)
    return records


def check_whole(records: list[Record], one: Path, two: Path) -> None:
    """One result and one line each, those of one process."""
    assert sorted(record.output for record in records) == sorted(results(one))
    assert {record.status for record in records} == {"done"}
    assert results(two) == results(one)
    lines = [(line["output"], line["status"]) for line in manifest_of(two)]
    assert sorted(lines) == [(name, "done") for name in sorted(results(one))]
    assert not list(two.glob(".fcnkit-partial*"))


def check_losses(
    cluster: Any,
    model: Path,
    segmenter: Segmenter,
    folder: Path,
    count: int,
    prepare: Callable[[], object],
) -> None:
    """Label images in this process and, with losses, on Ray; compare all that was written."""
    source = write_pictures(folder / "in", count)
    list(run(segmenter, source, folder / "one"))
    records = labeled_with_losses(cluster, model, source, folder / "two", prepare)
    check_whole(records, folder / "one", folder / "two")


@pytest.mark.filterwarnings("ignore::fcnkit.errors.WorkerWarning")
def test_a_killed_worker_and_a_lost_node(
    cluster: Any, model: Path, segmenter: Segmenter, tmp_path: Path
) -> None:
    check_losses(cluster, model, segmenter, tmp_path, 60, works_slowly)


@pytest.mark.filterwarnings("ignore::fcnkit.errors.WorkerWarning")
def test_two_thousand_images_a_killed_worker_and_a_lost_node(
    cluster: Any, model: Path, segmenter: Segmenter, tmp_path: Path
) -> None:
    check_losses(cluster, model, segmenter, tmp_path, 2000, int)


@pytest.mark.filterwarnings("ignore::fcnkit.errors.WorkerWarning")
def test_an_input_that_kills_three_workers_fails_alone(
    cluster: Any, model: Path, segmenter: Segmenter, tmp_path: Path
) -> None:
    """On one core, where a new worker needs the place of the dead one."""
    source = write_pictures(tmp_path / "in", 40)
    list(run(segmenter, source, tmp_path / "one"))
    poison = source / f"00007-{POISON}.png"
    poison.write_bytes((source / "00000.png").read_bytes())
    with RayWorkers(model, processes=2, backend=ONE, prepare=dies_of_poison) as workers:
        records = list(run(workers, source, tmp_path / "two"))
        again = list(run(workers, source, tmp_path / "two"))
    failed = {record.input: record.error for record in records if record.status == "failed"}
    assert failed == {
        str(poison): f"{poison}: a worker must survive an input, got 3 workers that died with it, "
        "the last by the end of its process; label it alone to see why"
    }
    assert results(tmp_path / "two") == results(tmp_path / "one")
    lines = [(line["output"], line["status"]) for line in manifest_of(tmp_path / "two")][:41]
    assert sorted(lines) == sorted(
        [(name, "done") for name in results(tmp_path / "one")] + [(poison.name, "failed")]
    )
    assert [record.status for record in again].count("skipped") == 40


def test_a_killed_worker_is_named(cluster: Any, model: Path, tmp_path: Path) -> None:
    source = write_pictures(tmp_path / "in", 40)
    with RayWorkers(model, processes=1, backend=ONE, prepare=works_slowly) as workers:
        labeling = run(workers, source, tmp_path / "out")
        next(labeling)
        [told] = workers.told()
        os.kill(told["process"], signal.SIGKILL)
        with pytest.warns(WorkerWarning) as caught:
            list(labeling)
        assert [one["ended"] for one in workers.told()] == ["the end of its process", None]
    [text] = [str(one.message) for one in caught if one.category is WorkerWarning]
    name = f"worker 1 (process {told['process']} on {told['node']})"
    begin = f"{name}: must live until the run ends, got the end of its process with "
    assert text.startswith(begin)
    assert text.endswith(" inputs; they are tried again; if memory ran out, lower --processes")


def test_an_actor_that_cannot_open_the_model_is_named(cluster: Any, model: Path) -> None:
    text = (
        "worker 1: must open the model, got the end of its process; "
        "open it in one process to see why; with fewer processes each has more memory"
    )
    with refusal(FcnkitError, text):
        RayWorkers(model, processes=1, backend=ONE, prepare=sys.exit)
    broken = model.with_name("broken.onnx")
    broken.write_bytes(b"no model")
    with pytest.raises(ArtifactError) as one:
        load(broken)
    with refusal(ArtifactError, str(one.value)):
        RayWorkers(broken, processes=1, backend=ONE)


def test_a_cluster_without_room_is_named(
    cluster: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcnkit.runtime.predict.ray_hand._SAY_AFTER", 1)
    monkeypatch.setattr("fcnkit.runtime.predict.ray_hand._PATIENCE", 3)
    text = r"ray: must have room for a worker, got none for \d seconds; see ray status"
    with (
        pytest.warns(WorkerWarning, match=f"^{text}; the run waits for ten minutes$"),
        pytest.raises(FcnkitError, match=f"^{text}, and run the same command again$"),
    ):
        RayWorkers(model, backend=BackendRequest(threads=2))


def test_frames_of_a_video(cluster: Any, model: Path, segmenter: Segmenter, tmp_path: Path) -> None:
    clip, seen = write_clip(tmp_path / "a.mp4", 6), list[tuple[str, int]]()
    one = list(run(segmenter, clip, tmp_path / "one", frames=True))
    with RayWorkers(model, processes=1, backend=ONE) as workers:
        two = list(
            run(
                workers,
                clip,
                tmp_path / "two",
                frames=True,
                on_frame=lambda name, number, _: seen.append((name, number)),
            )
        )
    assert [(r.input, r.output, r.status) for r in two] == [
        (r.input, r.output, r.status) for r in one
    ]
    assert seen == [(str(clip), number) for number in range(1, 7)]
    frames = {path.name: path.read_bytes() for path in (tmp_path / "one/a").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "two/a").iterdir()} == frames


def test_records_and_manifest_are_those_of_a_local_run(
    cluster: Any,
    model: Path,
    segmenter: Segmenter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    source = write_pictures(Path("in"), 20)
    broken = break_some(source, every=7)
    Image.new("I;16", (40, 40), 900).save(source / "00001.png")
    with pytest.warns(PictureWarning):
        one = list(run(segmenter, source, Path("one"), batch=4))
    Path("m.onnx").symlink_to(model)
    with RayWorkers("m.onnx", processes=1, backend=ONE) as workers:
        with pytest.warns(PictureWarning) as caught:
            two = list(run(workers, source, Path("two"), batch=4))
        assert (workers.facts["backend"], workers.facts["threads"]) == ("onnxruntime", 1)
        [told] = workers.told()
        assert (told["answered"], told["peak_memory_mb"] > 10) == (20, True)
    assert len([one for one in caught if one.category is PictureWarning]) == 1

    def plain(records: list[Record]) -> dict[str, tuple[object, ...]]:
        return {
            r.output: (r.input, r.input_path, r.input_stamp, r.status, r.error, r.pixels, r.options)
            for r in records
        }

    assert plain(two) == plain(one)
    assert sum(record.status == "failed" for record in two) == len(broken)
    assert results(Path("two")) == results(Path("one"))
    with RayWorkers("m.onnx", processes=1, backend=ONE) as workers:
        again = list(run(workers, source, Path("two"), batch=4))
    assert sum(record.status == "skipped" for record in again) == 20 - len(broken)


def test_what_is_wrong_is_said_as_by_one_process(cluster: Any, model: Path, tmp_path: Path) -> None:
    workers = RayWorkers(model, processes=1, backend=ONE)
    with refusal(ValueError, "predict: batch must be at least 1, got 0; raise it"):
        run(workers, model, tmp_path / "out", batch=0)
    workers.close()
    with refusal(ValueError, "predict_files: needs open workers, got closed ones; make new ones"):
        run(workers, model, tmp_path / "out")
    text = "RayWorkers: Ray chooses the GPU of each worker, got device 0; leave the device out"
    with refusal(ValueError, text):
        RayWorkers(model, backend=BackendRequest(device=0))
    text = (
        "RayWorkers: gpus must be 0..1, the share of each worker, got 2; pass 0.5 for two on a GPU"
    )
    with refusal(ValueError, text):
        RayWorkers(model, gpus=2)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_complete_manifest(
    cluster: Any, model: Path, tmp_path: Path, sent: signal.Signals
) -> None:
    source, out = write_pictures(tmp_path / "in", 300, side=200), tmp_path / "out"
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from fcnkit.cli import main; main()"
    arguments = ["predict", model, source, "-o", out, "--ray", cluster.address, "--processes", 1]
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments), "--threads", "1", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        manifest = out / "manifest.jsonl"
        while process.poll() is None and not (
            manifest.exists() and manifest.read_bytes().count(b"\n") > 5
        ):
            time.sleep(0.005)
        process.send_signal(sent)
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 128 + sent, stderr
    assert "Traceback" not in stderr
    lines = {line["output"]: line["status"] for line in manifest_of(out)}
    assert lines == dict.fromkeys(results(out), "done")
    assert 5 < len(lines) < 300
    assert json.loads(stdout)["done"] == len(lines)
    assert not list(out.glob(".fcnkit-partial*"))


def test_predictor_in_ray_data(cluster: Any, model: Path, tmp_path: Path) -> None:
    """The example of docs/scale.md."""
    source = write_pictures(tmp_path / "in", 10)
    (source / "00004.png").write_text("broken")
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in sorted(source.iterdir())))
    options = {"model": str(model), "root": str(source), "out": str(tmp_path / "out"), "threads": 1}
    paths = ray.data.read_text(str(tmp_path / "list.txt"))
    # Without num_cpus the actor would take the only core, and reading the list would wait for it.
    records = paths.map_batches(
        Predictor, fn_constructor_kwargs=options, batch_size=4, concurrency=1, num_cpus=0
    )
    failed = records.filter(lambda record: record["status"] == "failed").count()
    assert failed == 1
    assert len(results(tmp_path / "out")) == 9
