"""One picture of any size in, one label per pixel out.

Shapes: image_hwc (H, W, 3), labels_hw (H, W), tiles_thwc and tiles_tchw (T tiles), logits_tchw.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import BadTypeError, BadValueError, message
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.backends.base import Backend
from fcnkit.runtime.checks import MAX_THREADS, check_int
from fcnkit.runtime.pixels.tiling import TilePlan
from fcnkit.runtime.predict.covering import Cover, CoverRequest, choose_covering
from fcnkit.runtime.predict.passes import LabelRows, begin, filled
from fcnkit.runtime.predict.picture_file import MAX_PIXELS
from fcnkit.runtime.predict.pictures import checked_image
from fcnkit.runtime.predict.pipeline import default_batch
from fcnkit.runtime.predict.stream import Labelled, map_pictures

__all__ = ["Segmenter"]


class Segmenter:
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
    ) -> None:
        """Wrap an opened backend, which the segmenter closes with itself.

        Args:
            backend: Any opened backend, from ``open_backend`` or elsewhere.
            cover: ``auto``, ``average`` or ``pad``; by default ``auto`` where the head can:
                ``pad`` where one pass covers the picture, else ``average``.
            tile: Height and width of the tiles of ``average``; by default the largest that fit.
            overlap: Pixels that neighboring tiles share at least, see ``CoverRequest``.

        Raises:
            TypeError: tile or overlap is not an integer.
            ValueError: One of them is out of range, or the model's head cannot do it.
        """
        self._wrap(backend, CoverRequest(cover=cover, tile=tile, overlap=overlap))

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
    def threads(self) -> int:
        """Largest number of threads of the kernels."""
        return self._threads

    def plan(self, height: int, width: int) -> TilePlan:
        """Say where the tiles of a picture lie; see ``Covering.plan``."""
        return self._covering.plan(height, width)

    def __call__(self, image_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Label every pixel of a picture.

        Args:
            image_hwc: uint8 array of shape (H, W, 3), RGB, any size from 1x1, any strides.

        Returns:
            uint8 labels of shape (H, W), indices into ``spec.classes``; the caller's own.

        Raises:
            TypeError: image_hwc is not a uint8 numpy array.
            ValueError: It is not (H, W, 3), a side is 0, the model takes no shape that covers it,
                or the segmenter is closed.
        """
        image_hwc = checked_image(image_hwc)
        plan, labels = self.plan(*image_hwc.shape[:2]), LabelRows()
        one = begin(
            image_hwc,
            plan,
            self.spec,
            labels,
            upsampling=self._backend.upsampling,
            threads=self._threads,
        )
        for batch in one.batches():
            whole = filled(batch, self.spec.shapes.min[0])
            one.take(self._backend.infer(whole)[: len(batch)])
        one.finish()
        return labels.joined()

    def map(
        self,
        sources: Iterable[str | Path | NDArray[np.uint8]],
        *,
        batch: int | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Generator[Labelled, None, None]:
        """Label many pictures, decoding and stitching beside the model.

        A picture that cannot be read or covered comes out with its error, and the others go on.

        Args:
            sources: Files, or pictures as for a call; requested a few ahead of the results, on the
                caller's thread.
            batch: Tiles of one shape that share a batch, of different pictures too; by default 1
                on a CPU and 8 elsewhere.
            max_pixels: Larger files fail before they are decoded.

        Returns:
            A generator that does the work as it is consumed, one result per picture, as they
            come; where batches are filled from pictures of several sizes, some overtake others.
            What is in flight is bounded. Until it ends, the segmenter is not to be used otherwise.

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
        return map_pictures(
            self._backend,
            sources,
            self.plan,
            batch=batch,
            max_pixels=max_pixels,
            threads=self._threads,
        )

    def close(self) -> None:
        """Close the backend; closing twice is fine."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
