"""The way of images through predict on one thread, with a clock at every change of stage.

It is prediction's own loop: ``read_picture``, ``begin``, ``run_works`` and ``StagedOutput``. A test
holds that the labels are the Segmenter's, bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.artifacts.spec import ModelSpec, Shape
from fcnkit.runtime.bench.calls import Clock
from fcnkit.runtime.machine import keep_freed_memory
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.pixels.tiling import TilePlan
from fcnkit.runtime.predict.outputs import OutputRequest
from fcnkit.runtime.predict.passes import LabelRows, begin
from fcnkit.runtime.predict.pictures import read_picture
from fcnkit.runtime.predict.pipeline import Work, run_works
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.runtime.predict.staging import StagedOutput, Staging

__all__ = [
    "STAGES",
    "DeviceTimed",
    "PictureWork",
    "compute_shape",
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


_ON_DEVICE: Final = ("host_to_device", "compute", "device_to_host")


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
    if not spec.can_average and shape[0] > most:
        rule = f"this model takes at most {most} pictures at once"
        raise BadValueError(message("bench latency", rule, shape[0], f"give --batch {most}"))
    return plan


def compute_shape(segmenter: Segmenter, plan: TilePlan, count: int) -> Shape:
    """Return the shape of the batches that the model gets for images of one size.

    Args:
        segmenter: The opened model.
        plan: From ``plan_cover``.
        count: Images that share a batch at most.

    Returns:
        Tiles, their rows and columns. Of an image that goes in bands, a batch holds tiles of one
        row of tiles.
    """
    image_hwc = np.zeros((plan.height, plan.width, 3), np.uint8)
    spec, upsampling = segmenter.spec, segmenter.backend.upsampling
    one = begin(image_hwc, plan, spec, LabelRows(), upsampling=upsampling, threads=None)
    tiles = len(next(one.batches()))
    fitting = max(1, min(count, spec.shapes.max[0] // tiles))
    return (max(tiles * fitting, spec.shapes.min[0]), *plan.tile)


class PictureWork:
    """Turns a batch of image files into label files, and says how long each stage took."""

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
            pictures: The batch; every image has the plan's size.
            plan: From ``plan_cover``.
            staging: Where the label files are written, ``0.png`` and on, anew by every call.
            clock: Returns seconds.
        """
        keep_freed_memory()  # as a folder run does
        self._segmenter, self._pictures, self._plan = segmenter, pictures, plan
        self._staging, self._laps = staging, _Laps(clock)
        self._tiles = compute_shape(segmenter, plan, len(pictures))[0]
        self.labels: list[NDArray[np.uint8]] = []
        """What the last call gave: uint8 (H, W) per image."""

    def __call__(self) -> tuple[float, ...]:
        """Do all of it once.

        Returns:
            Seconds of STAGES, of the whole batch.
        """
        laps, spec = self._laps, self._segmenter.spec
        laps.begin()
        results: list[_Result] = []
        for done in run_works(spec, partial(map, self._infer), self._works(), batch=self._tiles):
            if done.picture is None:
                assert done.error is not None
                raise done.error
            done.picture.finish()
            laps.end("stitch")
            done.owner.publish(Path(f"{len(results)}.png"))
            laps.end("encode")
            results.append(done.owner)
        # All are of one shape, so none overtakes another.
        self.labels = [one.rows.joined().labels for one in results]
        return laps.seconds()

    def _works(self) -> Iterator[Work[_Result]]:
        segmenter, laps = self._segmenter, self._laps
        spec = segmenter.spec
        for path in self._pictures:
            laps.end("cover")
            image_hwc = read_picture(path, range=spec.range, bands=spec.bands)
            laps.end("decode")
            result = _Result(self._staging, self._plan, spec, laps)
            one = segmenter.begin(image_hwc, self._plan, result.write)
            yield Work(result, one)

    def _infer(self, batch: NDArray[Any]) -> NDArray[Any]:
        backend, laps = self._segmenter.backend, self._laps
        laps.end("cover")
        if isinstance(backend, DeviceTimed):
            outputs, times = backend.infer_timed(batch)
            laps.told(dict(zip(_ON_DEVICE, times, strict=True)))
            return outputs
        outputs = backend.infer(batch)
        laps.end("compute")
        return outputs


class _Laps:
    """Counts the time between two changes of stage."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """Count from now, and from zero."""
        self._sums: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self._told = False
        self._start = self._last = self._clock()

    def end(self, stage: str) -> None:
        """Count the time since the last change for a stage."""
        now = self._clock()
        self._sums[stage] += now - self._last
        self._last = now

    def told(self, seconds: dict[str, float]) -> None:
        """Count what the device says of the time since the last change."""
        self._told, self._last = True, self._clock()
        for stage, value in seconds.items():
            self._sums[stage] += value

    def seconds(self) -> tuple[float, ...]:
        """Return the sums in the order of STAGES."""
        missing = {} if self._told else {"host_to_device": math.nan, "device_to_host": math.nan}
        sums = {**self._sums, **missing, "end_to_end": self._last - self._start}
        return tuple(sums.values())


class _Result:
    """The result of one image: written as a folder run does, with the labels kept."""

    def __init__(self, staging: Staging, plan: TilePlan, spec: ModelSpec, laps: _Laps) -> None:
        self._staging, self._size, self._spec = staging, (plan.height, plan.width), spec
        self._laps = laps
        self._output: StagedOutput | None = None
        self.rows = LabelRows()

    def write(self, image_hwc: NDArray[np.uint8], rows: Prediction) -> None:
        """Write the next rows."""
        self._laps.end("stitch")
        if self._output is None:
            self._output = _palette_png(self._staging, self._size, self._spec)
        self._output.write(image_hwc, rows)
        self.rows(image_hwc, rows)
        self._laps.end("encode")

    def publish(self, name: Path) -> None:
        """Put the file under its name, over that of the call before."""
        assert self._output is not None
        self._output.end()
        self._output.publish(name, check=_no_check)


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
    output = _palette_png(staging, labels_hw.shape, spec)
    try:
        output.write(image_hwc, Prediction(labels_hw))
        output.end()
        output.publish(name, check=_no_check)
    finally:
        output.drop()


def _palette_png(staging: Staging, size: tuple[int, int], spec: ModelSpec) -> StagedOutput:
    return StagedOutput(staging, OutputRequest(size=size, spec=spec, format="labels"))


def _no_check() -> None:
    """Let a result be replaced: it is in a folder of the benchmark."""


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
