"""Confidence and margin of stitched logits against softmax in float64, on every instruction set."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fcnkit.runtime.pixels import tiling as ft
from fcnkit.runtime.pixels.calibration import Calibration
from fcnkit.runtime.pixels.confidence import ConfidentStitcher, stitch_confident
from tests.reference import tiling as ref
from tests.reference.confidence import TOLERANCE, assert_sure, confidence_and_margin
from tests.refusal import refusal
from tests.runtime.pixels.test_tiling import SPECIAL, plans, rng

SLOW = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
TYPES: dict[str, Any] = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
}


def logits_of(plan: ft.TilePlan, classes: int, scale: float, seed: int) -> NDArray[np.float32]:
    shape = (len(plan), classes, *plan.tile)
    return rng(seed).normal(0, scale, shape).astype(np.float32)


@SLOW
@given(
    plan=plans(),
    classes=st.sampled_from([1, 2, 5, 21, 256]),
    scale=st.sampled_from([0.0, 0.3, 3.0, 60.0]),
    kind=st.sampled_from(sorted(TYPES)),
    seed=st.integers(0, 99),
)
def test_confidence_is_the_softmax_of_the_mean(
    isa: str, plan: ft.TilePlan, classes: int, scale: float, kind: str, seed: int
) -> None:
    if len(plan) * plan.tile_height * plan.tile_width * classes > 1 << 22:
        classes = 5
    logits = logits_of(plan, classes, scale, seed).astype(TYPES[kind])
    confidence, margin = confidence_and_margin(ref.mean_logits(logits.astype(np.float64), plan))
    made = stitch_confident(logits, plan)
    assert_sure(made.confidence, confidence, TOLERANCE)
    assert_sure(made.margin, margin, TOLERANCE)
    np.testing.assert_array_equal(made.labels, ft.stitch(logits, plan))

    stitcher = ConfidentStitcher(plan.height, plan.width, classes, plan)
    parts = [found for tile in logits if (found := stitcher.add(tile)) is not None]
    assert [at for at, _ in parts] == list(plan.tops)
    labels = np.concatenate([rows.labels for _, rows in parts])
    np.testing.assert_array_equal(labels, made.labels)
    for name, exact in (("confidence", confidence), ("margin", margin)):
        assert_sure(np.concatenate([getattr(r, name) for _, r in parts]), exact, TOLERANCE)


@pytest.mark.parametrize("width", [1, 7, 16, 63, 64, 65, 127, 128, 129, 257])
def test_lengths_around_blocks(isa: str, width: int) -> None:
    plan = ft.plan_tiles(3, width, tile=(3, width), multiple=1)
    logits = logits_of(plan, 7, 3.0, width)
    made = stitch_confident(logits, plan, threads=3)
    confidence, margin = confidence_and_margin(logits[0])
    assert_sure(made.confidence, confidence, TOLERANCE)
    assert_sure(made.margin, margin, TOLERANCE)


def test_nothing_is_sure_where_the_largest_mean_is_not_finite(isa: str) -> None:
    plan = ft.plan_tiles(40, 70, tile=32, overlap=16)
    logits = rng(5).choice(SPECIAL, (len(plan), 3, *plan.tile)).astype(np.float32)
    with np.errstate(invalid="ignore"):
        mean = ref.mean_logits(logits.astype(np.float64), plan)
    made = stitch_confident(logits, plan)
    assert made.confidence is not None
    assert made.margin is not None
    np.testing.assert_array_equal(made.labels, np.argmax(mean, axis=0))
    largest = np.take_along_axis(mean, made.labels[None].astype(np.int64), axis=0)[0]
    finite = np.isfinite(largest)
    assert finite.any()
    assert not finite.all()
    assert not made.confidence[~finite].any()
    assert not made.margin[~finite].any()
    # An infinitely small logit has no probability.
    confidence, margin = confidence_and_margin(mean[:, finite])
    assert_sure(made.confidence[finite], confidence, TOLERANCE)
    assert_sure(made.margin[finite], margin, TOLERANCE)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads_change_nothing(isa: str, threads: int) -> None:
    plan = ft.plan_tiles(500, 701, tile=320, overlap=17)
    logits = logits_of(plan, 5, 2.0, 1)
    one = stitch_confident(logits, plan, threads=1)
    many = stitch_confident(logits, plan, threads=threads)
    stitcher = ConfidentStitcher(500, 701, 5, plan)
    parts = [found for tile in logits if (found := stitcher.add(tile, threads=threads)) is not None]
    for name in ("labels", "confidence", "margin"):
        np.testing.assert_array_equal(getattr(many, name), getattr(one, name))
        rows = np.concatenate([getattr(found, name) for _, found in parts]).astype(int)
        assert np.abs(rows - getattr(one, name)).max() <= (name != "labels")


def test_labels_go_into_a_given_array() -> None:
    plan = ft.plan_tiles(40, 70)
    logits, out = logits_of(plan, 4, 1.0, 0), np.empty((40, 70), np.uint8)
    assert stitch_confident(logits, plan, out=out).labels is out
    text = (
        "stitch_confident: logits_tchw: must be 4 tiles of 32x64, as planned, "
        "got (1, 4, 32, 64); pass the plan they were cut by"
    )
    with refusal(ValueError, text):
        stitch_confident(logits[:1], plan)


def test_calibration_error_is_the_mean_gap_of_15_bins() -> None:
    random = rng(9)
    target = random.integers(0, 3, (80, 90)).astype(np.uint8)
    target[random.random(target.shape) < 0.1] = 255
    predicted = random.integers(0, 3, target.shape).astype(np.uint8)
    sure = random.integers(0, 256, target.shape).astype(np.uint8)
    calibration = Calibration()
    for rows in (slice(0, 30), slice(30, 80)):
        calibration.add(target[rows], predicted[rows], sure[rows])
    bins: dict[int, list[tuple[float, bool]]] = {}
    for t, p, s in zip(target.flat, predicted.flat, sure.flat, strict=True):
        if t != 255:
            bins.setdefault(min(14, int(s) * 15 // 255), []).append((s / 255, t == p))
    total = sum(map(len, bins.values()))
    gaps = (abs(sum(s for s, _ in b) - sum(right for _, right in b)) for b in bins.values())
    assert calibration.error() == pytest.approx(sum(gaps) / total, abs=1e-12)


def test_calibration_refuses_what_it_cannot_count() -> None:
    calibration, one = Calibration(), np.full((2, 2), 255, np.uint8)
    calibration.add(one, one, one)
    text = "Calibration.error: needs a pixel that is not void, got none; add an image first"
    with refusal(ValueError, text):
        calibration.error()
    text = (
        "Calibration.add: confidence_hw: must have the target's shape (2, 2), got (1, 2); "
        "pass arrays of one image"
    )
    with refusal(ValueError, text):
        calibration.add(one, one, one[:1])
