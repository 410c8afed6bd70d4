"""Confidence of every head, cover, tile plan and size, in every precision, against slow numpy.

All heads are exported from one tiny network, whose logits ``tests.reference`` computes in float64.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from fcnkit.export.build import Typing, build_graph, head_spec, trace_core
from fcnkit.export.calibration import Calibration
from fcnkit.export.heads import Core
from fcnkit.export.to_onnx import save_model
from fcnkit.runtime import Backend, Segmenter, open_backend
from fcnkit.runtime.artifacts.spec import Head, Precision
from fcnkit.runtime.backends.onnxruntime import create_session
from fcnkit.runtime.backends.openvino import cpu_capabilities
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.pixels.tile_plan import TilePlan
from fcnkit.train.checkpoint import checkpoint_spec
from fcnkit.train.models import SegmentationNet, SubpixelConvTranspose2d
from tests.openvino_core import openvino_core
from tests.reference import tiling, upsampling
from tests.reference.confidence import TOLERANCE, assert_sure, confidence_and_margin
from tests.runtime.models import CLASSES, MEAN, PALETTE, STD, STRIDE, make_layer, score_weights
from tests.runtime.predict.test_scores import mean_logits, picture

HEADS: tuple[Head, ...] = get_args(Head)
WAYS: dict[str, tuple[str, Precision, str]] = {
    "onnxruntime-fp32": ("onnxruntime", "fp32", "auto"),
    "openvino-fp32": ("openvino", "fp32", "fp32"),
    "openvino-bf16": ("openvino", "fp32", "bf16"),
    "onnxruntime-fp16-file": ("onnxruntime", "fp16", "auto"),
    "openvino-fp16-file": ("openvino", "fp16", "auto"),
    "onnxruntime-int8-file": ("onnxruntime", "int8", "auto"),
}
"""Backend, precision of the file and of the computation."""
CASES = [f"{way}-{head}" for way in WAYS for head in HEADS]
CASES.remove("onnxruntime-int8-file-scores")  # its only convolution stays in float32
UNITS = 2.0
"""How far a lower precision may be from the softmax of the logits of the same file."""
GROUP = re.compile(r"labels/logits/(left|right)(\d+)")
"""The logits of a group of subpixels: their columns, and their first row."""
LAYER = make_layer()


class Tiny(SegmentationNet):
    """One convolution that gives class scores, and the last layer of ``make_layer``."""

    upsamples_scores = True

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Conv2d(3, len(CLASSES), STRIDE, STRIDE)
        self.upsample = SubpixelConvTranspose2d(len(CLASSES), len(CLASSES), stride=STRIDE)
        given = (*score_weights(), LAYER.weight, LAYER.bias)
        with torch.no_grad():
            for parameter, values in zip(self.parameters(), given, strict=True):
                parameter.copy_(torch.from_numpy(values))

    def body(self, image_nchw: Tensor) -> Tensor:
        scores: Tensor = self.scores(image_nchw)
        return scores

    @property
    def last_step(self) -> nn.Module:
        return self.upsample


@pytest.fixture(scope="module")
def core() -> Core:
    return trace_core(Tiny().eval(), len(CLASSES))


@dataclass(frozen=True)
class Opened:
    """A head that can tell its confidence, and files of the same network beside it."""

    head: Head
    sure: Backend
    plain: Backend
    """Labels without confidence; the same file where the runtime computes both."""
    inner: Callable[[NDArray[np.uint8]], NDArray[Any]] | None
    """Gives the logits inside of a graph whose outputs are labels, for all its tiles."""

    @property
    def exact(self) -> bool:
        return self.sure.info.precision == "fp32" and self.sure.spec.precision == "fp32"


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    """Pictures for int8."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{number}.png" for number in range(16)]
    for number, path in enumerate(paths):
        Image.fromarray(picture(96, 128, number)).save(path)
    return Calibration(pictures=tuple(paths), held_out=None)


@pytest.fixture(scope="module", params=CASES)
def opened(
    request: pytest.FixtureRequest,
    core: Core,
    calibration: Calibration,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Opened]:
    way, _, head = request.param.rpartition("-")
    backend, precision, compute = WAYS[way]
    pytest.importorskip(backend)
    if compute == "bf16" and "BF16" not in cpu_capabilities():
        pytest.skip("OpenVINO does not compute in bfloat16 on this processor")
    folder = tmp_path_factory.mktemp("heads")
    start = checkpoint_spec("tiny", CLASSES, PALETTE)

    def opened_as(path: Path, *, confidence: bool) -> Backend:
        options: dict[str, Any] = {"precision": precision, "core": core, "confidence": confidence}
        spec = head_spec(start, head, sha256="0" * 64, **options)
        graph, kept = build_graph(core, spec, Typing(calibration=calibration))
        save_model(graph, spec, path, notes={"kept_fp32": ", ".join(kept)})
        return open_backend(path, backend=backend, compute=compute, threads=1)  # type: ignore[arg-type]

    plain = opened_as(folder / "plain.onnx", confidence=False)
    if head in ("labels", "scene"):
        sure, inner = opened_as(folder / "sure.onnx", confidence=True), folder / "inner.onnx"
        run = with_inner_logits(folder / "sure.onnx", inner, backend, sure.info.precision)
        yield Opened(head, sure, plain, run)
        sure.close()
    else:
        yield Opened(head, plain, plain, None)
    plain.close()


def with_inner_logits(
    source: Path, path: Path, backend: str, compute: str
) -> Callable[[NDArray[np.uint8]], NDArray[Any]]:
    """Make the logits inside of a graph its outputs too, and return what computes them."""
    model = onnx.load(source)
    made = [name for node in model.graph.node for name in node.output]
    names = [name for name in made if name == "logits" or GROUP.fullmatch(name)]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    onnx.save(model, path)
    if backend == "onnxruntime":
        session = create_session(str(path), name=backend, threads=1, where=path.name)

        def run(batch: NDArray[np.uint8]) -> NDArray[Any]:
            return whole(dict(zip(names, session.run(names, {"image": batch}), strict=True)))

        return run
    core = openvino_core()
    hint = {"INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[compute]}
    request = core.compile_model(core.read_model(path), "CPU", hint).create_infer_request()

    def run_openvino(batch: NDArray[np.uint8]) -> NDArray[Any]:
        request.infer([batch])
        return whole({name: request.get_tensor(name).data.copy() for name in names})

    return run_openvino


def whole(parts: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """(T, C, H, W): logits as they are, or put together of groups of subpixels."""
    if "logits" in parts:
        return parts["logits"]
    rows = STRIDE * 2 // len(parts)  # of subpixels in each group; half of the columns
    half = STRIDE // 2
    total: NDArray[Any] = np.empty(0)
    for name, values in parts.items():
        found = GROUP.fullmatch(name)
        assert found is not None
        side, row = found.groups()
        _, classes, many, width = values.shape
        height = many // (rows * half)
        cells = values.reshape(classes, rows, half, height, width)
        if not total.size:
            total = np.full((1, classes, height * STRIDE, width * STRIDE), np.nan)
        for y in range(rows):
            for x in range(half):
                left = x + (0 if side == "left" else half)
                total[0, :, int(row) + y :: STRIDE, left::STRIDE] = cells[:, y, x]
    return total


def plan_of(opened: Opened, segmenter: Segmenter, height: int, width: int) -> TilePlan:
    """Where the tiles lie; those of graphs that cut or take one tile are counted out here."""
    if opened.head == "scene":
        tile = (height // 32 * 32, width // 32 * 32)
        tops, lefts = (
            tuple(sorted({0, side - part}))
            for side, part in zip((height, width), tile, strict=True)
        )
        return TilePlan(height, width, *tile, tops, lefts)
    if opened.head == "labels":
        return TilePlan(height, width, -(-height // 32) * 32, -(-width // 32) * 32, (0,), (0,))
    return segmenter.plan(height, width)


def logits_of_the_file(
    opened: Opened, image: NDArray[np.uint8], plan: TilePlan, *, flip: bool
) -> NDArray[np.float64]:
    """(C, H, W): the mean over tiles, in float64, of what the file computes for each tile."""
    if opened.inner is not None:
        logits = opened.inner(image[None] if opened.head == "scene" else tiling.cut(image, plan))
        # The tiles of a scene graph come column by column, those of a plan row by row.
        order = np.arange(len(plan)).reshape(len(plan.lefts), len(plan.tops)).T.ravel()
        return tiling.mean_logits(logits[order].astype(np.float64), plan)
    tiles = tiling.gather(image, plan, list(MEAN), list(STD)).astype(np.float32)

    def of(batch: NDArray[np.float32]) -> NDArray[np.float64]:
        given = [opened.sure.infer(np.ascontiguousarray(tile[None]))[0] for tile in batch]
        if opened.head == "logits":
            return np.stack(given).astype(np.float64)
        form = (LAYER.weight, LAYER.bias, LAYER.stride, LAYER.border)
        return np.stack([upsampling.upsampled(scores, *form) for scores in given])

    logits = of(tiles)
    if flip:
        logits = (logits + of(tiles[..., ::-1])[..., ::-1]) / 2
    return tiling.mean_logits(logits, plan)


@st.composite
def coverings(draw: st.DrawFn) -> dict[str, Any]:
    """The options of a segmenter over scores or logits."""
    options: dict[str, Any] = {"tta": draw(st.sampled_from([None, "flip"]))}
    cover = draw(st.sampled_from(["pad", "average", "tiles"]))
    if cover != "tiles":
        return {**options, "cover": cover}
    sides = st.sampled_from([32, 64, 96])
    return {**options, "tile": (draw(sides), draw(sides)), "overlap": draw(st.integers(0, 31))}


def check(
    opened: Opened, height: int, width: int, seed: int, options: dict[str, Any]
) -> Prediction:
    if opened.head == "scene":  # smaller images are grown, which is not what is tested here
        height, width = max(height, 32), max(width, 32)
    if opened.head in ("labels", "scene"):
        options = {}
    image, flip = picture(height, width, seed), options.get("tta") == "flip"
    segmenter = Segmenter(opened.sure, **options)
    made, plan = segmenter(image, confidence=True), plan_of(opened, segmenter, height, width)
    np.testing.assert_array_equal(made.labels, Segmenter(opened.plain, **options)(image))
    if opened.exact:
        logits, units = mean_logits(image, plan, LAYER, flip=flip), TOLERANCE
    else:
        logits, units = logits_of_the_file(opened, image, plan, flip=flip), UNITS
    confidence, margin = confidence_and_margin(logits)
    assert_sure(made.confidence, confidence, units)
    if opened.head in ("labels", "scene"):
        assert made.margin is None
    else:
        assert_sure(made.margin, margin, units)
    return made


SIZES = st.integers(1, 140)
CASES = st.fixed_dictionaries(
    {"height": SIZES, "width": SIZES, "seed": st.integers(0, 9), "options": coverings()}
)


@settings(max_examples=12)
@given(case=CASES)
def test_confidence_is_the_softmax_of_the_mean(opened: Opened, case: dict[str, Any]) -> None:
    check(opened, **case)


@settings(max_examples=200)
@given(case=CASES)
def test_confidence_of_many_more(opened: Opened, case: dict[str, Any]) -> None:
    check(opened, **case)


def test_the_confidence_is_not_the_same_everywhere(opened: Opened) -> None:
    """Otherwise the other tests would say little."""
    made = check(opened, 95, 131, 0, {})
    assert made.confidence is not None
    assert np.ptp(made.confidence) > 100
