from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fcnkit.runtime.artifacts.spec import Border
from fcnkit.runtime.pixels import _kernels
from fcnkit.runtime.pixels import upsampling as up
from fcnkit.runtime.pixels.confidence import ConfidentUpsampleStitcher, upsample_confident
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.pixels.tile_plan import TilePlan, kernel_plan, plan_padded, plan_tiles
from tests.reference import upsampling as ref
from tests.reference.confidence import TOLERANCE, assert_sure, confidence_and_margin
from tests.refusal import refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

SLOW = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
KERNELS = ("bilinear", "trained", "spiky", "needles", "random", "zero")
SCORES = ("random", "smooth", "close", "nearly", "equal", "tiny", "huge", "rare")


@dataclass(frozen=True)
class Layer:
    weights: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    stride: int
    border: Border

    def ready(self) -> up.Upsampling:
        return up.Upsampling(self.weights, self.bias, stride=self.stride, border=self.border)


Case: TypeAlias = "tuple[Layer, TilePlan, NDArray[Any]]"


def some_weights(
    rng: np.random.Generator, kind: str, classes: int, stride: int, dense: bool
) -> NDArray[np.float32]:
    side = 2 * stride
    shape = (classes, classes, side, side) if dense else (classes, side, side)
    weights = np.zeros(shape, np.float32)
    if kind == "zero":
        return weights
    if kind == "random":
        return rng.normal(0, 1, shape).astype(np.float32)
    each = np.arange(classes)
    weights[(each, each) if dense else each] = ref.bilinear(stride)
    if kind == "trained":
        weights += rng.normal(0, 0.003, shape).astype(np.float32)
    if kind == "spiky":  # single weights far from what their surroundings say
        weights.flat[rng.integers(0, weights.size, 1 + weights.size // 300)] += 0.5
    if kind == "needles":  # few for each class, so that most parts of a cell have none
        for c in range(classes):
            own = weights[c, c] if dense else weights[c]
            own.flat[rng.integers(0, own.size, 4)] -= 3
    return weights


def some_scores(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
    tiles, classes, height, width = shape
    scores = rng.normal(0, 3, shape)
    if kind == "smooth":
        coarse = rng.normal(0, 6, (tiles, classes, height // 3 + 1, width // 3 + 1))
        scores = np.repeat(np.repeat(coarse, 3, 2), 3, 3)[..., :height, :width]
    if kind == "close":  # classes that differ in the last bits
        scores = scores[:, :1] * (1 + rng.integers(-2, 3, shape) * 2.0**-23)
    if kind == "nearly":  # each class above the one before, by less than sums may lose
        scores = scores[:, :1] * (1 + np.arange(classes)[:, None, None] * 2.0**-23)
    if kind == "equal":
        scores = np.repeat(scores[:, :1], classes, 1)
    if kind == "tiny":  # below the normal floats
        scores = scores * 1e-39
    if kind == "huge":
        scores = np.clip(scores * 1e34, -3e34, 3e34)
    if kind == "rare":
        scores = np.where(rng.random(shape) < 0.05, scores, 0)
    return scores.astype(np.float32)


@st.composite
def plans(draw: st.DrawFn, stride: int) -> TilePlan:
    height, width = draw(st.integers(1, 110)), draw(st.integers(1, 140))
    if draw(st.booleans()):
        return plan_padded(height, width, multiple=stride)
    sides = st.integers(1, max(1, 96 // stride)).map(lambda n: n * stride)
    tile = draw(sides), draw(sides)
    limit = plan_tiles(height, width, tile=tile, multiple=stride).tile
    overlap = draw(st.integers(0, min(limit) - 1))
    plan = plan_tiles(height, width, tile=tile, overlap=overlap, multiple=stride)
    return plan if len(plan) <= 30 else plan_tiles(height, width, multiple=stride)


@st.composite
def cases(draw: st.DrawFn, many: bool = False) -> Case:
    """Any layer; with ``many`` one that leads from every class to every class at a wide stride.

    Its float64 sums take long, so that it has few classes otherwise.
    """
    stride = draw(st.sampled_from([2, 4, 8, 8, 10, 12, 16, 16, 20, 32, 32, 32, 64]))
    dense = draw(st.booleans())
    most = (6 if stride > 16 else 32) if dense else 255
    classes = draw(st.integers(1, 6) | st.integers(1, most))
    if many:
        stride, dense, classes = draw(st.sampled_from([16, 32])), True, draw(st.integers(7, 32))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = some_weights(rng, draw(st.sampled_from(KERNELS)), classes, stride, dense)
    bias = rng.normal(0, 1, classes).astype(np.float32) if draw(st.booleans()) else None
    plan = draw(plans(stride))
    if (many or classes > 32) and plan.height * plan.width > 4000:
        plan = plan_padded(min(plan.height, 40), min(plan.width, 60), multiple=stride)
    shape = (len(plan), classes, plan.tile_height // stride, plan.tile_width // stride)
    scores = some_scores(rng, draw(st.sampled_from(SCORES)), shape)
    border: Border = draw(st.sampled_from(["zero", "edge"]))
    return Layer(weights, bias, stride, border), plan, scores


def every_logit(scores: NDArray[Any], plan: TilePlan, layer: up.Upsampling) -> NDArray[np.uint8]:
    """The labels without bounds: every class of every pixel is computed."""
    labels = np.empty((plan.height, plan.width), np.uint8)
    _kernels.upsample_argmax(scores, kernel_plan(plan), layer._kernel, 0, 0, False, labels, None, 1)
    return labels


def exact_logits(
    scores: NDArray[Any], plan: TilePlan, layer: Layer
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean logits (C, H, W), and what float32 may lose of each pixel's sums."""
    options = (layer.stride, layer.border)
    exact = ref.mean_logits(scores, plan, layer.weights, layer.bias, *options)
    bias = None if layer.bias is None else np.abs(layer.bias)
    parts = ref.mean_logits(np.abs(scores), plan, np.abs(layer.weights), bias, *options)
    operations = 4 * exact.shape[0] + 2 + len(plan)
    return exact, parts.max(axis=0) * operations * 2.0**-24 + operations * 2.0**-148


def check_against_float64(
    found: Sequence[NDArray[np.uint8]], scores: NDArray[Any], plan: TilePlan, layer: Layer
) -> None:
    """A label's logit is the largest, but for what float32 may lose of the sums."""
    exact, lost = exact_logits(scores, plan, layer)
    for labels in found:
        chosen = np.take_along_axis(exact, labels[None].astype(np.int64), axis=0)[0]
        assert (exact.max(axis=0) - chosen <= 2 * lost).all()


def streamed(
    scores: NDArray[Any], plan: TilePlan, layer: up.Upsampling, **options: Any
) -> NDArray[np.uint8]:
    stitcher = up.UpsampleStitcher(plan.height, plan.width, plan, layer)
    rows: list[NDArray[np.uint8]] = []
    at = 0
    for index, tile in enumerate(scores):
        assert not stitcher.done
        finished = stitcher.add(tile, **options)
        assert (finished is None) == ((index + 1) % len(plan.lefts) != 0)
        if finished is not None:
            assert finished[0] == at
            at += len(finished[1])
            later = plan.tops[(index + 1) // len(plan.lefts) :]
            assert at == (later[0] if later else plan.height)
            rows.append(finished[1])
    assert stitcher.done
    return np.vstack(rows)


def check_on_every_set(
    isas: Callable[[], Iterator[str]], case: Case, *others: Callable[..., NDArray[Any]]
) -> None:
    """Compare the labels with other ways to compute them, and with float64."""
    layer, plan, scores = case
    ready = layer.ready()
    found = []
    for _ in isas():
        found.append(up.upsample_argmax(scores, plan, ready))
        for other in others:
            np.testing.assert_array_equal(found[-1], other(scores, plan, ready))
    # Once for all sets: float64 takes longer than their kernels.
    check_against_float64(found, scores, plan, layer)


@SLOW
@given(case=cases(many=True))
def test_many_classes_that_all_read_each_other(
    isas: Callable[[], Iterator[str]], case: Case
) -> None:
    check_on_every_set(isas, case, every_logit, streamed)


@SLOW
@given(case=cases())
def test_every_label_is_right(isas: Callable[[], Iterator[str]], case: Case) -> None:
    check_on_every_set(isas, case, every_logit, streamed)


@SLOW
@given(case=cases())
def test_confidence_is_the_softmax_of_the_mean(
    isas: Callable[[], Iterator[str]], case: Case
) -> None:
    layer, plan, scores = case
    logits, lost = exact_logits(scores, plan, layer)
    confidence, margin = confidence_and_margin(logits)
    units = TOLERANCE + 255 * 2 * lost  # no derivative of a softmax is larger than 2 per logit
    ready = layer.ready()
    for _ in isas():
        made = upsample_confident(scores, plan, ready, threads=2)
        np.testing.assert_array_equal(made.labels, up.upsample_argmax(scores, plan, ready))
        assert_sure(made.confidence, confidence, units)
        assert_sure(made.margin, margin, units)

        stitcher = ConfidentUpsampleStitcher(plan.height, plan.width, plan, ready)
        parts = [found for tile in scores if (found := stitcher.add(tile)) is not None]
        assert [at for at, _ in parts] == list(plan.tops)
        joined = Prediction.joined([rows for _, rows in parts])
        for name in ("labels", "confidence", "margin"):
            np.testing.assert_array_equal(getattr(joined, name), getattr(made, name))


@SLOW
@given(case=cases())
def test_sets_that_round_once_agree(case: Case) -> None:
    layer, plan, scores = case
    ready, before = layer.ready(), _kernels.build_info()["active"]
    found = []
    for name in _kernels.build_info()["variants"]:
        if name != "scalar":
            _kernels.select(name)
            found.append(up.upsample_argmax(scores, plan, ready))
    _kernels.select(before)
    for labels in found[1:]:
        np.testing.assert_array_equal(labels, found[0])


@SLOW
@given(
    stride=st.sampled_from([2, 4, 8, 16, 32]),
    border=st.sampled_from(["zero", "edge"]),
    dense=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_the_first_of_equal_logits(
    isa: str, stride: int, border: Border, dense: bool, seed: int, data: st.DataObject
) -> None:
    """Whole scores, interpolation by a power of two: every sum is exact, many are equal."""
    rng, plan = np.random.default_rng(seed), data.draw(plans(stride))
    weights = some_weights(rng, "bilinear", 5, stride, dense)
    if dense:
        weights[rng.integers(0, 5, 3), rng.integers(0, 5, 3)] += ref.bilinear(stride)
    bias = rng.integers(-1, 2, 5).astype(np.float32)
    shape = (len(plan), 5, plan.tile_height // stride, plan.tile_width // stride)
    scores = rng.integers(-2, 3, shape).astype(np.float32)
    tiles = [ref.upsampled(tile, weights, bias, stride, border) for tile in scores]
    total = np.zeros((5, plan.tops[-1] + plan.tile_height, plan.lefts[-1] + plan.tile_width))
    for tile, (top, left) in zip(tiles, plan, strict=True):
        total[:, top : top + plan.tile_height, left : left + plan.tile_width] += tile
    expected = np.argmax(total, axis=0)[: plan.height, : plan.width]
    labels = up.upsample_argmax(scores, plan, Layer(weights, bias, stride, border).ready())
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "bits"])
def test_types(isa: str, kind: str) -> None:
    rng, plan = np.random.default_rng(1), plan_tiles(70, 90, tile=64, overlap=8)
    layer = Layer(some_weights(rng, "trained", 4, 16, True), None, 16, "zero")
    scores = rng.normal(0, 3, (len(plan), 4, 4, 4)).astype(np.float32)
    typed: Any = scores.astype("float16" if kind == "float16" else ml_dtypes.bfloat16)
    exact, options = typed.astype(np.float32), {}
    if kind == "bits":
        typed, options = typed.view(np.uint16), {"bfloat16": True}
    expected = up.upsample_argmax(exact, plan, layer.ready())
    labels = up.upsample_argmax(typed, plan, layer.ready(), **options)
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(streamed(typed, plan, layer.ready(), **options), expected)


def test_many_tiles_at_a_pixel(isas: Callable[[], Iterator[str]]) -> None:
    """More than bounds are kept for, at every distance from one another."""
    starts = (0, 1, 3, 8, 9, 17, 25)
    plan, rng = TilePlan(57, 57, 32, 32, starts, starts), np.random.default_rng(2)
    for stride in (8, 16):
        layer = Layer(some_weights(rng, "trained", 3, stride, True), None, stride, "zero")
        scores = some_scores(rng, "smooth", (49, 3, 32 // stride, 32 // stride))
        check_on_every_set(isas, (layer, plan, scores), streamed)


def wide_case(kernel: str) -> Case:
    """Enough blocks of a kind for bounds of overlapping tiles, at odd distances."""
    rng, plan = np.random.default_rng(3), plan_tiles(215, 501, tile=(192, 288), multiple=32)
    layer = Layer(some_weights(rng, kernel, 5, 32, True), None, 32, "zero")
    return layer, plan, some_scores(rng, "smooth", (len(plan), 5, 6, 9))


@pytest.mark.parametrize("kernel", KERNELS)
def test_bounds_of_overlapping_tiles(isas: Callable[[], Iterator[str]], kernel: str) -> None:
    check_on_every_set(isas, wide_case(kernel), every_logit)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_ties_of_rounded_sums_are_no_lead(isa: str, stride: int, dense: bool) -> None:
    """At every corner a later class is larger; at some pixels the sums of both are equal."""
    rng, plan = np.random.default_rng(7), plan_padded(256, 256, multiple=stride)
    weights = some_weights(rng, "bilinear", 2, stride, dense)
    ready = Layer(weights, None, stride, "edge").ready()
    scores = np.abs(some_scores(rng, "nearly", (1, 2, 256 // stride, 256 // stride)))
    labels = up.upsample_argmax(scores, plan, ready)
    assert 0 < np.count_nonzero(labels == 0) < labels.size
    np.testing.assert_array_equal(labels, every_logit(scores, plan, ready))


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_change_nothing(isa: str, threads: int) -> None:
    layer, plan, scores = wide_case("trained")
    ready = layer.ready()
    expected = up.upsample_argmax(scores, plan, ready, threads=1)
    out = np.empty_like(expected)
    assert up.upsample_argmax(scores, plan, ready, threads=threads, out=out) is out
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(streamed(scores, plan, ready, threads=threads), expected)


def test_threads_share_a_layer() -> None:
    layer, plan, scores = wide_case("trained")
    ready = layer.ready()
    inputs = [np.roll(scores, shift, axis=1) for shift in range(5)]
    expected = [up.upsample_argmax(each, plan, ready) for each in inputs]
    wrong: list[int] = []

    def work(which: int) -> None:
        for _ in range(5):
            labels = up.upsample_argmax(inputs[which], plan, ready)
            wrong.extend([which] * (not np.array_equal(labels, expected[which])))

    threads = [threading.Thread(target=work, args=(which,)) for which in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_nothing_outside_the_result_is_written(isa: str) -> None:
    rng, plan = np.random.default_rng(4), plan_padded(37, 61, multiple=8)
    ready = Layer(some_weights(rng, "trained", 3, 8, False), None, 8, "edge").ready()
    scores = rng.normal(0, 1, (1, 3, 5, 8)).astype(np.float32)
    memory = np.full(37 * 61 + 2, 0xA5, np.uint8)
    out = memory[1:-1].reshape(37, 61)
    up.upsample_argmax(scores, plan, ready, out=out)
    assert memory[0] == memory[-1] == 0xA5
    np.testing.assert_array_equal(out, every_logit(scores, plan, ready))


def test_the_reference_is_what_torch_computes() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    scores = rng.normal(0, 1, (1, 3, 5, 7)).astype(np.float32)
    for stride in (2, 8, 16):
        weights = some_weights(rng, "random", 3, stride, True)
        bias = rng.normal(0, 1, 3).astype(np.float32)
        tensors = (torch.from_numpy(each) for each in (scores, weights, bias))
        padding = {"stride": stride, "padding": stride // 2}
        logits = torch.nn.functional.conv_transpose2d(*tensors, **padding)[0].numpy()
        ours = ref.upsampled(scores[0], weights, bias, stride, "zero")
        np.testing.assert_allclose(ours, logits, atol=1e-4)
        resized = torch.nn.functional.interpolate(
            torch.from_numpy(scores), scale_factor=stride, mode="bilinear", align_corners=False
        )
        kernels = some_weights(rng, "bilinear", 3, stride, False)
        ours = ref.upsampled(scores[0], kernels, None, stride, "edge")
        np.testing.assert_allclose(ours, resized[0].numpy(), atol=1e-5)


def test_what_a_layer_says() -> None:
    weights = np.zeros((7, 16, 16), np.float32)
    layer = up.Upsampling(weights, None, stride=8, border="edge")
    assert (layer.stride, layer.classes, layer.border) == (8, 7, "edge")


W = np.zeros((3, 3, 16, 16), np.float32)
WEIGHTS = "Upsampling: weights: "


@pytest.mark.parametrize(
    ("weights", "bias", "options", "error", "text"),
    [
        (W, None, {"stride": 7}, ValueError,
         "Upsampling: stride: must be even, got 7; use the head logits for this network"),
        (W, None, {"stride": 66}, ValueError,
         "Upsampling: stride: must be 2..64, got 66; pass a value from 2 to 64"),
        (W, None, {"border": "mirror"}, ValueError,
         "Upsampling: border: must be one of zero, edge, got mirror; choose one of these"),
        (W.astype(np.float64), None, {}, TypeError,
         f"{WEIGHTS}dtype must be float32, got float64; convert them with .astype(np.float32)"),
        (W[..., :15], None, {}, ValueError,
         f"{WEIGHTS}must be C-contiguous, got strides (3072, 1024, 64, 4) for shape (3, 3, 16, 15);"
         " pass np.ascontiguousarray(x)"),
        (W, None, {"stride": 4}, ValueError,
         f"{WEIGHTS}must have shape (C, C, 8, 8) or (C, 8, 8) at stride 4, got (3, 3, 16, 16); pass"
         " those of a transposed convolution whose kernel is two strides wide"),
        (W[:2], None, {}, ValueError,
         f"{WEIGHTS}must lead from C classes to C classes, got (2, 3, 16, 16); use the head logits"
         " for this network"),
        (np.zeros((33, 33, 16, 16), np.float32), None, {}, ValueError,
         f"{WEIGHTS}must be of 1..32 classes where every class depends on every score, got 33;"
         " use the head logits for this network"),
        (np.zeros((256, 16, 16), np.float32), None, {}, ValueError,
         f"{WEIGHTS}must be of 1..255 classes, got 256; use the head logits for this network"),
        (W + np.float32(np.nan), None, {}, ValueError,
         f"{WEIGHTS}must be finite and at most 1e+18 in magnitude, got nan; check the weights of"
         " the model"),
        (W, np.zeros(2, np.float32), {}, ValueError,
         "Upsampling: bias: must have shape (3,), got (2,); pass one value per class"),
        (W, np.float32([0, np.inf, 0]), {}, ValueError,
         "Upsampling: bias: must be finite and at most 1e+18 in magnitude, got inf; check the"
         " weights of the model"),
    ],
)  # fmt: skip
def test_layers_refused(
    weights: Any, bias: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with refusal(error, text):
        up.Upsampling(weights, bias, **({"stride": 8, "border": "zero"} | options))


PLAN = plan_tiles(40, 70, multiple=8)
READY = up.Upsampling(W, None, stride=8, border="zero")
S = np.zeros((len(PLAN), 3, PLAN.tile_height // 8, PLAN.tile_width // 8), np.float32)
CALL, ADD = "upsample_argmax", "UpsampleStitcher.add"


def with_one(value: float, dtype: Any = np.float32) -> NDArray[Any]:
    scores = S.astype(dtype)
    scores[-1, -1, -1, -1] = value
    return scores


@pytest.mark.parametrize(
    ("scores", "error", "text"),
    [
        (S.astype(np.float64), TypeError,
         "dtype must be float32 or float16 or bfloat16, got float64; convert the logits, or pass"
         " bfloat16=True with the bits as uint16"),
        (with_one(np.nan), ValueError,
         "must be finite and at most 4.25e+37 in magnitude, got NaN or infinity; check the weights"
         " of the model, or run it in float32"),
        (with_one(-np.inf, np.float16), ValueError,
         "must be finite and at most 4.25e+37 in magnitude, got NaN or infinity; check the weights"
         " of the model, or run it in float32"),
        (with_one(np.inf, ml_dtypes.bfloat16), ValueError,
         "must be finite and at most 4.25e+37 in magnitude, got NaN or infinity; check the weights"
         " of the model, or run it in float32"),
        (with_one(3e38), ValueError,
         "must be finite and at most 4.25e+37 in magnitude, got 3e+38; check the weights of the"
         " model, or run it in float32"),
    ],
)  # fmt: skip
def test_scores_refused(scores: NDArray[Any], error: type[Exception], text: str) -> None:
    assert len(PLAN) == 2
    with refusal(error, f"{CALL}: scores_tchw: {text}"):
        up.upsample_argmax(scores, PLAN, READY)
    stitcher = up.UpsampleStitcher(40, 70, PLAN, READY)
    if scores.dtype == np.float32:
        stitcher.add(S[0])
    else:
        stitcher.add(scores[0]) if scores.dtype != np.float64 else None
    with refusal(error, f"{ADD}: scores_chw: {text}"):
        stitcher.add(scores[-1])
    assert not stitcher.done


def test_the_largest_scores_do_not_overflow(isa: str) -> None:
    rng = np.random.default_rng(6)
    weights = some_weights(rng, "random", 3, 8, True)
    ready = Layer(weights, None, 8, "zero").ready()
    limit = np.nextafter(np.float32(ready._largest_score(PLAN)), np.float32(0))
    scores = rng.choice([-limit, limit], S.shape).astype(np.float32)
    labels = up.upsample_argmax(scores, PLAN, ready)
    np.testing.assert_array_equal(labels, every_logit(scores, PLAN, ready))
    check_against_float64([labels], scores, PLAN, Layer(weights, None, 8, "zero"))


def test_other_shapes_and_plans_are_refused() -> None:
    with refusal(
        ValueError,
        f"{CALL}: scores_tchw: must have shape (2, 3, 5, 8), got (1, 3, 5, 8); pass the plan they"
        " were cut by and the layer of this network",
    ):
        up.upsample_argmax(S[:1], PLAN, READY)
    with refusal(
        ValueError,
        f"{CALL}: plan: sides of tiles must be multiples of the stride, 8, got 40x70; plan with"
        " such a multiple",
    ):
        up.upsample_argmax(S, plan_padded(40, 70, multiple=10), READY)
    with refusal(TypeError, f"{CALL}: plan: must be a TilePlan, got list; call plan_tiles"):
        up.upsample_argmax(S, [], READY)  # type: ignore[arg-type]
    with refusal(
        TypeError,
        f"{CALL}: upsampling: must be of type Upsampling, got one of type NoneType; pass one",
    ):
        up.upsample_argmax(S, PLAN, None)  # type: ignore[arg-type]
    with refusal(ValueError, "UpsampleStitcher: the plan is for 40x70, got 41x70; plan this size"):
        up.UpsampleStitcher(41, 70, PLAN, READY)


def test_the_stitcher_refuses_and_goes_on() -> None:
    stitcher = up.UpsampleStitcher(40, 70, PLAN, READY)
    stitcher.add(S[0])
    with refusal(
        ValueError,
        f"{ADD}: scores_chw: must have shape (3, 5, 8), got (3, 5, 7); pass one tile of the plan",
    ):
        stitcher.add(np.zeros((3, 5, 7), np.float32))
    with refusal(
        TypeError,
        f"{ADD}: scores_chw: all tiles must have the type of the first, float32, got float16;"
        " convert the scores",
    ):
        stitcher.add(S[1].astype(np.float16))
    finished = stitcher.add(S[1])
    assert finished is not None
    assert stitcher.done
    np.testing.assert_array_equal(finished[1], np.zeros((40, 70), np.uint8))
    with refusal(
        ValueError, f"{ADD}: the plan has 2 tiles, got one more; make a new UpsampleStitcher"
    ):
        stitcher.add(S[0])
