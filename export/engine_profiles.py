"""Optimization profiles: the ranges of shapes that an engine is built for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.artifacts.engine_file import LARGEST_PROFILE
from fcnkit.runtime.artifacts.spec import ModelSpec, Shape, ShapeRange, format_shape, parse_shape
from fcnkit.runtime.checks import check_type

__all__ = ["ProfileRequest", "complete_profiles", "parse_profile"]


@dataclass(frozen=True, kw_only=True)
class ProfileRequest:
    """A profile as requested; None stands for a default that follows from the model."""

    min: Shape | None = None
    opt: Shape | None = None
    max: Shape | None = None
    option: str | None = None
    """The whole option as written, for errors; None: ``--min``, ``--opt`` and ``--max``."""


def parse_profile(text: str) -> ProfileRequest:
    """Read ``1x32x32,1x320x480,4x512x512`` as a profile.

    Args:
        text: Smallest, typical and largest NxHxW.

    Returns:
        The request.

    Raises:
        TypeError: text is not a str.
        ValueError: text is anything else.
    """
    check_type("--profile", text, str)
    parts = text.split(",")
    if len(parts) != 3:
        rule = "a profile is written MIN,OPT,MAX"
        raise BadValueError(
            message("--profile", rule, repr(text), "write 1x32x32,1x320x480,4x512x512")
        )
    low, opt, high = (parse_shape(part.strip(), "--profile") for part in parts)
    return ProfileRequest(min=low, opt=opt, max=high, option=f"--profile {text}")


def complete_profiles(
    spec: ModelSpec, requests: Sequence[ProfileRequest]
) -> tuple[ShapeRange, ...]:
    """Fill in what was left open, and check every shape.

    Args:
        spec: The model's promises; no shape may leave them.
        requests: The requested profiles; none at all stands for one by default.

    Returns:
        The profiles in the order of the requests.

    Raises:
        ValueError: A shape is not a multiple, out of the spec's range, or min <= opt <= max fails.
    """
    return tuple(_complete(spec, request) for request in requests or [ProfileRequest()])


def _complete(spec: ModelSpec, request: ProfileRequest) -> ShapeRange:
    legal = spec.shapes
    low = request.min or legal.min
    high = request.max or _clamp(LARGEST_PROFILE, request.opt or low, legal.max)
    opt = request.opt or _clamp(legal.opt, low, high)
    for option, shape in (("--min", low), ("--opt", opt), ("--max", high)):
        _check_shape(shape, spec, option=request.option or option)
    if not _ordered(low, opt, high):
        got = " ".join(map(format_shape, (low, opt, high)))
        rule = "must be ordered min <= opt <= max in every dimension"
        option = request.option or "--min --opt --max"
        raise BadValueError(message(option, rule, got, "reorder them"))
    return ShapeRange(min=low, opt=opt, max=high)


def _check_shape(shape: Shape, spec: ModelSpec, *, option: str) -> None:
    batch, height, width = shape
    multiple, legal = spec.input.multiple, spec.shapes
    if height % multiple or width % multiple:
        fit = format_shape((batch, _up(height, multiple), _up(width, multiple)))
        rule = f"sides must be multiples of {multiple}"
        raise BadValueError(message(option, rule, format_shape(shape), f"use {fit}"))
    if not _ordered(legal.min, shape, legal.max):
        rule = f"must lie within {format_shape(legal.min)} to {format_shape(legal.max)}"
        remedy = "the ONNX file takes no other shapes"
        raise BadValueError(message(option, rule, format_shape(shape), remedy))


def _up(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple


def _ordered(low: Shape, middle: Shape, high: Shape) -> bool:
    return all(a <= b <= c for a, b, c in zip(low, middle, high, strict=True))


def _clamp(wanted: Shape, low: Shape, high: Shape) -> Shape:
    """Return the wanted shape, moved into the range."""
    batch, height, width = (
        min(max(side, a), b) for a, side, b in zip(low, wanted, high, strict=True)
    )
    return batch, height, width
