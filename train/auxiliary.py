"""A second head that learns from features inside a network: deep supervision.

Source: Lee et al., "Deeply-Supervised Nets", 2015. Zhao et al., "Pyramid Scene Parsing Network",
2017, section 3.3, put it on the next to last stage of a ResNet. It is not part of the network: what
is validated, kept and exported does not have it.
"""

from __future__ import annotations

from torch import Tensor, nn

from fcnkit.errors import BadValueError, message
from fcnkit.train.models import SegmentationNet, SubpixelConvTranspose2d
from fcnkit.train.models.base import Stage
from fcnkit.train.models.upsample import initialize_upsampling
from fcnkit.train.recipe import Recipe

__all__ = ["AuxiliaryHead", "WithAuxiliary", "auxiliary_head"]

WIDTH = 64
"""Channels of the head, as in DDRNet's."""


class AuxiliaryHead(nn.Module):
    """Features of a stage to class scores, upsampled to the image."""

    def __init__(self, stage: Stage) -> None:
        """Create the layers for the features of a stage."""
        super().__init__()
        self.scores = nn.Sequential(
            nn.Conv2d(stage.channels, WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(inplace=True),
            nn.Conv2d(WIDTH, stage.classes, 1),
        )
        self.upsampling = SubpixelConvTranspose2d(stage.classes, stage.classes, stride=stage.stride)
        initialize_upsampling(self.upsampling, "bilinear")

    def forward(self, features_nchw: Tensor) -> Tensor:
        """Compute the logits, in the order of ``SegmentationNet.pieces``."""
        return self.upsampling.pieces(self.scores(features_nchw))


class WithAuxiliary(nn.Module):
    """A network and its auxiliary head, computed in one pass."""

    def __init__(self, net: SegmentationNet, head: AuxiliaryHead) -> None:
        super().__init__()
        self.net, self.head = net, head

    def forward(self, x_bchw: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of both, see ``SegmentationNet.pieces``."""
        seen: list[Tensor] = []

        def keep(_stage: nn.Module, _given: object, result: Tensor | tuple[Tensor, ...]) -> None:
            seen.append(result if isinstance(result, Tensor) else result[-1])

        stage = self.net.inner_stage
        assert stage is not None  # auxiliary_head refuses other networks
        # Only for this pass: a copy of the network, such as the averaged one, must not have it.
        hook = stage.module.register_forward_hook(keep)
        try:
            logits = self.net.pieces(x_bchw)
        finally:
            hook.remove()
        return logits, self.head(seen[0])


def auxiliary_head(net: SegmentationNet, recipe: Recipe) -> AuxiliaryHead | None:
    """Create the head that a recipe asks for.

    Args:
        net: The network.
        recipe: Says whether there is one.

    Returns:
        The head with fresh weights on the network's device, or None.

    Raises:
        ValueError: The network has no stage for it.
    """
    if not recipe.auxiliary:
        return None
    if net.inner_stage is None:
        rule = "is for networks on a ResNet and for DDRNet"
        raise BadValueError(message("--auxiliary", rule, type(net).__name__, "leave it out"))
    return AuxiliaryHead(net.inner_stage).to(next(net.parameters()).device)
