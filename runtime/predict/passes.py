"""One image on its way through the model: batches of tiles out of it, labels back together.

`begin` decides how an image goes: whole where its tiles fit into one batch, else in bands, a row of
tiles at a time. A pass gives batches one after the other and takes the model's outputs in the same
order. Of a large image it holds the pixels of one row of tiles, and the logits of its overlap or
the scores of one row of tiles.
"""

from __future__ import annotations

from collections import deque
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
from fcnkit.runtime.predict.row_buffer import RowBuffer
from fcnkit.runtime.predict.void_pixels import has_void_tile, runs_of, void_of, voided

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
The image rows are only lent; there are none, (0, W, 3), where ``begin`` was told that they are not
used. The prediction is the sink's to keep."""

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
        """Return the next ``count`` rows, uint8 RGB (count, width, 3).

        With a fourth channel, pixels where it is 0 are not labeled: they become void.
        """


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

    @property
    def goes_on(self) -> bool:
        """Whether more tiles follow for certain; where not, only asking for them tells."""

    def batches(self) -> Iterator[NDArray[Any]]:
        """Yield the network's input, a few tiles at a time, in plan order.

        There are none where no pixel of the image needs the model.
        """

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
    shows: bool = True,
) -> Pass:
    """Begin an image: whole where its tiles fit into one batch, else in bands.

    Args:
        source: The image, uint8 (H, W, 3) and C-contiguous, or its rows. Rows are never held
            whole, so they always go in bands. A fourth channel is as for ``Rows``.
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
        shows: Whether the sink uses the rows of the image. Without them, less memory is held.

    Returns:
        The pass.
    """
    whole = isinstance(source, np.ndarray) and len(plan) <= _tiles_at_once(spec, plan)
    if isinstance(source, np.ndarray) and whole and spec.can_average:
        whole = not has_void_tile(source, plan)  # which bands leave out
    workers = 1 if whole and in_worker else threads
    # The mean of a tile and its mirror image is a mean of logits, whatever the model gives.
    joining = Joining(plan, spec, None if flip else upsampling, sure, workers)
    setting = _Setting(plan, spec, sink, joining, workers, shows)
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
    shows: bool
    """Whether the sink uses the rows of the image."""

    def network_input(self, image_hwc: NDArray[np.uint8], plan: tiling.TilePlan) -> NDArray[Any]:
        """Return the tiles of an image or of a part of it, as the model takes them."""
        if self.spec.input.dtype == "uint8":
            return tiling.cut(image_hwc, plan, threads=self.threads)
        mean, std = self.spec.input.mean, self.spec.input.std
        return tiling.gather(image_hwc, plan, mean=mean, std=std, threads=self.threads)

    def nothing(self) -> NDArray[Any]:
        """Return the output for a tile none of whose pixels are labeled."""
        plan, layer = self.plan, self.joining.upsampling
        if layer is None:
            return np.zeros((self.spec.num_classes, *plan.tile), np.float32)
        sides = (side // layer.stride for side in plan.tile)
        return np.zeros((layer.classes, *sides), np.float32)


class _WholePass:
    """An image whose tiles fit into one batch: begun and finished by any thread."""

    def __init__(self, image_hwc: NDArray[np.uint8], setting: _Setting) -> None:
        self._setting, self._void = setting, void_of(image_hwc)
        self._image = np.ascontiguousarray(image_hwc[..., :3])
        self._tiles: NDArray[Any] | None = None
        if self._void is None or not self._void.all():
            self._tiles = setting.network_input(self._image, setting.plan)
        self._outputs: NDArray[Any] | None = None

    @property
    def goes_on(self) -> bool:
        """See ``Pass``."""
        return self._tiles is not None

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
        joining = self._setting.joining
        if outputs is None:  # no pixel of the image is labeled
            made = Prediction.empty(*self._image.shape[:2], sure=joining.sure)
        else:
            made = joining.whole(outputs)
        self._setting.sink(self._image, voided(made, self._void))


@dataclass(frozen=True)
class _Band:
    """Rows of an image whose labels are not finished."""

    image_hwc: NDArray[np.uint8]
    """None of them, (0, W, 3), where they are not used."""
    void: NDArray[np.uint8] | None
    """Which pixels are not labeled, eight in a byte."""


class _BandPass:
    """An image of any size whose outputs are averaged, row of tiles by row of tiles."""

    def __init__(self, source: NDArray[np.uint8] | Rows, setting: _Setting) -> None:
        self.plan, self._setting, self._source = setting.plan, setting, source
        if not isinstance(source, np.ndarray):
            self._buffer = RowBuffer(source.read, setting.plan.tile_height, ROWS_AT_ONCE)
        self._join = setting.joining.one_by_one()
        self._shown: deque[_Band] = deque()
        """Bands whose labels are not finished, oldest first."""
        self._left_out: deque[int] = deque()
        """Numbers of tiles without a pixel to label, whose turn has not come."""
        self._joined = 0
        """Tiles whose outputs were added, and tiles that were left out in their turn."""
        self._certain = 0
        """Tiles that were not handed out yet, where none can be left out."""

    @property
    def goes_on(self) -> bool:
        """See ``Pass``."""
        return self._certain > 0

    def batches(self) -> Iterator[NDArray[Any]]:
        """Yield tiles, never of two rows of tiles together."""
        plan, most = self.plan, _tiles_at_once(self._setting.spec, self.plan)
        for row, top in enumerate(plan.tops):
            band = self._rows_of(row)
            self._shown.append(self._band(band[: (*plan.tops, plan.height)[row + 1] - top]))
            first = row * len(plan.lefts)
            needed = self._needed(band, first)
            self._left_out += [first + i for i, is_needed in enumerate(needed) if not is_needed]
            self._pass_over()
            for begin, end in runs_of(needed, most):
                if band.shape[2] == 3:
                    self._certain = len(plan) - first - end
                yield self._tiles(band, plan.lefts[begin:end])

    def _rows_of(self, row: int) -> NDArray[np.uint8]:
        """Return the rows of the image that a row of tiles covers."""
        plan, top = self.plan, self.plan.tops[row]
        count = min(plan.tile_height, plan.height - top)
        if isinstance(self._source, np.ndarray):
            return self._source[top : top + count]
        return self._buffer.move(top - plan.tops[row - 1] if row else 0, count)

    def _band(self, rows_hwc: NDArray[np.uint8]) -> _Band:
        """Keep what the sink will need of rows."""
        void_hw, image_hwc = void_of(rows_hwc), rows_hwc[..., :3]
        if not self._setting.shows:
            image_hwc = np.empty((0, self.plan.width, 3), np.uint8)
        elif not isinstance(self._source, np.ndarray):
            image_hwc = image_hwc.copy()
        void = None if void_hw is None else np.packbits(void_hw, axis=1)
        return _Band(image_hwc, void)

    def _needed(self, band_hwc: NDArray[np.uint8], first: int) -> list[bool]:
        """Return which tiles of a row of tiles have a pixel to label."""
        plan = self.plan
        if band_hwc.shape[2] == 3:
            return [True] * len(plan.lefts)
        valid_hw = band_hwc[..., 3]
        needed = [bool(valid_hw[:, x : x + plan.tile_width].any()) for x in plan.lefts]
        if self._setting.shows and not any(needed) and self._joined < first:
            # Bands wait for the outputs before them. Without any tile, all rows of a large void
            # area would be read, and held for the sink, before the outputs of the others come.
            needed[0] = True
        return needed

    def _tiles(self, band_hwc: NDArray[np.uint8], lefts: tuple[int, ...]) -> NDArray[Any]:
        plan = self.plan
        right = min(lefts[-1] + plan.tile_width, plan.width)
        part = np.ascontiguousarray(band_hwc[:, lefts[0] : right, :3])
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
            self._add(logits_chw)
            self._pass_over()

    def _pass_over(self) -> None:
        """Add nothing for the tiles that were left out and whose turn has come."""
        while self._left_out and self._left_out[0] == self._joined:
            self._left_out.popleft()
            self._add(self._setting.nothing())

    def _add(self, logits_chw: NDArray[Any]) -> None:
        self._joined += 1
        finished = self._join(logits_chw)
        if finished is None:
            return
        band, void_hw = self._shown.popleft(), None
        if band.void is not None:
            void_hw = np.unpackbits(band.void, axis=1, count=self.plan.width).astype(np.bool_)
        self._setting.sink(band.image_hwc, voided(finished, void_hw))

    def finish(self) -> None:
        """Do nothing: the last output handed out the last rows."""


class _FlipPass:
    """Another pass whose tiles go through twice, as they are and mirrored."""

    def __init__(self, inner: Pass, upsampling: Upsampling | None) -> None:
        self._inner, self._upsampling = inner, upsampling
        self._first: NDArray[Any] | None = None
        """The logits of tiles whose mirrored ones are still under way."""
        self._mirrored_follow = False

    @property
    def goes_on(self) -> bool:
        """See ``Pass``."""
        return self._mirrored_follow or self._inner.goes_on

    def batches(self) -> Iterator[NDArray[Any]]:
        """Yield every batch of the other pass, and its tiles mirrored."""
        for tiles_tchw in self._inner.batches():
            self._mirrored_follow = True
            yield tiles_tchw
            self._mirrored_follow = False
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
