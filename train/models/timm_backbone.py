"""Backbones of the package timm, for the networks that take the features of strides 4 to 32."""

from __future__ import annotations

import importlib
from typing import Any, Final

import torch
from torch import Tensor, nn

from fcnkit.errors import BadValueError, message, missing_extra

__all__ = ["TimmFeatures"]

_STRIDES: Final = (4, 8, 16, 32)
_PROBE: Final = (1, 3, 64, 96)


class TimmFeatures(nn.Module):
    """A backbone of timm as what our heads take: features of the strides 4, 8, 16 and 32."""

    def __init__(self, name: str, *, pretrained: bool = False) -> None:
        """Create the backbone.

        Args:
            name: A model of timm that gives features, such as ``mobilenetv3_large_100``.
            pretrained: Refused: timm's weights come from a hub.

        Raises:
            MissingExtraError: timm is not installed.
            ValueError: timm has no such model, it does not give these features at any size, or
                pretrained weights were requested.
        """
        super().__init__()
        what = f"timm:{name}"
        if pretrained:
            rule = "pretrained weights are those of torchvision's backbones"
            remedy = "start from a checkpoint with --init-from, or train from scratch"
            raise BadValueError(message("--pretrained", rule, what, remedy))
        try:
            timm: Any = importlib.import_module("timm")
        except ModuleNotFoundError as error:
            raise missing_extra("--backbone", "timm", "timm") from error
        try:
            self.net: Any = timm.create_model(name, features_only=True)
            reductions = self.net.feature_info.reduction()
            widths = self.net.feature_info.channels()
            shapes = _shapes(self.net)
        except Exception as error:  # timm's models raise anything for what they cannot do
            got = f"{what}: {(str(error).splitlines() or [type(error).__name__])[0][:200]}"
            raise _unfit(got) from error
        found = {
            stride: (place, width)
            for place, (stride, width) in enumerate(zip(reductions, widths, strict=True))
            if shapes[place] == (1, width, _PROBE[2] // stride, _PROBE[3] // stride)
        }
        if not set(_STRIDES) <= set(found):
            has = ", ".join(map(str, found)) or "none"
            raise _unfit(f"{what} with strides {has}")
        self._places = [found[stride][0] for stride in _STRIDES]
        self.channels = tuple(found[stride][1] for stride in _STRIDES)

    def forward(self, image_nchw: Tensor) -> list[Tensor]:
        """Compute the features.

        Args:
            image_nchw: float tensor (N, 3, H, W), normalized.

        Returns:
            One tensor (N, channels[i], H/s, W/s) for each s of 4, 8, 16, 32.
        """
        features = self.net(image_nchw)
        return [features[place] for place in self._places]


def _shapes(net: nn.Module) -> list[tuple[int, ...]]:
    """Return the shapes of the features of a small image; the network stays as it is."""
    net.eval()
    with torch.no_grad():
        shapes = [tuple(feature.shape) for feature in net(torch.zeros(_PROBE))]
    net.train()
    return shapes


def _unfit(got: str) -> ValueError:
    rule = "a backbone must give features of the strides 4, 8, 16 and 32 for any sides"
    remedy = "choose a convolutional one, such as timm:mobilenetv3_large_100"
    return BadValueError(message("--backbone", rule, got, remedy))
