"""Values of more than 8 bits: on which scale they are read, and what is said about it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnkit.errors import PictureWarning
from fcnkit.runtime import load
from fcnkit.runtime.predict.folder import find_jobs, predict_files
from fcnkit.runtime.predict.levels import Levels, check_range
from fcnkit.runtime.predict.pictures import Reading, read_levels, read_picture
from tests.refusal import refusal
from tests.runtime.models import make_spec, write_model


def save_deep(path: Path, most: int, *, seed: int = 0) -> Path:
    values = np.random.default_rng(seed).integers(0, most + 1, (20, 30), np.uint16)
    values[0, 0] = most
    Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize(("most", "bits"), [(4095, 12), (1023, 10), (16383, 14), (300, 9), (5, 9)])
def test_a_picture_in_a_corner_of_its_range_is_named(tmp_path: Path, most: int, bits: int) -> None:
    path = save_deep(tmp_path / "a.png", most)
    with pytest.warns(PictureWarning) as caught:
        read_picture(path)
    assert [str(one.message) for one in caught] == [
        f"{path}: values of more than 8 bits are read as 0..65535, got none above {most}; "
        f"if {2**bits - 1} means white, pass range=(0, {2**bits - 1})"
    ]
    image = read_picture(path, range=(0, 2**bits - 1))  # the remedy works: no warning
    assert most < 100 or image.max() > 127


def test_a_picture_that_fills_its_range_is_not_named(tmp_path: Path) -> None:
    for most in (16384, 65535):
        read_picture(save_deep(tmp_path / "a.png", most))
    Image.new("I;16", (9, 9)).save(tmp_path / "black.png")
    read_picture(tmp_path / "black.png")


def test_eight_bits_are_not_scaled(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    assert np.array_equal(read_picture(tmp_path / "a.png", range=(0, 4095)), image)
    assert read_levels(tmp_path / "a.png", Reading(range=(0, 4095))).seen is None


def test_values_outside_are_counted() -> None:
    levels = Levels((100, 200))
    values = np.array([0, 99, 100, 150, 200, 201, 65535], np.uint16)
    assert levels.scale(values).tolist() == [0, 0, 0, 128, 255, 255, 255]
    seen = levels.seen
    assert seen is not None
    assert (seen.low, seen.high, seen.outside, seen.used) == (0, 65535, 4, (100, 200))


def test_a_range_is_refused() -> None:
    for range, text in (
        ((5, 5), "--range: low must be below high, got 5..5; write 0..4095 for 12 bits"),
        ((9, 5), "--range: low must be below high, got 9..5; write 0..4095 for 12 bits"),
    ):
        with refusal(ValueError, text):
            check_range("--range", range)
    text = "--range: must be a pair (low, high), got '0..9'; pass (0, 4095) for 12 bits"
    with refusal(TypeError, text):
        check_range("--range", "0..9")
    for range in ((-1, 5), (0, 65536)):
        with pytest.raises(ValueError):
            check_range("--range", range)


@pytest.mark.parametrize("max_pixels", [10**6, 1])
def test_a_model_brings_its_range(tmp_path: Path, max_pixels: int) -> None:
    pytest.importorskip("pyvips")
    spec = make_spec("logits")
    picture = save_deep(tmp_path / "a.png", 4095)
    labels = []
    for name, range in (("plain", None), ("scaled", (0, 4095))):
        model = write_model(tmp_path / f"{name}.onnx", replace(spec, range=range))
        with load(model, tile=(32, 64), overlap=12, threads=1) as segmenter:
            jobs = find_jobs([picture], tmp_path / name)
            work = predict_files(
                segmenter, jobs, tmp_path / name, model_sha256="ab", max_pixels=max_pixels
            )
            if range is None:
                with pytest.warns(PictureWarning, match="train with --range 0..4095$"):
                    (record,) = list(work)
            else:
                (record,) = list(work)
            assert record.status == "done"
            with Image.open(tmp_path / name / "a.png") as image:
                labels.append(np.array(image))
            expected = segmenter(read_levels(picture, Reading(range=range)).image_hwc)
            assert np.array_equal(labels[-1], expected)
            if range:
                (one,) = segmenter.map([picture])
                assert np.array_equal(one.labels_hw, expected)
    assert not np.array_equal(*labels)


def test_one_warning_per_run(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", make_spec("labels"))
    for number in range(3):
        save_deep(tmp_path / f"{number}.png", 4095, seed=number)
    with load(model, threads=1) as segmenter:
        jobs = find_jobs(sorted(tmp_path.glob("*.png")), tmp_path / "out")
        with pytest.warns(PictureWarning) as caught:
            list(predict_files(segmenter, jobs, tmp_path / "out", model_sha256="ab"))
    assert len(caught) == 1


def test_the_range_is_in_the_spec(tmp_path: Path) -> None:
    text = replace(make_spec("labels"), range=(0, 4095)).to_json()
    assert json.loads(text)["range"] == [0, 4095]
