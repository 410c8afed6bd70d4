"""What can be found out about a network by running it: multiple, sizes, classes, kind of output."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import ArtifactError, BadValueError, message
from fcnkit.runtime.artifacts.spec import VOID, Shape, format_shape

__all__ = ["CallError", "Facts", "Run", "probe"]

Run = Callable[[NDArray[np.float32]], NDArray[Any]]
"""Takes (N, 3, H, W) as the network does, gives what the network gives."""

_MULTIPLES: Final = (1, 2, 4, 7, 8, 14, 16, 28, 32, 64, 128)
_SIDES: Final = (64, 224)
"""About the sides to try multiples at; the larger ones where the smaller ones fail."""
_SMALLEST: Final = (32, 48, 64, 96, 128, 192, 224, 256)
_MOST_PIXELS: Final = 1 << 26
"""Of a batch of fixed size: 8192x8192, what a spec allows as the smallest shape."""
_TOLERANCE: Final = 1e-3
"""Share of the largest score that may change with the other images of a batch."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was found out."""

    multiple: int
    smallest: tuple[int, int]
    """The smallest sides that were seen to work; the only ones of a network with fixed sizes."""
    fixed: bool
    """Whether the network takes one size only."""
    batch: int | None
    """The only batch size; None for any."""
    gives_labels: bool
    """Whether the network takes the argmax itself."""
    classes: int | None
    """From the shape of the scores; None where the network gives labels."""
    stride: int
    """By how much the scores are smaller than the image."""
    rank: int
    """Number of axes of the output."""


@dataclass(frozen=True)
class _Seen:
    """What one run gave."""

    gives_labels: bool
    classes: int | None
    stride: int
    rank: int


def probe(
    run: Run,
    declared: tuple[int | None, ...],
    *,
    multiple: int | None,
    shape: Shape | None = None,
    where: str,
) -> Facts:
    """Run a network at several sizes.

    Args:
        run: Runs it.
        declared: (N, 3, H, W), None for what is free.
        multiple: What the user says; None tries.
        shape: The only (N, H, W) that is wanted of the network.
        where: The source, for errors.

    Returns:
        The facts.

    Raises:
        ArtifactError: The network does not run, or gives neither scores nor labels.
        ValueError: It does not run at the multiple that the user says.
    """
    if shape is not None:
        declared = _narrowed(declared, shape)
    _check_pixels(declared, where)
    trial = _Trial(run, declared[0] or 1, where)
    height, width = declared[2], declared[3]
    if height is not None and width is not None:
        seen = trial.at(height, width)
        found = _fixed_multiple(height, width, multiple)
        smallest = height, width
    else:
        found, base, seen = _find_multiple(trial, declared, multiple)
        smallest = _find_smallest(trial, declared, found, base, seen)
    batch = declared[0] or _find_batch(trial, smallest)
    return Facts(
        multiple=found,
        smallest=smallest,
        fixed=height is not None and width is not None,
        batch=batch,
        gives_labels=seen.gives_labels,
        classes=seen.classes,
        stride=seen.stride,
        rank=seen.rank,
    )


def _narrowed(declared: tuple[int | None, ...], shape: Shape) -> tuple[int | None, ...]:
    batch, height, width = shape
    wanted = batch, 3, height, width
    if any(has not in (None, want) for has, want in zip(declared, wanted, strict=True)):
        dims = "x".join(
            "any" if declared[axis] is None else str(declared[axis]) for axis in (0, 2, 3)
        )
        rule = f"the network takes NxHxW of {dims}"
        raise BadValueError(message("--shape", rule, format_shape(shape), "leave it out"))
    return wanted


def _check_pixels(declared: tuple[int | None, ...], where: str) -> None:
    """Refuse sizes whose images alone would fill the memory: the file may come from anybody."""
    pixels = math.prod(declared[axis] or 1 for axis in (0, 2, 3))
    if pixels > _MOST_PIXELS:
        rule = f"must take batches of at most {_MOST_PIXELS} pixels"
        remedy = "export it for a smaller batch or size"
        raise ArtifactError(message(where, rule, f"{pixels} pixels", remedy))


class _Trial:
    """Runs a network on noise and reads what comes out."""

    def __init__(self, run: Run, batch: int, where: str) -> None:
        self.run, self.batch, self.where = run, batch, where

    def images(self, batch: int, height: int, width: int) -> NDArray[np.float32]:
        random = np.random.default_rng(height * 4099 + width)
        return random.normal(size=(batch, 3, height, width)).astype(np.float32)

    def at(self, height: int, width: int) -> _Seen:
        """Run one size; any error of the library is an ArtifactError."""
        image_nchw = self.images(self.batch, height, width)
        try:
            result = self.run(image_nchw)
        except CallError:
            raise
        except Exception as error:
            rule = f"must run on an image of {height}x{width}"
            got = " ".join(str(error).split())[-200:] or type(error).__name__
            remedy = "name the only size that it takes with --shape 1xHxW, or another --multiple"
            raise ArtifactError(message(self.where, rule, got, remedy)) from None
        return _read(result, self.batch, height, width, where=self.where)

    def works(self, height: int, width: int, like: _Seen | None = None) -> _Seen | None:
        """Return what comes out, None where the size does not work."""
        try:
            seen = self.at(height, width)
        except _ShapeError:
            return None
        except ArtifactError as error:
            if isinstance(error, _KindError):
                raise
            return None
        return seen if like is None or seen == like else None


class CallError(TypeError):
    """What a module gives is nothing that can be adopted, at any size."""


class _ShapeError(ArtifactError):
    """The output is not as large as the image, or a whole part of it."""


class _KindError(ArtifactError):
    """The output is neither scores nor labels."""


def _read(result: NDArray[Any], batch: int, height: int, width: int, *, where: str) -> _Seen:
    shape, dtype = result.shape, result.dtype
    got = f"{dtype} {shape} for an image of {height}x{width}"
    integer = dtype.kind in "iu"
    labels = integer and (result.ndim == 3 or (result.ndim == 4 and shape[1] == 1))
    scores = dtype == np.float32 and result.ndim == 4
    if not labels and not scores:
        rule = "must give float32 scores (N, K, H, W) or integer labels (N, H, W)"
        remedy = "name the right output with --output, or export the network with such an output"
        raise _KindError(message(where, rule, got, remedy))
    if scores and not 2 <= shape[1] <= VOID:
        rule = f"must give scores of 2 to {VOID} classes"
        remedy = "let the network give a score for the background too, or check the layout"
        raise _KindError(message(where, rule, got, remedy))
    rows, columns = shape[-2:]
    stride = height // rows if rows else 0
    if shape[0] != batch or stride == 0 or (rows * stride, columns * stride) != (height, width):
        rule = "must give one image of scores per image, as large or a whole part as large"
        raise _ShapeError(message(where, rule, got, "use --multiple with what its sides divide by"))
    if labels and stride != 1:
        rule = "must give labels as large as the image"
        raise _KindError(message(where, rule, got, "export the network without its argmax"))
    return _Seen(bool(labels), None if labels else int(shape[1]), stride, result.ndim)


def _sides(declared: tuple[int | None, ...], height: int, width: int) -> tuple[int, int]:
    return declared[2] or height, declared[3] or width


def _find_multiple(
    trial: _Trial, declared: tuple[int | None, ...], claimed: int | None
) -> tuple[int, int, _Seen]:
    """Return the smallest multiple that works, the sides it was seen at, and what came out."""
    for about in _SIDES:
        if claimed is not None:
            seen = _multiple_works(trial, declared, claimed, about)
            if seen is not None:
                return claimed, about, seen
            continue
        for multiple in _MULTIPLES:
            seen = _multiple_works(trial, declared, multiple, about)
            if seen is not None:
                return multiple, about, seen
    if claimed is None:
        trial.at(*_sides(declared, 256, 256))  # its own error says more
        rule = f"must run at multiples of {', '.join(map(str, _MULTIPLES))}"
        remedy = "name its multiple with --multiple, or its only size with --shape 1xHxW"
        raise ArtifactError(message(trial.where, rule, "no size that works", remedy))
    found = _find_multiple(trial, declared, None)[0]
    rule = f"the network must run at every multiple of {claimed}"
    one, two = _pair(claimed, _SIDES[0])
    got = f"no fitting result at {one}x{two}"
    raise BadValueError(message("--multiple", rule, got, f"use --multiple {found}"))


def _pair(multiple: int, about: int) -> tuple[int, int]:
    """Return two sides that are odd multiples, so that half the multiple would show."""
    one = max(1, -(-about // multiple) | 1)
    return multiple * one, multiple * (one + 2)


def _multiple_works(
    trial: _Trial, declared: tuple[int | None, ...], multiple: int, about: int
) -> _Seen | None:
    one, two = _pair(multiple, about)
    seen = trial.works(*_sides(declared, one, two))
    return seen and trial.works(*_sides(declared, two, one), seen)


def _find_smallest(
    trial: _Trial, declared: tuple[int | None, ...], multiple: int, base: int, seen: _Seen
) -> tuple[int, int]:
    for side in _SMALLEST:
        rounded = -(-side // multiple) * multiple
        if trial.works(*_sides(declared, rounded, rounded), seen):
            return _sides(declared, rounded, rounded)
    side = -(-base // multiple) * multiple
    return _sides(declared, side, side)


def _fixed_multiple(height: int, width: int, claimed: int | None) -> int:
    if claimed is None:
        return 1
    if height % claimed or width % claimed:
        rule = f"the sides of the network, {height}x{width}, must divide by it"
        raise BadValueError(message("--multiple", rule, claimed, "leave it out"))
    return claimed


def _find_batch(trial: _Trial, sides: tuple[int, int]) -> int | None:
    """Return 1 where larger batches fail, None where they work, image by image."""
    images = trial.images(2, *sides)
    alone = [trial.run(image[None]) for image in images]
    again = trial.run(images[:1])
    try:
        both = trial.run(images)
    except Exception:
        return 1
    if both.shape[0] != 2:
        return 1
    where, largest = trial.where, max(1e-30, float(np.abs(both.astype(np.float64)).max()))
    if _differ(alone[0], again, largest):
        rule, got = "must give the same result every time", "another one for the same image"
        raise ArtifactError(message(where, rule, got, "call eval() on the network first"))
    if any(_differ(one, both[i : i + 1], largest) for i, one in enumerate(alone)):
        rule = "the result of an image must not depend on the others of its batch"
        raise ArtifactError(
            message(where, rule, "one that does", "call eval() on the network first")
        )
    return None


def _differ(a: NDArray[Any], b: NDArray[Any], largest: float) -> bool:
    if a.dtype.kind in "iu":
        # The argmax of ties may fall otherwise.
        return bool((a != b).mean() > 0.01)
    return not float(np.abs(a - b).max()) <= _TOLERANCE * largest
