"""``fcnkit predict`` with parts of images and GeoTIFF results, as a shell sees it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnkit.runtime import load
from tests.cli.shell import called, fcnkit, refused
from tests.geotiff import write_geotiff
from tests.runtime.models import make_spec, write_model
from tests.runtime.pictures import noise


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "m.onnx", make_spec("logits"))


def test_a_window_of_a_geotiff(tmp_path: Path, model: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    image = noise(300, 200)
    image[100:, :120] = 0
    source = write_geotiff(tmp_path / "a.tif", image, nodata=0)
    mask = np.full((300, 200), 255, np.uint8)
    mask[:, 150:] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    options = ["--format", "tif", "--window", "50:290,10:190", "--nodata", "auto"]
    options += ["--mask", tmp_path / "mask.png", "--tile", "32x64", "--overlap", "12"]
    done = fcnkit("predict", model, source, "-o", tmp_path / "out", *options, "--threads", 1)
    assert done.returncode == 0, done.stderr
    with load(model, tile=(32, 64), overlap=12, threads=1) as segmenter:
        expected = segmenter(np.ascontiguousarray(image[50:290, 10:190]))
    expected[(image[50:290, 10:190] == 0).all(axis=2) | (mask[50:290, 10:190] == 0)] = 255
    with rasterio.open(tmp_path / "out" / "a.tif") as made, rasterio.open(source) as given:
        assert np.array_equal(made.read(1), expected)
        assert made.xy(0, 0) == given.xy(50, 10)
        assert made.crs == given.crs


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ["--window", "0:9"],
            "predict: --window must be y0:y1,x0:x1, got '0:9'; "
            "write 0:1000,500:2000 for rows 0 to 999 and columns 500 to 1999",
        ),
        (
            ["--nodata", "black"],
            "--nodata: must be 0..65535 or auto, got 'black'; pass the value that files store",
        ),
        (
            ["--mask", "no/such/mask.png"],
            "predict: mask must be an image file or a folder of them, got no/such/mask.png: "
            "no such file; check the path",
        ),
    ],
)
def test_wrong_values_are_refused(
    tmp_path: Path, model: Path, options: list[str], text: str
) -> None:
    Image.fromarray(noise(30, 20)).save(tmp_path / "a.png")
    refused(called("predict", model, tmp_path / "a.png", "-o", tmp_path / "out", *options), text)
    assert not (tmp_path / "out").exists()


def test_a_camera_has_no_window(tmp_path: Path, model: Path) -> None:
    done = called("predict", model, "0", "-o", tmp_path / "out", "--window", "0:9,0:9")
    text = "predict: window, nodata and mask go with images, not with a camera, got window; "
    refused(done, text + "leave it out")
