"""Rows that are read ahead of the model, and written behind it."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fcnkit.errors import DataError
from fcnkit.runtime import Segmenter, load, predict_files
from fcnkit.runtime.predict import beside
from fcnkit.runtime.predict.beside import RowsAhead, SinkBehind
from fcnkit.runtime.predict.folder import find_jobs
from fcnkit.runtime.predict.staging import StagedOutput
from tests.runtime.models import make_spec, write_model


class CountedRows:
    """Rows in memory that know how many of them were read, and by which thread."""

    def __init__(self, image: NDArray[np.uint8], broken_at: int | None = None) -> None:
        self.height, self.width = image.shape[:2]
        self.at, self.threads = 0, set[str]()
        self._image, self._broken_at = image, broken_at

    def read(self, count: int) -> NDArray[np.uint8]:
        self.threads.add(threading.current_thread().name)
        self.at += count
        if self._broken_at is not None and self.at > self._broken_at:
            raise DataError("the rest is broken")
        return self._image[self.at - count : self.at]


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


@settings(max_examples=50)
@given(data=st.data(), height=st.integers(1, 400), width=st.integers(1, 5))
def test_the_rows_are_those_of_the_source(data: st.DataObject, height: int, width: int) -> None:
    image, parts, left = picture(height, width), [], height
    rows = RowsAhead(CountedRows(image))
    assert (rows.height, rows.width) == (height, width)
    while left:
        count = data.draw(st.integers(1, left))
        parts.append(rows.read(count))
        assert parts[-1].shape == (count, width, 3)
        left -= count
    assert np.array_equal(np.concatenate(parts), image)


def test_rows_that_were_put_back_come_again() -> None:
    image = picture(300, 4)
    rows = RowsAhead(CountedRows(image))
    parts = [rows.read(100)]
    rows.unread(parts[0][70:])
    parts.append(rows.read(64))
    rows.unread(parts[1])
    parts.append(rows.read(230))
    for part, begin in zip(parts, (0, 70, 70), strict=True):
        assert np.array_equal(part, image[begin : begin + len(part)])


def test_no_more_is_read_ahead_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "_BYTES_AHEAD", 3 * 64 * 3 * 10)  # three times 64 rows of 10
    source = CountedRows(picture(2000, 10))
    rows = RowsAhead(source)
    assert source.at == 0  # nothing before the first row is needed
    for used in range(1, 600):
        rows.read(1)
        assert source.at <= used + 64 + 3 * 64
    assert source.threads == {"fcnkit-read_0"}


def test_an_error_comes_where_the_rows_are_missing() -> None:
    image = picture(500, 3)
    rows = RowsAhead(CountedRows(image, broken_at=200))
    assert np.array_equal(rows.read(192), image[:192])  # 64 at a time
    with pytest.raises(DataError, match="the rest is broken"):
        rows.read(1)


def test_a_sink_gets_everything_in_order_on_another_thread() -> None:
    seen: list[tuple[int, int, str]] = []

    def write(image_hwc: NDArray[np.uint8], labels_hw: NDArray[np.uint8]) -> None:
        seen.append((image_hwc[0, 0, 0], labels_hw[0, 0], threading.current_thread().name))

    sink = SinkBehind(write)
    for number in range(20):
        sink(np.full((1, 1, 3), number, np.uint8), np.full((1, 1), number + 1, np.uint8))
    sink.wait()
    assert seen == [(number, number + 1, "fcnkit-write_0") for number in range(20)]


def test_an_error_of_writing_comes_with_the_next_rows_or_at_the_end() -> None:
    def full(image_hwc: NDArray[np.uint8], labels_hw: NDArray[np.uint8]) -> None:
        raise OSError(errno.ENOSPC, f"no space for {len(image_hwc)} and {len(labels_hw)}")

    rows = np.zeros((2, 1, 3), np.uint8), np.zeros((2, 1), np.uint8)
    sink = SinkBehind(full)
    sink(*rows)
    with pytest.raises(OSError, match="no space for 2 and 2"):
        sink(*rows)
    sink(*rows)  # the one before was refused, so this is the first
    with pytest.raises(OSError, match="no space for 2 and 2"):
        sink.wait()
    sink.wait()  # reported once


@pytest.fixture
def tiled(tmp_path: Path) -> Any:
    model = write_model(tmp_path / "m.onnx", make_spec("scores"))
    with load(model, tile=(32, 64), overlap=12, threads=1) as segmenter:
        yield segmenter


def run(segmenter: Segmenter, source: Path, out: Path) -> list[Any]:
    jobs = find_jobs([source], out)
    return list(predict_files(segmenter, jobs, out, model_sha256="ab", max_pixels=1))


def failing(after: int, error: BaseException) -> Callable[..., None]:
    """A replacement of StagedOutput.write that raises at one of its calls."""
    original, calls = StagedOutput.write, iter(range(10**6))

    def write(self: StagedOutput, *rows: NDArray[np.uint8]) -> None:
        if next(calls) == after:
            raise error
        original(self, *rows)

    return write


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_full_disk_ends_the_run_and_leaves_finished_bands(
    after: int, tiled: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the last rows are those that do not fit."""
    Image.fromarray(picture(100, 70)).save(tmp_path / "a.ppm")
    assert len(tiled.plan(100, 70).tops) == 5
    monkeypatch.setattr(StagedOutput, "write", failing(after, OSError(errno.ENOSPC, "No space")))
    with pytest.raises(OSError, match="No space") as caught:
        run(tiled, tmp_path / "a.ppm", tmp_path / "out")
    assert caught.value.filename == "a.png"
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == [".fcnkit-bands", "manifest.jsonl"]
    monkeypatch.undo()
    (record,) = run(tiled, tmp_path / "a.ppm", tmp_path / "out")
    assert record.status == "done"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "manifest.jsonl"]


def test_a_broken_picture_fails_alone_and_its_rows_are_dropped(
    tiled: Segmenter, tmp_path: Path
) -> None:
    Image.fromarray(picture(300, 70)).save(tmp_path / "a.ppm")
    whole = (tmp_path / "a.ppm").read_bytes()
    (tmp_path / "a.ppm").write_bytes(whole[:-1])
    (record,) = run(tiled, tmp_path / "a.ppm", tmp_path / "out")
    assert record.status == "failed"
    assert "a file that ends early" in record.error
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.jsonl"]


def test_an_interruption_leaves_no_thread_and_finished_bands(
    tiled: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(picture(600, 70)).save(tmp_path / "a.ppm")
    infer, calls = tiled.backend.infer, iter(range(10**6))

    def interrupted(batch: NDArray[Any]) -> NDArray[Any]:
        if next(calls) == 9:
            raise KeyboardInterrupt
        return infer(batch)

    monkeypatch.setattr(tiled.backend, "infer", interrupted)
    monkeypatch.setattr(tiled.backend, "stream", lambda batches: map(interrupted, batches))
    with pytest.raises(KeyboardInterrupt):
        run(tiled, tmp_path / "a.ppm", tmp_path / "out")
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == [".fcnkit-bands", "manifest.jsonl"]
    (record,) = run_again(tiled, infer, tmp_path, monkeypatch)
    assert record.status == "done"


def run_again(
    segmenter: Segmenter, infer: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Any]:
    monkeypatch.setattr(segmenter.backend, "infer", infer)
    monkeypatch.setattr(segmenter.backend, "stream", lambda batches: map(infer, batches))
    return run(segmenter, folder / "a.ppm", folder / "out")
