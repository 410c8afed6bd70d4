"""Images that come as arrays: order of channels, gray, transparency, results into given arrays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fcnkit.runtime import Segmenter, load, read_picture
from fcnkit.runtime.predict.frames import rgb_image
from tests.refusal import refusal
from tests.runtime.models import make_spec, write_model
from tests.runtime.predict.test_segmenter import picture


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Segmenter]:
    path = write_model(tmp_path_factory.mktemp("models") / "m.onnx", make_spec("logits"))
    with load(path) as opened:
        yield opened


@given(height=st.integers(1, 9), width=st.integers(1, 9), step=st.integers(1, 3))
def test_every_order_means_the_same_image(height: int, width: int, step: int) -> None:
    rgb = picture(height, width)
    wide = np.zeros((height * step, width * step, 3), np.uint8)
    for color, given_array in (("RGB", rgb), ("BGR", rgb[..., ::-1])):
        wide[::step, ::step] = given_array
        got = rgb_image(wide[::step, ::step], color)  # type: ignore[arg-type]
        np.testing.assert_array_equal(got, rgb)
        assert got.flags.c_contiguous
    gray = rgb[..., 0]
    for array in (gray, gray[..., None], np.asfortranarray(gray)):
        np.testing.assert_array_equal(rgb_image(array, "GRAY"), np.stack([gray] * 3, axis=-1))


@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_transparency_is_put_on_white_as_of_files(color: Any, tmp_path: Path) -> None:
    rgba = np.random.default_rng(3).integers(0, 256, (20, 30, 4), np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    order = [0, 1, 2, 3] if color == "RGB" else [2, 1, 0, 3]
    np.testing.assert_array_equal(
        rgb_image(rgba[..., order], color), read_picture(tmp_path / "a.png")
    )


def test_an_rgb_array_is_not_copied() -> None:
    image = picture(8, 9)
    assert rgb_image(image) is image


SHAPES = "with color={!r}, image must have shape {}, H and W 1..16777216, got {}; {}"
COLORED, GRAY = "(H, W, 3) or (H, W, 4)", "(H, W) or (H, W, 1)"


@pytest.mark.parametrize(
    ("shape", "color", "text"),
    [
        (
            (4, 5),
            "BGR",
            SHAPES.format("BGR", COLORED, (4, 5), "pass color='GRAY' for a gray image"),
        ),
        (
            (4, 5, 1),
            "RGB",
            SHAPES.format("RGB", COLORED, (4, 5, 1), "pass color='GRAY' for a gray image"),
        ),
        (
            (4, 5, 3),
            "GRAY",
            SHAPES.format("GRAY", GRAY, (4, 5, 3), "pass color='RGB' or color='BGR'"),
        ),
        (
            (4, 5, 4),
            "GRAY",
            SHAPES.format("GRAY", GRAY, (4, 5, 4), "pass color='RGB' or color='BGR'"),
        ),
        ((4, 5, 2), "RGB", SHAPES.format("RGB", COLORED, (4, 5, 2), "pass one image")),
        ((4, 0, 4), "BGR", SHAPES.format("BGR", COLORED, (4, 0, 4), "pass one image, with pixels")),
        ((0, 5), "GRAY", SHAPES.format("GRAY", GRAY, (0, 5), "pass one image, with pixels")),
        ((4, 5, 3), "rgb", "color: must be one of RGB, BGR, GRAY, got rgb; choose one of these"),
        ((4, 5, 3), None, "color: must be one of RGB, BGR, GRAY, got None; choose one of these"),
    ],
)
def test_what_does_not_fit_the_color(
    segmenter: Segmenter, shape: tuple[int, ...], color: Any, text: str
) -> None:
    with refusal(ValueError, f"Segmenter: {text}"):
        segmenter(np.zeros(shape, np.uint8), color=color)


def test_calls_and_map_take_the_color(segmenter: Segmenter, tmp_path: Path) -> None:
    rgb = picture(50, 70)
    expected = segmenter(rgb)
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    assert not np.array_equal(segmenter(bgr), expected)
    np.testing.assert_array_equal(segmenter(bgr, color="BGR"), expected)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    sources: list[Path | NDArray[np.uint8]] = [bgr, tmp_path / "a.png", bgr[..., 0]]
    results = {id(one.source): one for one in segmenter.map(sources, color="BGR")}
    first, second, third = (results[id(source)] for source in sources)
    # Files say their order themselves.
    assert first.labels_hw is not None
    assert second.labels_hw is not None
    np.testing.assert_array_equal(first.labels_hw, expected)
    np.testing.assert_array_equal(second.labels_hw, expected)
    assert str(third.error).endswith("pass color='GRAY' for a gray image")
    with refusal(
        ValueError,
        "Segmenter.map: color: must be one of RGB, BGR, GRAY, got x; choose one of these",
    ):
        segmenter.map([bgr], color="x")  # type: ignore[arg-type]


def test_labels_go_into_the_given_array(segmenter: Segmenter) -> None:
    image = picture(50, 70)
    out = np.full((50, 70), 99, np.uint8)
    assert segmenter(image, out=out) is out
    np.testing.assert_array_equal(out, segmenter(image))
    made = segmenter(image, out=out, confidence=True)
    assert made.labels is out
    text = "Segmenter: out: must have shape (50, 70), got (70, 50); or leave it out"
    with refusal(ValueError, text):
        segmenter(image, out=np.empty((70, 50), np.uint8))
    text = "Segmenter: out: dtype must be uint8, got int64; pass np.empty((50, 70), np.uint8)"
    with refusal(TypeError, text):
        segmenter(image, out=np.empty((50, 70), np.int64))  # type: ignore[arg-type]
    inside = image.reshape(-1)[: 50 * 70].reshape(50, 70)
    text = (
        "Segmenter: out: must share no memory with an input, got one that does; "
        "pass a separate array"
    )
    with refusal(ValueError, text):
        segmenter(image, out=inside)


def test_warmup_runs_each_size(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    infer = segmenter.backend.infer

    def watched(batch: NDArray[Any]) -> NDArray[Any]:
        seen.append(batch.shape)
        return infer(batch)

    monkeypatch.setattr(segmenter.backend, "infer", watched)
    segmenter.warmup([(32, 64), (64, 32)])
    # The third call of a shape is the first that launches its CUDA graph.
    assert seen == [(1, 3, 32, 64)] * 3 + [(1, 3, 64, 32)] * 3
    segmenter.warmup(iter([]))
    assert len(seen) == 6
    text = "Segmenter.warmup: shapes must be pairs of height and width, got {}; pass [(480, 640)]"
    for shapes, got in (
        (5, "int"),
        ([480, 640], "480"),
        (["ab"], "ab"),
        ([(1, 2, 3)], "(1, 2, 3)"),
    ):
        with refusal(TypeError, text.format(got)):
            segmenter.warmup(shapes)  # type: ignore[arg-type]
    text = "Segmenter.warmup: side: must be 1..16777216, got 0; pass a value from 1 to 16777216"
    with refusal(ValueError, text):
        segmenter.warmup([(0, 5)])
    text = "Segmenter.warmup: side: must be an integer, got float; pass an int"
    with refusal(TypeError, text):
        segmenter.warmup([(32.0, 5)])  # type: ignore[list-item]
