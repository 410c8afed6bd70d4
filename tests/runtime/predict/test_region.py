"""Parts of images: a window, nodata and masks, read whole and row by row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fcnkit.errors import BadTypeError, BadValueError
from fcnkit.runtime import Segmenter, load, predict_files
from fcnkit.runtime.backends.base import CheckedBackend
from fcnkit.runtime.pixels.tile_plan import plan_tiles
from fcnkit.runtime.predict.folder import SUFFIX_OF, Format, find_jobs
from fcnkit.runtime.predict.levels import Levels
from fcnkit.runtime.predict.manifest import Record
from fcnkit.runtime.predict.pictures import read_levels
from fcnkit.runtime.predict.region import Region
from fcnkit.runtime.predict.rows import open_rows, read_all
from fcnkit.runtime.predict.void_pixels import has_void_tile, runs_of
from fcnkit.runtime.predict.window import Window
from tests.geotiff import write_geotiff
from tests.refusal import refusal
from tests.runtime.models import make_spec, write_model
from tests.runtime.pictures import noise, read

WAYS = pytest.mark.parametrize("limit", [1, 10**6], ids=["streamed", "whole"])


@pytest.fixture(scope="module")
def tiled(model: Path) -> Iterator[Segmenter]:
    with load(model, tile=(32, 64), overlap=12, threads=1) as segmenter:
        yield segmenter


def label(segmenter: Segmenter, source: Path, out: Path, **options: Any) -> Record:
    jobs = find_jobs([source], out, suffix=SUFFIX_OF[options.get("format", "labels")])
    (record,) = predict_files(segmenter, jobs, out, **{"model_sha256": "ab", **options})
    return record


@contextmanager
def counted_tiles() -> Iterator[list[int]]:
    """Count the tiles that the model runs."""
    counts, run = [0], CheckedBackend.stream

    def counting(backend: CheckedBackend, batches: Any) -> Any:
        def watched() -> Iterator[Any]:
            for batch in batches:
                counts[0] += len(batch)
                yield batch

        return run(backend, watched())

    with mock.patch.object(CheckedBackend, "stream", counting):
        yield counts


@settings(max_examples=30)
@given(data=st.data())
def test_a_window_is_an_image_that_was_cut(
    tmp_path_factory: pytest.TempPathFactory, tiled: Segmenter, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("window")
    height, width = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 150))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom = data.draw(st.integers(top + 1, height))
    window = Window(top, bottom, left, data.draw(st.integers(left + 1, width)))
    image = noise(height, width)
    source = folder / f"a.{data.draw(st.sampled_from(['ppm', 'png', 'tif']))}"
    Image.fromarray(image).save(source)
    limit = data.draw(st.sampled_from([1, height * width - 1, 10**6]))
    format: Format = data.draw(st.sampled_from(["labels", "npy"]))
    region = Region(window=window)
    record = label(
        tiled, source, folder / "out", max_pixels=limit or 1, region=region, format=format
    )
    assert (record.error, record.size) == (None, window.size)
    expected = tiled(np.ascontiguousarray(window.cut(image)))
    assert np.array_equal(read(folder / "out" / record.output), expected)
    assert record.options.window == str(window)


@pytest.mark.parametrize("name", ["a.ppm", "a.pgm", "a.png", "a.jpg", "a.tif", "tiled.tif"])
def test_rows_of_a_window(tmp_path: Path, name: str) -> None:
    image = Image.fromarray(noise(300, 200))
    source = tmp_path / name
    if name == "tiled.tif":
        write_geotiff(source, noise(300, 200))
    else:
        image.convert("L" if name == "a.pgm" else "RGB").save(source)
    window = Window(190, 291, 33, 160)
    rows = open_rows(source, region=Region(window=window))
    assert ((rows.height, rows.width), rows.whole) == (window.size, (300, 200))
    assert np.array_equal(read_all(rows), window.cut(read_all(open_rows(source))))


def test_only_the_rows_of_a_window_are_read(tmp_path: Path) -> None:
    """The file ends behind the window, and what comes before it is never decoded."""
    source = tmp_path / "a.ppm"
    Image.fromarray(noise(300, 200)).save(source)
    source.write_bytes(source.read_bytes()[: -600 * 100])
    rows = open_rows(source, region=Region(window=Window(100, 200, 0, 200)))
    with mock.patch.object(Levels, "scale", side_effect=AssertionError):
        assert np.array_equal(read_all(rows), noise(300, 200)[100:200])
    assert rows._file.tell() == len(source.read_bytes())  # type: ignore[attr-defined]


def test_a_small_window_of_a_large_image_needs_no_tiles(tmp_path: Path, model: Path) -> None:
    Image.fromarray(noise(300, 200)).save(tmp_path / "a.png")
    window = Window(100, 170, 20, 110)
    with load(model, threads=1) as segmenter:
        region = Region(window=window)
        record = label(
            segmenter, tmp_path / "a.png", tmp_path / "o", max_pixels=7000, region=region
        )
        assert (record.error, record.size) == (None, (70, 90))
        expected = segmenter(np.ascontiguousarray(window.cut(noise(300, 200))))
        assert np.array_equal(read(tmp_path / "o" / "a.png"), expected)
        record = label(
            segmenter, tmp_path / "a.png", tmp_path / "p", max_pixels=6000, region=region
        )
    assert record.error == (
        f"{tmp_path}/a.png: a picture has at most 6000 pixels, got 70x90; "
        "scale it down or raise max_pixels"
    )


@WAYS
def test_a_window_outside_of_the_image_is_refused(
    tmp_path: Path, tiled: Segmenter, limit: int
) -> None:
    Image.fromarray(noise(30, 20)).save(tmp_path / "a.png")
    region = Region(window=Window(0, 31, 0, 20))
    record = label(tiled, tmp_path / "a.png", tmp_path / "out", max_pixels=limit, region=region)
    assert (record.status, record.error) == (
        "failed",
        f"{tmp_path}/a.png: an image must hold the window 0:31,0:20, got 30x20 pixels; "
        "choose a window inside of 0:30,0:20",
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("1:2", "--window must be y0:y1,x0:x1, got '1:2'"),
        ("1:2,3:-4", "--window must be y0:y1,x0:x1, got '1:2,3:-4'"),
        (
            "2:2,0:9",
            "--window must be y0:y1,x0:x1 with 0 <= y0 < y1 <= 16777216, likewise x, got 2:2,0:9",
        ),
        (
            "0:16777217,0:9",
            "--window must be y0:y1,x0:x1 with 0 <= y0 < y1 <= 16777216, likewise x, "
            "got 0:16777217,0:9",
        ),
    ],
)
def test_a_malformed_window_is_refused(text: str, error: str) -> None:
    remedy = "write 0:1000,500:2000 for rows 0 to 999 and columns 500 to 1999"
    with refusal(BadValueError, f"predict: {error}; {remedy}"):
        Window.parse(text)


def test_malformed_regions_are_refused() -> None:
    remedy = "pass the value that files store"
    with refusal(BadValueError, f"Region: nodata must be 0..65535 or auto, got 65536; {remedy}"):
        Region(nodata=65536)
    with refusal(BadTypeError, f"Region: nodata must be 0..65535 or auto, got 1.5; {remedy}"):
        Region(nodata=1.5)  # type: ignore[arg-type]
    with refusal(BadValueError, f"--nodata: must be 0..65535 or auto, got '-9999'; {remedy}"):
        Region.parse(window=None, nodata="-9999", mask=None)
    with refusal(BadTypeError, "Region: mask must be a Path, got str; pass Path('masks')"):
        Region(mask="m")  # type: ignore[arg-type]
    text = "Region: window must be a Window, got str; pass Window.parse('0:1000,500:2000')"
    with refusal(BadTypeError, text):
        Region(window="0:1,0:1")  # type: ignore[arg-type]


def with_holes(image: NDArray[Any], value: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """An image with the value in a rectangle of many tiles and in some pixels, and where."""
    void_hw = np.zeros(image.shape[:2], np.bool_)
    void_hw[40:220, :150] = True
    void_hw[::37, ::11] = True
    image = image.copy()
    image[void_hw] = value
    image[5, 5:9] = value  # and where one sample differs
    image[5, 5:9, -1] += 1
    return image, void_hw


@WAYS
@pytest.mark.parametrize("given", ["value", "tag"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_nodata_becomes_void(
    tmp_path: Path, tiled: Segmenter, dtype: type, given: str, limit: int
) -> None:
    image, void_hw = with_holes(
        noise(300, 200).astype(dtype) * (257 if dtype is np.uint16 else 1), 9
    )
    tag = {"nodata": 9} if given == "tag" else {}
    source = write_geotiff(tmp_path / "a.tif", image, **tag)
    options: dict[str, Any] = {"max_pixels": limit, "batch": 1}
    region = Region(nodata="auto" if tag else 9)
    with counted_tiles() as counts:
        record = label(tiled, source, tmp_path / "out", region=region, **options)
    expected = tiled(read_levels(source).image_hwc)
    expected[void_hw] = 255
    assert (record.status, record.error) == ("done", None)
    assert np.array_equal(read(tmp_path / "out" / "a.png"), expected)
    assert record.pixels is not None
    assert record.pixels["void"] == void_hw.sum()
    plan = tiled.plan(300, 200)
    empty = sum(void_hw[y : y + 32, x : x + 64].all() for y, x in plan)
    assert empty > 3
    assert counts[0] == len(plan) - empty


@WAYS
@pytest.mark.parametrize("format", ["labels", "color", "overlay", "npy", "confidence", "tif"])
def test_an_image_without_a_pixel_to_label(
    tmp_path: Path, tiled: Segmenter, format: Format, limit: int
) -> None:
    source = tmp_path / "a.ppm"
    Image.fromarray(np.zeros((150, 130, 3), np.uint8)).save(source)
    options: dict[str, Any] = {"format": format, "max_pixels": limit, "region": Region(nodata=0)}
    with counted_tiles() as counts:
        record = label(tiled, source, tmp_path / "out", **options)
    assert (record.status, record.error, counts) == ("done", None, [0])
    assert (record.pixels, record.confidence) == ({"void": 150 * 130}, None)
    if format in ("labels", "npy", "tif"):
        assert (read(tmp_path / "out" / record.output) == 255).all()


@pytest.mark.parametrize("head", ["labels", "scene"])
def test_heads_that_give_labels(tmp_path: Path, head: Any) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec(head))
    image = noise(60, 70)
    image[:30] = 0
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((60, 70, 3), np.uint8)).save(tmp_path / "b.png")
    with load(path, threads=1) as segmenter, counted_tiles() as counts:
        expected = segmenter(image)
        expected[:30] = 255
        for name in ("a", "b"):
            region = Region(nodata=0)
            label(segmenter, tmp_path / f"{name}.png", tmp_path / name, region=region)
    assert np.array_equal(read(tmp_path / "a" / "a.png"), expected)
    assert (read(tmp_path / "b" / "b.png") == 255).all()
    assert counts == [1]


@WAYS
@pytest.mark.parametrize("kind", ["scores", "flip", "map"])
def test_nodata_with_other_ways(tmp_path: Path, model: Path, kind: str, limit: int) -> None:
    from fcnkit.runtime.predict.results import ResultRequest

    image, void_hw = with_holes(noise(300, 200), 9)
    Image.fromarray(image).save(tmp_path / "a.ppm")
    path = write_model(tmp_path / "m.onnx", make_spec("scores")) if kind == "scores" else model
    options: dict[str, Any] = {"region": Region(nodata=9), "max_pixels": limit}
    if kind == "map":
        options["wanted"] = ResultRequest(map="*=thing")
    tta: Any = "flip" if kind == "flip" else None
    with load(path, tile=(32, 64), overlap=12, tta=tta, threads=1) as segmenter:
        label(segmenter, tmp_path / "a.ppm", tmp_path / "out", **options)
        expected = segmenter(image)
    if kind == "map":
        expected[:] = 0 if (read(tmp_path / "out" / "a.png")[0, 1] == 0) else 1
    expected[void_hw] = 255
    assert np.array_equal(read(tmp_path / "out" / "a.png"), expected)


@WAYS
def test_confidence_is_the_mean_over_what_is_labeled(
    tmp_path: Path, tiled: Segmenter, limit: int
) -> None:
    image, void_hw = with_holes(noise(300, 200), 9)
    Image.fromarray(image).save(tmp_path / "a.ppm")
    options: dict[str, Any] = {"format": "confidence", "max_pixels": limit}
    record = label(tiled, tmp_path / "a.ppm", tmp_path / "out", region=Region(nodata=9), **options)
    expected = tiled(image, confidence=True).confidence
    assert expected is not None
    assert record.confidence == round(float(expected[~void_hw].mean()) / 255, 6)
    assert np.array_equal(read(tmp_path / "out" / "a.png"), np.where(void_hw, 0, expected))


@WAYS
@pytest.mark.parametrize("name", ["a.png", "a.tif", "key.png", "gray.png"])
def test_auto_takes_transparency(tmp_path: Path, tiled: Segmenter, name: str, limit: int) -> None:
    image = noise(100, 90)
    alpha = noise(100, 91)[:, :90, 0].copy()
    alpha[20:60] = 0
    source = tmp_path / name
    if name == "key.png":
        image[20:60] = (1, 2, 3)
        Image.fromarray(image).save(source, transparency=(1, 2, 3))
        void_hw = (image == (1, 2, 3)).all(axis=2)
    elif name == "gray.png":
        Image.fromarray(np.dstack([image[..., 0], alpha]), "LA").save(source)
        void_hw = alpha == 0
    else:
        Image.fromarray(np.dstack([image, alpha])).save(source)
        void_hw = alpha == 0
    region = Region(nodata="auto")
    label(tiled, source, tmp_path / "out", max_pixels=limit, region=region)
    made = read(tmp_path / "out" / Path(name).with_suffix(".png"))
    assert np.array_equal(made == 255, void_hw)
    plain = read_levels(source).image_hwc
    expected = np.where(void_hw, 255, tiled(plain))
    # Two libraries round a blend with white in two ways.
    assert (made == expected).mean() > (0.99 if limit == 1 else 0.9999)


@WAYS
@pytest.mark.parametrize("tag", ["nan", "-9999", "300", "words", None])
def test_auto_finds_nothing_where_no_sample_can_have_the_value(
    tmp_path: Path, tiled: Segmenter, tag: str | None, limit: int
) -> None:
    source = tmp_path / "a.tif"
    Image.fromarray(noise(90, 70)).save(source, tiffinfo={} if tag is None else {42113: tag})
    record = label(tiled, source, tmp_path / "out", max_pixels=limit, region=Region(nodata="auto"))
    assert record.error is None
    assert np.array_equal(read(tmp_path / "out" / "a.png"), tiled(noise(90, 70)))


@WAYS
@pytest.mark.parametrize("name", ["P.png", "P.tif", "1.tif", "1.png", "CMYK.tif", "CMYK.jpg"])
def test_values_that_decoders_change_are_refused(
    tmp_path: Path, tiled: Segmenter, name: str, limit: int
) -> None:
    source = tmp_path / name
    Image.fromarray(noise(90, 70)).convert(source.stem).save(source)
    got = {"P": "a palette", "1": "1 bit"}.get(source.stem, source.stem)
    record = label(tiled, source, tmp_path / "out", max_pixels=limit, region=Region(nodata=0))
    assert (record.status, record.error) == (
        "failed",
        f"{source}: nodata is compared with gray or RGB samples of 8 or 16 bits as they are "
        f"stored, got {got}; convert it to RGB of 8 bits, or pass --mask",
    )


def test_text_files_have_no_nodata(tmp_path: Path, tiled: Segmenter) -> None:
    (tmp_path / "a.ppm").write_text("P2 2 1 255 0 9")
    record = label(tiled, tmp_path / "a.ppm", tmp_path / "out", region=Region(nodata=0))
    assert record.error == (
        f"{tmp_path}/a.ppm: a nodata value needs a binary file, got text; "
        "save it as binary, P5 or P6"
    )


@WAYS
@pytest.mark.parametrize("window", [None, Window(10, 280, 20, 170)])
@pytest.mark.parametrize("nodata", [None, 9])
def test_masks(
    tmp_path: Path, tiled: Segmenter, nodata: int | None, window: Window | None, limit: int
) -> None:
    image, void_hw = with_holes(noise(300, 200), 9)
    Image.fromarray(image).save(tmp_path / "a.ppm")
    mask = np.zeros((300, 200), np.uint8)
    mask[30:260, 50:] = 1
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
    left_out = mask == 0
    if nodata is not None:
        left_out |= void_hw
    expected = tiled(image)
    if window is not None:
        expected = tiled(np.ascontiguousarray(window.cut(image)))
        left_out = window.cut(left_out)
    expected[left_out] = 255
    for path in (tmp_path / "masks", tmp_path / "masks" / "a.png"):
        region = Region(window=window, nodata=nodata, mask=path)
        out = tmp_path / f"out {path.name}"
        record = label(tiled, tmp_path / "a.ppm", out, max_pixels=limit, region=region)
        assert record.error is None
        assert np.array_equal(read(out / "a.png"), expected)


@WAYS
def test_masks_that_do_not_fit_are_refused(tmp_path: Path, tiled: Segmenter, limit: int) -> None:
    Image.fromarray(noise(30, 20)).save(tmp_path / "a.png")
    masks = tmp_path / "masks"
    masks.mkdir()
    options: dict[str, Any] = {"max_pixels": limit, "region": Region(mask=masks)}
    record = label(tiled, tmp_path / "a.png", tmp_path / "out", **options)
    assert record.error == (
        f"{masks}/a: a folder of masks holds one mask for each image, named as its result, "
        "got none; add it, or remove the others"
    )
    Image.fromarray(noise(30, 21)).save(masks / "a.png")
    record = label(tiled, tmp_path / "a.png", tmp_path / "out", **options)
    assert record.error == (
        f"{masks}/a.png: a mask has the size of its image, 30x20, got 30x21; make it as large"
    )
    Image.fromarray(noise(30, 21)).save(masks / "a.tif")
    record = label(tiled, tmp_path / "a.png", tmp_path / "out", **options)
    assert record.error == (
        f"{masks}/a: a folder of masks holds one mask for each image, named as its result, "
        "got a.png and a.tif; add it, or remove the others"
    )


def test_a_changed_mask_is_noticed(tmp_path: Path, tiled: Segmenter) -> None:
    Image.fromarray(noise(30, 20)).save(tmp_path / "a.png")
    mask = tmp_path / "mask.png"
    Image.fromarray(np.ones((30, 20), np.uint8)).save(mask)
    region = Region(mask=mask)
    assert label(tiled, tmp_path / "a.png", tmp_path / "out", region=region).status == "done"
    assert label(tiled, tmp_path / "a.png", tmp_path / "out", region=region).status == "skipped"
    Image.fromarray(np.zeros((30, 20), np.uint8)).save(mask)
    assert label(tiled, tmp_path / "a.png", tmp_path / "out", region=region).status == "done"
    assert (read(tmp_path / "out" / "a.png") == 255).all()
    assert label(tiled, tmp_path / "a.png", tmp_path / "out").status == "done"  # without a mask


def test_videos_have_no_region(tmp_path: Path, tiled: Segmenter) -> None:
    (tmp_path / "a.mp4").touch()
    text = (
        "predict: window, nodata and mask go with images, not with videos, got nodata; leave it out"
    )
    with refusal(BadValueError, text):
        label(tiled, tmp_path / "a.mp4", tmp_path / "out", region=Region(nodata=0))


def test_a_region_is_a_region(tmp_path: Path, tiled: Segmenter) -> None:
    with pytest.raises(BadTypeError, match="predict: region"):
        predict_files(tiled, [], tmp_path, model_sha256="ab", region="0:1,0:1")  # type: ignore[arg-type]


@given(st.lists(st.booleans(), max_size=20), st.integers(1, 5))
def test_runs_hold_what_is_needed_once(needed: list[bool], most: int) -> None:
    found = list(runs_of(needed, most))
    columns = [column for begin, end in found for column in range(begin, end)]
    assert columns == [column for column, is_needed in enumerate(needed) if is_needed]
    assert all(0 < end - begin <= most for begin, end in found)


def test_a_tile_without_a_pixel_to_label_is_found() -> None:
    plan = plan_tiles(64, 96, tile=32)
    image = np.full((64, 96, 4), 255, np.uint8)
    image[32:, 32:64, 3] = 0
    assert has_void_tile(image, plan)
    image[63, 63, 3] = 1
    assert not has_void_tile(image, plan)
    assert not has_void_tile(image[..., :3], plan)


def test_a_large_void_area_of_an_overlay_holds_few_bands(tmp_path: Path, tiled: Segmenter) -> None:
    """An overlay needs the image, so a tile per band goes through the model."""
    from fcnkit.runtime.predict.passes import _BandPass

    image = np.zeros((2000, 64, 3), np.uint8)
    image[:5] = 200
    Image.fromarray(image).save(tmp_path / "a.ppm")
    longest, add = 0, _BandPass._band

    def watched(one: _BandPass, rows: Any) -> Any:
        nonlocal longest
        longest = max(longest, len(one._shown))
        return add(one, rows)

    options: dict[str, Any] = {"format": "overlay", "max_pixels": 1, "region": Region(nodata=0)}
    with mock.patch.object(_BandPass, "_band", watched):
        assert label(tiled, tmp_path / "a.ppm", tmp_path / "out", **options).error is None
    assert longest < 15 < len(tiled.plan(2000, 64).tops)


@pytest.mark.parametrize("batch", [1, 4])
def test_images_without_a_pixel_to_label_among_others(
    tmp_path: Path, segmenter: Segmenter, batch: int
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(24):
        image = noise(40, 50 + number) if number % 3 else np.zeros((40, 50, 3), np.uint8)
        Image.fromarray(image).save(folder / f"{number:02}.png")
    jobs = find_jobs([folder], tmp_path / "out")
    options: dict[str, Any] = {"model_sha256": "ab", "region": Region(nodata=0), "batch": batch}
    records = list(predict_files(segmenter, jobs, tmp_path / "out", **options))
    assert sorted(record.output for record in records) == [f"{i:02}.png" for i in range(24)]
    for number in range(24):
        made = read(tmp_path / "out" / f"{number:02}.png")
        expected = segmenter(noise(40, 50 + number)) if number % 3 else np.full((40, 50), 255)
        assert np.array_equal(made, expected)
