"""How often labels agree with those of the source, where no truth is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.predict.covering import CoverRequest
from fcnkit.runtime.predict.opening import open_segmenter
from fcnkit.runtime.predict.pictures import read_picture
from fcnkit.runtime.predict.segmenter import Segmenter

__all__ = ["agreement", "save_labels"]


def save_labels(
    path: Path,
    request: BackendRequest,
    cover: CoverRequest,
    *,
    pictures: Sequence[Path],
    folder: Path,
) -> int:
    """Label pictures with the source and keep the labels for ``agreement``.

    Args:
        path: The model that counts as right.
        request: How it is opened.
        cover: How it covers pictures.
        pictures: The files.
        folder: Where the labels go.

    Returns:
        How many classes the labels show.

    Raises:
        DataError: A picture is broken.
    """
    seen: set[int] = set()
    with open_segmenter(path, request, cover) as segmenter:
        for number, labels_hw in enumerate(_labels(segmenter, pictures)):
            seen |= set(np.unique(labels_hw).tolist())
            np.save(folder / f"{number}.npy", labels_hw)
    return len(seen)


def agreement(
    segmenter: Segmenter, *, pictures: Sequence[Path], folder: Path, classes: int
) -> dict[str, Any]:
    """Compare labels with those that ``save_labels`` kept.

    Args:
        segmenter: The model.
        pictures: The same files.
        folder: Where the labels are.
        classes: What ``save_labels`` returned.

    Returns:
        ``kind`` is ``agreement``, ``value`` the share of equal labels over the pixels of all
        pictures, ``pictures`` their number, ``warnings`` why it may say little.

    Raises:
        DataError: A picture is broken.
    """
    equal = pixels = 0
    for number, labels_hw in enumerate(_labels(segmenter, pictures)):
        expected_hw = np.load(folder / f"{number}.npy")
        equal += int((labels_hw == expected_hw).sum())
        pixels += expected_hw.size
    warnings = []
    if classes == 1:
        warnings.append("the source gives one class on all pictures: agreement says little")
    return {
        "kind": "agreement",
        "value": equal / pixels,
        "pictures": len(pictures),
        "warnings": warnings,
    }


def _labels(segmenter: Segmenter, pictures: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
    spec = segmenter.spec
    for path in pictures:
        yield segmenter(read_picture(path, range=spec.range, bands=spec.bands))
