"""One picture of any size in, one label per pixel out.

Shapes: image_hwc (H, W, 3), labels_hw (H, W), tiles_thwc and tiles_tchw (T tiles), logits_tchw.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, Self, get_args, overload

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import BadTypeError, BadValueError, message
from fcnkit.runtime.artifacts.spec import ModelSpec, Tta
from fcnkit.runtime.backends.base import Backend
from fcnkit.runtime.checks import (
    MAX_THREADS,
    check_choice,
    check_flag,
    check_int,
    check_output,
)
from fcnkit.runtime.closing import Closing
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.pixels.tile_plan import MAX_SIDE
from fcnkit.runtime.pixels.tiling import TilePlan
from fcnkit.runtime.predict.covering import Cover, CoverRequest, choose_covering
from fcnkit.runtime.predict.frames import Color, rgb_image
from fcnkit.runtime.predict.joining import gives_confidence
from fcnkit.runtime.predict.live import LiveResult, LiveSource, frames_of, live_labels
from fcnkit.runtime.predict.passes import (
    LabelRows,
    Pass,
    Rows,
    Sink,
    begin,
    filled,
)
from fcnkit.runtime.predict.picture_file import MAX_PIXELS
from fcnkit.runtime.predict.pipeline import default_batch
from fcnkit.runtime.predict.stream import Labelled, map_pictures

__all__ = ["Segmenter"]

_WARMUP_CALLS: Final = 3
"""A CUDA graph is recorded in the second call of a shape and launched from the third on."""


class Segmenter(Closing):
    """A model with everything around it that turns a picture into labels.

    How a picture is covered depends on the model's head. ``logits`` and ``scores``: ``average``
    lets overlapping rectangles vote with the mean of their logits, ``pad`` grows the picture to
    the next multiple and crops. ``labels``: ``pad``. ``scene``: the graph averages by itself.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        cover: Cover | None = None,
        tile: tuple[int, int] | None = None,
        overlap: int | None = None,
        tta: Tta | None = None,
    ) -> None:
        """Wrap an opened backend, which the segmenter closes with itself.

        Args:
            backend: Any opened backend, from ``open_backend`` or elsewhere.
            cover: ``auto``, ``average`` or ``pad``; by default ``auto`` where the head can:
                ``pad`` where one pass covers the picture, else ``average``.
            tile: Height and width of the tiles of ``average``; by default the largest that fit.
            overlap: Pixels that neighboring tiles share at least, see ``CoverRequest``.
            tta: ``flip`` averages over an image and its mirror image, see ``CoverRequest``.

        Raises:
            TypeError: tile or overlap is not an integer.
            ValueError: One of them is out of range, or the model's head cannot do it.
        """
        self._wrap(backend, CoverRequest(cover=cover, tile=tile, overlap=overlap, tta=tta))

    @classmethod
    def of(cls, backend: Backend, request: CoverRequest) -> Self:
        """Wrap an opened backend, as a request says.

        Args:
            backend: As for ``Segmenter``.
            request: How images are covered.

        Raises:
            ValueError: The model's head cannot do it.
        """
        made = cls.__new__(cls)
        made._wrap(backend, request)
        return made

    def _wrap(self, backend: Backend, request: CoverRequest) -> None:
        self._covering = choose_covering(backend.spec, request)
        if backend.spec.head == "scores" and backend.upsampling is None:
            rule = "a backend of head scores must have the last layer, in its attribute upsampling"
            remedy = "open the file with open_backend"
            raise BadValueError(message("Segmenter", rule, "none", remedy))
        self._backend = backend
        # One thread for the model means one thread for everything around it too.
        self._threads = min(backend.info.threads, MAX_THREADS)

    @property
    def backend(self) -> Backend:
        """The opened backend."""
        return self._backend

    @property
    def spec(self) -> ModelSpec:
        """What the model promises: classes, palette, head, legal shapes."""
        return self._backend.spec

    @property
    def cover(self) -> Cover:
        """How pictures are covered."""
        return self._covering.cover

    @property
    def tile(self) -> tuple[int, int] | None:
        """Height and width of the tiles; None where they are the largest that fit."""
        return self._covering.tile

    @property
    def overlap(self) -> int | None:
        """Pixels that neighboring tiles share at least; None where one tile covers a picture."""
        return self._covering.overlap

    @property
    def tta(self) -> Tta | None:
        """Test-time augmentation; None where there is none."""
        return self._covering.tta

    @property
    def threads(self) -> int:
        """Largest number of threads of the kernels."""
        return self._threads

    def plan(self, height: int, width: int) -> TilePlan:
        """Say where the tiles of a picture lie; see ``Covering.plan``."""
        return self._covering.plan(height, width)

    @overload
    def __call__(
        self,
        image: NDArray[np.uint8],
        *,
        color: Color = "RGB",
        confidence: Literal[False] = False,
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]: ...

    @overload
    def __call__(
        self,
        image: NDArray[np.uint8],
        *,
        color: Color = "RGB",
        confidence: Literal[True],
        out: NDArray[np.uint8] | None = None,
    ) -> Prediction: ...

    def __call__(
        self,
        image: NDArray[np.uint8],
        *,
        color: Color = "RGB",
        confidence: bool = False,
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8] | Prediction:
        """Label every pixel of an image.

        Args:
            image: uint8 array (H, W, 3), (H, W, 4) with transparency, or (H, W) with
                ``color="GRAY"``; any size from 1x1, any strides.
            color: Order of its channels. OpenCV's images are ``BGR``.
            confidence: Whether to say how sure the model is.
            out: Array for the labels, uint8 (H, W); None makes one.

        Returns:
            uint8 labels of shape (H, W), indices into ``spec.classes``; the caller's own, or out
            where given. With ``confidence`` a ``Prediction`` with the same labels.

        Raises:
            TypeError: image or out is not a uint8 numpy array, or confidence is not a bool.
            ValueError: image has another shape, a side is 0, its shape does not fit ``color``,
                out has another shape, the model gives no confidence or takes no shape that covers
                the image, or the segmenter is closed.
        """
        image_hwc = rgb_image(image, color)
        sure = self.check_confidence(confidence)
        plan, rows = self.plan(*image_hwc.shape[:2]), LabelRows()
        if out is not None:
            size = (plan.height, plan.width)
            check_output("Segmenter: out", out, size, np.uint8, (image_hwc,))
        one = self.begin(image_hwc, plan, rows, sure=sure)
        for batch in one.batches():
            one.take(self._backend.infer(filled(batch, self.spec.shapes.min[0]))[: len(batch)])
        one.finish()
        made = rows.joined()
        if out is not None:
            out[:] = made.labels
            made = replace(made, labels=out)
        return made if sure else made.labels

    def begin(
        self,
        source: NDArray[np.uint8] | Rows,
        plan: TilePlan,
        sink: Sink,
        *,
        sure: bool = False,
        in_worker: bool = False,
        shows: bool = True,
    ) -> Pass:
        """Begin an image with this segmenter's model and test-time augmentation.

        The arguments are those of ``passes.begin``. The plan is one of ``plan``.
        """
        return begin(
            source,
            plan,
            self.spec,
            sink,
            upsampling=self._backend.upsampling,
            threads=self._threads,
            in_worker=in_worker,
            sure=sure,
            flip=self.tta == "flip",
            shows=shows,
        )

    def check_confidence(self, confidence: bool) -> bool:
        """Return whether confidence is wanted, or say why this model gives none.

        Args:
            confidence: Whether it is wanted.

        Raises:
            TypeError: confidence is not a bool.
            ValueError: It is wanted, and the model gives labels alone.
        """
        if check_flag("Segmenter: confidence", confidence) and not gives_confidence(self.spec):
            rule = "confidence needs head scores or logits, or a model exported with --confidence"
            remedy = "export it again with --confidence"
            raise BadValueError(message("Segmenter", rule, f"head {self.spec.head}", remedy))
        return confidence

    def warmup(self, shapes: Iterable[tuple[int, int]]) -> None:
        """Label a black image of each size, so that the first real ones are fast.

        Libraries choose kernels, reserve memory and record CUDA graphs when a shape comes for the
        first time, or the second.

        Args:
            shapes: Height and width of the images that will come.

        Raises:
            TypeError: shapes is not an iterable of pairs of integers.
            ValueError: A side is out of range, or the model takes no shape that covers it.
        """
        for height, width in [_size(shape) for shape in _listed(shapes)]:
            for _ in range(_WARMUP_CALLS):
                self(np.zeros((height, width, 3), np.uint8))

    def map(
        self,
        sources: Iterable[str | Path | NDArray[np.uint8]],
        *,
        batch: int | None = None,
        max_pixels: int = MAX_PIXELS,
        color: Color = "RGB",
        confidence: bool = False,
    ) -> Generator[Labelled, None, None]:
        """Label many pictures, decoding and stitching beside the model.

        A picture that cannot be read or covered comes out with its error, and the others go on.

        Args:
            sources: Files, or pictures as for a call; requested a few ahead of the results, on the
                caller's thread.
            batch: Tiles of one shape that share a batch, of different pictures too; by default 1
                on a CPU and 8 elsewhere.
            max_pixels: Larger files fail before they are decoded.
            color: Order of the channels of arrays, as for a call. Files say it themselves.
            confidence: Whether each result says how sure the model is.

        Returns:
            A generator that does the work as it is consumed, one result per picture, as they
            come; where batches are filled from pictures of several sizes, some overtake others.
            What is in flight is bounded: on a CPU at most 11 images besides those that the library
            runs, see docs/predict.md. Until it ends, the segmenter is not to be used otherwise.

        Raises:
            TypeError: batch or max_pixels is not an integer, or sources is one source.
            ValueError: batch or max_pixels is below 1.
        """
        if isinstance(sources, str | Path | np.ndarray) or not isinstance(sources, Iterable):
            rule = "sources must be an iterable of files and pictures"
            got, remedy = type(sources).__name__, "put it into a list"
            raise BadTypeError(message("Segmenter.map", rule, got, remedy))
        max_pixels = check_int("Segmenter.map: max_pixels", max_pixels, 1, 2**63)
        if batch is None:
            batch = default_batch(self._backend)
        batch = check_int("Segmenter.map: batch", batch, 1, 1 << 24)
        sure = self.check_confidence(confidence)

        def begin(image_hwc: NDArray[np.uint8], sink: Sink) -> Pass:
            plan = self.plan(*image_hwc.shape[:2])
            return self.begin(image_hwc, plan, sink, sure=sure, in_worker=True)

        return map_pictures(
            self._backend,
            begin,
            sources,
            batch=batch,
            max_pixels=max_pixels,
            color=check_choice("Segmenter.map: color", color, get_args(Color)),
            sure=sure,
        )

    def live(
        self,
        source: LiveSource,
        *,
        color: Color = "RGB",
        confidence: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> Generator[LiveResult, None, None]:
        """Label the newest frame of a camera, again and again.

        A thread reads the source and keeps its newest frame only. Each time a result is requested,
        the model takes the newest frame that has arrived; where none has, it waits. Frames that
        came in between are dropped and counted. The last frame of a source is always labeled.

        Args:
            source: An iterable of frames as for a call, each a new array; or the number of
                a camera, an address such as ``rtsp://HOST/STREAM``, or a video file, which is
                played at its speed (these need ``fcnkit[video]``).
            color: Order of the channels of arrays, as for a call. Cameras and files say it
                themselves.
            confidence: Whether to say how sure the model is.
            clock: Returns seconds, for the age of results.

        Returns:
            A generator of results. Its first step starts the thread. Closing it stops the thread,
            which ends with the next frame of its source, and closes a source that is a generator.
            Until then the segmenter is not to be used otherwise. What the source raises comes once,
            after the last frame.

        Raises:
            TypeError: source is of another type, or confidence is not a bool.
            ValueError: It is a negative number, color is unknown or given for a source that says it
                itself, or the model gives no confidence.
        """
        color = check_choice("Segmenter.live: color", color, get_args(Color))
        frames, sure = frames_of(source, color), self.check_confidence(confidence)

        def label(frame: NDArray[np.uint8]) -> Prediction:
            if sure:
                return self(frame, color=color, confidence=True)
            return Prediction(self(frame, color=color))

        return live_labels(label, frames, sure=sure, clock=clock)

    def close(self) -> None:
        """Close the backend; closing twice is fine."""
        self._backend.close()


def _listed(shapes: object) -> list[object]:
    if isinstance(shapes, Iterable) and not isinstance(shapes, str):
        return list(shapes)
    raise _not_sizes(type(shapes).__name__)


def _size(shape: object) -> tuple[int, int]:
    if not isinstance(shape, tuple | list) or len(shape) != 2:
        raise _not_sizes(shape)
    height, width = (check_int("Segmenter.warmup: side", side, 1, MAX_SIDE) for side in shape)
    return height, width


def _not_sizes(got: object) -> TypeError:
    rule = "shapes must be pairs of height and width"
    return BadTypeError(message("Segmenter.warmup", rule, got, "pass [(480, 640)]"))
