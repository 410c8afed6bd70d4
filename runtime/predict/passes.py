"""One image on its way through the model: batches of tiles out of it, labels back together.

`begin` decides how an image goes: whole where its tiles fit into one batch, else in bands, a row of
tiles at a time. A pass gives batches one after the other and takes the model's outputs in the same
order. Of a large image it holds the pixels of one row of tiles, and the logits of its overlap or
the scores of one row of tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.pixels import tiling
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.pixels.upsampled import upsampled
from fcnkit.runtime.pixels.upsampling import Upsampling
from fcnkit.runtime.predict.joining import Joining

__all__ = [
    "MOST_LOGIT_BYTES",
    "ROWS_AT_ONCE",
    "LabelRows",
    "Pass",
    "Rows",
    "Sink",
    "begin",
    "filled",
    "logit_bytes",
]

Sink = Callable[[NDArray[np.uint8], Prediction], None]
"""Takes the next rows of an image (rows, W, 3) and what the model says of them, from top to bottom.
The image rows are only lent. The prediction is the sink's to keep."""

MOST_LOGIT_BYTES: Final = 1 << 26
"""Bytes of logits that one pass holds at a time, unless one tile has more. With head ``scores``,
which has no logits, the same number of tiles bounds the model's own memory."""

ROWS_AT_ONCE: Final = 64
"""Rows of a file that are read together."""


class Rows(Protocol):
    """An image that is read from top to bottom, once."""

    height: int
    width: int

    def read(self, count: int) -> NDArray[np.uint8]:
        """Return the next ``count`` rows, uint8 RGB (count, width, 3)."""


class LabelRows:
    """A sink that keeps what the model says, and nothing of the image."""

    def __init__(self) -> None:
        self._parts: list[Prediction] = []

    def __call__(self, image_hwc: NDArray[np.uint8], rows: Prediction) -> None:
        """Keep the next rows."""
        del image_hwc
        self._parts.append(rows)

    def joined(self) -> Prediction:
        """Return the prediction of the whole image, once its pass is finished."""
        return Prediction.joined(self._parts)


class Pass(Protocol):
    """What the loop around a backend needs to know of an image."""

    count: int
    """Tiles in all of its batches together."""

    def batches(self) -> Iterator[NDArray[Any]]:
        """Yield the network's input, a few tiles at a time, in plan order."""

    def take(self, outputs: NDArray[Any]) -> None:
        """Take the network's outputs for the next tiles, as many as there are in them."""

    def finish(self) -> None:
        """Hand the remaining labels to the sink, once every output is taken; on any thread."""


def begin(
    source: NDArray[np.uint8] | Rows,
    plan: tiling.TilePlan,
    spec: ModelSpec,
    sink: Sink,
    *,
    upsampling: Upsampling | None = None,
    threads: int | None,
    in_worker: bool = False,
    sure: bool = False,
    flip: bool = False,
) -> Pass:
    """Begin an image: whole where its tiles fit into one batch, else in bands.

    Args:
        source: The image, uint8 (H, W, 3) and C-contiguous, or its rows. Rows are never held
            whole, so they always go in bands.
        plan: Where its tiles lie.
        spec: The model's promises.
        sink: Gets the rows of the image and their labels.
        upsampling: The backend's last layer, for the head ``scores``.
        threads: Largest number of threads of the kernels; None takes the machine's.
        in_worker: Whether a worker thread begins and finishes the image beside others. Then a
            whole image uses one thread there. Bands are cut and stitched on the model's thread
            and use ``threads``.
        sure: Whether the sink gets confidence too; see ``gives_confidence``.
        flip: Whether every tile also goes through mirrored, for the mean of both.

    Returns:
        The pass.
    """
    whole = isinstance(source, np.ndarray) and len(plan) <= _tiles_at_once(spec, plan)
    workers = 1 if whole and in_worker else threads
    # The mean of a tile and its mirror image is a mean of logits, whatever the model gives.
    joining = Joining(plan, spec, None if flip else upsampling, sure, workers)
    setting = _Setting(plan, spec, sink, joining, workers)
    if isinstance(source, np.ndarray) and whole:
        one: Pass = _WholePass(source, setting)
    else:
        one = _BandPass(source, setting)
    return _FlipPass(one, upsampling) if flip else one


def _tiles_at_once(spec: ModelSpec, plan: tiling.TilePlan) -> int:
    """Return how many tiles of one image go through the model together."""
    if not spec.can_average:
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
    """Return the size of one tile's float32 logits, as large as the tile."""
    return 4 * spec.num_classes * tile[0] * tile[1]


@dataclass(frozen=True)
class _Setting:
    """What both kinds of passes are given."""

    plan: tiling.TilePlan
    spec: ModelSpec
    sink: Sink
    joining: Joining
    threads: int | None

    def network_input(self, image_hwc: NDArray[np.uint8], plan: tiling.TilePlan) -> NDArray[Any]:
        """Return the tiles of an image or of a part of it, as the model takes them."""
        if self.spec.input.dtype == "uint8":
            return tiling.cut(image_hwc, plan, threads=self.threads)
        mean, std = self.spec.input.mean, self.spec.input.std
        return tiling.gather(image_hwc, plan, mean=mean, std=std, threads=self.threads)


class _WholePass:
    """An image whose tiles fit into one batch: begun and finished by any thread."""

    def __init__(self, image_hwc: NDArray[np.uint8], setting: _Setting) -> None:
        self.count, self._setting, self._image = len(setting.plan), setting, image_hwc
        self._tiles: NDArray[Any] | None = setting.network_input(image_hwc, setting.plan)
        self._outputs: NDArray[Any] | None = None

    def batches(self) -> Iterator[NDArray[Any]]:
        """Yield all tiles at once; they are not kept."""
        tiles, self._tiles = self._tiles, None
        if tiles is not None:
            yield tiles

    def take(self, outputs: NDArray[Any]) -> None:
        """Keep the outputs for ``finish``."""
        self._outputs = outputs

    def finish(self) -> None:
        """Hand out the image and its labels."""
        outputs, self._outputs = self._outputs, None
        assert outputs is not None
        self._setting.sink(self._image, self._setting.joining.whole(outputs))


class _BandPass:
    """An image of any size whose outputs are averaged, row of tiles by row of tiles."""

    def __init__(self, source: NDArray[np.uint8] | Rows, setting: _Setting) -> None:
        self.plan, self._setting, self._source = setting.plan, setting, source
        self.count = len(setting.plan)
        self._join = setting.joining.one_by_one()
        self._shown: list[NDArray[np.uint8]] = []
        """Bands of the image whose labels are not finished, oldest first."""

    def batches(self) -> Iterator[NDArray[Any]]:
        """Yield tiles, never of two rows of tiles together."""
        plan, most = self.plan, _tiles_at_once(self._setting.spec, self.plan)
        band = np.empty((0, plan.width, 3), np.uint8)
        for top, after in zip(plan.tops, (*plan.tops[1:], plan.height), strict=True):
            end = min(top + plan.tile_height, plan.height)
            band = self._band(top, end, band)
            self._shown.append(band[: after - top])
            for first in range(0, len(plan.lefts), most):
                yield self._tiles(band, plan.lefts[first : first + most])
            band = band[after - top :]

    def _band(self, top: int, end: int, kept: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return rows of the image, of which the first ones are known."""
        if isinstance(self._source, np.ndarray):
            return self._source[top:end]
        band = np.empty((end - top, self.plan.width, 3), np.uint8)
        band[: len(kept)] = kept
        for at in range(len(kept), len(band), ROWS_AT_ONCE):
            stop = min(at + ROWS_AT_ONCE, len(band))
            band[at:stop] = self._source.read(stop - at)
        return band

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
        return self._setting.network_input(part, inner)

    def take(self, outputs: NDArray[Any]) -> None:
        """Add the outputs to the sums, and hand out the rows that are finished by them."""
        for logits_chw in np.ascontiguousarray(outputs):
            finished = self._join(logits_chw)
            if finished is not None:
                self._setting.sink(self._shown.pop(0), finished)

    def finish(self) -> None:
        """Do nothing: the last output handed out the last rows."""


class _FlipPass:
    """Another pass whose tiles go through twice, as they are and mirrored."""

    def __init__(self, inner: Pass, upsampling: Upsampling | None) -> None:
        self._inner, self._upsampling = inner, upsampling
        self.count = 2 * inner.count
        self._first: NDArray[Any] | None = None
        """The logits of tiles whose mirrored ones are still under way."""

    def batches(self) -> Iterator[NDArray[Any]]:
        """Yield every batch of the other pass, and its tiles mirrored."""
        for tiles_tchw in self._inner.batches():
            yield tiles_tchw
            yield np.ascontiguousarray(tiles_tchw[..., ::-1])

    def take(self, outputs: NDArray[Any]) -> None:
        """Hand on the mean of two outputs for the same tiles."""
        if self._upsampling is not None:
            outputs = upsampled(outputs, self._upsampling)
        first, self._first = self._first, None
        if first is None:
            # The others of its batch must not stay alive with them.
            self._first = outputs.copy() if self._upsampling is None else outputs
            return
        first += outputs[..., ::-1]
        first *= 0.5
        self._inner.take(first)

    def finish(self) -> None:
        """Finish the other pass."""
        self._inner.finish()
