"""What every kind of source is reduced to before it is adopted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from fcnkit.export.adopt.claims import Claims, ColorOrder, Upsampling
from fcnkit.export.adopt.normalization import OwnNormalization
from fcnkit.export.adopt.probing import Facts, Run
from fcnkit.export.heads import Core
from fcnkit.export.subject import SubjectKind
from fcnkit.runtime.artifacts.spec import Shape

__all__ = ["Opened", "Prepared"]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A network that was run and whose graph is known."""

    facts: Facts
    own: OwnNormalization | None
    """What the graph does to its input by itself."""
    core: Callable[[int, ColorOrder, Upsampling], Core]
    """Makes the core for a number of classes, an order of channels and a rule of upsampling."""
    lines: tuple[str, ...] = ()
    """What was found out, for a person."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A source that was read."""

    where: str
    """The file or factory, for errors."""
    name: str
    """The file's or factory's name, for reports."""
    architecture: str
    """What the network is called unless the user says otherwise."""
    kind: SubjectKind
    sha256: str | None
    run: Run
    library: str
    """What runs it."""
    prepare: Callable[[int | None, Shape | None], Prepared]
    """Runs and reads the network, with the multiple and the only shape that the user says."""
    weights: Callable[[], dict[str, Tensor]] | None = None
    """The state dict of what ``create_model`` builds for that architecture; None for a graph."""
    known: Claims = field(default_factory=Claims)
    """What the layout of the source says by itself: the user's claims go over it."""
    voc: bool = False
    """Whether 21 classes are those of Pascal VOC."""
    lines: tuple[str, ...] = ()
    """What was found out, for a person."""
