"""Runs over many pictures: names, formats, broken files, the manifest, what a stop leaves."""

from __future__ import annotations

import glob
import json
import os
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fcnkit.errors import DataError
from fcnkit.runtime import Segmenter, load
from fcnkit.runtime.predict.folder import MANIFEST, Format, Job, find_jobs, predict_files
from fcnkit.runtime.predict.inputs import search
from fcnkit.runtime.predict.manifest import Stamp
from fcnkit.runtime.predict.pictures import read_picture
from fcnkit.runtime.predict.tree import Tree
from tests.refusal import refusal
from tests.runtime.models import CLASSES, PALETTE, make_spec, write_model


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Segmenter]:
    path = write_model(tmp_path_factory.mktemp("models") / "m.onnx", make_spec("logits"))
    with load(path) as opened:
        yield opened


def picture(height: int = 40, width: int = 50, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(path: Path, image_hwc: NDArray[np.uint8] | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture() if image_hwc is None else image_hwc).save(path, **options)
    return path


def run(segmenter: Segmenter, inputs: list[str | Path], out: Path, **options: Any) -> list[Any]:
    jobs = find_jobs(inputs, out)
    return list(predict_files(segmenter, jobs, out, model_sha256="ab", **options))


def manifest(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / MANIFEST).read_text().splitlines()]


def counted(path: Path) -> dict[str, int]:
    """Pixels by class name of a label image; 255 is void."""
    names = {**dict(enumerate(CLASSES)), 255: "void"}
    labels, counts = np.unique(np.asarray(Image.open(path)), return_counts=True)
    return {names[int(label)]: int(n) for label, n in zip(labels, counts, strict=True)}


def files(folder: Path) -> list[str]:
    """Every file and empty folder, so that nothing temporary goes unseen."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() or not any(path.iterdir())
    )


# --- find_jobs -----------------------------------------------------------------------------------


def names(jobs: list[Job]) -> list[tuple[str, str]]:
    return [(job.source.name, job.output.as_posix()) for job in jobs]


def test_outputs_mirror_each_given_folder(tmp_path: Path) -> None:
    for name in ("in/b.jpg", "in/a.PNG", "in/deep/er/c.jpeg", "in/notes.txt", "other/d.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    given = [tmp_path / "in", tmp_path / "other" / "d.webp"]
    assert names(find_jobs(given, tmp_path / "out")) == [
        ("a.PNG", "a.png"),
        ("b.jpg", "b.png"),
        ("c.jpeg", "deep/er/c.png"),
        ("d.webp", "d.png"),
    ]
    jobs = find_jobs([tmp_path / "in" / "*" / "er" / "*.jpeg"], tmp_path / "out")
    assert names(jobs) == [("c.jpeg", "deep/er/c.png")]
    jobs = find_jobs([f"{tmp_path}/in/**/*.jp*g"], tmp_path / "out")
    assert names(jobs) == [("b.jpg", "b.png"), ("c.jpeg", "deep/er/c.png")]


def test_relative_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x.jpg", "sub/y.jpg"):
        save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert names(find_jobs(["*.jpg"], "out")) == [("x.jpg", "x.png")]
    assert names(find_jobs(["./sub/*"], "out")) == [("y.jpg", "y.png")]
    assert names(find_jobs(["."], "out")) == [("x.jpg", "x.png"), ("y.jpg", "sub/y.png")]


def test_a_name_with_dots_and_a_file_named_like_a_pattern(tmp_path: Path) -> None:
    odd = [save(tmp_path / "2024.05.01 [1].jpg"), save(tmp_path / "ä b.c.png")]
    expected = [(odd[0].name, "2024.05.01 [1].png"), (odd[1].name, "ä b.c.png")]
    assert names(find_jobs(odd, tmp_path / "out")) == expected


def test_results_below_the_input_folder_are_not_input(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg")
    save(tmp_path / "labels" / "a.png")
    assert names(find_jobs([tmp_path], tmp_path / "labels")) == [("a.jpg", "a.png")]


def test_a_picture_named_twice_is_one_job(tmp_path: Path) -> None:
    path = save(tmp_path / "in" / "a.jpg")
    jobs = find_jobs([path.parent, path, path.parent], tmp_path / "out")
    assert names(jobs) == [("a.jpg", "a.png")]


def test_names_that_collide_are_refused(tmp_path: Path) -> None:
    one, two = save(tmp_path / "a.jpg"), save(tmp_path / "a.png")
    text = (
        "predict: every picture needs its own output name, "
        f"got {one} and {two} for a.png; rename one, or label them into different folders"
    )
    with refusal(ValueError, text):
        find_jobs([tmp_path], tmp_path / "out")
    one, two = save(tmp_path / "x" / "b.jpg"), save(tmp_path / "y" / "b.jpg")
    text = (
        "predict: every picture needs its own output name, "
        f"got {one} and {two} for b.png; pass --root {tmp_path}"
    )
    with refusal(ValueError, text):
        find_jobs([one, two], tmp_path / "out")
    jobs = find_jobs([one, two], tmp_path / "out", root=tmp_path)  # what the error says works
    assert names(jobs) == [("b.jpg", "x/b.png"), ("b.jpg", "y/b.png")]


def test_a_result_must_not_replace_a_picture(tmp_path: Path) -> None:
    path = save(tmp_path / "in" / "a.png")
    text = f"predict: a result must not replace a picture, got {path}; choose another output folder"
    with refusal(ValueError, text):
        find_jobs([path], tmp_path / "in")


def test_results_must_not_become_input(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg")
    rule = "results must lie apart from a folder of pictures, or they become input"
    with refusal(ValueError, f"predict: {rule}, got {tmp_path}; choose another output folder"):
        find_jobs([tmp_path], tmp_path)
    assert names(find_jobs([tmp_path], tmp_path, suffix=".npy")) == [("a.jpg", "a.npy")]


def test_a_folder_hides_nothing(tmp_path: Path, segmenter: Segmenter) -> None:
    """Links to folders are entered, and what cannot be read fails by name."""
    save(tmp_path / "elsewhere" / "b.png")
    source = tmp_path / "in"
    save(source / "a.png")
    (source / "linked").symlink_to(tmp_path / "elsewhere")
    (source / "round").symlink_to(source)
    (source / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    os.mkfifo(source / "pipe.png")
    (source / "folder.png").mkdir()
    records = run(segmenter, [source], tmp_path / "out")
    assert {record.output: record.status for record in records} == {
        "a.png": "done",
        "gone.png": "failed",
        "linked/b.png": "done",
        "pipe.png": "failed",
    }


def test_patterns_enter_a_circle_of_links_once(tmp_path: Path) -> None:
    """Two circles in one folder have 2^40 paths before the system refuses to follow."""
    source, out = tmp_path / "in", tmp_path / "out"
    for name in ("a.png", "deep/b.png", "deep/er/c.png", "deep/.hidden/d.png"):
        save(source / name)
    for name in ("round", "deep/up", "deep/er/top"):
        (source / name).symlink_to(source)
    (source / "deep" / "beside").symlink_to(source / "deep" / "er")
    everything = [("a.png", "a.png"), ("b.png", "deep/b.png"), ("c.png", "deep/beside/c.png")]
    for pattern in ("**/*.png", "**/**/*.png", "**", "**/*"):
        assert names(find_jobs([source / pattern], out)) == everything
    assert names(find_jobs([source], out)) == everything
    deep = names(find_jobs([f"{source}/**/er/**/*.png"], out))
    assert ("c.png", "deep/er/c.png") in deep
    assert names(find_jobs([f"{source}/deep/**/*.png"], out))[0] == ("b.png", "b.png")
    assert names(find_jobs([f"{source}/**/.hidden/*.png"], out)) == [
        ("d.png", "deep/.hidden/d.png")
    ]


@given(st.data())
def test_patterns_find_what_glob_finds(data: st.DataObject) -> None:
    """Without links, and with names that look like patterns."""
    parts = st.sampled_from(["a", "b", "[a]", ".c"])
    files = st.lists(st.lists(parts, min_size=1, max_size=3), min_size=1, max_size=6)
    steps = st.sampled_from(["**", "*", "a", "[[]a]", "?", ".c"])
    pattern = "/".join([*data.draw(st.lists(steps, max_size=3)), "**", "*.png"])
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for folders in data.draw(files):
            path = root.joinpath(*folders, "x.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        tree = Tree(root, root / "out", Counter())
        found = [folder / x for folder, names in tree.matches(f"{root}/{pattern}") for x in names]
        hits = glob.glob(f"{root}/{pattern}", recursive=True)  # noqa: PTH207 - the reference
        assert sorted(found) == sorted(set(map(Path, hits)))


def data_set(root: Path) -> Path:
    for name in ("JPEGImages/a.jpg", "SegmentationClass/a.png", "SegmentationObject/a.png"):
        save(root / name)
    (root / "labelmap.txt").touch()
    return root


def test_of_a_data_set_only_the_images_are_taken(tmp_path: Path) -> None:
    source, out = data_set(tmp_path / "in" / "set"), tmp_path / "out"
    image = ("a.jpg", "JPEGImages/a.png")
    for place in (source, source / ".", f"{source}/**/*.*g", f"{source}/**"):
        found = search([place], out)
        assert names(found.jobs) == [image]
        assert found.data_sets == [source]
        assert found.passed_over == {"beside JPEGImages": 3}
    found = search([source.parent], out)  # a folder of data sets
    assert names(found.jobs) == [("a.jpg", "set/JPEGImages/a.png")]
    assert found.data_sets == [source]
    # Masks that are given as such are taken. A folder with only one of the names is no data set.
    for place in (source / "SegmentationClass", f"{source}/SegmentationClass/*.png"):
        found = search([place], out)
        assert names(found.jobs) == [("a.png", "a.png")]
        assert found.data_sets == []
    (source / "JPEGImages").rename(source / "images")
    found = search([source], out)
    assert (len(found.jobs), found.data_sets) == (3, [])


def test_a_folder_that_cannot_be_listed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "in" / "a.png")
    hidden = tmp_path / "in" / "hidden"
    save(hidden / "b.png")
    whole = os.scandir

    def scandir(path: Any) -> Any:
        if str(path) == str(hidden):  # root may list it all the same
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="hidden"):
        find_jobs([tmp_path / "in"], tmp_path / "out")


def test_lists_of_other_programs(tmp_path: Path) -> None:
    paths = [save(tmp_path / "in" / name) for name in ("a.png", "deep/b.png")]
    listed = tmp_path / "list.txt"
    listed.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(map(str, paths)).encode())
    jobs = find_jobs([f"@{listed}"], tmp_path / "out")
    assert names(jobs) == [("a.png", "a.png"), ("b.png", "deep/b.png")]
    listed.write_bytes(os.fsencode(tmp_path) + b"/caf\xe9.png")
    assert os.fsencode(find_jobs([f"@{listed}"], tmp_path / "out")[0].source)[-8:] == b"caf\xe9.png"
    for line in (".", "a\0b"):
        listed.write_text(f"{paths[0]}\n{line}\n")
        rule = "predict: a list names one file per line"
        with refusal(ValueError, f"{rule}, got {line!r}; take the line out"):
            find_jobs([f"@{listed}"], tmp_path / "out")


def test_inputs_that_name_no_picture(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg")
    (tmp_path / "empty").mkdir()
    for name in ("none.jpg", "empty", "*.webp"):
        text = (
            f"predict: every INPUT must name a picture, got {tmp_path / name}; give a file, "
            "folder or pattern with .bmp .gif .jfif .jpe .jpeg .jpg .pgm .png .ppm .tif .tiff "
            ".webp files"
        )
        with refusal(ValueError, text):
            find_jobs([tmp_path / "a.jpg", tmp_path / name], tmp_path / "out")


# --- predict_files -------------------------------------------------------------------------------


def test_labels_are_palette_pngs_of_the_pictures_size(tmp_path: Path, segmenter: Segmenter) -> None:
    images = {f"{i}.png": picture(20 + i, 60 - i, seed=i) for i in range(12)}
    for name, image in images.items():
        save(tmp_path / "in" / "sub" / name, image)
    out = tmp_path / "out"
    records = run(segmenter, [tmp_path / "in"], out)
    assert [record.status for record in records] == ["done"] * 12
    assert files(out) == sorted([MANIFEST, *(f"sub/{name}" for name in images)])
    for name, image in images.items():
        with Image.open(out / "sub" / name) as written:
            assert written.mode == "P"
            assert written.size == (image.shape[1], image.shape[0])
            palette = np.array(written.getpalette()).reshape(-1, 3)
            assert np.array_equal(np.array(written), segmenter(image))
        assert len(palette) == 256
        assert palette[: len(CLASSES)].tolist() == [list(color) for color in PALETTE]
        assert palette[255].tolist() == [224, 224, 192]


def test_color_and_overlay(tmp_path: Path, segmenter: Segmenter) -> None:
    image = picture(33, 47)
    save(tmp_path / "a.png", image)
    wanted = np.array(PALETTE, np.uint8)[segmenter(image)]
    formats: tuple[Format, ...] = ("color", "overlay")
    for format in formats:
        run(segmenter, [tmp_path / "a.png"], tmp_path / format, format=format)
    with Image.open(tmp_path / "color" / "a.png") as written:
        assert written.mode == "RGB"
        assert np.array_equal(np.array(written), wanted)
    with Image.open(tmp_path / "overlay" / "a.png") as written:
        assert written.mode == "RGB"
        blend = (image.astype(np.float64) + wanted) / 2
        assert np.abs(np.array(written)[:33, :47] - blend).max() <= 1
        assert written.height > 33  # the legend


def test_the_manifest_has_a_line_per_input(tmp_path: Path, segmenter: Segmenter) -> None:
    good = save(tmp_path / "in" / "a.png", picture(21, 34))
    bad = tmp_path / "in" / "b.jpg"
    bad.write_text("no picture")
    out, start = tmp_path / "out", time.time_ns()
    run(segmenter, [tmp_path / "in"], out)
    first, second = sorted(manifest(out), key=lambda line: line["input"])
    assert first.pop("milliseconds") > 0
    options = {
        "format": "labels",
        "cover": "auto",
        "tile": None,
        "overlap": 64,
        "backend": "onnxruntime",
        "compute": "fp32",
        "tta": None,
        "classes": None,
        "labels": None,
        "void_below": None,
        "confidence": False,
        "overlay": None,
        "window": None,
        "nodata": None,
        "mask": None,
    }
    for line, path in ((first, good), (second, bad)):
        found = path.stat()
        stamp = {"bytes": found.st_size, "mtime_ns": found.st_mtime_ns}
        assert line.pop("input_stamp") == stamp
        assert line.pop("input_path") == str(path)
        assert line.pop("input_sha256") is None
        assert line.pop("options") == options
        assert line.pop("model_sha256") == "ab"
        assert start <= line.pop("time_ns") <= time.time_ns()
    assert first == {
        "input": str(good),
        "status": "done",
        "output": "a.png",
        "output_stamp": asdict(Stamp.of(out / "a.png")),
        "size": [21, 34],
        "error": None,
        "pixels": counted(out / "a.png"),
        "confidence": None,
        "mask_stamp": None,
    }
    assert second == {
        "input": str(bad),
        "status": "failed",
        "output": "b.png",
        "output_stamp": None,
        "size": None,
        "milliseconds": None,
        "error": f"{bad}: must be a picture file, got something else; replace the file",
        "pixels": None,
        "confidence": None,
        "mask_stamp": None,
    }
    run(segmenter, [good], out, resume=False)
    assert len(manifest(out)) == 3  # later runs add to it


def broken(folder: Path) -> dict[str, str]:
    """Broken pictures by file name, with what is said about each."""
    folder.mkdir(parents=True)
    whole = save(folder / "whole.jpg", picture(80, 80)).read_bytes()
    (folder / "whole.jpg").unlink()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("hello")
    (folder / "folder.tif").mkdir()
    (folder / "folder.tif" / "inner.jpg").write_bytes(whole[:20])
    deep = np.zeros((50, 50), np.float32)
    Image.fromarray(deep).save(folder / "deep.tif")
    save(folder / "big.png", picture(101, 100))
    png = bytearray(save(folder / "data.png", picture(60, 60)).read_bytes())
    start = png.index(b"IDAT") + 4
    png[start : start + 40] = bytes(40)
    png[:] = _with_checksum(png)
    (folder / "data.png").write_bytes(png)
    return {
        "big.png": (
            "a picture has at most 10000 pixels, got 101x100; scale it down or raise max_pixels"
        ),
        "cut.jpg": "must be a whole picture file, got image file is truncated",
        "data.png": "must be a whole picture file, got ",
        "deep.tif": "a picture has unsigned samples of at most 16 bits, "
        "got a TIFF of 1 gray sample of 32 float bits; "
        "convert it: only you know which values are black and white",
        "empty.png": "must be a picture file, got an empty file; ",
        "folder.tif/inner.jpg": "must be a picture file, "
        "got a JPEG file that is damaged or of a rare kind; replace or convert the file",
        "text.png": "must be a picture file, got something else; ",
    }


def _with_checksum(png: bytearray) -> bytes:
    """Make the first IDAT chunk's CRC right again, so that only its content is wrong."""
    at = png.index(b"IDAT")
    length = int.from_bytes(png[at - 4 : at])
    body = bytes(png[at : at + 4 + length])
    end = at + 4 + length
    return bytes(png[:end]) + zlib.crc32(body).to_bytes(4) + bytes(png[end + 4 :])


def test_broken_pictures_are_reported_and_skipped(tmp_path: Path, segmenter: Segmenter) -> None:
    said = broken(tmp_path / "in" / "broken")
    for i in range(9):
        save(tmp_path / "in" / f"good{i}.png", picture(40 + i, 50))
    out = tmp_path / "out"
    records = run(segmenter, [tmp_path / "in"], out, max_pixels=10_000)
    failed = {record.input: record.error for record in records if record.status == "failed"}
    assert len(records) == 9 + len(said)
    assert set(failed) == {str(tmp_path / "in" / "broken" / name) for name in said}
    for name, text in said.items():
        path = str(tmp_path / "in" / "broken" / name)
        assert failed[path].startswith(f"{path}: {text}")
        assert "\n" not in failed[path]
    assert files(out) == [*(f"good{i}.png" for i in range(9)), MANIFEST]
    assert [line["input"] for line in manifest(out)] == [record.input for record in records]


def test_a_picture_that_the_model_cannot_cover_fails_alone(tmp_path: Path) -> None:
    spec = make_spec("labels", high=(1, 64, 64))
    for name, size in (("a", (64, 64)), ("b", (65, 64)), ("c", (10, 10))):
        save(tmp_path / "in" / f"{name}.png", picture(*size))
    with load(write_model(tmp_path / "m.onnx", spec)) as small:
        records = run(small, [tmp_path / "in"], tmp_path / "out")
    by_name = {record.output: record for record in records}
    assert {name: record.status for name, record in by_name.items()} == {
        "a.png": "done",
        "b.png": "failed",
        "c.png": "done",
    }
    assert by_name["b.png"].size == (65, 64)
    refusal = by_name["b.png"].error
    assert refusal.startswith("Segmenter: one pass of this model covers at most 1x64x64")


def test_fail_fast_stops(tmp_path: Path, segmenter: Segmenter) -> None:
    for i in range(20):
        save(tmp_path / "in" / f"{i:02}.png")
    (tmp_path / "in" / "03.png").write_text("broken")
    out = tmp_path / "out"
    records = run(segmenter, [tmp_path / "in"], out, fail_fast=True)
    assert sorted(record.status for record in records) == ["done"] * 3 + ["failed"]
    assert files(out) == ["00.png", "01.png", "02.png", MANIFEST]
    assert len(manifest(out)) == 4


def test_fail_fast_stops_at_what_breaks_late(tmp_path: Path) -> None:
    """A picture of which the first rows can be read: it fails while the model is at it."""
    source = tmp_path / "in"
    for i in range(30):
        save(source / f"{i:02}.ppm", picture(40, 32))
    cut = (source / "00.ppm").read_bytes()[:-600]
    (source / "00.ppm").write_bytes(cut)
    path = write_model(tmp_path / "m.onnx", make_spec("logits"))
    with load(path, tile=(32, 32), overlap=0, threads=1) as tiled:
        records = run(tiled, [source], tmp_path / "out", fail_fast=True, max_pixels=1)
    assert "failed" in {record.status for record in records}
    assert len(records) < 20


def test_broken_pictures_do_not_pile_up(tmp_path: Path, segmenter: Segmenter) -> None:
    """Without a good one among them there is no batch at whose end they could be handed out."""
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield tmp_path / "none.png"

    results = segmenter.map(endless())
    for _ in range(50):
        error = next(results).error
        assert isinstance(error, DataError)
        assert error.__traceback__ is None  # its frames would hold pictures
        assert error.__cause__ is None
    results.close()
    assert taken < 50 + 30


def test_a_full_disk_under_a_large_picture_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fcnkit.runtime.predict.png_out import PngFile

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for i in range(5):
        save(tmp_path / "in" / f"{i}.png", picture(100, 40))
    path = write_model(tmp_path / "m.onnx", make_spec("logits"))
    monkeypatch.setattr(PngFile, "add", full)
    with load(path, tile=(32, 32), overlap=0, threads=1) as tiled:
        text = r"\[Errno 28\] No space left on device: '\d\.png'"
        with pytest.raises(OSError, match=text):
            run(tiled, [tmp_path / "in"], tmp_path / "out", max_pixels=1)
    # Bands that were labeled are kept for the next run.
    left = [name for name in files(tmp_path / "out") if not name.startswith(".fcnkit-bands/")]
    assert left == [MANIFEST]


def test_no_link_leads_out(tmp_path: Path, segmenter: Segmenter) -> None:
    save(tmp_path / "in" / "deep" / "a.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "deep").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="A link leads out of the output folder"):
        run(segmenter, [tmp_path / "in"], tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_consumer_that_stops_leaves_whole_files_and_a_true_manifest(
    tmp_path: Path, segmenter: Segmenter
) -> None:
    for i in range(20):
        save(tmp_path / "in" / f"{i:02}.png")
    out = tmp_path / "out"
    jobs = find_jobs([tmp_path / "in"], out)
    records = predict_files(segmenter, jobs, out, model_sha256="ab")
    next(records)
    records.close()
    lines = manifest(out)
    assert 1 <= len(lines) < 20
    assert sorted([*(line["output"] for line in lines), MANIFEST]) == files(out)
    for line in lines:
        with Image.open(out / line["output"]) as written:
            written.load()


def test_an_output_that_cannot_be_written_ends_the_run(
    tmp_path: Path, segmenter: Segmenter
) -> None:
    for i in range(3):
        save(tmp_path / "in" / f"{i}" / "a.png")
    out = tmp_path / "out"
    out.mkdir()
    (out / "1").touch()  # a file where a folder must be
    with pytest.raises(OSError, match=f"{os.sep}1'"):
        run(segmenter, [tmp_path / "in"], out)
    assert manifest(out)[0]["output"] == "0/a.png"
    assert "1/a.png" not in {line["output"] for line in manifest(out)}


def test_wrong_options_are_refused_when_called(tmp_path: Path, segmenter: Segmenter) -> None:
    text = (
        "predict: format must be one of labels, color, overlay, npy, confidence, tif, got gif; "
        "leave it out for labels"
    )
    with refusal(ValueError, text):
        predict_files(segmenter, [], tmp_path, model_sha256="", format="gif")  # type: ignore[arg-type]
    with refusal(ValueError, "predict: max_pixels must be at least 1, got 0; raise it"):
        predict_files(segmenter, [], tmp_path, model_sha256="", max_pixels=0)
    with refusal(ValueError, "predict: workers must be at most 256, got 40000; lower it"):
        predict_files(segmenter, [], tmp_path, model_sha256="", workers=40000)


# --- read_picture --------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_what_a_viewer_shows(tmp_path: Path, orientation: int) -> None:
    stored = picture(20, 30)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", stored, exif=exif)
    turned = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }
    assert np.array_equal(read_picture(path), turned[orientation])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tif"
    source = Image.fromarray(picture(9, 7)).convert("RGB").convert(mode if mode != "LA" else "L")
    source = source.convert(mode)
    source.save(path)
    image = read_picture(path)
    assert (image.shape, image.dtype) == ((9, 7, 3), np.uint8)
    assert np.array_equal(image, np.array(source.convert("RGB")))  # the pixels are all opaque
    assert image.flags.c_contiguous
    assert image.flags.writeable


def test_max_pixels_is_checked_before_decoding(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", picture(10, 10))
    assert read_picture(path, max_pixels=100).shape == (10, 10, 3)
    path.write_bytes(path.read_bytes()[:60])  # the size is still there, the pixels are not
    text = f"{path}: a picture has at most 99 pixels, got 10x10; scale it down or raise max_pixels"
    with refusal(DataError, text):
        read_picture(path, max_pixels=99)


def test_a_missing_picture(tmp_path: Path) -> None:
    path = tmp_path / "none.jpg"
    text = f"{path}: must be a picture file, got no file; check the path"
    with refusal(DataError, text):
        read_picture(path)


def test_inputs_are_a_list(tmp_path: Path) -> None:
    with refusal(TypeError, "find_jobs: inputs must be a list of paths, got str; put it in a list"):
        find_jobs(str(tmp_path), tmp_path / "out")

    def rows() -> Iterator[Any]:
        yield np.zeros(3)
        pytest.fail("read on, and an array may have 2^32 rows")

    text = "find_jobs: every input must be a str or a Path, got ndarray; pass str(path)"
    with refusal(TypeError, text):
        find_jobs(rows(), tmp_path / "out")  # type: ignore[arg-type]
    with refusal(
        ValueError, "find_jobs: suffix must be a dot and letters, got 'png'; leave it out for .png"
    ):
        find_jobs([tmp_path], tmp_path / "out", suffix="png")
