from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fcnkit.runtime.pixels import metrics as fm
from tests.reference import metrics as ref

SLOW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng([13, *seed])


@SLOW
@given(
    classes=st.integers(1, 256),
    ignore=st.integers(0, 255),
    width=st.integers(0, 200),
    run=st.sampled_from([1, 3, 40]),
    seed=st.integers(0, 999),
)
def test_confusion(isa: str, classes: int, ignore: int, width: int, run: int, seed: int) -> None:
    legal = np.append(np.arange(classes), ignore)
    target = np.repeat(rng(seed).choice(legal, (3, width)), run, axis=1).astype(np.uint8)
    guesses = rng(seed, 1).integers(0, classes, (3, width))
    predicted = np.repeat(guesses, run, axis=1).astype(np.uint8)
    predicted[target == ignore] = rng(seed, 2).integers(0, 256, predicted[target == ignore].shape)
    got = fm.confusion(target, predicted, classes, ignore=ignore)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, ref.confusion(target, predicted, classes, ignore))


@pytest.mark.parametrize("classes", [2, 21, 256])
@pytest.mark.parametrize("width", [*range(70), 127, 128, 129, 255, 256, 257])
def test_confusion_at_every_width(isa: str, width: int, classes: int) -> None:
    target = rng(width).integers(0, classes, (1, width)).astype(np.uint8)
    predicted = rng(width, 1).integers(0, classes, (1, width)).astype(np.uint8)
    got = fm.confusion(target, predicted, classes)
    np.testing.assert_array_equal(got, ref.confusion(target, predicted, classes, 255))
    assert got.sum() == (target != 255).sum()


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads_change_nothing(isa: str, threads: int) -> None:
    target = rng(1).integers(0, 21, (1200, 2111)).astype(np.uint8)
    predicted = rng(2).integers(0, 21, (1200, 2111)).astype(np.uint8)
    target[::7] = 255
    predicted[300:500] = target[300:500] % 21
    counted = target != 255
    flat = target[counted].astype(np.int64) * 21 + predicted[counted]
    expected = np.bincount(flat, minlength=441).reshape(21, 21)
    np.testing.assert_array_equal(fm.confusion(target, predicted, 21, threads=threads), expected)


@pytest.mark.parametrize("at", [0, 1, 31, 32, 63, 64, 65, 99])
@pytest.mark.parametrize("label", [3, 4, 128, 254])
def test_labels_out_of_range_are_refused_anywhere(isa: str, at: int, label: int) -> None:
    good, bad = np.zeros((1, 100), np.uint8), np.zeros((1, 100), np.uint8)
    bad[0, at] = label
    text = f"confusion: target_hw: labels must be 0..2 or 255, got {label}; raise num_classes"
    with pytest.raises(ValueError, match=re.escape(text)):
        fm.confusion(bad, good, 3)
    text = f"confusion: predicted_hw: labels must be 0..2, got {label}; raise num_classes"
    with pytest.raises(ValueError, match=re.escape(text)):
        fm.confusion(good, bad, 3)
    good[0, at] = 255
    assert fm.confusion(good, bad, 3).sum() == 99


GOOD = np.zeros((4, 6), np.uint8)


@pytest.mark.parametrize(
    ("target", "predicted", "classes", "error", "text"),
    [
        (GOOD.astype(np.int64), GOOD, 3, TypeError, "target_hw: dtype must be uint8, got int64"),
        (GOOD, GOOD.astype(np.int32), 3, TypeError, "predicted_hw: dtype must be uint8"),
        (GOOD, GOOD[:3], 3, ValueError, "predicted_hw: must have the target's shape (4, 6)"),
        (GOOD.T, GOOD.T, 3, ValueError, "target_hw: must be C-contiguous"),
        (GOOD, GOOD, 0, ValueError, "num_classes: must be 1..256, got 0"),
        (GOOD, GOOD, 257, ValueError, "num_classes: must be 1..256, got 257"),
        (GOOD, GOOD, 2.0, TypeError, "num_classes: must be an integer, got float"),
    ],
)
def test_confusion_refuses(
    target: Any, predicted: Any, classes: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=re.escape(text)):
        fm.confusion(target, predicted, classes)


@given(
    classes=st.integers(1, 8),
    cells=st.lists(st.integers(0, 10**12), min_size=64, max_size=64),
)
def test_scores_against_the_definitions(classes: int, cells: list[int]) -> None:
    matrix = np.array(cells[: classes**2], np.int64).reshape(classes, classes)
    matrix[0, 0] += 1
    names = [f"class {c}" for c in range(classes)]
    got = fm.scores(matrix, names)
    iou = ref.iou(matrix)
    assert list(got.iou) == names
    total = matrix.sum()
    present = [c for c in range(classes) if iou[c] is not None]
    actual = [c for c in range(classes) if matrix[c].sum() > 0]
    assert got.iou == dict(zip(names, iou, strict=True))
    assert got.pixel_accuracy == pytest.approx(np.trace(matrix) / total)
    assert got.mean_iou == pytest.approx(np.mean([iou[c] for c in present]))
    found = [matrix[c, c] / matrix[c].sum() for c in actual]
    assert got.class_accuracy == pytest.approx(np.mean(found))
    weighted = sum((iou[c] or 0) * matrix[c].sum() / total for c in range(classes))
    assert got.frequency_weighted_iou == pytest.approx(weighted)


def test_scores_to_dict_is_json() -> None:
    got = fm.scores(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]), ["sky", "road", "sign"])
    assert json.loads(json.dumps(got.to_dict())) == {
        "pixel_accuracy": 0.875,
        "class_accuracy": 0.875,
        "mean_iou": pytest.approx(0.775),
        "frequency_weighted_iou": pytest.approx(0.775),
        "iou": {"sky": 0.75, "road": 0.8, "sign": None},
    }


@pytest.mark.parametrize(
    ("matrix", "names", "error", "text"),
    [
        (np.zeros((2, 2), np.int64), ["a", "b"], ValueError, "must count at least one pixel"),
        (np.array([[1, -1], [0, 3]]), ["a", "b"], ValueError, "got a negative count"),
        (np.ones((2, 2), np.int64), ["a"], ValueError, "must have one row and column per"),
        (np.ones((2, 2), np.int64), ["a", "a"], ValueError, "per different class name"),
        (np.ones((2, 2)), ["a", "b"], TypeError, "dtype must be int64, got float64"),
    ],
)
def test_scores_refuses(matrix: Any, names: list[str], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        fm.scores(matrix, names)
