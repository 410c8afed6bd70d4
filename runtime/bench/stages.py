"""The stages of predict, one at a time, each timed.

The stages call what prediction calls: ``read_picture``, ``WholePass``, the backend, and
``open_output``. A test holds that the labels are the Segmenter's, bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.artifacts.spec import ModelSpec, Shape
from fcnkit.runtime.bench.calls import Clock
from fcnkit.runtime.pixels.tiling import TilePlan
from fcnkit.runtime.predict.outputs import Staging, open_output
from fcnkit.runtime.predict.passes import WholePass
from fcnkit.runtime.predict.pictures import read_picture
from fcnkit.runtime.predict.segmenter import Segmenter

__all__ = [
    "STAGES",
    "DeviceTimed",
    "PictureWork",
    "example_batch",
    "example_picture",
    "plan_cover",
    "write_labels",
]

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


def plan_cover(segmenter: Segmenter, shape: Shape) -> TilePlan:
    """Plan how the model covers each picture of a batch.

    Args:
        segmenter: The model.
        shape: (N, H, W), pictures of any size.

    Returns:
        The plan of one picture.

    Raises:
        ValueError: The model takes no shape that covers the pictures, or fewer pictures at once.
    """
    spec = segmenter.spec
    plan = segmenter.plan(*shape[1:])
    most = spec.shapes.max[0]
    if spec.head != "logits" and shape[0] > most:
        rule = f"this model takes at most {most} pictures at once"
        raise BadValueError(message("bench latency", rule, shape[0], f"give --batch {most}"))
    return plan


class PictureWork:
    """Turns a batch of picture files into label files, and says how long each stage took."""

    def __init__(
        self,
        segmenter: Segmenter,
        pictures: Sequence[Path],
        plan: TilePlan,
        staging: Staging,
        *,
        clock: Clock = time.perf_counter,
    ) -> None:
        """Prepare for files of one size.

        Args:
            segmenter: The opened model.
            pictures: The batch; every picture has the plan's size.
            plan: From ``plan_cover``.
            staging: Where the label files are written, ``0.png`` and on, anew by every call.
            clock: Returns seconds.
        """
        self._segmenter, self._backend = segmenter, segmenter.backend
        self._pictures, self._plan, self._staging = pictures, plan, staging
        self._clock = clock
        self.labels: list[NDArray[np.uint8]] = []
        """What the last call gave: uint8 (H, W) per picture."""

    def __call__(self) -> tuple[float, ...]:
        """Do all of it once.

        Returns:
            Seconds of STAGES, of the whole batch.
        """
        clock = self._clock
        marks = [clock()]
        range = self._segmenter.spec.range
        images = [read_picture(path, range=range) for path in self._pictures]
        marks.append(clock())
        passes, batch = self._cover(images)
        marks.append(clock())
        results, device = self._infer(batch)
        marks.append(clock())
        self.labels = self._stitch(passes, results)
        marks.append(clock())
        for number, (image, labels) in enumerate(zip(images, self.labels, strict=True)):
            name = Path(f"{number}.png")
            write_labels(self._staging, image, labels, name, self._segmenter.spec)
        marks.append(clock())
        decode, cover, call, stitch, encode = (b - a for a, b in pairwise(marks))
        upload, compute, download = device or (math.nan, call, math.nan)
        total = marks[-1] - marks[0]
        return decode, cover, upload, compute, download, stitch, encode, total

    def _cover(self, images: Sequence[NDArray[np.uint8]]) -> tuple[list[WholePass], NDArray[Any]]:
        spec, threads = self._segmenter.spec, self._segmenter.threads
        passes = [WholePass(image, self._plan, spec, threads=threads) for image in images]
        return passes, _joined([tiles for one in passes for tiles in one.batches()])

    def _infer(self, batch: NDArray[Any]) -> tuple[NDArray[Any], tuple[float, float, float] | None]:
        """Run the batch in legal parts; the second is the device's own times, where it has any."""
        most = self._backend.spec.shapes.max[0]
        parts = [batch[i : i + most] for i in range(0, len(batch), most)]
        if not isinstance(self._backend, DeviceTimed):
            return _joined([self._backend.infer(part) for part in parts]), None
        timed = [self._backend.infer_timed(part) for part in parts]
        upload, compute, download = map(sum, zip(*(times for _, times in timed), strict=True))
        return _joined([result for result, _ in timed]), (upload, compute, download)

    def _stitch(
        self, passes: Sequence[WholePass], results: NDArray[Any]
    ) -> list[NDArray[np.uint8]]:
        each = len(self._plan)
        for number, one in enumerate(passes):
            one.take(results[number * each : (number + 1) * each])
        return [one.labels() for one in passes]


def write_labels(
    staging: Staging,
    image_hwc: NDArray[np.uint8],
    labels_hw: NDArray[np.uint8],
    name: Path,
    spec: ModelSpec,
) -> None:
    """Write a palette PNG as a folder run does.

    Args:
        staging: Where it is written until it is whole.
        image_hwc: The picture.
        labels_hw: Its labels.
        name: Of the result, relative to the output folder.
        spec: The model's promises; its palette is used.

    Raises:
        OSError: It cannot be written.
    """
    path = staging.path()
    height, width = labels_hw.shape
    output, drop = open_output(path, height, width, spec, format="labels")
    try:
        output.write(image_hwc, labels_hw)
        output.close()
    finally:
        drop()
    staging.publish(path, name)


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
        An RGB picture: smooth colors with fine noise over them.
    """
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 24 + 2, width // 24 + 2, 3), np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth) + random.normal(0, 8, (height, width, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
