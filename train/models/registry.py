"""The table of networks by architecture name, ``NAME-BACKBONE`` or ``NAME`` alone.

A network enters it by a decorator on its class, so a new network is one file in this folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fcnkit.train.models.base import SegmentationNet

__all__ = ["NETWORKS", "Network", "register"]

Net = TypeVar("Net", bound=SegmentationNet)


@dataclass(frozen=True, kw_only=True)
class Network:
    """How an architecture is built."""

    build: Callable[..., SegmentationNet]
    """The class: takes (num_classes, backbone=..., pretrained=...), or (num_classes) where the
    network has its own encoder."""
    backbone: str | None
    """The backbone's name; None for its own encoder."""


NETWORKS: dict[str, Network] = {}
"""Every architecture by its name."""


def register(name: str, *, backbones: Sequence[str] = ()) -> Callable[[type[Net]], type[Net]]:
    """Enter a class of networks under a name.

    Args:
        name: The part of the architecture name before the hyphen.
        backbones: The parts after it; with none, the network has its own encoder and the name
            stands alone.

    Returns:
        The decorator for the class.
    """

    def enter(build: type[Net]) -> type[Net]:
        if not backbones:
            NETWORKS[name] = Network(build=build, backbone=None)
        for backbone in backbones:
            NETWORKS[f"{name}-{backbone}"] = Network(build=build, backbone=backbone)
        return build

    return enter
