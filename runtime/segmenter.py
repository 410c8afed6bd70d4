"""One picture of any size in, one label per pixel out.

Shapes: image_hwc (H, W, 3), labels_hw (H, W), tiles_thwc and tiles_tchw (T tiles), logits_tchw.
"""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import message
from fcnkit.runtime import tiling
from fcnkit.runtime.backends.base import Backend, nearest_legal
from fcnkit.runtime.spec import Head, ModelSpec, Shape, format_shape

__all__ = ["Cover", "Segmenter"]

Cover = Literal["average", "pad"]
"""How a picture of any size is covered by rectangles that the model takes."""

_COVERS: dict[Head, tuple[Cover, ...]] = {
    "logits": ("average", "pad"),
    "labels": ("pad",),
    "scene": ("average",),
}
"""What each head can do, its default first."""

_REFUSALS = {
    "labels": "a labels graph gives no logits to average; use cover='pad', or export with "
    "--head logits or --head scene",
    "scene": "a scene graph covers the picture by itself; leave cover out, or export with "
    "--head labels",
}


class Segmenter:
    """A model with everything around it that turns a picture into labels.

    How a picture is covered depends on the model's head. ``logits``: ``average`` lets overlapping
    rectangles vote with the mean of their logits, ``pad`` grows the picture to the next multiple
    and crops. ``labels``: ``pad``. ``scene``: the graph averages by itself.
    """

    def __init__(self, backend: Backend, *, cover: Cover | None = None) -> None:
        """Wrap an opened backend, which the segmenter closes with itself.

        Args:
            backend: Any opened backend, from ``open_backend`` or elsewhere.
            cover: ``average`` or ``pad``; by default ``average`` where the head can.

        Raises:
            ValueError: cover is neither, or the model's head cannot do it.
        """
        head = backend.spec.head
        if cover is not None and cover not in get_args(Cover):
            raise ValueError(
                message("Segmenter", "cover must be 'average' or 'pad'", cover, "leave it out")
            )
        if cover is not None and cover not in _COVERS[head]:
            rule = f"a model with head {head} takes cover={_COVERS[head][0]!r}"
            raise ValueError(message("Segmenter", rule, repr(cover), _REFUSALS[head]))
        self._backend = backend
        self._cover: Cover = cover or _COVERS[head][0]
        # Whoever gives the model one thread means one thread for everything around it too.
        threads = backend.details.get("threads")
        self._threads = None if threads is None else int(threads)

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
        return self._cover

    def __call__(self, image_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Label every pixel of a picture.

        Args:
            image_hwc: uint8 array of shape (H, W, 3), RGB, any size from 1x1, any strides.

        Returns:
            uint8 labels of shape (H, W), indices into ``spec.classes``; the caller's own.

        Raises:
            TypeError: image_hwc is no uint8 numpy array.
            ValueError: It is not (H, W, 3), a side is 0, the model takes no shape that covers it,
                or the segmenter is closed.
        """
        _check_image(image_hwc)
        image_hwc = np.ascontiguousarray(image_hwc)
        if self.spec.head == "logits":
            return self._from_logits(image_hwc)
        return self._from_labels(image_hwc)

    def close(self) -> None:
        """Close the backend; closing twice is fine."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _from_logits(self, image_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
        spec = self.spec
        height, width = image_hwc.shape[:2]
        if self._cover == "pad":
            plan = self._plan_one(height, width)
        else:
            plan = _plan_average(height, width, spec)
        mean, std, threads = spec.input.mean, spec.input.std, self._threads
        tiles_tchw = tiling.gather(image_hwc, plan, mean=mean, std=std, threads=threads)
        return tiling.stitch(self._infer_tiles(tiles_tchw), plan, threads=threads)

    def _from_labels(self, image_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Run a labels or scene graph once on the picture grown to a legal shape, and crop."""
        height, width = image_hwc.shape[:2]
        plan = self._plan_one(height, width)
        tiles_thwc = tiling.cut(image_hwc, plan, threads=self._threads)
        labels_hw: NDArray[np.uint8] = self._backend.infer(tiles_thwc)[0, :height, :width]
        return np.ascontiguousarray(labels_hw)

    def _infer_tiles(self, tiles_tchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run all tiles, in as many batches as the model's largest legal batch makes necessary."""
        most = self.spec.shapes.max[0]
        if len(tiles_tchw) <= most:
            return self._backend.infer(tiles_tchw)
        starts = range(0, len(tiles_tchw), most)
        parts: list[NDArray[Any]] = [self._backend.infer(tiles_tchw[i : i + most]) for i in starts]
        return np.concatenate(parts)

    def _plan_one(self, height: int, width: int) -> tiling.TilePlan:
        """Plan one rectangle: the smallest legal shape that holds the whole picture."""
        spec = self.spec
        _, tile_height, tile_width = nearest_legal((1, height, width), spec)
        if tile_height < height or tile_width < width:
            high: Shape = (1, *spec.shapes.max[1:])
            rule = f"one pass of this model covers at most {format_shape(high)}"
            remedy = "make the picture smaller, or use a model with head logits"
            if spec.head == "logits":
                remedy = "use cover='average'"
            got = f"a picture of {height}x{width}"
            raise ValueError(message("Segmenter", rule, got, remedy))
        return tiling.TilePlan(height, width, tile_height, tile_width, tops=(0,), lefts=(0,))


def _plan_average(height: int, width: int, spec: ModelSpec) -> tiling.TilePlan:
    """Plan overlapping tiles: the largest multiples that fit into picture and legal range."""
    low, high = spec.shapes.min[1:], spec.shapes.max[1:]
    plan = tiling.plan_tiles(height, width, tile=high, multiple=spec.input.multiple)
    # A side below the smallest legal one is covered by one tile that leaves the picture.
    if plan.tile_height < low[0]:
        plan = replace(plan, tile_height=low[0], tops=(0,))
    if plan.tile_width < low[1]:
        plan = replace(plan, tile_width=low[1], lefts=(0,))
    return plan


def _check_image(image_hwc: object) -> None:
    if not isinstance(image_hwc, np.ndarray) or image_hwc.dtype != np.uint8:
        kind = type(image_hwc).__name__
        got = f"array of {image_hwc.dtype}" if isinstance(image_hwc, np.ndarray) else kind
        remedy = "pass np.asarray(picture.convert('RGB')) of a Pillow picture"
        raise TypeError(message("Segmenter", "image must be a numpy array of uint8", got, remedy))
    shape = image_hwc.shape
    rule = "image must have shape (H, W, 3) with H and W at least 1"
    if len(shape) != 3 or shape[2] != 3:
        remedy = "pass one RGB picture"
        if len(shape) == 3 and shape[0] == 3:
            remedy = "this looks channels-first, pass image.transpose(1, 2, 0)"
        raise ValueError(message("Segmenter", rule, shape, remedy))
    if 0 in shape:
        raise ValueError(message("Segmenter", rule, shape, "pass a picture with pixels"))
