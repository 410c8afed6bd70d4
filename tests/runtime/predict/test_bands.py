"""``bands``: which samples of a file are red, green and blue, on every way to read it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fcnkit import load
from fcnkit.errors import DataError
from fcnkit.runtime.predict.bands import Bands, check_bands
from fcnkit.runtime.predict.folder import find_jobs, predict_files
from fcnkit.runtime.predict.pictures import read_picture
from fcnkit.runtime.predict.rows import open_rows
from tests.refusal import refusal
from tests.runtime.models import make_spec, write_model
from tests.runtime.predict.layout_files import HEIGHT, WIDTH, png, scaled, tiff, values

pytest.importorskip("pyvips")


def streamed(path: Path, bands: Bands, range: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    rows = open_rows(path, bands=bands, range=range)
    tops = np.arange(0, rows.height, 6).tolist()
    return np.concatenate([rows.read(min(6, rows.height - top)).copy() for top in tops])


def test_bands_of_tiffs_are_the_stored_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    cases = product((1, 2), (3, 4, 5, 8), (8, 16), (False, True), (False, True), (0, 1, 2))
    tried = 0
    for photometric, count, bits, planes, tile, extra in cases:
        if planes and (tile or photometric == 1):
            continue  # refused
        colors = 3 if photometric == 2 else 1
        named = (2,) * bool(extra == 2 and count > colors) + (0,) * max(0, count - colors - 1)
        raw = values(bits, count)
        path.write_bytes(
            tiff(raw, bits, photometric, planes=planes, tile=tile, extra=named if extra else ())
        )
        for bands in ((1, 2, 3), (3, 2, 1), (count, 1, 2), (count, count, count)):
            expected = scaled(raw[..., [band - 1 for band in bands]], bits)
            name = f"{photometric} {count} {bits} {planes} {tile} {extra} {bands}"
            assert np.array_equal(read_picture(path, bands=bands), expected), name
            assert np.array_equal(streamed(path, bands), expected), name
            tried += 1
    assert tried > 200


@pytest.mark.parametrize("extra", [(), (0, 0, 0)])
def test_gray_samples_in_planes_are_refused(extra: tuple[int, ...], tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(values(8, 4), 8, 1, planes=True, extra=extra))
    named = ", extra: unspecified and unspecified and unspecified" if extra else ""
    text = (
        f"{path}: a gray TIFF of several samples must hold them beside each other, not in planes, "
        f"got a TIFF of 4 gray samples of 8 bits{named}, in separate planes; save it with "
        "interleaved samples"
    )
    for read in (read_picture, open_rows):
        with refusal(DataError, text):
            read(path, bands=(1, 2, 3))


def test_bands_and_range(tmp_path: Path) -> None:
    raw = values(16, 5)
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(raw, 16, 1))
    expected = scaled(raw[..., [4, 0, 2]], 16, (100, 30_000))
    assert np.array_equal(read_picture(path, bands=(5, 1, 3), range=(100, 30_000)), expected)
    assert np.array_equal(streamed(path, (5, 1, 3), (100, 30_000)), expected)


@pytest.mark.parametrize(("kind", "count"), [(0, 1), (2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("bits", [8, 16])
def test_bands_of_pngs_leave_transparency_out(
    kind: int, count: int, bits: int, tmp_path: Path
) -> None:
    raw = values(bits, count)
    path = tmp_path / "a.png"
    path.write_bytes(png(raw, bits, kind))
    bands = (count, 1, 1)
    expected = scaled(raw[..., [count - 1, 0, 0]], bits)
    assert np.array_equal(read_picture(path, bands=bands), expected)
    assert np.array_equal(streamed(path, bands), expected)


def test_a_transparent_color_counts_as_any_other(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    raw = values(8, 3)
    Image.fromarray(raw).save(path, transparency=tuple(raw[0, 0].tolist()))
    assert np.array_equal(read_picture(path, bands=(1, 2, 3)), raw)
    assert np.array_equal(streamed(path, (1, 2, 3)), raw)


def test_bands_of_ppm_and_jpeg(tmp_path: Path) -> None:
    raw = values(8, 3)
    Image.fromarray(raw).save(tmp_path / "a.ppm")
    assert np.array_equal(read_picture(tmp_path / "a.ppm", bands=(3, 3, 1)), raw[..., [2, 2, 0]])
    assert np.array_equal(streamed(tmp_path / "a.ppm", (3, 3, 1)), raw[..., [2, 2, 0]])
    Image.fromarray(raw).save(tmp_path / "a.jpg")
    decoded = np.asarray(Image.open(tmp_path / "a.jpg"))
    assert np.array_equal(
        read_picture(tmp_path / "a.jpg", bands=(2, 1, 3)), decoded[..., [1, 0, 2]]
    )


def refused_files(folder: Path) -> list[tuple[Path, str]]:
    """Files without the samples 1, 2, 4, and what they have."""
    rgb, gray = values(8, 3), values(8, 1)
    made = [(folder / "rgb.png", "3"), (folder / "gray.jpg", "1"), (folder / "ink.tif", "CMYK")]
    Image.fromarray(rgb).save(made[0][0])
    Image.fromarray(gray[..., 0]).save(made[1][0])
    made[2][0].write_bytes(tiff(values(8, 4), 8, 5))
    made.append((folder / "palette.png", "a palette"))
    Image.fromarray(gray[..., 0]).convert("P").save(made[3][0])
    made.append((folder / "times.tif", "colors multiplied by the transparency"))
    made[4][0].write_bytes(tiff(values(8, 4), 8, 2, extra=(1,)))
    made.append((folder / "white.tif", "white as zero"))
    made[5][0].write_bytes(tiff(values(8, 4), 8, 0))
    made.append((folder / "gray.pgm", "1"))
    Image.fromarray(gray[..., 0]).save(made[6][0])
    return made


def test_files_without_the_bands_are_refused(tmp_path: Path) -> None:
    for path, got in refused_files(tmp_path):
        text = (
            f"{path}: bands 1,2,4 need stored samples, 4 or more per pixel, got {got}; "
            "choose bands that every picture has"
        )
        with refusal(DataError, text):
            read_picture(path, bands=(1, 2, 4))
        with refusal(DataError, text):
            open_rows(path, bands=(1, 2, 4))


@pytest.mark.parametrize(
    ("bands", "kind", "text"),
    [
        (
            (1, 2, 3, 4),
            ValueError,
            "--bands: networks take three inputs, so three samples are read, got 4 (1,2,3,4); "
            "choose three, such as 1,2,3 or 4,4,4",
        ),
        (
            (4,),
            ValueError,
            "--bands: networks take three inputs, so three samples are read, got 1 (4); "
            "choose three, such as 1,2,3 or 4,4,4",
        ),
        (
            (),
            ValueError,
            "--bands: networks take three inputs, so three samples are read, got none; "
            "choose three, such as 1,2,3 or 4,4,4",
        ),
        (
            4,
            TypeError,
            "--bands: must be three numbers of samples, counted from 1, got 4; pass (1, 2, 3)",
        ),
    ],
)
def test_wrong_bands(bands: object, kind: type[Exception], text: str) -> None:
    with refusal(kind, text):
        check_bands("--bands", bands)


@pytest.mark.parametrize("bands", [(0, 1, 2), (1, 2, 65536), (1.0, 2, 3), (True, 2, 3), "123"])
def test_bands_are_integers_from_1_on(bands: object) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^--bands: "):
        check_bands("--bands", bands)


@pytest.mark.parametrize("max_pixels", [10_000_000, 100])
def test_a_models_bands_are_used_whole_and_streamed(tmp_path: Path, max_pixels: int) -> None:
    spec = replace(make_spec("logits"), bands=(4, 1, 3))
    model = write_model(tmp_path / "m.onnx", spec)
    raw = values(8, 5)
    (tmp_path / "a.tif").write_bytes(tiff(raw, 8, 1))
    picked = np.ascontiguousarray(raw[..., [3, 0, 2]])
    with load(model, threads=1, tile=(32, 32)) as segmenter:
        assert segmenter.spec.bands == (4, 1, 3)
        jobs = find_jobs([tmp_path / "a.tif"], tmp_path / "out")
        (record,) = predict_files(
            segmenter, jobs, tmp_path / "out", model_sha256="ab", max_pixels=max_pixels
        )
        assert record.status == "done", record.error
        expected = segmenter(picked)
        (one,) = segmenter.map([tmp_path / "a.tif"])
    assert np.array_equal(one.labels_hw, expected)
    with Image.open(tmp_path / "out/a.png") as image:
        assert image.size == (WIDTH, HEIGHT)
        assert np.array_equal(np.array(image), expected)
