"""Many pictures through one segmenter: as they come, in shared batches, in other engines."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fcnkit.errors import DataError
from fcnkit.runtime import Segmenter, load
from fcnkit.runtime.backends.base import CheckedBackend
from fcnkit.runtime.predict.claims import CLAIMS
from fcnkit.runtime.predict.predictor import Predictor
from tests.refusal import refusal
from tests.runtime.models import make_info, make_spec
from tests.runtime.pictures import break_some, write_pictures


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng([height, width]).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("batch", [1, 3, 8, 100])
def test_map_is_the_call_for_every_picture(segmenter: Segmenter, batch: int) -> None:
    sizes = [(40, 70), (32, 64), (33, 31), (97, 131), (32, 64)]
    images = [picture(height + i % 2, width) for i in range(6) for height, width in sizes]
    found = {id(one.source): one for one in segmenter.map(images, batch=batch)}
    assert len(found) == len(images)
    for image in images:
        one = found[id(image)]
        assert one.error is None
        assert one.labels_hw is not None
        assert np.array_equal(one.labels_hw, segmenter(image))


class Recording(CheckedBackend):
    """A backend that is not a library: the argmax is the color's largest channel; it notes
    shapes."""

    def __init__(self, high: tuple[int, int, int] = (16, 2048, 2048)) -> None:
        spec = make_spec("logits", high=high)
        super().__init__(spec, name="recording", info=make_info())
        self.shapes: list[tuple[int, ...]] = []
        self.threads: set[int] = set()

    def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
        self.shapes.append(batch.shape)
        self.threads.add(threading.get_ident())
        logits = np.zeros((len(batch), self.spec.num_classes, *batch.shape[2:]), np.float32)
        logits[:, 1:] = batch
        return logits

    def _free(self) -> None:
        pass


def test_tiles_of_different_pictures_share_a_batch() -> None:
    # 40x64 is covered by two tiles of 32x64.
    sizes = [*[(32, 64)] * 5, (64, 32), (32, 64), (40, 64)]
    backend = Recording()
    with Segmenter(backend, cover="average") as segmenter:
        assert len(list(segmenter.map([picture(*size) for size in sizes], batch=4))) == 8
    assert sorted(backend.shapes) == [(1, 3, 64, 32), (4, 3, 32, 64), (4, 3, 32, 64)]
    assert backend.threads == {threading.get_ident()}


@pytest.mark.parametrize(("side", "streams"), [(2016, True), (2048, True), (2080, False)])
def test_very_large_tiles_run_one_at_a_time(tmp_path: Path, side: int, streams: bool) -> None:
    """Several at a time would hold the memory of each; 4 classes of 2048x2048 are 64 MB."""
    from fcnkit.runtime.predict.folder import find_jobs, predict_files

    source = write_pictures(tmp_path / "in", 2)
    backend = Recording(high=(16, 4096, 4096))
    streamed = 0
    stream = backend.stream

    def spy(batches: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        nonlocal streamed
        streamed += 1
        return stream(batches)

    backend.stream = spy  # type: ignore[method-assign]
    with Segmenter(backend, tile=(side, side)) as segmenter:
        jobs = find_jobs([source], tmp_path / "out")
        records = list(predict_files(segmenter, jobs, tmp_path / "out", model_sha256=""))
    assert [record.status for record in records] == ["done", "done"]
    assert streamed == streams


def test_a_batch_is_never_larger_than_the_model_takes() -> None:
    backend = Recording(high=(2, 2048, 2048))
    with Segmenter(backend) as segmenter:
        list(segmenter.map([picture(32, 32) for _ in range(5)], batch=100))
    assert [shape[0] for shape in backend.shapes] == [2, 2, 1]


def test_shapes_that_never_fill_a_batch_do_not_pile_up() -> None:
    backend = Recording()
    sizes = [(32 * (1 + i % 20), 32 * (1 + i // 20)) for i in range(100)]
    drawn = 0

    def images() -> Iterator[NDArray[np.uint8]]:
        nonlocal drawn
        for size in sizes:
            drawn += 1
            yield np.zeros((*size, 3), np.uint8)

    came = 0
    with Segmenter(backend) as segmenter:
        for _ in segmenter.map(images(), batch=4):
            came += 1
            # 8 tiles wait for a batch, 5 are prepared, 5 are finished and not yet handed out.
            assert drawn <= came + 4 + 8 + 5 + 6
    assert came == 100


def test_map_reads_files_and_goes_on_after_broken_ones(
    tmp_path: Path, segmenter: Segmenter
) -> None:
    source = write_pictures(tmp_path / "in", 40)
    broken = break_some(source, every=4)
    paths = sorted(source.iterdir())
    results = {one.source: one for one in segmenter.map(paths)}
    assert set(results) == set(paths)
    for path, one in results.items():
        if path.name in broken:
            assert isinstance(one.error, DataError)
            assert one.labels_hw is None
        else:
            assert one.labels_hw is not None
            with Image.open(path) as image:
                assert np.array_equal(one.labels_hw, segmenter(np.array(image)))
    (wrong,) = segmenter.map([np.zeros((3, 3), np.uint8)])
    assert isinstance(wrong.error, ValueError)
    (large,) = segmenter.map([paths[1]], max_pixels=100)
    assert "a picture has at most 100 pixels" in str(large.error)


def test_map_is_bounded_and_can_be_left(segmenter: Segmenter) -> None:
    drawn = 0

    def endless() -> Iterable[NDArray[np.uint8]]:
        nonlocal drawn
        while True:
            drawn += 1
            yield picture(40, 40)

    results = segmenter.map(endless())
    for _ in range(10):
        next(results)
    results.close()
    assert drawn <= 10 + 12
    assert segmenter(picture(40, 40)).shape == (40, 40)  # still open


def test_map_refuses(segmenter: Segmenter) -> None:
    text = "Segmenter.map: batch: must be 1..16777216, got 0; pass a value from 1 to 16777216"
    with refusal(ValueError, text):
        segmenter.map([], batch=0)
    rule = "Segmenter.map: sources must be an iterable of files and pictures"
    for one, kind in (("a.png", "str"), (np.zeros((3, 3, 3), np.uint8), "ndarray"), (7, "int")):
        with refusal(TypeError, f"{rule}, got {kind}; put it into a list"):
            segmenter.map(one)  # type: ignore[arg-type]


def test_large_pictures_come_in_bands_but_whole(model: Path) -> None:
    with load(model, tile=(32, 32), overlap=8, threads=1) as segmenter:
        images = [picture(200, 210), picture(40, 40), picture(150, 64)]
        found = {id(one.source): one.labels_hw for one in segmenter.map(images)}
        for image in images:
            labels = found[id(image)]
            assert labels is not None
            assert np.array_equal(labels, segmenter(image))


def test_a_predictor_overwrites_nothing(tmp_path: Path, model: Path) -> None:
    write_pictures(tmp_path / "in", 1)
    root, out = str(tmp_path / "in"), str(tmp_path / "out")
    rule = "a result must lie in a folder apart from root, under its own name"
    for given, paths in (
        ({"out": root}, ["00000.png"]),
        ({"out": out}, ["../in/00000.png"]),
        ({"out": out}, ["00000.png", "00000.jpg"]),
    ):
        full = [f"{root}/{path}" for path in paths]
        text = f"Predictor: {rule}, got {full[-1]}; choose another out or rename one"
        with refusal(ValueError, text):
            list(Predictor(model=str(model), root=root, **given)(full))
    rule = "Predictor: format must be one of labels, color, overlay, npy, confidence, tif"
    with refusal(ValueError, f"{rule}, got gif; leave it out for labels"):
        list(Predictor(model=str(model), root=root, out=out, format="gif")([]))  # type: ignore[arg-type]


def test_a_predictor_is_a_callable_that_travels(tmp_path: Path, model: Path) -> None:
    """What a distributed engine does: pickle it, call it in many places with shares of paths."""
    source = write_pictures(tmp_path / "in", 12)
    broken = break_some(source, every=6)
    out = tmp_path / "out"
    predictor = Predictor(model=str(model), root=str(source), out=str(out), format="npy", threads=1)
    copy = pickle.loads(pickle.dumps(predictor))
    paths = [str(path) for path in sorted(source.iterdir())]
    shares = [iter(copy(paths[:5])), iter(copy(paths[5:]))]  # at the same time, one folder
    records: list[dict[str, Any]] = []
    while shares:
        for share in list(shares):
            record = next(share, None)
            if record is None:
                shares.remove(share)
            else:
                records.append(record)
    assert sorted(record["input"] for record in records) == paths
    failed = {Path(record["input"]).name for record in records if record["status"] == "failed"}
    assert failed == set(broken)
    left = [path for path in out.rglob("*") if CLAIMS not in path.parts]
    assert len(left) == 12 - len(broken)  # and nothing else is left
    with load(model, threads=1) as segmenter:
        for record in records:
            if record["status"] == "done":
                with Image.open(record["input"]) as image:
                    expected = segmenter(np.array(image))
                assert np.array_equal(np.load(out / record["output"]), expected)
