"""One network through every backend that opens here: the same labels on all but near ties."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fcnkit
from fcnkit.errors import BackendUnavailableError
from fcnkit.runtime import Segmenter, list_backends
from fcnkit.runtime.backends.settings import Compute

SIZES = ((1, 1), (31, 33), (64, 96), (97, 131), (200, 150))
AGREEMENT = 0.9999
"""Of all pixels, in float32: the libraries sum in another order."""
AGREEMENT_FAST = 0.98
"""In bfloat16, whose numbers have 8 bits."""


def pictures(folder: Path) -> list[np.ndarray]:
    """A picture of shapes at sizes that no multiple fits."""
    with Image.open(sorted((folder / "JPEGImages").iterdir())[0]) as image:
        return [np.asarray(image.convert("RGB").resize(size[::-1])) for size in SIZES]


def labels(segmenter: Segmenter, images: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([segmenter(image).ravel() for image in images])


@pytest.fixture(scope="module")
def reference(run_folder: Path, shapes_folder: Path) -> np.ndarray:
    """What PyTorch says in float32."""
    with fcnkit.load(run_folder / "best.pt", compute="fp32", cover="average") as segmenter:
        return labels(segmenter, pictures(shapes_folder))


OPEN = [status.name for status in list_backends() if status.opens]


@pytest.mark.parametrize("backend", [name for name in OPEN if not name.startswith("t")])
@pytest.mark.parametrize("head", ["logits", "scene"])
def test_every_backend_gives_the_labels_of_pytorch(
    exported: dict[str, Path],
    shapes_folder: Path,
    reference: np.ndarray,
    head: str,
    backend: str,
) -> None:
    compute: Compute = "auto" if backend == "onnxruntime-tensorrt" else "fp32"
    # As the reference; a scene graph does so by itself.
    with fcnkit.load(
        exported[head], backend=backend, compute=compute, cover="average"
    ) as segmenter:
        got = labels(segmenter, pictures(shapes_folder))
    assert (got == reference).mean() >= AGREEMENT


def test_the_heads_agree_where_they_cover_alike(
    exported: dict[str, Path], shapes_folder: Path
) -> None:
    images = pictures(shapes_folder)
    results = []
    for head in ("logits", "labels"):
        for backend in ("onnxruntime", "openvino"):
            with fcnkit.load(exported[head], backend=backend, cover="pad") as segmenter:
                results.append(labels(segmenter, images))
    for result in results[1:]:
        assert (result == results[0]).mean() >= AGREEMENT


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_bfloat16_is_asked_for_and_agrees_on_nearly_all_pixels(
    exported: dict[str, Path],
    run_folder: Path,
    shapes_folder: Path,
    reference: np.ndarray,
    backend: str,
) -> None:
    path = run_folder / "best.pt" if backend == "torch" else exported["logits"]
    try:
        opened = fcnkit.load(path, backend=backend, compute="bf16", cover="average")
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    with opened as segmenter:
        assert segmenter.backend.details["compute"] == "bf16"
        agreement = float((labels(segmenter, pictures(shapes_folder)) == reference).mean())
    assert agreement >= AGREEMENT_FAST
