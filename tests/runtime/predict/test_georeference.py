"""GeoTIFF results: where they lie, how they look, and what other programs read of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcnkit.errors import DataError, MissingExtraError
from fcnkit.runtime import Segmenter, load, predict_files
from fcnkit.runtime.pixels.palette import decode
from fcnkit.runtime.predict.folder import find_jobs
from fcnkit.runtime.predict.georeference import FileFacts
from fcnkit.runtime.predict.manifest import Record
from fcnkit.runtime.predict.outputs import OutputRequest, open_output, read_size
from fcnkit.runtime.predict.region import Region
from fcnkit.runtime.predict.window import Window
from tests.geotiff import write_geotiff
from tests.refusal import refusal
from tests.runtime.models import CLASSES, PALETTE, make_spec
from tests.runtime.pictures import noise

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
WINDOW = Window(37, 250, 11, 190)


@pytest.fixture(scope="module")
def tiled(model: Path) -> Iterator[Segmenter]:
    with load(model, tile=(32, 64), overlap=12, threads=1) as segmenter:
        yield segmenter


def label(segmenter: Segmenter, source: Path, out: Path, **options: Any) -> Record:
    options = {"model_sha256": "ab", "format": "tif", **options}
    jobs = find_jobs([source], out, suffix=".tif")
    (record,) = predict_files(segmenter, jobs, out, **options)
    return record


ROTATED = rasterio.Affine(0.2, 0.1, 500000.5, 0.1, -0.2, 4600000.25)
CONTROL = [
    rasterio.control.GroundControlPoint(row, column, 10 + column / 7, 50 - row / 9, 3.5)
    for row, column in ((0, 0), (0, 200), (300, 0), (299.5, 199.5))
]
OFFSET_AND_SCALE = {
    "height": (100, 50),
    "lat": (50, 0.5),
    "long": (10, 0.5),
    "line": (150.5, 150),
    "samp": (100.5, 100),
}
RPC = rasterio.rpc.RPC(
    **{f"{name}_off": offset for name, (offset, _) in OFFSET_AND_SCALE.items()},
    **{f"{name}_scale": scale for name, (_, scale) in OFFSET_AND_SCALE.items()},
    **{f"{name}_den_coeff": [1.0] * 20 for name in ("line", "samp")},
    line_num_coeff=[0.5] * 20,
    samp_num_coeff=[0.25] * 20,
)


@pytest.mark.parametrize("limit", [1, 10**6], ids=["streamed", "whole"])
@pytest.mark.parametrize("window", [None, WINDOW])
@pytest.mark.parametrize("kind", ["scale", "rotated", "points", "rpc", "point", "none"])
def test_rasterio_finds_it_where_the_image_was(
    tmp_path: Path, tiled: Segmenter, kind: str, window: Window | None, limit: int
) -> None:
    profile: dict[str, dict[str, Any]] = {
        "scale": {},
        "rotated": {"transform": ROTATED},
        "points": {"transform": None, "gcps": CONTROL, "crs": "EPSG:4326"},
        "rpc": {"transform": None, "crs": None, "rpcs": RPC},
        "point": {"crs": "EPSG:3857"},
        "none": {"transform": None, "crs": None},
    }
    source = write_geotiff(tmp_path / "a.tif", noise(300, 200), **profile[kind])
    if kind == "point":
        with rasterio.open(source, "r+") as file:
            file.update_tags(AREA_OR_POINT="Point")
    record = label(tiled, source, tmp_path / "out", max_pixels=limit, region=Region(window=window))
    assert (record.status, record.error) == ("done", None)
    top, left = (0, 0) if window is None else (window.top, window.left)
    with rasterio.open(source) as given, rasterio.open(tmp_path / "out" / "a.tif") as made:
        assert made.shape == record.size == ((300, 200) if window is None else window.size)
        assert made.crs == given.crs
        expected = given.transform * rasterio.Affine.translation(left, top)
        if kind in ("points", "rpc", "none"):
            expected = rasterio.Affine.identity()
        assert made.transform.almost_equals(expected, 1e-9)
        if window is None:
            assert made.transform == given.transform
        points, points_crs = made.gcps
        assert points_crs == given.gcps[1]
        assert [(p.row + top, p.col + left, p.x, p.y, p.z) for p in points] == [
            (p.row, p.col, p.x, p.y, p.z) for p in given.gcps[0]
        ]
        if kind == "rpc":
            shifted = {**given.rpcs.to_dict(), "line_off": 150.5 - top, "samp_off": 100.5 - left}
            assert made.rpcs.to_dict() == shifted
        assert made.tags().get("AREA_OR_POINT") == given.tags().get("AREA_OR_POINT")


def test_the_place_of_the_first_pixel_stays_that_of_the_first_pixel(tmp_path: Path) -> None:
    """Programs such as geotiff.js take every tie point for the place of the first pixel."""
    source = write_geotiff(tmp_path / "a.tif", noise(300, 200))
    tags = dict(FileFacts.of(source, WINDOW).doubles)
    assert tags[33922][:3] == (0, 0, 0)
    assert tags[33922][3:] == (500000.5 + 11 * 0.3, 4600000.25 - 37 * 0.3, 0)


def test_programs_see_tiles_colors_classes_and_void(tmp_path: Path, tiled: Segmenter) -> None:
    source = write_geotiff(tmp_path / "a.tif", noise(300, 200), nodata=0)
    label(tiled, source, tmp_path / "out")
    path, expected = tmp_path / "out" / "a.tif", tiled(noise(300, 200))
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffFile(path) as file:
        (page,) = file.pages
        assert (file.is_bigtiff, page.tilewidth, page.tilelength) == (True, 256, 256)
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert np.array_equal(page.asarray(), expected)
    with rasterio.open(path) as made:
        assert np.array_equal(made.read(1), expected)
        assert made.colorinterp == (rasterio.enums.ColorInterp.palette,)
        colors = made.colormap(1)
        assert [colors[i] for i in range(4)] == [(*color, 255) for color in PALETTE]
        assert made.nodata == 255  # and not that of the image
        names = {f"CLASS_{i}": name for i, name in enumerate(CLASSES)}
        assert names.items() <= made.tags().items()
    with Image.open(path) as image:
        assert image.mode == "P"
        shown = np.array(image.convert("RGB"))
    assert np.array_equal(shown, decode(expected, np.array(PALETTE, np.uint8)))


def test_metadata_of_the_image_is_kept_and_that_of_its_bands_is_not(
    tmp_path: Path, tiled: Segmenter
) -> None:
    source = write_geotiff(tmp_path / "a.tif", noise(90, 70))
    with rasterio.open(source, "r+") as file:
        file.update_tags(SENSOR="Kamera <Süd> & Co", CLASS_0="something else")
        file.update_tags(1, WAVELENGTH="640")
        file.scales, file.offsets = (0.1, 0.1, 0.1), (5, 5, 5)
        file.set_band_description(1, "red")
    label(tiled, source, tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "a.tif") as made:
        assert made.tags()["SENSOR"] == "Kamera <Süd> & Co"
        assert made.tags()["CLASS_0"] == CLASSES[0]
        assert (made.tags(1), made.scales, made.offsets) == ({}, (1.0,), (0.0,))
        assert made.descriptions == (None,)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("a.tif", {"dpi": (300, 150)}, ((300, 150), 2)),
        ("a.tif", {"resolution_unit": 3, "x_resolution": 40, "y_resolution": 20}, ((40, 20), 3)),
        ("a.jpg", {"dpi": (72, 96)}, ((72, 96), 2)),
        ("a.png", {"dpi": (254, 127)}, ((254, 127), 2)),
        ("a.png", {}, ((1, 1), 1)),
    ],
)
def test_the_resolution_is_kept(
    tmp_path: Path,
    tiled: Segmenter,
    name: str,
    options: dict[str, Any],
    expected: tuple[tuple[float, float], int],
) -> None:
    Image.fromarray(noise(50, 40)).save(tmp_path / name, **options)
    label(tiled, tmp_path / name, tmp_path / "out")
    with Image.open(tmp_path / "out" / "a.tif") as made:
        found = tuple(float(made.tag_v2[tag]) for tag in (282, 283))
        assert (found, made.tag_v2[296]) == (pytest.approx(expected[0], abs=0.01), expected[1])


def test_a_turned_image_has_a_turned_resolution(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(noise(50, 40)).save(tmp_path / "a.jpg", dpi=(72, 96), exif=exif)
    assert FileFacts.of(tmp_path / "a.jpg").resolution == (96, 72)
    Image.fromarray(noise(50, 40)).save(tmp_path / "a.tif", dpi=(72, 96), tiffinfo={274: 6})
    assert FileFacts.of(tmp_path / "a.tif").resolution == (96, 72)


def test_a_turned_georeferenced_image_is_refused(tmp_path: Path, tiled: Segmenter) -> None:
    source = tmp_path / "a.tif"
    place = (0.0, 0.0, 0.0, 500000.0, 4600000.0, 0.0)
    info = {274: 6, 33550: (0.3, 0.3, 0.0), 33922: place}
    Image.fromarray(noise(50, 40)).save(source, tiffinfo=info)
    record = label(tiled, source, tmp_path / "out")
    assert (record.status, record.error) == (
        "failed",
        f"{source}: a georeferenced TIFF must be stored upright, got orientation 6; "
        "store it upright, or use --format labels",
    )


@pytest.mark.parametrize("info", [{33922: (0.0,) * 5}, {34264: (1.0,) * 7}, {34735: "words"}])
def test_damaged_tags_are_refused(tmp_path: Path, info: dict[int, Any]) -> None:
    source = tmp_path / "a.tif"
    Image.fromarray(noise(50, 40)).save(source, tiffinfo=info)
    text = (
        f"{source}: a georeferenced TIFF must have whole tags, got tags of other types or "
        "lengths; write them again, with gdal_translate"
    )
    with refusal(DataError, text):
        FileFacts.of(source, Window(1, 2, 3, 4))


def test_metadata_that_is_no_xml_is_left_out(tmp_path: Path) -> None:
    source = tmp_path / "a.tif"
    Image.fromarray(noise(50, 40)).save(source, tiffinfo={42112: "<GDALMetadata><Item"})
    assert FileFacts.of(source) == FileFacts(resolution=None)


def test_pipes_are_not_opened(tmp_path: Path, tiled: Segmenter) -> None:
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in" / "a.tif")
    record = label(tiled, tmp_path / "in", tmp_path / "out")
    assert record.error == (
        f"{tmp_path}/in/a.tif: must be a picture file, got no regular file; check the path"
    )


def test_without_tifffile(
    tmp_path: Path, tiled: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    Image.fromarray(noise(50, 40)).save(tmp_path / "a.png")
    text = (
        "--format tif: needs the package tifffile, got no such package; pip install 'fcnkit[large]'"
    )
    with refusal(MissingExtraError, text):
        label(tiled, tmp_path / "a.png", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_imagecodecs(
    tmp_path: Path, tiled: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    Image.fromarray(noise(50, 40)).save(tmp_path / "a.png")
    assert label(tiled, tmp_path / "a.png", tmp_path / "out").status == "done"


def test_a_cut_or_damaged_file_is_not_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    output, _ = open_output(
        path, OutputRequest(size=(300, 270), spec=make_spec("labels"), format="tif")
    )
    from fcnkit.runtime.pixels.prediction import Prediction

    labels = noise(300, 270)[..., 0] % 4
    for at in range(0, 300, 70):
        assert read_size(str(path)) is None
        output.write(labels, Prediction(labels[at : at + 70]))
    output.close()
    content = path.read_bytes()
    assert read_size(str(path)) == (300, 270)
    for end in (0, 8, 16, 300, 2000, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:end])
        assert read_size(str(path)) is None
        path.write_bytes(content[:end].ljust(len(content), b"\0"))
        assert read_size(str(path)) is None
    path.write_bytes(content + b"\0")
    assert read_size(str(path)) is None


def test_a_result_that_stands_is_skipped(tmp_path: Path, tiled: Segmenter) -> None:
    source = write_geotiff(tmp_path / "a.tif", noise(90, 70))
    assert label(tiled, source, tmp_path / "out").status == "done"
    assert label(tiled, source, tmp_path / "out").status == "skipped"
    path = tmp_path / "out" / "a.tif"
    path.write_bytes(path.read_bytes()[:-1])
    assert label(tiled, source, tmp_path / "out").status == "done"
