"""What every backend is: one protocol, and the checks that all of them share.

Shapes: logits_nchw (N, classes, H, W), labels_nhw (N, H, W).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import ArtifactError, BadTypeError, BadValueError, FcnkitError, message
from fcnkit.runtime.artifacts.spec import ModelSpec, OutputSpec, Shape, format_shape
from fcnkit.runtime.backends.registry import Device
from fcnkit.runtime.closing import Closing
from fcnkit.runtime.pixels.upsampling import Upsampling

__all__ = [
    "Backend",
    "BackendInfo",
    "CheckedBackend",
    "check_batch",
    "nearest_legal",
    "output_places",
    "output_shape",
]


@dataclass(frozen=True, kw_only=True)
class BackendInfo:
    """What really runs an opened model."""

    library: str
    """The library's import name, such as ``onnxruntime``."""
    version: str
    """Its version."""
    device: Device
    """The kind of device that computes."""
    device_name: str
    """The device in the library's words, such as ``CPUExecutionProvider`` or ``cuda:0 L4``."""
    threads: int
    """CPU threads of one call."""
    precision: str
    """The precision that it computes in."""
    chosen_because: str = ""
    """Why ``backend="auto"`` took this backend; empty where the backend was named."""
    extra: Mapping[str, str | int] = field(default_factory=dict)
    """Facts that only this library has, such as ``cuda_graphs``."""

    @property
    def details(self) -> dict[str, str | int]:
        """The same as plain data for reports, a new dict each time."""
        found: dict[str, str | int] = {
            "library": f"{self.library} {self.version}",
            "provider": self.device_name,
            "threads": self.threads,
            "compute": self.precision,
            **self.extra,
        }
        if self.chosen_because:
            found["auto"] = self.chosen_because
        return found


class Backend(Protocol):
    """An opened model. Used by one thread at a time; closed at the end of a ``with`` block."""

    @property
    def spec(self) -> ModelSpec:
        """What the model promises."""

    @property
    def name(self) -> str:
        """The name ``open_backend`` knows it by, such as ``onnxruntime``."""

    @property
    def info(self) -> BackendInfo:
        """What really runs."""

    @property
    def upsampling(self) -> Upsampling | None:
        """The last layer, for the head ``scores``; None for the others."""

    @property
    def details(self) -> dict[str, str | int]:
        """``info`` as plain data: ``library``, ``provider``, ``threads``, ``compute``.

        Where ``auto`` chose the backend, ``auto`` says why.
        """

    def infer(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Run one batch.

        Args:
            batch: float32 (N, 3, H, W), normalized, for the heads ``logits`` and ``scores``; uint8
                (N, H, W, 3), RGB, for ``labels`` and ``scene``. N, H and W within ``spec.shapes``,
                H and W multiples of ``spec.input.multiple``.

        Returns:
            float32 logits_nchw for the head ``logits``, float32 scores (N, classes, H/s, W/s) with
            the stride s of ``spec.last_layer`` for ``scores``, else uint8 labels_nhw; the caller's
            own. With ``spec.confidence`` it is uint8 (N, 2, H, W): labels, then confidence.

        Raises:
            TypeError: batch is not an array of the spec's dtype.
            ValueError: batch is of a wrong shape, or the backend is closed.
        """

    def stream(self, batches: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Run many batches, some of them at the same time where that is faster.

        Args:
            batches: Batches as for ``infer``, of any mixture of shapes. It is read no more than a
                few batches ahead of the results, on the caller's thread. A batch must stay
                unchanged until its result is out.

        Returns:
            The results in the order of the batches, each as from ``infer``. Before an error, of
            ``batches`` itself too, come the results of all batches before it. Leaving early
            waits for what runs, and the backend stays open.

        Raises:
            TypeError: A batch is not an array of the spec's dtype.
            ValueError: A batch is of a wrong shape, or the backend is closed.
        """

    def close(self) -> None:
        """Free what the library holds; closing twice is fine."""

    def __enter__(self) -> Self:
        """Return the backend itself."""

    def __exit__(self, *_: object) -> None:
        """Close the backend."""


class CheckedBackend(Closing):
    """The half of a Backend that all of them share: check first, then run.

    A subclass implements ``_run``, which may trust the batch, and ``_free``; where the library
    can run several batches at a time, ``_stream`` too.
    """

    info: BackendInfo
    """What really runs."""
    upsampling: Upsampling | None = None
    """See ``Backend.upsampling``; set by ``open_model``."""

    def __init__(self, spec: ModelSpec, *, name: str, info: BackendInfo) -> None:
        self._spec, self._name, self.info = spec, name, info
        self._closed = False

    @property
    def spec(self) -> ModelSpec:
        """What the model promises."""
        return self._spec

    @property
    def name(self) -> str:
        """The name ``open_backend`` knows it by."""
        return self._name

    @property
    def details(self) -> dict[str, str | int]:
        """``info`` as plain data."""
        return self.info.details

    def infer(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Check a batch against the spec and run it; see ``Backend.infer``."""
        checked = self._checked(batch, f"{self._name}.infer")
        try:
            result = self._run(checked)
        except (FcnkitError, ValueError):  # has its message already
            raise
        except Exception as error:
            raise self._failed(error) from error
        return self._kept(result, checked.shape)

    def stream(self, batches: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Check batches against the spec and run them; see ``Backend.stream``."""
        what, shapes = f"{self._name}.stream", deque[tuple[int, ...]]()
        callers: list[Exception] = []

        def checked() -> Iterator[NDArray[Any]]:
            try:
                for batch in batches:
                    array = self._checked(batch, what)
                    shapes.append(array.shape)
                    yield array
            except Exception as error:
                callers.append(error)
                raise

        results = self._stream(checked())
        while True:
            try:
                result = next(results, None)
            except Exception as error:
                if isinstance(error, (FcnkitError, ValueError)) or error in callers:
                    raise
                raise self._failed(error) from error
            if result is None:
                return
            yield self._kept(result, shapes.popleft())

    def _failed(self, error: Exception) -> ArtifactError:
        """Make an error of what a library raised while it ran."""
        rule, remedy = "the library must be able to run the model", "make the picture smaller"
        return ArtifactError(message(self._name, rule, str(error) or type(error).__name__, remedy))

    def _kept(self, result: NDArray[Any], batch: tuple[int, ...]) -> NDArray[Any]:
        """Return a result after checking it against the spec: a graph may compute anything.

        Raises:
            ArtifactError: It has another shape or dtype, a label without a class, or a logit that
                is not a number.
        """
        spec, shape = self._spec, output_shape(batch, self._spec)
        logits = spec.output.layout == "NCHW"
        labels = result if spec.confidence is None else result[0]
        rule, got = f"the model must give {spec.output.dtype} {shape} for this batch", ""
        remedy = "export the model again with fcnkit export onnx"
        if result.shape != shape or result.dtype != np.dtype(spec.output.dtype):
            got = f"{result.dtype} {result.shape}"
        # The largest of values with a NaN among them is NaN. One pass: 0.2 ms at 320x480.
        elif logits and np.isnan(result.max()):
            rule, got = "the model must give numbers", "NaN"
            remedy = "check its weights, and with fp16 export it in fp32"
        elif spec.head == "scores" and not np.isfinite(result).all():
            rule, got = "the model must give finite scores", "infinity"
            remedy = "check its weights, and with fp16 export it in fp32"
        elif not logits and labels.max() >= spec.num_classes:
            rule = f"the model must give labels below {spec.num_classes}"
            got = str(labels.max())
        if got:
            raise ArtifactError(message(self._name, rule, got, remedy))
        return result if spec.confidence is None else result.swapaxes(0, 1)

    def close(self) -> None:
        """Free what the library holds; closing twice is fine."""
        if not self._closed:
            self._closed = True
            self._free()

    def _checked(self, batch: NDArray[Any], what: str) -> NDArray[Any]:
        self._check_open(what)
        check_batch(batch, self._spec, what=what)
        return np.ascontiguousarray(batch)

    def _check_open(self, what: str) -> None:
        if self._closed:
            raise BadValueError(
                message(what, "the backend must be open", "a closed one", "open it")
            )

    def _stream(self, batches: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Run checked, contiguous batches in order; here one by one."""
        for batch in batches:
            yield self._run(batch)

    @abstractmethod
    def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Run a checked, contiguous batch.

        Returns:
            The caller's own, of ``output_shape``.
        """

    @abstractmethod
    def _free(self) -> None:
        """Drop the library's objects."""


def check_batch(batch: object, spec: ModelSpec, *, what: str) -> None:
    """Refuse a batch that the spec does not allow, before a library sees it.

    The check matters: a session that gets a side of 33 pixels returns 64 rows and no error.

    Args:
        batch: The array for ``Backend.infer``.
        spec: The model's promises.
        what: The caller, for the error.

    Raises:
        TypeError: batch is not a numpy array of the spec's dtype.
        ValueError: Wrong rank, channels or layout, a side that is not a multiple, or a shape
            outside the legal range; the nearest legal shape is named.
    """
    wanted = spec.input
    if not isinstance(batch, np.ndarray) or batch.dtype != np.dtype(wanted.dtype):
        got = f"array of {batch.dtype}" if isinstance(batch, np.ndarray) else type(batch).__name__
        remedy = f"head {spec.head} takes {_INPUT_TEXT[spec.head]}"
        raise BadTypeError(
            message(what, f"batch must be a numpy array of {wanted.dtype}", got, remedy)
        )
    channels_first = wanted.layout == "NCHW"
    layout = "(N, 3, H, W)" if channels_first else "(N, H, W, 3)"
    rule = f"batch must have shape {layout}"
    if batch.ndim != 4:
        remedy = "add the batch axis with batch[None]" if batch.ndim == 3 else "pass four axes"
        raise BadValueError(message(what, rule, batch.shape, remedy))
    if batch.shape[1 if channels_first else 3] != 3:
        other_way = batch.shape[3 if channels_first else 1] == 3
        transposed = "(0, 3, 1, 2)" if channels_first else "(0, 2, 3, 1)"
        remedy = f"pass batch.transpose{transposed}" if other_way else "pass three channels, RGB"
        raise BadValueError(message(what, rule, batch.shape, remedy))
    sides = batch.shape[2:] if channels_first else batch.shape[1:3]
    _check_legal((batch.shape[0], sides[0], sides[1]), spec, what=what)


_INPUT_TEXT = {
    "logits": "a normalized float32 picture (N, 3, H, W)",
    "scores": "a normalized float32 picture (N, 3, H, W)",
    "labels": "uint8 RGB pictures (N, H, W, 3)",
    "scene": "one uint8 RGB picture (1, H, W, 3)",
}


def _check_legal(shape: Shape, spec: ModelSpec, *, what: str) -> None:
    legal = nearest_legal(shape, spec)
    if shape == legal:
        return
    low, high = format_shape(spec.shapes.min), format_shape(spec.shapes.max)
    rule = f"the model takes NxHxW from {low} to {high}"
    if spec.input.multiple > 1:
        rule += f" with sides in steps of {spec.input.multiple}"
    remedy = f"the nearest legal shape is {format_shape(legal)}"
    raise BadValueError(message(what, rule, format_shape(shape), remedy))


def nearest_legal(shape: Shape, spec: ModelSpec) -> Shape:
    """Return the legal (N, H, W) next to a given one: sides up to the multiple, then into range.

    Args:
        shape: Pictures, rows and columns.
        spec: The model's promises.

    Returns:
        The shape itself where it is legal.
    """
    multiple = spec.input.multiple
    steps = (1, multiple, multiple)
    limits = zip(shape, steps, spec.shapes.min, spec.shapes.max, strict=True)
    batch, height, width = (
        min(max(-(-side // step) * step, low), high) for side, step, low, high in limits
    )
    return batch, height, width


def output_shape(shape: tuple[int, ...], spec: ModelSpec) -> tuple[int, ...]:
    """Return the shape of the output for a legal shape of the input, both in the spec's layout.

    With ``spec.confidence``, the two outputs lie one behind the other: (2, N, H, W).
    """
    sides = shape[2:] if spec.input.layout == "NCHW" else shape[1:3]
    if spec.confidence is not None:
        return len(spec.outputs), shape[0], *sides
    if spec.output.layout == "NCHW":
        return shape[0], spec.num_classes, *(side // spec.stride for side in sides)
    return shape[0], *sides


def output_places(
    shape: tuple[int, ...], spec: ModelSpec, address: int
) -> Iterator[tuple[OutputSpec, tuple[int, ...], int]]:
    """Say where each output lies in the memory of all of them.

    Args:
        shape: A legal shape of the input.
        spec: The model's promises.
        address: Of the memory.

    Yields:
        The output, its shape, and its address.
    """
    whole = output_shape(shape, spec)
    if spec.confidence is None:
        yield spec.output, whole, address
        return
    for place, one in enumerate(spec.outputs):
        yield one, whole[1:], address + place * math.prod(whole[1:])
