"""All that is known about a source before anything is written."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fcnkit.export.adopt.claims import Claims, Upsampling
from fcnkit.export.adopt.naming import Names, name_classes
from fcnkit.export.adopt.normalizing import Normalization, choose_normalization
from fcnkit.export.adopt.opened import Opened, Prepared
from fcnkit.export.adopt.opening import open_source
from fcnkit.export.adopt.probing import Facts
from fcnkit.export.adopt.source import SourceBackend
from fcnkit.export.build import head_spec
from fcnkit.export.heads import Core
from fcnkit.runtime.artifacts.spec import ModelSpec, Shape, ShapeRange
from fcnkit.runtime.checks import check_threads
from fcnkit.train.checkpoint import checkpoint_spec

__all__ = ["Understood", "understand"]

_log = logging.getLogger("fcnkit.model")

_TYPICAL: Final = (320, 480)
_LARGEST: Final[Shape] = (16, 2048, 2048)


@dataclass(frozen=True, kw_only=True)
class Understood:
    """A source, what was found out about it and what is said."""

    opened: Opened
    prepared: Prepared
    names: Names
    normal: Normalization
    upsample: Upsampling
    spec: ModelSpec
    """Of the network as a checkpoint: float32 logits."""

    @property
    def facts(self) -> Facts:
        """What was found out by running it."""
        return self.prepared.facts

    def core(self) -> Core:
        """Make the graph that the heads are put around."""
        return self.prepared.core(len(self.names.classes), self.normal.color, self.upsample)

    def backend(self) -> SourceBackend:
        """Return what runs the source as it was given."""
        labels = self.facts.gives_labels
        return SourceBackend(
            self.opened.run,
            head_spec(self.spec, "labels", sha256=None) if labels else self.spec,
            self.facts,
            color=self.normal.color,
            upsample=self.upsample,
            library=self.opened.library,
            threads=check_threads("adopt", None),
        )

    def lines(self) -> tuple[str, ...]:
        """Say what was found out, a line each."""
        found = _lines(self.facts, self.names, self.normal, self.upsample)
        return *self.opened.lines, *self.prepared.lines, *found, *self.normal.lines


def understand(source: str | Path, claims: Claims, shape: Shape | None) -> Understood:
    """Read and run a source, and put together what is found and what is said.

    Args:
        source: An ONNX file, a state dict or ``package.module:factory``.
        claims: What is said about it.
        shape: The only (N, H, W) that is wanted of it.

    Returns:
        What is known. What had to be assumed was logged as warnings.

    Raises:
        As adopt.
    """
    opened = open_source(source, claims, threads=check_threads("adopt", None))
    prepared = opened.prepare(claims.multiple, shape)
    found = prepared.facts.classes
    names = name_classes(claims, found, voc=opened.voc, where=opened.where)
    normal = choose_normalization(claims, opened.known, prepared.own, where=opened.where)
    for line in normal.warnings:
        _log.warning("%s", line)
    return Understood(
        opened=opened,
        prepared=prepared,
        names=names,
        normal=normal,
        upsample=claims.upsample or opened.known.upsample or "bilinear",
        spec=_source_spec(opened, claims, prepared.facts, names, normal),
    )


def _source_spec(
    opened: Opened, claims: Claims, facts: Facts, names: Names, normal: Normalization
) -> ModelSpec:
    """Describe the network as if it was a checkpoint: float32 logits."""
    plain = checkpoint_spec(claims.name or opened.architecture, names.classes, names.palette)
    given = replace(plain.input, mean=normal.mean, std=normal.std, multiple=facts.multiple)
    return replace(plain, input=given, shapes=_shapes(facts), versions={}, bands=claims.bands)


def _shapes(facts: Facts) -> ShapeRange:
    low, high = facts.smallest, facts.smallest
    step = facts.multiple
    if not facts.fixed:
        height, width = (
            max(side, most // step * step) for side, most in zip(low, _LARGEST[1:], strict=True)
        )
        high = height, width
    rows, columns = (
        min(max(least, -(-side // step) * step), most)
        for least, side, most in zip(low, _TYPICAL, high, strict=True)
    )
    first, most = (facts.batch, facts.batch) if facts.batch is not None else (1, _LARGEST[0])
    return ShapeRange(min=(first, *low), opt=(first, rows, columns), max=(most, *high))


def _lines(facts: Facts, names: Names, normal: Normalization, upsample: str) -> tuple[str, ...]:
    """Say what was found out."""
    height, width = facts.smallest
    sizes = f"images of {height}x{width} only"
    if not facts.fixed:
        sizes = f"sides are multiples of {facts.multiple}, from {height}x{width} on"
    batch = "any batch" if facts.batch is None else f"batches of {facts.batch}"
    lines = [names.fact, f"{sizes}, {batch}"]
    if facts.gives_labels:
        lines.append("the network takes the argmax itself")
    elif facts.stride > 1:
        lines.append(
            f"scores are {facts.stride} times smaller than the image, enlarged by {upsample}"
        )
    mean, std = (",".join(f"{v:.4g}" for v in values) for values in (normal.mean, normal.std))
    lines.append(f"input {normal.color}, 0..{normal.scale}; of 0..1 in RGB: mean {mean}, std {std}")
    return tuple(lines)
