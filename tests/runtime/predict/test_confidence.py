"""Confidence for every head, cover and size, and the mean over an image and its mirror image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fcnkit.runtime import Segmenter, load
from fcnkit.runtime.artifacts.spec import Border, Form
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.predict.passes import MOST_LOGIT_BYTES
from tests.reference.confidence import TOLERANCE, assert_sure, confidence_and_margin
from tests.reference.segment import assert_same_labels, average, largest_multiple, network, pad
from tests.refusal import refusal
from tests.runtime.models import make_layer, make_spec, write_model, write_scene
from tests.runtime.predict.test_scores import LAYERS
from tests.runtime.predict.test_scores import mean_logits as score_logits
from tests.runtime.predict.test_segmenter import net, picture

KINDS = ("logits-average", "logits-pad", "labels-pad", "scene-average")
SIZES = [(1, 1), (33, 1), (31, 33), (64, 96), (95, 97), (131, 70)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    labels = make_spec("labels", confidence=True)
    return {
        "logits": write_model(folder / "logits.onnx", make_spec("logits")),
        "labels": write_model(folder / "labels.onnx", labels),
        "scene": write_scene(folder / "scene.onnx", confidence=True),
        "plain": write_model(folder / "plain.onnx", make_spec("labels")),
    }


@pytest.fixture(scope="module", params=KINDS)
def opened(request: pytest.FixtureRequest, models: dict[str, Path]) -> Iterator[Segmenter]:
    head, _, cover = request.param.partition("-")
    with load(models[head], cover=cover) as segmenter:
        yield segmenter


def mean_logits(image: NDArray[np.uint8], cover: str) -> NDArray[np.float64]:
    if cover == "pad":
        return pad(image, 32, 32, net())
    tile = (largest_multiple(image.shape[0]), largest_multiple(image.shape[1]))
    return average(image, tile, net())


def check(made: Prediction, image: NDArray[np.uint8], segmenter: Segmenter) -> None:
    exact = mean_logits(image, segmenter.cover)
    assert_same_labels(made.labels, exact)
    confidence, margin = confidence_and_margin(exact, axis=2)
    assert_sure(made.confidence, confidence, TOLERANCE)
    if segmenter.spec.head == "logits":
        assert_sure(made.margin, margin, TOLERANCE)
    else:
        assert made.margin is None


def sizes(segmenter: Segmenter) -> list[tuple[int, int]]:
    """A scene graph takes sides from 32; the runtime grows smaller images, whose mean differs."""
    return [size for size in SIZES if segmenter.spec.head != "scene" or min(size) >= 32]


def test_confidence_is_exact_and_changes_no_label(opened: Segmenter) -> None:
    for size in sizes(opened):
        image = picture(*size)
        made = opened(image, confidence=True)
        check(made, image, opened)
        np.testing.assert_array_equal(made.labels, opened(image))


def test_map_gives_the_same(opened: Segmenter, tmp_path: Path) -> None:
    images = [picture(*size) for size in sizes(opened)]
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    for source in ([tmp_path / "a.png"], images):
        for result in opened.map(source, batch=4, confidence=True):
            assert result.prediction is not None
            assert result.labels_hw is result.prediction.labels
            image = result.source if isinstance(result.source, np.ndarray) else images[0]
            check(result.prediction, image, opened)
    (plain,) = opened.map(images[:1])
    assert plain.prediction is None


@settings(max_examples=25)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    tile=st.tuples(*[st.sampled_from([32, 64, 96])] * 2),
    overlap=st.integers(0, 31),
    flip=st.booleans(),
)
def test_any_plan_and_size(
    models: dict[str, Path],
    height: int,
    width: int,
    tile: tuple[int, int],
    overlap: int,
    flip: bool,
) -> None:
    """The mean is taken tile by tile, of each as it is and, with flip, mirrored."""
    image = picture(height, width)
    options: dict[str, Any] = {"tta": "flip"} if flip else {}
    with load(models["logits"], cover="average", tile=tile, overlap=overlap, **options) as opened:
        made, plan = opened(image, confidence=True), opened.plan(height, width)
    grown_h, grown_w = plan.tile
    grown = np.pad(
        image,
        ((0, max(0, grown_h - height)), (0, max(0, grown_w - width)), (0, 0)),
        mode="reflect",
    )
    total = np.zeros((*grown.shape[:2], 4))
    count = np.zeros((*grown.shape[:2], 1))
    for top, left in plan:
        window = np.s_[top : top + plan.tile_height, left : left + plan.tile_width]
        total[window] += network(grown[window], *net())
        count[window] += 1
        if flip:
            total[window] += network(grown[window][:, ::-1], *net())[:, ::-1]
            count[window] += 1
    exact = (total / count)[:height, :width]
    assert_same_labels(made.labels, exact)
    confidence, margin = confidence_and_margin(exact, axis=2)
    assert_sure(made.confidence, confidence, TOLERANCE)
    assert_sure(made.margin, margin, TOLERANCE)


def test_flip_is_the_mean_of_an_image_and_its_mirror_image(models: dict[str, Path]) -> None:
    image = picture(64, 96)
    exact = (pad(image, 32, 32, net()) + pad(image[:, ::-1], 32, 32, net())[:, ::-1]) / 2
    with load(models["logits"], tta="flip") as opened:
        assert opened.tta == "flip"
        assert_same_labels(opened(image), exact)
        mirrored = opened(np.ascontiguousarray(image[:, ::-1]))
        np.testing.assert_array_equal(mirrored[:, ::-1], opened(image))
        (one,) = opened.map([image], batch=3)
        assert one.labels_hw is not None
        np.testing.assert_array_equal(one.labels_hw, opened(image))


def test_bands_are_as_sure_as_the_whole(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(200, 170)
    with load(models["logits"], tile=(64, 64), overlap=20, tta="flip") as opened:
        whole = opened(image, confidence=True)
        assert MOST_LOGIT_BYTES > 0
        monkeypatch.setattr("fcnkit.runtime.predict.passes.MOST_LOGIT_BYTES", 4 * 64 * 64 * 4 * 2)
        bands = opened(image, confidence=True)
    for name in ("labels", "confidence", "margin"):
        difference = getattr(bands, name).astype(int) - getattr(whole, name)
        assert np.abs(difference).max() <= 1
    np.testing.assert_array_equal(bands.labels, whole.labels)


def test_a_model_of_labels_alone_refuses_by_name(models: dict[str, Path]) -> None:
    text = (
        "Segmenter: confidence needs head scores or logits, or a model exported with --confidence, "
        "got head labels; export it again with --confidence"
    )
    with load(models["plain"]) as opened:
        with refusal(ValueError, text):
            opened(picture(40, 40), confidence=True)
        with refusal(ValueError, text):
            opened.map([], confidence=True)
        with refusal(
            TypeError, "Segmenter: confidence: must be True or False, got int; pass a bool"
        ):
            opened(picture(40, 40), confidence=1)  # type: ignore[call-overload]
    for head in ("labels", "scene"):
        text = (
            "Segmenter: tta='flip' needs a model with head scores or logits, whose logits are "
            f"averaged, got head {head}; leave tta out, or export with --head scores or logits, or "
            "--head scene --tta flip"
        )
        with refusal(ValueError, text):
            load(models[head], tta="flip")
    with refusal(ValueError, "Segmenter: tta: must be one of flip, got turn; choose one of these"):
        load(models["logits"], tta="turn")  # type: ignore[arg-type]


def test_labels_alone_of_a_model_with_confidence(models: dict[str, Path]) -> None:
    image = picture(70, 101)
    with load(models["labels"]) as sure, load(models["plain"]) as plain:
        labels = sure(image)
        assert isinstance(labels, np.ndarray)
        np.testing.assert_array_equal(labels, plain(image))


@pytest.mark.parametrize(("border", "form"), LAYERS)
@pytest.mark.parametrize("options", [{}, {"cover": "pad"}, {"tile": (32, 64), "overlap": 12}])
@pytest.mark.parametrize("flip", [False, True])
def test_scores_are_as_sure_as_their_logits(
    border: Border,
    form: Form,
    options: dict[str, Any],
    flip: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = make_layer(border, form)
    path = write_model(tmp_path / "m.onnx", make_spec("scores", layer=layer), layer=layer)
    with load(path, tta="flip" if flip else None, **options) as opened:
        for size in ((33, 1), (64, 96), (95, 97), (131, 70)):
            image, plan = picture(*size), opened.plan(*size)
            exact = score_logits(image, plan, layer, flip=flip)
            confidence, margin = confidence_and_margin(exact)
            made = opened(image, confidence=True)
            assert_sure(made.confidence, confidence, TOLERANCE)
            assert_sure(made.margin, margin, TOLERANCE)
            np.testing.assert_array_equal(made.labels, opened(image))
            with monkeypatch.context() as patch:
                patch.setattr("fcnkit.runtime.predict.passes.MOST_LOGIT_BYTES", 1)
                bands = opened(image, confidence=True)
            np.testing.assert_array_equal(bands.labels, made.labels)
            assert_sure(bands.confidence, confidence, TOLERANCE)
