"""Every size and every backend against PyTorch in float32 under a cover written in numpy.

Here a part of the sizes; ``python -m benchmarks.agreement`` goes through all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fcnkit.runtime import Segmenter, load
from tests.reference.covering import Net, average, pad
from tests.runtime.models import MEAN, STD, conv5, make_spec, write_model, write_scene

SIZES = [(h, w) for h in range(1, 98) for w in range(1, 132)]
ENOUGH = 0.9999


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    write_heads(path)
    return path


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def ways(request: pytest.FixtureRequest, folder: Path) -> Iterator[dict[str, Segmenter]]:
    pytest.importorskip(request.param)
    with ExitStack() as stack:
        yield open_ways(stack, folder, request.param)


def write_heads(folder: Path) -> None:
    """Write a small network in every head, ``scene`` with the graph that exports have."""
    for head in ("logits", "labels"):
        write_model(folder / f"{head}.onnx", make_spec(head))
    write_scene(folder / "scene.onnx")


def open_ways(stack: ExitStack, folder: Path, backend: str) -> dict[str, Segmenter]:
    """Every head and cover, opened to compute in float32."""
    opened = {}
    for way in ("logits average", "logits pad", "labels pad", "scene average"):
        head, cover = way.split()
        opened[way] = stack.enter_context(
            load(folder / f"{head}.onnx", backend=backend, threads=1, compute="fp32", cover=cover)  # type: ignore[arg-type]
        )
    return opened


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng([height, width]).integers(0, 256, (height, width, 3), np.uint8)


def expected(image_hwc: NDArray[np.uint8], net: Net) -> dict[str, NDArray[np.int64]]:
    padded = pad(image_hwc, net, MEAN, STD, multiple=32)
    averaged = average(image_hwc, net, MEAN, STD)
    return {
        "logits average": averaged,
        "logits pad": padded,
        "labels pad": padded,
        "scene average": averaged,
    }


def check(ways: dict[str, Segmenter], images: Iterator[NDArray[np.uint8]], net: Net) -> None:
    equal, pixels = dict.fromkeys(ways, 0), 0
    for image_hwc in images:
        pixels += image_hwc.shape[0] * image_hwc.shape[1]
        for way, labels_hw in expected(image_hwc, net).items():
            found = ways[way](image_hwc)
            assert found.shape == labels_hw.shape
            assert (found == labels_hw).mean() >= 0.99, (way, labels_hw.shape)
            equal[way] += int((found == labels_hw).sum())
    assert {way: count / pixels for way, count in equal.items() if count < ENOUGH * pixels} == {}


def test_sizes(ways: dict[str, Segmenter]) -> None:
    """Every 61st size: all rows and all columns come, and no two in the same company."""
    chosen = SIZES[::61]
    assert len({h for h, _ in chosen}) == 97
    assert len({w for _, w in chosen}) > 100
    check(ways, (picture(*size) for size in chosen), conv5())


def test_real_sizes(ways: dict[str, Segmenter], voc_subset: Path) -> None:
    """One picture of every fourth size that the VOC subset has."""
    by_size: dict[tuple[int, int], Path] = {}
    for path in sorted((voc_subset / "JPEGImages").glob("*.jpg")):
        with Image.open(path) as image:
            by_size.setdefault(image.size, path)
    assert len(by_size) >= 54

    def images() -> Iterator[NDArray[np.uint8]]:
        for path in list(by_size.values())[::4]:
            with Image.open(path) as image:
                yield np.array(image.convert("RGB"))

    check(ways, images(), conv5())
