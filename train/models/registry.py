"""The table of networks by architecture name, ``NAME-BACKBONE`` or ``NAME`` alone.

A network enters it by a decorator on its class, so a new network is one file in this folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from fcnkit.errors import BadValueError, message
from fcnkit.train.models.base import SegmentationNet

__all__ = ["NETWORKS", "Network", "find_network", "register"]

Net = TypeVar("Net", bound=SegmentationNet)


@dataclass(frozen=True, kw_only=True)
class Network:
    """How an architecture is built."""

    build: Callable[..., SegmentationNet]
    """The class: takes (num_classes, backbone=..., pretrained=...), or (num_classes) where the
    network has its own encoder."""
    backbone: str | None
    """The backbone's name; None for its own encoder."""
    takes_timm: bool = False
    """Whether a backbone of the package timm can stand in for this one."""


NETWORKS: dict[str, Network] = {}
"""Every architecture by its name."""


TIMM: Final = "timm:"
"""By this prefix a backbone of the package timm is told from torchvision's."""


def find_network(architecture: str) -> Network:
    """Look up an architecture.

    Args:
        architecture: A name of NETWORKS, or one of them on a backbone of timm, such as
            ``fpn-timm:mobilenetv3_large_100``.

    Returns:
        How it is built.

    Raises:
        ValueError: There is no such architecture, or it is a factory that nobody registered.
    """
    if architecture in NETWORKS:
        return NETWORKS[architecture]
    head, _, backbone = architecture.partition("-")
    taking = {
        name.partition("-")[0]: network for name, network in NETWORKS.items() if network.takes_timm
    }
    if backbone.startswith(TIMM):
        if head in taking:
            return replace(taking[head], backbone=backbone)
        rule = f"a backbone of timm goes with {', '.join(taking)}"
        raise BadValueError(message("create_model: architecture", rule, architecture, "use one"))
    if ":" in architecture:
        rule = "a factory is imported only where it is named by you"
        remedy = f"add --model {architecture} (Python: fcnkit.train.register_factory)"
        raise BadValueError(message("create_model: architecture", rule, architecture, remedy))
    rule = f"must be one of {', '.join(name for name in NETWORKS if ':' not in name)}"
    remedy = "choose one of these"
    raise BadValueError(message("create_model: architecture", rule, architecture, remedy))


def register(
    name: str, *, backbones: Sequence[str] = (), takes_timm: bool = False
) -> Callable[[type[Net]], type[Net]]:
    """Enter a class of networks under a name.

    Args:
        name: The part of the architecture name before the hyphen.
        backbones: The parts after it; with none, the network has its own encoder and the name
            stands alone.
        takes_timm: Whether backbones of timm are allowed too.

    Returns:
        The decorator for the class.
    """

    def enter(build: type[Net]) -> type[Net]:
        if not backbones:
            NETWORKS[name] = Network(build=build, backbone=None)
        for backbone in backbones:
            NETWORKS[f"{name}-{backbone}"] = Network(
                build=build, backbone=backbone, takes_timm=takes_timm
            )
        return build

    return enter
