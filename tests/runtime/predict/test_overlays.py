"""Overlays: what they look like, and that every class can be told without another file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fcnkit import Segmenter, load
from fcnkit.runtime.pixels.palette import voc_palette
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.predict.folder import find_jobs, predict_files
from fcnkit.runtime.predict.legend import class_entries, draw_legend, least_width
from fcnkit.runtime.predict.outputs import OutputRequest, open_output, read_size
from fcnkit.runtime.predict.overlays import OverlayRows, OverlayStyle
from tests.cli.shell import called
from tests.refusal import refusal
from tests.runtime.models import make_spec, write_model

SPEC = make_spec("labels")
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 300, 3), np.uint8)
LABELS = np.random.default_rng(1).integers(0, SPEC.num_classes, (10, 75)).astype(np.uint8)
LABELS = np.ascontiguousarray(LABELS.repeat(4, 0).repeat(4, 1))


def drawn(style: OverlayStyle, path: Path, band: int = 40) -> NDArray[np.uint8]:
    output, _ = open_output(
        path, OutputRequest(size=(40, 300), spec=SPEC, format="overlay", style=style)
    )
    for top in range(0, 40, band):
        output.write(IMAGE[top : top + band], Prediction(LABELS[top : top + band]))
    output.close()
    with Image.open(path) as image:
        return np.array(image)


def slow_outline() -> NDArray[np.bool_]:
    """Pixel by pixel: does the label differ from that above or to the left?"""
    border = np.zeros(LABELS.shape, bool)
    for y, x in np.ndindex(*LABELS.shape):
        above = y > 0 and LABELS[y - 1, x] != LABELS[y, x]
        border[y, x] = above or (x > 0 and LABELS[y, x - 1] != LABELS[y, x])
    return border


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("outline", [False, True])
@pytest.mark.parametrize("band", [7, 40])
def test_alpha_and_outline(alpha: float, outline: bool, band: int, tmp_path: Path) -> None:
    style = OverlayStyle(alpha=alpha, outline=outline, legend=False)
    found = drawn(style, tmp_path / "a.png", band)
    colors = np.array(SPEC.palette, np.float64)[LABELS]
    expected = IMAGE * (1 - alpha) + colors * alpha
    if outline:
        expected[slow_outline()] = colors[slow_outline()]
    assert found.shape == IMAGE.shape
    assert np.abs(found - expected).max() <= 1


def test_the_legend_has_every_class_and_its_color(tmp_path: Path) -> None:
    found = drawn(OverlayStyle(), tmp_path / "a.png")
    strip = found[40:]
    assert np.array_equal(found[:40], drawn(OverlayStyle(legend=False), tmp_path / "b.png"))
    for color in SPEC.palette:
        # A square of 11 x 11 pixels within its frame.
        assert (strip == color).all(-1).sum() >= 121
    entries = class_entries(SPEC.classes, np.array(SPEC.palette, np.uint8))
    assert [entry.text for entry in entries] == [f"{n} {c}" for n, c in enumerate(SPEC.classes)]
    legend = np.asarray(draw_legend(entries, width=292))
    assert np.array_equal(strip[4 : 4 + len(legend), 4:296], legend)


def test_a_narrow_image_gets_a_wider_file() -> None:
    rows = OverlayRows(5, SPEC, OverlayStyle())
    needed = least_width(class_entries(SPEC.classes, np.array(SPEC.palette, np.uint8)))
    assert rows.width == needed + 8
    found = rows.draw(IMAGE[:9, :5], LABELS[:9, :5])
    assert found.shape == (9, rows.width, 3)
    assert (found[:, 5:] == 255).all()


def test_colors_that_nobody_can_tell_apart_are_replaced() -> None:
    gray = replace(SPEC, palette=tuple((n, n, n) for n in range(SPEC.num_classes)))
    rows = OverlayRows(300, gray, OverlayStyle(alpha=1.0))
    assert np.array_equal(rows.draw(IMAGE, LABELS), voc_palette()[LABELS])


@pytest.fixture
def segmenter(tmp_path: Path) -> Segmenter:
    return load(write_model(tmp_path / "m.onnx", SPEC), threads=1)


def test_another_look_is_drawn_again_and_the_same_is_not(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    jobs, out = find_jobs([tmp_path / "a.png"], tmp_path / "out"), tmp_path / "out"
    status = []
    for style in (None, OverlayStyle(), OverlayStyle(alpha=0.3), OverlayStyle(alpha=0.3)):
        work = predict_files(
            segmenter, jobs, out, model_sha256="ab", format="overlay", overlay=style
        )
        status += [record.status for record in work]
    assert status == ["done", "skipped", "done", "skipped"]
    size = read_size(str(out / "a.png"))
    assert size is not None
    assert size[0] > 40


def test_a_look_goes_with_overlays_alone(segmenter: Segmenter, tmp_path: Path) -> None:
    text = "predict: overlay: goes with format overlay, got format color; leave it out"
    with refusal(ValueError, text):
        predict_files(
            segmenter, [], tmp_path, model_sha256="ab", format="color", overlay=OverlayStyle()
        )


@pytest.mark.parametrize(
    ("alpha", "kind", "text"),
    [
        (1.5, ValueError, "--alpha: must be 0..1, got 1.5; pass 0.0 to 1.0"),
        (-0.1, ValueError, "--alpha: must be 0..1, got -0.1; pass 0.0 to 1.0"),
        (float("nan"), ValueError, "--alpha: must be 0..1, got nan; pass 0.0 to 1.0"),
        ("half", TypeError, "--alpha: must be a number, got str; pass 0.0 to 1.0"),
    ],
)
def test_wrong_alpha(alpha: float, kind: type[Exception], text: str) -> None:
    with refusal(kind, text):
        OverlayStyle(alpha=alpha)


def test_the_options(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", SPEC)
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    words = ("predict", model, tmp_path / "a.png", "-o", tmp_path / "out")
    for option in (("--alpha", "0.3"), ("--outline",), ("--no-legend",)):
        done = called(*words, *option)
        name = "--legend" if option == ("--no-legend",) else option[0]
        assert done.stderr == (
            f"error: {name}: goes with --format overlay, got --format labels; leave it out\n"
        )
        assert done.returncode == 2
    done = called(*words, "--format", "overlay", "--alpha", "0", "--outline", "--no-legend")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out/a.png") as found, load(model, threads=1) as segmenter:
        labels = segmenter(IMAGE)
        style = OverlayStyle(alpha=0.0, outline=True, legend=False)
        assert np.array_equal(found, OverlayRows(300, SPEC, style).draw(IMAGE, labels))
