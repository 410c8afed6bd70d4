"""The way of a picture through predict, one stage at a time, with a clock between them.

The stages call what prediction calls: ``read_picture``, ``tiling.cut`` or ``gather``, the backend,
``tiling.stitch`` or a crop, ``render`` and ``write_png``. A test holds that the labels are the
Segmenter's, bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fcnkit.errors import message
from fcnkit.runtime import tiling
from fcnkit.runtime.backends.base import Backend, nearest_legal
from fcnkit.runtime.benchmark.loop import Clock
from fcnkit.runtime.pictures import read_picture, render, write_png
from fcnkit.runtime.segmenter import Cover
from fcnkit.runtime.spec import ModelSpec, Shape, format_shape
from fcnkit.runtime.tiling import TilePlan

__all__ = ["STAGES", "DeviceTimed", "PictureWork", "example_batch", "example_picture", "plan_cover"]

STAGES: Final = (
    "decode", "cover", "host_to_device", "compute", "device_to_host", "stitch", "encode",
    "end_to_end",
)  # fmt: skip
"""What one call of PictureWork times, in seconds: the stages and all of them together. The two
transfers are NaN where the backend has no device events to time them with; ``compute`` is the
whole call of the backend then."""


@runtime_checkable
class DeviceTimed(Protocol):
    """A backend on a device that takes the times of its stages with the device's own events."""

    def infer_timed(self, batch: NDArray[Any]) -> tuple[NDArray[Any], tuple[float, float, float]]:
        """Run a batch as ``infer`` does.

        Args:
            batch: As for ``infer``.

        Returns:
            The result, and the seconds of host to device, compute and device to host.
        """


def plan_cover(shape: Shape, spec: ModelSpec, *, cover: Cover) -> TilePlan:
    """Plan how the model covers each picture of a batch, as the Segmenter does.

    Args:
        shape: (N, H, W), pictures of any size.
        spec: The model's promises.
        cover: ``average`` or ``pad``; a scene graph averages by itself.

    Returns:
        The plan of one picture.

    Raises:
        ValueError: The model takes no shape that covers the pictures.
    """
    count, height, width = shape
    if spec.head == "logits" and cover == "average":
        low, high = spec.shapes.min[1:], spec.shapes.max[1:]
        plan = tiling.plan_tiles(height, width, tile=high, multiple=spec.input.multiple)
        # A side below the smallest legal one is covered by one tile that leaves the picture.
        if plan.tile_height < low[0]:
            plan = replace(plan, tile_height=low[0], tops=(0,))
        if plan.tile_width < low[1]:
            plan = replace(plan, tile_width=low[1], lefts=(0,))
        return plan
    legal = nearest_legal(shape, spec)
    if legal[0] != count or legal[1] < height or legal[2] < width:
        low_text, high_text = format_shape(spec.shapes.min), format_shape(spec.shapes.max)
        rule = f"the model takes NxHxW from {low_text} to {high_text} at once"
        remedy = f"the nearest legal shape is {format_shape(legal)}"
        raise ValueError(message("bench latency", rule, format_shape(shape), remedy))
    return TilePlan(height, width, legal[1], legal[2], tops=(0,), lefts=(0,))


class PictureWork:
    """Turns a batch of picture files into label files, and says how long each stage took."""

    def __init__(
        self,
        backend: Backend,
        pictures: Sequence[Path],
        plan: TilePlan,
        out: Path,
        *,
        clock: Clock = time.perf_counter,
    ) -> None:
        """Prepare for files of one size.

        Args:
            backend: The opened model.
            pictures: The batch; every picture has the plan's size.
            plan: From ``plan_cover``.
            out: Folder for the label files, written anew by every call.
            clock: Returns seconds.
        """
        self._backend = backend
        self._pictures = pictures
        self._plan = plan
        self._out = out
        self._clock = clock
        threads = backend.details.get("threads")
        self._threads = None if threads is None else int(threads)
        self.labels: list[NDArray[np.uint8]] = []
        """What the last call gave: uint8 (H, W) per picture."""

    def __call__(self) -> tuple[float, ...]:
        """Do all of it once.

        Returns:
            Seconds of STAGES, of the whole batch.
        """
        clock = self._clock
        marks = [clock()]
        images = [read_picture(path) for path in self._pictures]
        marks.append(clock())
        batch = self._cover(images)
        marks.append(clock())
        results, device = self._infer(batch)
        marks.append(clock())
        self.labels = self._stitch(results)
        marks.append(clock())
        for number, (image, labels) in enumerate(zip(images, self.labels, strict=True)):
            picture = render(image, labels, self._backend.spec, format="labels")
            write_png(picture, self._out / f"{number}.png")
        marks.append(clock())
        decode, cover, call, stitch, encode = (b - a for a, b in pairwise(marks))
        upload, compute, download = device or (math.nan, call, math.nan)
        total = marks[-1] - marks[0]
        return decode, cover, upload, compute, download, stitch, encode, total

    def _cover(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[Any]:
        plan, wanted = self._plan, self._backend.spec.input
        each, floats = len(plan), self._backend.spec.head == "logits"
        tile = (3, *plan.tile) if floats else (*plan.tile, 3)
        batch = np.empty((each * len(images), *tile), np.float32 if floats else np.uint8)
        for number, image in enumerate(images):
            tiles, threads = batch[number * each : (number + 1) * each], self._threads
            if floats:
                mean, std = wanted.mean, wanted.std
                tiling.gather(image, plan, mean=mean, std=std, out=tiles, threads=threads)
            else:
                tiling.cut(image, plan, out=tiles, threads=threads)
        return batch

    def _infer(self, batch: NDArray[Any]) -> tuple[NDArray[Any], tuple[float, float, float] | None]:
        """Run the batch in legal parts; the second is the device's own times, where it has any."""
        most = self._backend.spec.shapes.max[0]
        parts = [batch[i : i + most] for i in range(0, len(batch), most)]
        if not isinstance(self._backend, DeviceTimed):
            return _joined([self._backend.infer(part) for part in parts]), None
        timed = [self._backend.infer_timed(part) for part in parts]
        upload, compute, download = map(sum, zip(*(times for _, times in timed), strict=True))
        return _joined([result for result, _ in timed]), (upload, compute, download)

    def _stitch(self, results: NDArray[Any]) -> list[NDArray[np.uint8]]:
        plan, each = self._plan, len(self._plan)
        if self._backend.spec.head == "logits":
            parts = (results[i : i + each] for i in range(0, len(results), each))
            return [tiling.stitch(part, plan, threads=self._threads) for part in parts]
        return [np.ascontiguousarray(one[: plan.height, : plan.width]) for one in results]


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def example_batch(spec: ModelSpec, shape: Shape) -> NDArray[Any]:
    """Return a batch of fixed noise in the form that a model takes.

    Args:
        spec: The model's promises.
        shape: (N, H, W).

    Returns:
        float32 (N, 3, H, W) of unit variance, or uint8 (N, H, W, 3), as the spec says.
    """
    count, height, width = shape
    random = np.random.default_rng(0)
    if spec.input.dtype == "float32":
        return random.standard_normal((count, 3, height, width), np.float32)
    return random.integers(0, 256, (count, height, width, 3), np.uint8)


def example_picture(height: int, width: int, *, seed: int = 0) -> Image.Image:
    """Return a made-up picture that a JPEG decoder works on about as long as on a photograph.

    Args:
        height: Rows.
        width: Columns.
        seed: Another seed gives another picture.

    Returns:
        An RGB picture: smooth colours with fine noise over them.
    """
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 24 + 2, width // 24 + 2, 3), np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth) + random.normal(0, 8, (height, width, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
