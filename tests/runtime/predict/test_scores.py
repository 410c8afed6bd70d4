"""Head ``scores`` against slow numpy: the network, the last layer, the mean and the argmax."""

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

from fcnkit.errors import ArtifactError
from fcnkit.runtime import Segmenter, load, predict_files
from fcnkit.runtime.artifacts.last_layer import LastLayerWeights
from fcnkit.runtime.artifacts.spec import Border, Form
from fcnkit.runtime.backends.base import CheckedBackend
from fcnkit.runtime.pixels.tiling import TilePlan
from fcnkit.runtime.predict.folder import find_jobs
from tests.reference import tiling, upsampling
from tests.refusal import refusal
from tests.runtime.models import (
    MEAN,
    STD,
    STRIDE,
    make_info,
    make_layer,
    make_spec,
    score_weights,
    write_model,
)

LAYERS: tuple[tuple[Border, Form], ...] = (("zero", "dense"), ("edge", "diagonal"))


AGAIN = "export the model again with fcnkit export onnx"


def tile_logits(tiles_tchw: NDArray[Any], layer: LastLayerWeights) -> NDArray[np.float64]:
    """(T, C, h, w) in float64: what head logits would give for each normalized tile."""
    kernel, bias = score_weights()
    count, _, height, width = tiles_tchw.shape
    cells = tiles_tchw.reshape(count, 3, height // STRIDE, STRIDE, width // STRIDE, STRIDE)
    scores = np.einsum("tchiwj,kcij->tkhw", cells, kernel.astype(np.float64))
    scores += bias[:, None, None]
    form = (layer.weight, layer.bias, layer.stride, layer.border)
    return np.stack([upsampling.upsampled(tile, *form) for tile in scores])


def mean_logits(
    image: NDArray[np.uint8], plan: TilePlan, layer: LastLayerWeights, *, flip: bool = False
) -> NDArray[np.float64]:
    """(C, H, W) in float64: what head logits would give, averaged over tiles, also mirrored."""
    tiles = tiling.gather(image, plan, list(MEAN), list(STD))
    logits = tile_logits(tiles, layer)
    if flip:
        logits = (logits + tile_logits(tiles[..., ::-1], layer)[..., ::-1]) / 2
    return tiling.mean_logits(logits, plan)


def assert_labels(labels: NDArray[np.uint8], logits: NDArray[np.float64]) -> None:
    """Every label is the largest logit, or nearly: the kernel computes in float32."""
    chosen = np.take_along_axis(logits, labels[None].astype(np.int64), 0)[0]
    assert labels.shape == logits.shape[1:]
    assert (logits.max(0) - chosen).max() < 1e-5
    assert (labels == logits.argmax(0)).mean() > 0.999


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    random = np.random.default_rng(height * 1000 + width + seed)
    coarse = random.integers(0, 256, (height // 24 + 1, width // 24 + 1, 3))
    fine = random.integers(0, 60, (height, width, 3))
    grown = coarse.repeat(24, 0).repeat(24, 1)[:height, :width]
    return ((2 * grown + fine) // 3).astype(np.uint8)


@pytest.fixture(scope="module", params=LAYERS, ids=["-".join(layer) for layer in LAYERS])
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, LastLayerWeights]:
    layer = make_layer(*request.param)
    path = tmp_path_factory.mktemp("scores") / "m.onnx"
    return write_model(path, make_spec("scores", layer=layer), layer=layer), layer


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def opened(
    request: pytest.FixtureRequest, written: tuple[Path, LastLayerWeights]
) -> Iterator[tuple[Segmenter, Segmenter, LastLayerWeights]]:
    """The file opened to pad, and to average tiles."""
    pytest.importorskip(request.param)
    path, layer = written
    with (
        load(path, backend=request.param, threads=1) as padding,
        load(path, backend=request.param, threads=1, tile=(64, 96), overlap=20) as averaging,
    ):
        yield padding, averaging, layer


@settings(max_examples=25)
@given(height=st.integers(1, 200), width=st.integers(1, 200), seed=st.integers(0, 9))
def test_a_call_gives_the_largest_logit(
    opened: tuple[Segmenter, Segmenter, LastLayerWeights], height: int, width: int, seed: int
) -> None:
    image = picture(height, width, seed)
    for segmenter in opened[:2]:
        logits = mean_logits(image, segmenter.plan(height, width), opened[2])
        assert_labels(segmenter(image), logits)


def test_map_and_folder_runs_give_the_same(
    opened: tuple[Segmenter, Segmenter, LastLayerWeights], tmp_path: Path
) -> None:
    images = [picture(*size) for size in ((70, 90), (64, 96), (33, 200), (200, 130))]
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    for segmenter in opened[:2]:
        expected = [segmenter(image) for image in images]
        for result, labels in zip(segmenter.map(images, batch=1), expected, strict=True):
            assert np.array_equal(result.labels_hw, labels)
        # All in bands with tiles, as if they were too large to be held.
        limit = 1 if segmenter.tile else 10**9
        out = tmp_path / f"out{segmenter.cover}"
        jobs = find_jobs([tmp_path], out, suffix=".png")
        records = predict_files(segmenter, jobs, out, model_sha256="ab", max_pixels=limit)
        assert [record.status for record in records] == ["done"] * len(images)
        for number, labels in enumerate(expected):
            assert np.array_equal(np.array(Image.open(out / f"{number}.png")), labels)


def test_one_image_in_bands_equals_the_whole(
    written: tuple[Path, LastLayerWeights], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(300, 250)
    with load(written[0], threads=1, tile=(64, 96), overlap=20) as segmenter:
        whole = segmenter(image)
        monkeypatch.setattr("fcnkit.runtime.predict.passes.MOST_LOGIT_BYTES", 1)
        assert np.array_equal(segmenter(image), whole)


def test_weights_that_are_not_those_of_the_spec(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    layer = make_layer()
    other = LastLayerWeights(weight=layer.weight + 1, bias=layer.bias, border="zero")
    write_model(path, make_spec("scores", layer=layer), layer=other)
    rule = "must hold the weights of the last layer that its spec describes"
    with refusal(ArtifactError, f"{path}: {rule}, got others; {AGAIN}"):
        load(path)


def test_weights_that_are_missing(tmp_path: Path) -> None:
    onnx: Any = pytest.importorskip("onnx")
    path = write_model(tmp_path / "m.onnx", make_spec("scores"))
    model = onnx.load(path)
    kept = [tensor for tensor in model.graph.initializer if "last_layer.bias" not in tensor.name]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    onnx.save(model, path)
    got = "no tensor fcnkit.last_layer.bias"
    rule = "must hold the weights of its last layer, as its spec says"
    with refusal(ArtifactError, f"{path}: {rule}, got {got}; {AGAIN}"):
        load(path)


def test_weights_that_the_kernel_refuses(tmp_path: Path) -> None:
    layer = make_layer()
    layer.weight[0, 0, 0, 0] = np.nan
    path = write_model(tmp_path / "m.onnx", make_spec("scores", layer=layer), layer=layer)
    text = (
        f"{path}: Upsampling: weights: must be finite and at most 1e+18 in magnitude, got nan; "
        "check the weights of the model"
    )
    with refusal(ArtifactError, text):
        load(path)


class Bare(CheckedBackend):
    """A backend that was not opened by ``open_model``."""

    def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
        raise AssertionError(batch.shape)

    def _free(self) -> None:
        pass


def test_a_backend_without_the_last_layer() -> None:
    text = (
        "Segmenter: a backend of head scores must have the last layer, in its attribute "
        "upsampling, got none; open the file with open_backend"
    )
    with refusal(ValueError, text):
        Segmenter(Bare(make_spec("scores"), name="bare", info=make_info()))


def test_scores_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    spec = make_spec("scores")
    layer = make_layer()
    path = write_model(tmp_path / "m.onnx", spec, layer=layer)

    class Infinite(Bare):
        def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
            return np.full((len(batch), 4, batch.shape[2] // 8, batch.shape[3] // 8), np.inf, "f4")

    with load(path, threads=1) as opened:
        backend = Infinite(spec, name="bare", info=make_info())
        backend.upsampling = opened.backend.upsampling
        text = (
            "bare: the model must give finite scores, got infinity; "
            "check its weights, and with fp16 export it in fp32"
        )
        with refusal(ArtifactError, text):
            Segmenter(backend)(picture(40, 40))
