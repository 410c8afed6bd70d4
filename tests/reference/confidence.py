"""The slow, obvious answer to "how sure is the model": softmax in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.5 + 255e-4
"""Half a unit for rounding to 1/255, and 1e-4."""


def softmax(logits: NDArray[np.floating[Any]], axis: int) -> NDArray[np.float64]:
    exact = logits.astype(np.float64)
    powers = np.exp(exact - exact.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def confidence_and_margin(
    mean_logits: NDArray[np.floating[Any]], axis: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """255 times the largest probability, and 255 times how much larger it is than the second."""
    ranked = np.moveaxis(255 * np.sort(softmax(mean_logits, axis), axis=axis), axis, 0)
    second = ranked[-2] if len(ranked) > 1 else np.zeros_like(ranked[-1])
    return ranked[-1], ranked[-1] - second


def assert_sure(
    got: NDArray[np.uint8] | None, exact: NDArray[np.float64], units: float | NDArray[np.float64]
) -> None:
    """Compare a uint8 array with exact values; units may differ from pixel to pixel."""
    assert got is not None
    assert got.dtype == np.uint8
    assert got.shape == exact.shape
    assert (np.abs(got - exact) <= units).all()
