"""Pictures and results on object stores: memory:// stands for all that fsspec opens."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcnkit.errors import BadValueError, DataError, MissingExtraError
from fcnkit.runtime import Job, Predictor, Segmenter, find_jobs, predict_camera, predict_files
from fcnkit.runtime.predict import job_stream, store_manifest
from fcnkit.runtime.predict.inputs import Listing
from fcnkit.runtime.predict.job_stream import Listed
from fcnkit.runtime.predict.manifest import Record
from fcnkit.runtime.predict.stores import Store, _stamp_of
from fcnkit.runtime.predict.urls import Url, is_url, path_or_url
from fcnkit.runtime.predict.video_in import camera_of
from tests.cli.shell import called
from tests.refusal import refusal
from tests.runtime.pictures import write_pictures

fsspec = pytest.importorskip("fsspec")

COUNT = 7


@pytest.fixture
def memory() -> Iterator[Any]:
    """The store, empty before and after: it is one for the whole process."""
    store = fsspec.filesystem("memory")

    def clear() -> None:
        for path in store.ls("/", detail=False):
            store.rm(path, recursive=True)

    clear()
    yield store
    clear()


@pytest.fixture
def photos(memory: Any, tmp_path: Path) -> Path:
    """Pictures in a folder, and the same in the store."""
    source = write_pictures(tmp_path / "photos", COUNT)
    (source / "deep").mkdir()
    for number in (1, 4):
        (source / f"{number:05}.png").rename(source / "deep" / f"{number:05}.png")
    memory.put(str(source), "/photos", recursive=True)
    return source


def label(
    segmenter: Segmenter, inputs: list[str | Path], out: str | Path, **options: Any
) -> list[Record]:
    listing = Listing(inputs, out)
    return list(predict_files(segmenter, listing, out, **{"model_sha256": "ab", **options}))


def statuses(records: list[Record]) -> dict[str, str]:
    return {record.output: record.status for record in records}


def lines(memory: Any, out: str = "/labels") -> list[dict[str, Any]]:
    """All lines of the pieces of a manifest, in order."""
    names = sorted(name for name in memory.ls(out, detail=False) if name.endswith(".jsonl"))
    return [json.loads(line) for name in names for line in memory.cat_file(name).splitlines()]


def results(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.png")}


# --- runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["memory://labels", "folder"])
def test_results_are_those_of_files(
    segmenter: Segmenter, photos: Path, memory: Any, tmp_path: Path, to: str
) -> None:
    label(segmenter, [photos], tmp_path / "expected")
    expected = results(tmp_path / "expected")
    out = to if to.startswith("memory") else tmp_path / "out"
    listed = Listed()
    records = label(segmenter, ["memory://photos"], out, listed=listed)
    assert statuses(records) == dict.fromkeys(expected, "done")
    assert listed == Listed(COUNT, complete=True)
    assert {record.input for record in records} == {f"memory://photos/{name}" for name in expected}
    if isinstance(out, Path):
        assert results(out) == expected
        assert not list(out.rglob(".*"))  # nothing temporary is left
    else:
        found = {name: memory.cat_file(f"/labels/{name}") for name in expected}
        assert found == expected
    again = label(segmenter, ["memory://photos"], out)
    assert statuses(again) == dict.fromkeys(expected, "skipped")
    assert [r.pixels for r in sorted(again, key=lambda r: r.output)] == [
        r.pixels for r in sorted(records, key=lambda r: r.output)
    ]


def test_files_into_a_store(segmenter: Segmenter, photos: Path, memory: Any) -> None:
    records = label(segmenter, [photos], "memory://labels")
    assert set(statuses(records).values()) == {"done"}
    assert {record.input for record in records} == {str(path) for path in photos.rglob("*.png")}
    assert set(statuses(label(segmenter, [photos], "memory://labels")).values()) == {"skipped"}
    assert photos.is_dir()  # only copies are removed
    assert len(list(photos.rglob("*.png"))) == COUNT
    assert memory.exists("/labels/deep/00001.png")


def test_what_changed_is_done_again(segmenter: Segmenter, photos: Path, memory: Any) -> None:
    label(segmenter, ["memory://photos"], "memory://labels")
    memory.pipe_file("/photos/00002.png", (photos / "00003.png").read_bytes())
    memory.rm("/labels/00005.png")
    memory.pipe_file("/labels/00006.png", memory.cat_file("/labels/00006.png"))  # another time
    again = statuses(label(segmenter, ["memory://photos"], "memory://labels"))
    assert [name for name, status in sorted(again.items()) if status == "done"] == [
        "00002.png", "00005.png", "00006.png",
    ]  # fmt: skip
    other = label(segmenter, ["memory://photos"], "memory://labels", model_sha256="cd")
    assert set(statuses(other).values()) == {"done"}
    everything = label(segmenter, ["memory://photos"], "memory://labels", resume=False)
    assert set(statuses(everything).values()) == {"done"}


def test_objects_that_cannot_be_read(segmenter: Segmenter, photos: Path, memory: Any) -> None:
    memory.pipe_file("/photos/bad.png", b"no picture")
    listed = photos.parent / "list.txt"
    listed.write_text("memory://photos/none.png\nmemory://photos/bad.png\n")
    out = "memory://labels"
    listing = Listing([f"@{listed}"], out, root="memory://photos")
    records = list(predict_files(segmenter, listing, out, model_sha256="ab"))
    assert listing.on_store
    assert {record.output: record.error for record in records} == {
        "none.png": (
            "memory://photos/none.png: must be an object that can be read, got /photos/none.png; "
            "check the address and your access"
        ),
        "bad.png": (
            "memory://photos/bad.png: must be a picture file, got something else; replace the file"
        ),
    }
    assert {r.input for r in records} == {f"memory://photos/{r.output}" for r in records}


def test_parts(segmenter: Segmenter, photos: Path, memory: Any) -> None:
    del photos
    shares = [
        statuses(label(segmenter, ["memory://photos"], "memory://labels", part=f"{number}/2"))
        for number in (1, 2)
    ]
    assert sum(map(len, shares)) == COUNT
    whole = statuses(label(segmenter, ["memory://photos"], "memory://labels"))
    assert whole == dict.fromkeys(shares[0] | shares[1], "skipped")
    assert len(lines(memory)) == 2 * COUNT  # begun and done


def test_results_that_a_kill_separates_from_their_lines(
    segmenter: Segmenter, photos: Path, memory: Any
) -> None:
    """They are known to be of the same pictures, and made again."""
    label(segmenter, ["memory://photos"], "memory://labels")
    pieces = sorted(name for name in memory.ls("/labels", detail=False) if ".jsonl" in name)
    assert {line["status"] for line in lines(memory)} == {"begun", "done"}
    memory.rm(pieces[-1])
    assert {line["status"] for line in lines(memory)} == {"begun"}
    again = label(segmenter, ["memory://photos"], "memory://labels")
    assert set(statuses(again).values()) == {"done"}
    del photos


def test_pieces_are_written_as_the_run_goes_on(
    segmenter: Segmenter, photos: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    del photos
    monkeypatch.setattr(job_stream, "LOOK_AHEAD", 1)
    monkeypatch.setattr(store_manifest, "_TOGETHER", 2)
    listing = Listing(["memory://photos"], "memory://labels")
    run = predict_files(segmenter, listing, "memory://labels", model_sha256="ab", workers=1)
    for _ in range(4):
        next(run)
    done = [line for line in lines(memory) if line["status"] == "done"]
    assert len(done) == 4
    run.close()
    assert set(statuses(label(segmenter, ["memory://photos"], "memory://labels")).values()) == {
        "done",
        "skipped",
    }


def test_no_result_of_another_picture_is_replaced(
    segmenter: Segmenter, photos: Path, memory: Any
) -> None:
    label(segmenter, ["memory://photos"], "memory://labels")
    before = memory.cat_file("/labels/00000.png")
    memory.pipe_file("/other/00000.png", (photos / "00002.png").read_bytes())
    text = (
        "memory://labels/00000.png: a result replaces only results of the same picture, got one of "
        "memory://photos/00000.png and now memory://other/00000.png; choose another output folder "
        "or remove that result, or pass --root memory://"
    )
    with pytest.raises(DataError) as caught:
        label(segmenter, ["memory://other"], "memory://labels")
    assert str(caught.value).startswith(text.removesuffix(", or pass --root memory://"))
    assert memory.cat_file("/labels/00000.png") == before
    memory.pipe_file("/labels/x.png", b"of somebody")
    memory.pipe_file("/other/x.png", (photos / "00002.png").read_bytes())
    memory.rm("/other/00000.png")
    text = (
        "memory://labels/x.png: a result replaces no file of unknown origin, got a file that no "
        "manifest lists; remove it or choose another folder"
    )
    with refusal(DataError, text):
        label(segmenter, ["memory://other"], "memory://labels")


def test_a_result_that_cannot_be_written_ends_the_run(
    segmenter: Segmenter, photos: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    del photos, memory
    whole = Store.put

    def refused(self: Store, path: Path, name: str) -> None:
        if name.endswith(".png"):
            raise PermissionError(13, "Access denied", f"{self.place}/{name}")
        whole(self, path, name)

    monkeypatch.setattr(Store, "put", refused)
    with pytest.raises(PermissionError, match="Access denied"):
        label(segmenter, ["memory://photos"], "memory://labels")


def test_videos_are_copied_whole(segmenter: Segmenter, memory: Any, tmp_path: Path) -> None:
    pytest.importorskip("av")
    from tests.runtime.clips import labels_in, write_clip

    clip = write_clip(tmp_path / "a.mp4")
    label(segmenter, [clip], tmp_path / "expected")
    memory.put_file(str(clip), "/clips/a.mp4")
    jobs = find_jobs(["memory://clips/a.mp4"], "memory://labels")
    [record] = predict_files(segmenter, jobs, "memory://labels", model_sha256="ab")
    assert (record.status, record.input) == ("done", "memory://clips/a.mp4")
    memory.get_file("/labels/a.mp4", str(tmp_path / "got.mp4"))
    expected, _ = labels_in(tmp_path / "expected" / "a.mp4")
    got, _ = labels_in(tmp_path / "got.mp4")
    assert np.array_equal(expected, got)
    [again] = predict_files(segmenter, jobs, "memory://labels", model_sha256="ab")
    assert again.status == "skipped"


def test_a_list_of_files_with_an_object_in_it(
    segmenter: Segmenter, photos: Path, memory: Any
) -> None:
    del memory
    jobs = [
        Job(photos / "00000.png", Path("00000.png")),
        Job(Url("memory://photos/00002.png"), Path("00002.png")),
    ]
    text = (
        "memory://photos/00002.png: must be a file of this machine, got an object on a store; copy "
        "it here, or put an object first in a list that holds objects"
    )
    with refusal(BadValueError, text):
        list(predict_files(segmenter, jobs, photos.parent / "out", model_sha256="ab"))
    mixed = list(predict_files(segmenter, jobs[::-1], photos.parent / "out", model_sha256="ab"))
    assert {record.status for record in mixed} == {"done"}


# --- what is found -------------------------------------------------------------------------------


def test_folders_on_a_store_are_searched_like_others(memory: Any) -> None:
    for name in (
        "in/b.png", "in/a.JPG", "in/deep/c.webp", "in/notes.txt", "in/README", "in/.hidden.png",
        "in/.git/x.png", "in/set/JPEGImages/d.jpg", "in/set/SegmentationClass/d.png",
        "in/old/manifest.jsonl", "in/old/e.png", "in/out/f.png",
    ):  # fmt: skip
        memory.pipe_file(f"/{name}", b"x")
    data_sets: list[Path | Url] = []
    listing = Listing(["memory://in"], "memory://in/out", on_data_set=data_sets.append)
    assert [job.output.as_posix() for job in listing] == [
        "a.png", "b.png", "deep/c.png", "set/JPEGImages/d.png",
    ]  # fmt: skip
    assert data_sets == [Url("memory://in/set")]
    assert listing.passed_over == {
        ".txt": 1, "no ending": 1, "hidden": 2, "beside JPEGImages": 1, "results of another run": 1,
    }  # fmt: skip
    [job] = find_jobs(["memory://in/deep"], "memory://out", root="memory://in")
    assert (str(job.source), job.output) == ("memory://in/deep/c.webp", Path("deep/c.png"))


def test_inputs_that_do_not_fit(memory: Any, tmp_path: Path) -> None:
    memory.pipe_file("/in/a.png", b"x")
    ending = (
        "; give a file, folder or pattern with .bmp .gif .jfif .jpe .jpeg .jpg .pgm .png .ppm .tif "
        ".tiff .webp files"
    )
    listed = tmp_path / "list.txt"
    listed.write_text("memory://in/a.png\n")
    refused: dict[str, tuple[str, dict[str, Any]]] = {
        f"predict: every INPUT must name a picture, got memory://none{ending}": (
            "memory://none", {},
        ),
        "predict: patterns name files of this machine, got memory://in/*.png; name the folder, or "
        "pass a list": ("memory://in/*.png", {}),
        "predict: a list of objects needs --root, got memory://in/a.png; pass the folder that "
        "holds them all": (f"@{listed}", {}),
        "predict: root must be a folder, got 'memory://none'; give one that holds every picture": (
            "memory://in", {"root": "memory://none"},
        ),
        "predict: every picture must lie below --root memory://in/b, got memory://in/a.png; give a "
        "folder that holds every picture": ("memory://in", {"root": "memory://in/b"}),
    }  # fmt: skip
    memory.pipe_file("/in/b/c.txt", b"x")
    for text, (given, options) in refused.items():
        with refusal(ValueError, text):
            find_jobs([given], tmp_path / "out", **options)
    text = (
        "predict: results must lie apart from a folder of pictures, or they become input, got "
        "memory://in; choose another output folder"
    )
    with refusal(ValueError, text):
        find_jobs(["memory://in"], "memory://in")


def test_addresses() -> None:
    assert is_url("s3://bucket/a.png")
    assert not any(map(is_url, ("a.png", "/s3/a", "rtsp://camera/1", "http://camera/1", "s3:/a")))
    assert str(Url("gs://bucket") / "a" / "b.png") == "gs://bucket/a/b.png"
    assert path_or_url("file:///tmp/a.png") == Path("/tmp/a.png")
    assert camera_of("s3://bucket/a.png") is None
    assert camera_of("file:///a.png") is None
    assert camera_of("rtsp://camera/1") == "rtsp://camera/1"


def test_a_file_address_is_a_path(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    records = label(segmenter, [f"file://{photos}"], f"file://{tmp_path}/out")
    assert {record.status for record in records} == {"done"}
    assert (tmp_path / "out" / "manifest.jsonl").is_file()


# --- stores --------------------------------------------------------------------------------------


def test_times_of_a_listing_and_of_an_object_are_the_same(memory: Any) -> None:
    memory.pipe_file("/in/a.png", b"x")
    store = Store(Url("memory://in"))
    assert store.folder("")[1]["a.png"] == store.stamp("a.png")
    when = datetime(2026, 11, 29, 12, 0, 0, 123456, tzinfo=UTC)
    stamps = {
        _stamp_of({"name": "a", "size": 1, **told}).mtime_ns
        for told in (
            {"LastModified": when},
            {"updated": "2026-11-29T12:00:00.123456Z"},
            {"mtime": when.timestamp()},
        )
    }
    assert stamps == {1795953600123456000}
    one, other = (_stamp_of({"name": "a", "size": 1, "ETag": etag}) for etag in ("x", "y"))
    assert one != other
    text = "a: must have a time or a checksum, got neither; copy the objects to another store"
    with refusal(DataError, text):
        _stamp_of({"name": "a", "size": 1})


def test_a_file_appears_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = tmp_path / "content"
    content.write_bytes(b"new")
    store = Store(tmp_path / "out")
    store.put(content, "deep/a.png")
    assert (tmp_path / "out/deep/a.png").read_bytes() == b"new"

    def torn(source: str, target: str, **_: Any) -> None:
        del source
        Path(target).write_bytes(b"n")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store._fs, "put_file", torn)
    with pytest.raises(OSError, match="No space left"):
        store.put(content, "deep/a.png")
    assert [path.name for path in (tmp_path / "out/deep").iterdir()] == ["a.png"]
    assert (tmp_path / "out/deep/a.png").read_bytes() == b"new"


def test_what_a_library_raises_is_an_oserror(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    del memory
    store = Store(Url("memory://in"))

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the network\nis away")

    monkeypatch.setattr(type(store._fs), "info", broken)
    with pytest.raises(OSError, match="the network is away: 'memory://in/a.png'"):
        store.stamp("a.png")


def test_a_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def needs(*_: Any, **__: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", needs)
    text = (
        "s3://bucket: needs the package for this kind of store, got Install s3fs to access S3; "
        "install it with pip, such as s3fs or gcsfs"
    )
    with refusal(MissingExtraError, text):
        Store(Url("s3://bucket"))
    monkeypatch.setitem(sys.modules, "fsspec", None)
    text = (
        "s3://bucket: needs the package fsspec, got no such package; pip install 'fcnkit[objects]'"
    )
    with refusal(MissingExtraError, text):
        Store(Url("s3://bucket"))


def test_files_need_no_fsspec(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    code = (
        "import sys; sys.modules['fsspec'] = None\n"
        "from fcnkit.runtime import find_jobs\n"
        f"print(len(find_jobs([{str(tmp_path)!r}], {str(tmp_path / 'out')!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


# --- the command line ----------------------------------------------------------------------------


def test_the_commands_take_addresses(photos: Path, memory: Any, model: Path) -> None:
    """In this process, because the store is in its memory."""

    def said(*arguments: object) -> tuple[int, dict[str, Any]]:
        done = called(*arguments, "--json")
        return done.returncode, json.loads(done.stdout)

    memory.pipe_file("/photos/bad.png", b"no picture")
    code, summary = said("predict", model, "memory://photos", "-o", "memory://labels")
    assert (code, summary["done"], summary["failed"], summary["found"]) == (1, COUNT, 1, COUNT + 1)
    assert summary["manifest"] == "memory://labels/manifest.at-*.jsonl"
    memory.rm("/labels/00000.png")
    code, found = said("manifest", "memory://labels", "memory://photos")
    assert (code, found["done"], found["missing"]) == (1, COUNT - 1, ["00000.png"])
    assert found["failed"] == {"must be a picture file": 1}
    assert sorted(found["left"]) == ["memory://photos/00000.png", "memory://photos/bad.png"]
    assert len(found["manifests"]) == 2
    assert found["duplicates"] == []
    code, _ = said("predict", model, "memory://photos", "-o", photos.parent / "out")
    code, found = said("manifest", photos.parent / "out")
    assert (code, found["done"], found["missing"], found["duplicates"]) == (1, COUNT, [], [])


# --- what takes files of this machine ------------------------------------------------------------


def test_others_refuse_addresses(segmenter: Segmenter, model: Path, tmp_path: Path) -> None:
    for options in (
        {"root": "s3://photos", "out": str(tmp_path / "out")},
        {"root": str(tmp_path), "out": "s3://labels"},
    ):
        place = next(one for one in options.values() if one.startswith("s3"))
        text = (
            f"Predictor: takes files of this machine, got {place}; mount the store, or run fcnkit "
            "predict"
        )
        with refusal(BadValueError, text):
            list(Predictor(model=str(model), **options)(["a.png"]))
    text = "Predictor: takes files of this machine, got s3://photos/a.png; mount the store, or run"
    with refusal(BadValueError, f"{text} fcnkit predict"):
        predictor = Predictor(model=str(model), root=str(tmp_path), out=str(tmp_path / "out"))
        list(predictor(["s3://photos/a.png"]))
    text = (
        "predict: the result of a camera lies in a folder of this machine, got s3://labels; name a "
        "folder here, and copy the result"
    )
    with refusal(BadValueError, text):
        predict_camera(segmenter, 0, "s3://labels", model_sha256="ab")
    assert not (tmp_path / "out" / "s3:").exists()


def test_results_of_pictures_on_a_store_are_no_input(
    segmenter: Segmenter, photos: Path, memory: Any, tmp_path: Path
) -> None:
    del memory
    label(segmenter, ["memory://photos"], photos / "labels")
    found = find_jobs([photos], tmp_path / "out")
    assert len(found) == COUNT
    # And what they were made from is known to a run on files.
    with pytest.raises(DataError, match="got one of memory://photos/00000.png and now"):
        label(segmenter, [photos / "00000.png"], photos / "labels")
