"""A large image whose run is killed: its bands are taken over, and the result is the same file."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fcnkit.errors import PictureWarning
from fcnkit.runtime import Predictor, Region, Segmenter, Window, load, predict_files
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.predict.band_store import BandFolder, BandStore
from fcnkit.runtime.predict.folder import SUFFIX_OF, Format, find_jobs
from fcnkit.runtime.predict.manifest import Record
from fcnkit.runtime.predict.results import ResultRequest
from tests.geotiff import write_geotiff
from tests.runtime.models import CLASSES, make_spec, write_model
from tests.runtime.pictures import noise
from tests.runtime.predict.killing import Killed, counted_tiles

BANDS = ".fcnkit-bands"


@contextmanager
def ends_after(bands: int, error: type[BaseException] | OSError = Killed) -> Iterator[None]:
    """Raise an error once that number of bands was kept."""
    kept, add = 0, BandStore.add

    def add_or_end(store: BandStore, band: Prediction) -> None:
        nonlocal kept
        kept += store._repeated >= store.rows
        if kept > bands:
            raise error
        add(store, band)

    with mock.patch.object(BandStore, "add", add_or_end):
        yield


def label(segmenter: Segmenter, source: Path, out: Path, **options: Any) -> list[Record]:
    jobs = find_jobs([source], out, suffix=SUFFIX_OF[options.get("format", "labels")])
    options = {"model_sha256": "ab", "max_pixels": 1, **options}
    with closing(predict_files(segmenter, jobs, out, **options)) as records:
        return list(records)


def write_ppm(path: Path, height: int, width: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(noise(height, width)).save(path)
    return path


@pytest.fixture(scope="module")
def tiled(model: Path) -> Iterator[Segmenter]:
    with load(model, tile=(32, 64), overlap=12, threads=1) as segmenter:
        yield segmenter


@pytest.mark.parametrize("format", list(SUFFIX_OF))
def test_every_format_continues(tmp_path: Path, tiled: Segmenter, format: Format) -> None:
    source = write_ppm(tmp_path / "a.ppm", 200, 150)
    name = f"a{SUFFIX_OF[format]}"
    (undisturbed,) = label(tiled, source, tmp_path / "whole", format=format, batch=1)
    with ends_after(4), pytest.raises(Killed):
        label(tiled, source, tmp_path / "out", format=format, batch=1)
    assert not (tmp_path / "out" / name).exists()
    rows = len(tiled.plan(200, 150).tops)
    with counted_tiles() as counts:
        (record,) = label(tiled, source, tmp_path / "out", format=format, batch=1)
    assert counts[0] == (rows - 4 + 1) * len(tiled.plan(200, 150).lefts)  # one band again
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert (record.status, record.pixels) == ("done", undisturbed.pixels)
    assert record.confidence == undisturbed.confidence
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [name, "manifest.jsonl"]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Segmenter]]:
    """Segmenters of both heads that give logits, with little, half and much overlap."""
    folder, made = tmp_path_factory.mktemp("models"), {}
    for head in ("logits", "scores"):
        path = write_model(folder / f"{head}.onnx", make_spec(head))
        for overlap in (0, 16, 25):
            name = f"{head} {overlap}"
            made[name] = load(path, tile=(32, 64), overlap=overlap, threads=1)
    flip = folder / "logits.onnx"
    made["flip"] = load(flip, tile=(32, 64), overlap=16, tta="flip", threads=1)
    yield made
    for segmenter in made.values():
        segmenter.close()


@settings(max_examples=25)
@given(data=st.data())
def test_any_number_of_kills_anywhere(
    tmp_path_factory: pytest.TempPathFactory, opened: dict[str, Segmenter], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("kills")
    segmenter = opened[data.draw(st.sampled_from(sorted(opened)))]
    height, width = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 140))
    options = {"format": data.draw(st.sampled_from(["labels", "confidence", "overlay"]))}
    source = write_ppm(folder / "a.ppm", height, width)
    label(segmenter, source, folder / "whole", **options)
    for _ in range(data.draw(st.integers(0, 3))):
        with ends_after(data.draw(st.integers(0, 5))):
            try:
                label(segmenter, source, folder / "out", **options)
            except Killed:
                continue
        break
    label(segmenter, source, folder / "out", **options)
    assert (folder / "out" / "a.png").read_bytes() == (folder / "whole" / "a.png").read_bytes()
    assert not (folder / "out" / BANDS).exists()


KILLED = """
import os, signal, sys
from fcnkit.cli import main
from fcnkit.runtime.predict.band_store import BandStore
add, left = BandStore.add, [int(sys.argv[1])]
def add_and_die(store, band):
    left[0] -= store._repeated >= store.rows
    add(store, band)
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
BandStore.add = add_and_die
main(sys.argv[2:])
"""


def check_killed_geotiff(folder: Path, model: Path, side: int, tile: int) -> None:
    """Kill a run three times, and compare the result with an undisturbed one."""
    rasterio = pytest.importorskip("rasterio")
    pytest.importorskip("pyvips")
    source = write_geotiff(folder / "a.tif", noise(side, side))
    command = ["predict", str(model), str(source), "--format", "tif", "--tile", f"{tile}x{tile}"]
    command += ["--overlap", "16", "--max-pixels", "1000", "--threads", "1", "--stats"]
    alone = [sys.executable, "-c", COUNTED, *command, "-o", str(folder / "whole")]
    subprocess.run(alone, check=True, stdout=subprocess.PIPE)
    for bands in (1, 2, 1):
        killed = [sys.executable, "-c", KILLED, str(bands), *command, "-o", str(folder / "out")]
        done = subprocess.run(killed, check=False, capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not (folder / "out" / "a.tif").exists()
    with load(model, tile=(tile, tile), overlap=16, threads=1) as segmenter:
        plan = segmenter.plan(side, side)
    lives = [sys.executable, "-c", COUNTED, *command, "-o", str(folder / "out")]
    done = subprocess.run(lives, check=True, capture_output=True, text=True)
    # Four bands were kept, and one row of tiles is labeled again for its overlap.
    assert int(done.stdout.splitlines()[-1]) == (len(plan.tops) - 4 + 1) * len(plan.lefts)
    assert (folder / "out" / "a.tif").read_bytes() == (folder / "whole" / "a.tif").read_bytes()
    with rasterio.open(folder / "out" / "a.tif") as made, rasterio.open(source) as given:
        assert (made.transform, made.crs) == (given.transform, given.crs)
        assert (made.shape, made.nodata, made.dtypes) == ((side, side), 255, ("uint8",))


COUNTED = """
import sys
from fcnkit.cli import main
from fcnkit.runtime.predict.passes import _BandPass
from fcnkit.runtime.predict.results import ResultRequest
cut, count = _BandPass._tiles, [0]
def counting(one, band, lefts):
    count[0] += len(lefts)
    return cut(one, band, lefts)
_BandPass._tiles = counting
try:
    main(sys.argv[1:])
finally:
    print(count[0])
"""


def test_a_killed_geotiff_equals_an_undisturbed_one(tmp_path: Path, model: Path) -> None:
    check_killed_geotiff(tmp_path, model, side=400, tile=64)


def test_a_killed_geotiff_of_4000_pixels_equals_an_undisturbed_one(
    tmp_path: Path, model: Path
) -> None:
    check_killed_geotiff(tmp_path, model, side=4000, tile=512)


@pytest.mark.parametrize("format", ["labels", "tif"])
def test_a_kill_at_the_very_end_needs_no_model(
    tmp_path: Path, tiled: Segmenter, format: Format
) -> None:
    pytest.importorskip("pyvips")
    source = write_geotiff(tmp_path / "a.tif", noise(130, 90))
    name = f"a{SUFFIX_OF[format]}"
    label(tiled, source, tmp_path / "whole", format=format)
    with (
        mock.patch("fcnkit.runtime.predict.file_task.FileTask._published", side_effect=Killed),
        pytest.raises(Killed),
    ):
        label(tiled, source, tmp_path / "out", format=format)
    with counted_tiles() as counts:
        label(tiled, source, tmp_path / "out", format=format)
    assert counts == [0]
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_full_disk_loses_no_band(tmp_path: Path, tiled: Segmenter) -> None:
    source = write_ppm(tmp_path / "a.ppm", 200, 90)
    label(tiled, source, tmp_path / "whole")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with ends_after(3, full), pytest.raises(OSError) as caught:
        label(tiled, source, tmp_path / "out")
    assert str(caught.value) == "[Errno 28] No space left on device: 'a.png'"
    with counted_tiles() as counts:
        label(tiled, source, tmp_path / "out")
    plan = tiled.plan(200, 90)
    assert counts[0] == (len(plan.tops) - 3 + 1) * len(plan.lefts)
    assert (tmp_path / "out/a.png").read_bytes() == (tmp_path / "whole/a.png").read_bytes()


@pytest.mark.parametrize(
    ("change", "other"),
    [
        ({"model_sha256": "cd"}, "model"),
        ({"touch": True}, "image"),
        ({"confidence": True}, "options"),
        ({"format": "tif"}, None),
    ],
)
def test_bands_of_something_else_are_not_used(
    tmp_path: Path, tiled: Segmenter, change: dict[str, Any], other: str | None
) -> None:
    """Which bands fit depends on the labels alone, so another format may use them."""
    source = write_ppm(tmp_path / "a.ppm", 200, 90)
    with ends_after(3), pytest.raises(Killed):
        label(tiled, source, tmp_path / "out", format="npy")
    if change.pop("touch", False):
        os.utime(source, ns=(1, 1))
    wanted = ResultRequest(confidence=change.pop("confidence", False))
    options = {"format": "npy", "wanted": wanted, **change}
    with counted_tiles() as counts, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        label(tiled, source, tmp_path / "out", **options)
    plan = tiled.plan(200, 90)
    if other is None:  # bands are found by the name of the result
        assert (counts[0], said) == (len(plan), [])
        return
    assert counts[0] == len(plan)
    assert [(type(one.message), str(one.message)) for one in said] == [
        (
            PictureWarning,
            "a.npy: bands that an earlier run labeled are used for the same image, model and "
            f"options, got a change of {other}; it begins again from the first row",
        )
    ]
    label(tiled, source, tmp_path / "whole", **options)
    assert (tmp_path / "out/a.npy").read_bytes() == (tmp_path / "whole/a.npy").read_bytes()


def test_other_classes_are_made_of_the_same_bands(tmp_path: Path, tiled: Segmenter) -> None:
    source = write_ppm(tmp_path / "a.ppm", 200, 90)
    with ends_after(3), pytest.raises(Killed):
        label(tiled, source, tmp_path / "out")
    wanted = ResultRequest(keep=CLASSES[1])
    with counted_tiles() as counts:
        label(tiled, source, tmp_path / "out", wanted=wanted)
    assert counts[0] < len(tiled.plan(200, 90))
    label(tiled, source, tmp_path / "whole", wanted=wanted)
    assert (tmp_path / "out/a.png").read_bytes() == (tmp_path / "whole/a.png").read_bytes()


def test_without_resume_it_begins_again(tmp_path: Path, tiled: Segmenter) -> None:
    source = write_ppm(tmp_path / "a.ppm", 200, 90)
    with ends_after(3), pytest.raises(Killed):
        label(tiled, source, tmp_path / "out")
    with counted_tiles() as counts:
        label(tiled, source, tmp_path / "out", resume=False)
    assert counts[0] == len(tiled.plan(200, 90))


def test_a_damaged_image_leaves_no_bands(tmp_path: Path, tiled: Segmenter) -> None:
    source = write_ppm(tmp_path / "a.ppm", 200, 90)
    source.write_bytes(source.read_bytes()[:-1])
    (record,) = label(tiled, source, tmp_path / "out")
    assert record.status == "failed"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.jsonl"]


def test_bands_that_a_kill_left_behind_a_whole_result_are_removed(
    tmp_path: Path, tiled: Segmenter
) -> None:
    source = write_ppm(tmp_path / "a.ppm", 200, 90)
    with mock.patch.object(BandStore, "close", lambda store, keep: store._file.close()):
        label(tiled, source, tmp_path / "out")
    assert (tmp_path / "out" / BANDS).is_dir()
    (record,) = label(tiled, source, tmp_path / "out")
    assert record.status == "skipped"
    assert not (tmp_path / "out" / BANDS).exists()


def bands_of(store: BandStore) -> list[list[int]]:
    return [band.labels.tolist() for band in store.bands()]


FACTS = {"model": "ab", "size": (9, 4)}


def filled(folder: Path, *, sure: bool = False) -> tuple[Path, bytes]:
    """Three bands on disk."""
    store = BandFolder(folder).open("a.png", FACTS, 4)
    assert store is not None
    for number in range(3):
        labels = np.full((3, 4), number, np.uint8)
        store.add(Prediction(labels, labels + 5 if sure else None))
    store.close(keep=True)
    (path,) = (folder / BANDS).iterdir()
    return path, path.read_bytes()


@pytest.mark.parametrize("sure", [False, True])
def test_a_torn_band_is_labeled_again(tmp_path: Path, sure: bool) -> None:
    """Cut or damaged anywhere, the bands before are whole and the file can be added to."""
    path, content = filled(tmp_path, sure=sure)
    for cut in range(len(content)):
        damaged = content[:cut] + bytes([content[cut] ^ 1]) + content[cut + 1 :]
        for torn in (content[:cut], damaged):
            path.write_bytes(torn)
            with warnings.catch_warnings(record=True):  # the header may be what was damaged
                warnings.simplefilter("always")
                store = BandFolder(tmp_path).open("a.png", FACTS, 4)
            assert store is not None
            found = list(store.bands())
            expected = [np.full((3, 4), number, np.uint8) for number in range(len(found))]
            assert [band.labels.tolist() for band in found] == [x.tolist() for x in expected]
            if sure:
                assert all((band.confidence == band.labels + 5).all() for band in found)
            store.close(keep=True)
    path.write_bytes(content)
    store = BandFolder(tmp_path).open("a.png", FACTS, 4)
    assert store is not None
    assert (len(store), store.rows) == (3, 9)
    store.close(keep=False)
    assert not (tmp_path / BANDS).exists()


def test_one_process_at_a_time_has_the_bands(tmp_path: Path) -> None:
    first = BandFolder(tmp_path).open("a.png", FACTS, 4)
    assert first is not None
    assert BandFolder(tmp_path).open("a.png", FACTS, 4) is None
    other = BandFolder(tmp_path).open("b.png", FACTS, 4)
    assert other is not None
    first.close(keep=False)
    assert (tmp_path / BANDS).is_dir()  # those of b.png are there
    other.close(keep=False)
    assert not (tmp_path / BANDS).exists()


def test_a_band_that_does_not_fit_on_the_disk_leaves_the_others(tmp_path: Path) -> None:
    path, content = filled(tmp_path)
    store = BandFolder(tmp_path).open("a.png", FACTS, 4)
    assert store is not None
    for _ in range(3):
        store.add(Prediction(np.zeros((3, 4), np.uint8)))  # known: written before

    class Full:
        def __init__(self, file: Any) -> None:
            self._file = file

        def write(self, view: memoryview) -> int:
            written: int = self._file.write(view[:5])  # the disk takes a part of it
            return 0 if self._file.tell() > len(content) + 5 else written

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    store._file, real = Full(store._file), store._file  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space left"):
        store.add(Prediction(np.zeros((3, 4), np.uint8)))
    store._file = real
    store.close(keep=True)
    assert path.read_bytes() == content


def test_a_predictor_continues_too(tmp_path: Path, model: Path) -> None:
    source = write_ppm(tmp_path / "in.ppm", 200, 90)

    def run(out: str) -> list[dict[str, Any]]:
        predictor = Predictor(
            model=str(model),
            root=str(tmp_path),
            out=str(tmp_path / out),
            tile=(32, 64),
            overlap=12,
            threads=1,
            max_pixels=1,
            region=Region(window=Window(0, 190, 5, 90)),
        )
        return list(predictor([str(source)]))

    with ends_after(3), pytest.raises(Killed):
        run("out")
    with counted_tiles() as counts:
        (record,) = run("out")
    with counted_tiles() as alone:
        run("whole")
    assert (record["status"], record["size"]) == ("done", (190, 85))
    assert counts[0] == alone[0] - 2 * 2  # two of three bands, each of two tiles
    assert (tmp_path / "out/in.png").read_bytes() == (tmp_path / "whole/in.png").read_bytes()


def test_an_image_that_begins_while_a_run_ends_lets_go_of_its_bands(
    tmp_path: Path, tiled: Segmenter
) -> None:
    for number in range(5):
        write_ppm(tmp_path / f"in/{number}.ppm", 200, 90)
    ending, stores = threading.Event(), list[BandStore]()
    open_store, shutdown = BandFolder.open, ThreadPoolExecutor.shutdown

    def opening(folder: BandFolder, output: str, *facts: Any) -> BandStore | None:
        if output == "4.png":  # begun ahead of the model, and late
            assert ending.wait(60)
        store = open_store(folder, output, *facts)
        assert store is not None
        stores.append(store)
        return store

    def ends(pool: ThreadPoolExecutor, **options: Any) -> None:
        ending.set()
        shutdown(pool, **options)

    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with (
        mock.patch.object(BandFolder, "open", opening),
        mock.patch.object(ThreadPoolExecutor, "shutdown", ends),
        ends_after(0, full),
        pytest.raises(OSError, match="No space left"),
    ):
        label(tiled, tmp_path / "in", tmp_path / "out")
    assert len(stores) == 5
    assert all(store._file.closed for store in stores)
