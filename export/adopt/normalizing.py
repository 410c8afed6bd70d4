"""The input of an adopted network: what is said, what its graph shows, what is assumed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from fcnkit.errors import BadValueError, message
from fcnkit.export.adopt.claims import IMAGENET, Claims, ColorOrder
from fcnkit.export.adopt.normalization import OwnNormalization

__all__ = ["Normalization", "choose_normalization"]

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """How an image becomes the network's input."""

    mean: Triple
    """Per RGB channel, of values 0..1, as a ModelSpec has it."""
    std: Triple
    """What each channel is divided by after that, of values 0..1."""
    color: ColorOrder
    """The network's order of channels."""
    scale: int
    """255 where the network takes 0..255, else 1."""
    lines: tuple[str, ...]
    """What was found out, for a person."""
    warnings: tuple[str, ...]
    """What was assumed, or is doubtful."""


def choose_normalization(
    claims: Claims, known: Claims, own: OwnNormalization | None, *, where: str
) -> Normalization:
    """Decide how images are normalized.

    Args:
        claims: What the user says.
        known: What the layout of the source says by itself.
        own: What the graph does by itself.
        where: The source, for errors.

    Returns:
        The decision.

    Raises:
        ValueError: Mean and std are not known, or the graph subtracts that mean itself.
    """
    lines, warnings = list[str](), list[str]()
    color = claims.color or known.color
    if color is None:
        color = "RGB"
        rule = "the order of channels is not in a network"
        warnings.append(message(where, rule, "no --color", "RGB is assumed"))
    scale = claims.scale or known.scale or _scale(claims, own)
    if scale is None:
        scale = 1
        remedy = "0..1 is assumed; add --scale 255 for a network that takes 0..255"
        rule = "the scale of its input is not in a network"
        warnings.append(message(where, rule, "no --scale", remedy))
    if own is not None:
        lines.append(f"the graph normalizes by itself: {own.text()}")
    mean, std = claims.mean, claims.std
    if mean is None or std is None:
        mean, std = _unsaid(known, own, scale, where=where)
    else:
        warnings += _doubts(mean, scale, own)
    if color == "BGR":
        mean, std = _triple(reversed(mean)), _triple(reversed(std))
    return Normalization(
        mean=_triple(value / scale for value in mean),
        std=_triple(value / scale for value in std),
        color=color,
        scale=scale,
        lines=tuple(lines),
        warnings=tuple(warnings),
    )


def _triple(values: Iterable[float]) -> Triple:
    red, green, blue = values
    return red, green, blue


def _scale(claims: Claims, own: OwnNormalization | None) -> int | None:
    """Return the scale that the numbers tell: a mean above 1 is one of 0..255."""
    if claims.mean is not None and max(map(abs, claims.mean)) > 1:
        return 255
    return own.scale if own is not None else None


def _unsaid(
    known: Claims, own: OwnNormalization | None, scale: int, *, where: str
) -> tuple[Triple, Triple]:
    if own is not None and own.subtracts:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if known.mean is not None and known.std is not None:
        if scale == 255 and known.scale != 255:
            return _triple(255 * v for v in known.mean), _triple(255 * v for v in known.std)
        return known.mean, known.std
    rule = "the mean and the deviation of its input must be known"
    remedy = f"add {IMAGENET} for ImageNet's, or --mean 0,0,0 --std 1,1,1 for plain values"
    raise BadValueError(message(where, rule, "no --mean and no --std", remedy))


_CLOSE: Final = 0.02
"""Difference of two means, of values 0..1, up to which they are the same one."""


def _doubts(mean: Triple, scale: int, own: OwnNormalization | None) -> list[str]:
    """Refuse a mean that is subtracted twice; return what is doubtful."""
    warnings: list[str] = []
    said = [value / scale for value in mean]
    if own is not None and own.subtracts and any(said):
        units = own.scale or 1
        rule = f"the graph subtracts {own.text()} itself"
        got = ",".join(f"{value:g}" for value in mean)
        if all(abs(v / units - s) < _CLOSE for v, s in zip(own.mean, said, strict=True)):
            remedy = "use --mean 0,0,0 --std 1,1,1"
            raise BadValueError(message("--mean", rule, got, remedy))
        remedy = "both are subtracted; use --mean 0,0,0 --std 1,1,1 if the graph's is enough"
        warnings.append(message("--mean", rule, got, remedy))
    if own is not None and not own.subtracts and own.scale == 255 and scale == 1:
        rule = f"the graph divides its input by {own.std[0]:.4g} itself"
        remedy = "use --scale 255 if it takes 0..255"
        warnings.append(message("--scale", rule, "a network that takes 0..1", remedy))
    if scale == 255 and any(mean) and max(map(abs, mean)) <= 1:
        rule = "the network takes 0..255, and the mean is in these units"
        got = ",".join(f"{value:g}" for value in mean)
        warnings.append(message("--mean", rule, got, "multiply mean and std by 255 if it is not"))
    return warnings
