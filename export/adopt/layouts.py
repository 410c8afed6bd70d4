"""The state dicts whose networks are known: the d2l.ai chapter's and torchvision's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import torch
import torchvision
from torch import Tensor, nn

from fcnkit.errors import ArtifactError, BadValueError, message
from fcnkit.export.adopt.claims import Claims, ColorOrder, Upsampling
from fcnkit.export.adopt.core import swap_channels
from fcnkit.export.adopt.module_source import open_module, run_of
from fcnkit.export.adopt.opened import Opened, Prepared
from fcnkit.export.adopt.probing import Facts
from fcnkit.export.build import trace_core
from fcnkit.export.heads import Core
from fcnkit.runtime.artifacts.spec import Shape
from fcnkit.train.checkpoint import IMAGENET_MEAN, IMAGENET_STD
from fcnkit.train.models import SegmentationNet, create_model
from fcnkit.train.models.backbone import RESNETS
from fcnkit.train.models.foreign import TORCHVISION, torchvision_network
from fcnkit.train.weights import D2L_MODULES

__all__ = ["Layout", "chapter_network", "find_layout"]

_KNOWN: Final = Claims(mean=IMAGENET_MEAN, std=IMAGENET_STD, scale=1, color="RGB")
_FACTORY: Final = "write a function that returns the network, and adopt package.module:function"


class Layout(Protocol):
    """A layout of a state dict, with the weights of one file."""

    def open(self, path: Path, sha256: str, lines: tuple[str, ...]) -> Opened:
        """Build the network."""


def find_layout(weights: dict[str, Tensor], *, where: str) -> Layout:
    """Tell which network a state dict is of.

    Args:
        weights: The tensors by name.
        where: The file, for errors.

    Returns:
        The layout.

    Raises:
        ArtifactError: It is of none that is known; the nearest and its first difference are named.
    """
    if "transpose_conv.weight" in weights and "0.weight" in weights:
        return _chapter(weights, where)
    if any(key.startswith("classifier.") for key in weights):
        return _torchvision(weights, where)
    rule = "must be the state dict of the d2l.ai chapter's network, or of a torchvision one"
    got = f"{len(weights)} tensors, {', '.join(list(weights)[:3])}"
    raise ArtifactError(message(where, rule, got, _FACTORY))


def _with_counters(weights: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the counters of batch normalizations, which old files lack and nothing reads."""
    missing = {
        key: torch.zeros((), dtype=torch.int64)
        for key in wanted
        if key.endswith("num_batches_tracked") and key not in weights
    }
    return {**weights, **missing}


def _unlike(weights: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Name what differs from the tensors that a network has, the network's own order first."""
    found = []
    for key in {**dict.fromkeys(wanted), **dict.fromkeys(weights)}:
        shapes = [tuple(side[key].shape) if key in side else None for side in (weights, wanted)]
        if shapes[0] != shapes[1]:
            has = f"{key} {shapes[0]}" if shapes[0] is not None else f"no {key}"
            wants = f"{shapes[1]}" if shapes[1] is not None else "no such tensor"
            found.append(f"{has} in place of {wants}")
    return found


def chapter_network(backbone: str, classes: int) -> nn.Sequential:
    """Build the network of the d2l.ai chapter, with its own code.

    Args:
        backbone: A ResNet of torchvision; the d2l.ai chapter takes resnet18.
        classes: K.
    """
    resnet = torchvision.models.get_model(backbone, weights=None)
    net = nn.Sequential(*list(resnet.children())[:-2])
    width = resnet.fc.in_features
    net.add_module("final_conv", nn.Conv2d(width, classes, kernel_size=1))
    upsampling = nn.ConvTranspose2d(classes, classes, kernel_size=64, padding=16, stride=32)
    net.add_module("transpose_conv", upsampling)
    return net


@dataclass(frozen=True)
class _Chapter:
    backbone: str
    classes: int
    weights: dict[str, Tensor]

    @property
    def architecture(self) -> str:
        return f"fcn32s-{self.backbone}"

    def source(self) -> nn.Sequential:
        """Return the d2l.ai chapter's own network with the weights."""
        net = chapter_network(self.backbone, self.classes)
        net.load_state_dict(self.weights)
        return net.eval()

    def network(self) -> SegmentationNet:
        """Return fcnkit's network, which computes the same faster."""
        net = create_model(self.architecture, self.classes)
        net.load_state_dict({_renamed(key): value for key, value in self.weights.items()})
        return net.eval()

    def open(self, path: Path, sha256: str, lines: tuple[str, ...]) -> Opened:
        """Build the d2l.ai chapter's network, and fcnkit's for the graph."""
        facts = Facts(
            multiple=32,
            smallest=(32, 32),
            fixed=False,
            batch=None,
            gives_labels=False,
            classes=self.classes,
            stride=1,
            rank=4,
        )

        def prepare(multiple: int | None, _: Shape | None) -> Prepared:
            return Prepared(facts=_at_multiple(facts, multiple), own=None, core=self._core)

        known = f"the layout of the d2l.ai chapter on {self.backbone}, with its mean and std"
        return Opened(
            where=str(path),
            name=path.name,
            architecture=self.architecture,
            kind="module",
            sha256=sha256,
            run=run_of(self.source()),
            library=f"torch {torch.__version__}",
            prepare=prepare,
            weights=lambda: self.network().state_dict(),
            known=_KNOWN,
            voc=True,
            lines=(*lines, known),
        )

    def _core(self, classes: int, color: ColorOrder, _: Upsampling) -> Core:
        core = trace_core(self.network(), classes)
        if color == "BGR":
            swap_channels(core.model.graph)
        return core


def _at_multiple(facts: Facts, multiple: int | None) -> Facts:
    if multiple is None or multiple == facts.multiple:
        return facts
    if multiple % facts.multiple:
        rule = f"the network must run at every multiple of {multiple}"
        got = f"a network for multiples of {facts.multiple}"
        remedy = f"use --multiple {facts.multiple}"
        raise BadValueError(message("--multiple", rule, got, remedy))
    return replace(facts, multiple=multiple, smallest=(multiple, multiple))


def _renamed(key: str) -> str:
    module, dot, rest = key.partition(".")
    return D2L_MODULES.get(module, module) + dot + rest


def _chapter(weights: dict[str, Tensor], where: str) -> _Chapter:
    shape = weights["transpose_conv.weight"].shape
    classes = int(shape[1]) if len(shape) == 4 and 1 <= shape[1] <= 255 else 1
    backbone, whole, unlike = _nearest(
        weights, RESNETS, lambda name: chapter_network(name, classes)
    )
    if unlike:
        rule = "must be the d2l.ai chapter's network on a ResNet, upsampled by 32"
        raise ArtifactError(message(where, rule, unlike[0], _FACTORY))
    return _Chapter(backbone, classes, whole)


@dataclass(frozen=True)
class _Torchvision:
    name: str
    classes: int
    weights: dict[str, Tensor]
    dropped: int

    def open(self, path: Path, sha256: str, lines: tuple[str, ...]) -> Opened:
        """Build torchvision's network."""
        net = torchvision_network(self.name, self.classes)
        net.load_state_dict(self.weights)
        more = [f"the layout of torchvision's {self.name}, with ImageNet's mean and std"]
        if self.dropped:
            more.append(f"its second head was left out: {self.dropped} tensors of aux_classifier")
        return open_module(
            net,
            where=str(path),
            name=path.name,
            architecture=f"torchvision:{self.name}",
            sha256=sha256,
            known=_KNOWN,
            voc=True,
            lines=(*lines, *more),
        )


def _torchvision(weights: dict[str, Tensor], where: str) -> _Torchvision:
    auxiliary = [key for key in weights if key.startswith("aux_classifier.")]
    kept = {key: value for key, value in weights.items() if key not in auxiliary}
    last = kept.get("classifier.4.weight", kept.get("classifier.low_classifier.weight"))
    classes = int(last.shape[0]) if last is not None and last.ndim and last.shape[0] else 21
    name, whole, unlike = _nearest(
        kept, TORCHVISION, lambda name: torchvision_network(name, classes)
    )
    if unlike:
        rule = f"must be the state dict of torchvision's {', '.join(TORCHVISION)}"
        got = f"{len(unlike)} differences to {name}: {unlike[0]}"
        raise ArtifactError(message(where, rule, got, _FACTORY))
    return _Torchvision(name, classes, whole, len(auxiliary))


def _nearest(
    weights: dict[str, Tensor], names: Sequence[str], build: Callable[[str], nn.Module]
) -> tuple[str, dict[str, Tensor], list[str]]:
    """Find the network that weights fit best.

    Returns:
        Its name, the weights with the counters that older files lack, and what does not fit.
    """

    def compare(name: str) -> tuple[str, dict[str, Tensor], list[str]]:
        with torch.device("meta"):
            wanted = build(name).state_dict()
        whole = _with_counters(weights, wanted)
        return name, whole, _unlike(whole, wanted)

    return min(map(compare, names), key=lambda found: len(found[2]))
