"""Two Ray nodes on this machine: one result and one line each, whatever is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fcnkit.errors import PictureWarning
from fcnkit.runtime import (
    BackendRequest,
    Predictor,
    RayWorkers,
    Segmenter,
    find_jobs,
    predict_files,
)
from fcnkit.runtime.predict.manifest import Record
from tests.refusal import refusal
from tests.runtime.pictures import break_some, manifest_of, write_pictures
from tests.runtime.predict.dying import works_slowly

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


def test_a_killed_worker_and_a_lost_node(
    cluster: Any, model: Path, segmenter: Segmenter, tmp_path: Path
) -> None:
    """Kill a worker, then remove a node, while they label; compare with one process."""
    folder, count = tmp_path, 60
    source = write_pictures(folder / "in", count)
    list(run(segmenter, source, folder / "one"))
    second = cluster.add_node(**cluster.room)
    cluster.wait_for_nodes()
    records: list[Record] = []
    with RayWorkers(model, processes=2, backend=ONE, prepare=works_slowly) as workers:
        for record in run(workers, source, folder / "two"):
            records.append(record)
            if len(records) == count // 6:
                os.kill(workers.told()[0]["process"], signal.SIGKILL)
            if len(records) == count // 3:
                cluster.remove_node(second, allow_graceful=False)
    assert sorted(record.output for record in records) == sorted(results(folder / "one"))
    assert {record.status for record in records} == {"done"}
    assert results(folder / "two") == results(folder / "one")
    lines = [(line["output"], line["status"]) for line in manifest_of(folder / "two")]
    assert sorted(lines) == [(f"{number:05}.png", "done") for number in range(count)]
    assert not list((folder / "two").glob(".fcnkit-partial*"))


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
    with RayWorkers("m.onnx", processes=1, backend=ONE) as workers:
        Path("m.onnx").symlink_to(model)
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
    text = "predict: Ray labels a video as one, got --frames; leave --frames or Ray out"
    with refusal(ValueError, text):
        run(workers, model, tmp_path / "out", frames=True)
    text = "RayWorkers: Ray chooses the GPU of each worker, got device 0; leave the device out"
    with refusal(ValueError, text):
        RayWorkers(model, backend=BackendRequest(device=0))
    text = (
        "RayWorkers: gpus must be 0..1, the share of each worker, got 2; pass 0.5 for two on a GPU"
    )
    with refusal(ValueError, text):
        RayWorkers(model, gpus=2)


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
