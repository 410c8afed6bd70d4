"""A picture on its way through the model: batches of tiles out of it, labels together again.

A pass is cut into batches that are requested one after the other, and takes the model's answers in
the same order. What it holds of a large picture is one row of tiles and the overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.pixels import tiling

__all__ = [
    "MOST_LOGIT_BYTES",
    "BandPass",
    "ImageRows",
    "Pass",
    "Rows",
    "WholePass",
    "filled",
    "logit_bytes",
    "tiles_at_once",
]

MOST_LOGIT_BYTES: Final = 1 << 26
"""Logits that one pass holds at a time, unless one tile has more."""


class Rows(Protocol):
    """A picture that is read from top to bottom, once."""

    height: int
    width: int

    def read(self, count: int) -> NDArray[np.uint8]:
        """Return the next ``count`` rows, uint8 RGB (count, width, 3)."""


class ImageRows:
    """A picture in memory as rows."""

    def __init__(self, image_hwc: NDArray[np.uint8]) -> None:
        self.height, self.width = image_hwc.shape[:2]
        self._image, self._at = image_hwc, 0

    def read(self, count: int) -> NDArray[np.uint8]:
        """Return the next rows, without a copy."""
        self._at += count
        return self._image[self._at - count : self._at]


class Pass(Protocol):
    """What the loop around a backend needs to know of a picture."""

    plan: tiling.TilePlan

    def batches(self) -> Iterator[NDArray[Any]]:
        """Yield the network's input, a few tiles at a time, in plan order."""

    def take(self, outputs: NDArray[Any]) -> None:
        """Take the network's output for the next tiles, as many as there are in it."""


def tiles_at_once(spec: ModelSpec, plan: tiling.TilePlan) -> int:
    """Return how many tiles of a picture go through the model together."""
    if spec.head != "logits":
        return 1
    return max(1, min(spec.shapes.max[0], MOST_LOGIT_BYTES // logit_bytes(spec, plan.tile)))


def filled(batch: NDArray[Any], least: int) -> NDArray[Any]:
    """Return a batch with its last tile repeated up to the smallest that the model takes.

    Args:
        batch: (N, ...).
        least: Of the spec's shapes; above 1 where a graph or an engine has a fixed batch.

    Returns:
        The batch itself where it is large enough.
    """
    missing = least - len(batch)
    return np.concatenate([batch, batch[-1:].repeat(missing, 0)]) if missing > 0 else batch


def logit_bytes(spec: ModelSpec, tile: tuple[int, int]) -> int:
    """Return the size of one tile's float32 logits."""
    return 4 * spec.num_classes * tile[0] * tile[1]


class WholePass:
    """A picture whose tiles fit into one batch: prepared and finished by any thread."""

    def __init__(
        self,
        image_hwc: NDArray[np.uint8],
        plan: tiling.TilePlan,
        spec: ModelSpec,
        *,
        threads: int | None,
    ) -> None:
        """Make the network's input.

        Args:
            image_hwc: uint8 (H, W, 3), C-contiguous.
            plan: Where its tiles lie.
            spec: The model's promises.
            threads: Largest number of threads of the kernels.
        """
        self.plan = plan
        self._spec, self._threads = spec, threads
        self._tiles: NDArray[Any] | None = _network_input(image_hwc, plan, spec, threads)
        self._outputs: NDArray[Any] | None = None

    def batches(self) -> Iterator[NDArray[Any]]:
        """Yield all tiles at once; they are not kept."""
        tiles, self._tiles = self._tiles, None
        if tiles is not None:
            yield tiles

    def take(self, outputs: NDArray[Any]) -> None:
        """Keep the outputs for ``labels``."""
        self._outputs = outputs

    def labels(self) -> NDArray[np.uint8]:
        """Return the labels (H, W), the caller's own, once the outputs are there."""
        outputs, plan = self._outputs, self.plan
        assert outputs is not None
        self._outputs = None
        if self._spec.head == "logits":
            logits_tchw = np.ascontiguousarray(outputs)
            return tiling.stitch(logits_tchw, plan, threads=self._threads)
        # A view would keep the labels of a whole batch alive.
        labels_hw: NDArray[np.uint8] = outputs[0, : plan.height, : plan.width].copy()
        return labels_hw


class BandPass:
    """A picture of any size, row of tiles by row of tiles; its labels come in bands."""

    def __init__(
        self,
        rows: Rows,
        plan: tiling.TilePlan,
        spec: ModelSpec,
        sink: Callable[[NDArray[np.uint8], NDArray[np.uint8]], None],
        *,
        threads: int | None,
    ) -> None:
        """Begin a picture.

        Args:
            rows: The picture.
            plan: Where its tiles lie.
            spec: The model's promises; the head is ``logits``.
            sink: Called with each band of the picture (rows, W, 3) and its labels (rows, W), from
                top to bottom; both are only lent.
            threads: Largest number of threads of the kernels.
        """
        self.plan = plan
        self._rows, self._spec, self._sink, self._threads = rows, spec, sink, threads
        self._stitcher = tiling.Stitcher(plan.height, plan.width, spec.num_classes, plan)
        self._shown: list[NDArray[np.uint8]] = []
        """Bands of the picture whose labels are not finished, oldest first."""

    def batches(self) -> Iterator[NDArray[Any]]:
        """Yield tiles, never of two rows of tiles together."""
        plan, most = self.plan, tiles_at_once(self._spec, self.plan)
        band = np.empty((0, plan.width, 3), np.uint8)
        for top, after in zip(plan.tops, (*plan.tops[1:], plan.height), strict=True):
            end = min(top + plan.tile_height, plan.height)
            fresh = self._rows.read(end - top - len(band))
            band = np.concatenate([band, fresh]) if len(band) else fresh
            self._shown.append(band[: after - top])
            for first in range(0, len(plan.lefts), most):
                yield self._tiles(band, plan.lefts[first : first + most])
            band = band[after - top :]

    def _tiles(self, band: NDArray[np.uint8], lefts: tuple[int, ...]) -> NDArray[Any]:
        plan = self.plan
        right = min(lefts[-1] + plan.tile_width, plan.width)
        part = np.ascontiguousarray(band[:, lefts[0] : right])
        inner = tiling.TilePlan(
            len(part),
            right - lefts[0],
            plan.tile_height,
            plan.tile_width,
            (0,),
            tuple(left - lefts[0] for left in lefts),
        )
        return _network_input(part, inner, self._spec, self._threads)

    def take(self, outputs: NDArray[Any]) -> None:
        """Add the outputs to the sums, and hand out the rows that are finished by them."""
        for logits_chw in np.ascontiguousarray(outputs):
            finished = self._stitcher.add(logits_chw, threads=self._threads)
            if finished is not None:
                self._sink(self._shown.pop(0), finished[1])


def _network_input(
    image_hwc: NDArray[np.uint8], plan: tiling.TilePlan, spec: ModelSpec, threads: int | None
) -> NDArray[Any]:
    if spec.head != "logits":
        return tiling.cut(image_hwc, plan, threads=threads)
    mean, std = spec.input.mean, spec.input.std
    return tiling.gather(image_hwc, plan, mean=mean, std=std, threads=threads)
