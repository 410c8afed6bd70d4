"""Rows of labels as the data of a PNG, against zlib's own reading of them."""

from __future__ import annotations

import itertools
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fcnkit.runtime.pixels._kernels import LabelDeflate
from tests.refusal import refusal


def compressed(labels_hw: NDArray[np.uint8], cuts: list[int]) -> bytes:
    """Compress rows in several calls."""
    deflate = LabelDeflate(labels_hw.shape[1])
    edges = [0, *sorted(cuts), len(labels_hw)]
    parts = [
        deflate.add(np.ascontiguousarray(labels_hw[a:b])) for a, b in itertools.pairwise(edges)
    ]
    return b"".join([*parts, deflate.end()])


def with_filters(labels_hw: NDArray[np.uint8]) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in labels_hw)


@st.composite
def label_maps(draw: st.DrawFn) -> NDArray[np.uint8]:
    """Maps of noise, of rectangles, and of rectangles with a few wrong pixels."""
    height, width = draw(st.integers(0, 12)), draw(st.integers(1, 900))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    highest = draw(st.sampled_from([1, 2, 20, 256]))
    labels = np.full((height, width), rng.integers(highest), np.uint8)
    for _ in range(draw(st.integers(0, 8))):
        y, x = rng.integers(0, height + 1, 2), rng.integers(0, width + 1, 2)
        labels[y.min() : y.max(), x.min() : x.max()] = rng.integers(highest)
    wrong = rng.random((height, width)) < draw(st.sampled_from([0, 0.01, 1]))
    labels[wrong] = rng.integers(0, highest, wrong.sum())
    return labels


@given(label_maps(), st.data())
def test_zlib_reads_the_same_rows(labels_hw: NDArray[np.uint8], data: st.DataObject) -> None:
    stream = compressed(labels_hw, [])
    # zlib checks the checksum; a decompressor also says whether the stream ends where it should.
    inflate = zlib.decompressobj()
    assert inflate.decompress(stream) == with_filters(labels_hw)
    assert inflate.eof
    assert inflate.unused_data == b""
    cuts = data.draw(st.lists(st.integers(0, len(labels_hw)), max_size=4))
    assert compressed(labels_hw, cuts) == stream


@pytest.mark.parametrize("width", [1, 2, 3, 257, 258, 259, 260, 32766, 32767, 32768, 70_000])
@pytest.mark.parametrize("label", [0, 255])
def test_widths_at_the_limits_of_deflate(width: int, label: int) -> None:
    labels = np.full((5, width), label, np.uint8)
    labels[2, width // 2 :] = 7
    labels[3, ::3] = 200
    assert zlib.decompress(compressed(labels, [2])) == with_filters(labels)


@pytest.mark.parametrize("length", range(1, 600))
def test_every_length_of_a_run_and_of_a_copy(length: int) -> None:
    labels = np.full((3, 601), 3, np.uint8)
    labels[0, :length] = 9
    labels[1] = np.arange(601) % 251
    labels[2] = labels[1]
    labels[2, length] ^= 1
    assert zlib.decompress(compressed(labels, [])) == with_filters(labels)


def test_the_checksum_of_the_largest_sums() -> None:
    labels = np.full((40, 9000), 255, np.uint8)
    assert zlib.decompress(compressed(labels, [])) == with_filters(labels)


def test_sizes_of_shapes_and_of_the_worst_noise() -> None:
    shapes = np.zeros((360, 480), np.uint8)
    y, x = np.mgrid[:360, :480]
    for label in range(1, 12):
        shapes[(y - 30 * label) ** 2 + (x - 41 * label) ** 2 < 900 + 100 * label] = label
    assert len(compressed(shapes, [])) < 0.02 * shapes.size
    noise = np.random.default_rng(0).integers(32, 255, (360, 480), np.uint8)
    assert len(compressed(noise, [])) < 1.51 * noise.size  # 12 bits for each of these labels


def test_what_is_refused() -> None:
    deflate = LabelDeflate(3)
    with refusal(ValueError, "labels must be rows of width"):
        deflate.add(np.zeros((2, 4), np.uint8))
    with refusal(ValueError, "width must be 1 or more"):
        LabelDeflate(0)
