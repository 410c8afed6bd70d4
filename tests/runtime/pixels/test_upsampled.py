"""Logits of class scores as one array, against slow numpy."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnkit.runtime.artifacts.spec import Border
from fcnkit.runtime.pixels.upsampled import upsampled
from fcnkit.runtime.pixels.upsampling import Upsampling
from tests.reference import upsampling as ref


@settings(max_examples=60)
@given(
    tiles=st.integers(1, 3),
    classes=st.integers(1, 5),
    sides=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    stride=st.sampled_from([2, 4, 8, 32]),
    border=st.sampled_from(["zero", "edge"]),
    dense=st.booleans(),
)
def test_every_layer(
    tiles: int, classes: int, sides: tuple[int, int], stride: int, border: Border, dense: bool
) -> None:
    random = np.random.default_rng(stride * classes)
    scores = random.normal(0, 3, (tiles, classes, *sides)).astype(np.float32)
    shape = (classes,) * (2 if dense else 1) + (2 * stride, 2 * stride)
    weights = random.normal(0, 1, shape).astype(np.float32)
    bias = random.normal(0, 1, classes).astype(np.float32)
    got = upsampled(scores, Upsampling(weights, bias, stride=stride, border=border))
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    for tile, logits in zip(scores, got, strict=True):
        wanted = ref.upsampled(tile, weights, bias, stride, border)
        np.testing.assert_allclose(logits, wanted, atol=1e-4)
