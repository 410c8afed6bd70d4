"""Networks for tests: fresh, but with nothing at zero or one that would hide a mistake."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from fcnkit.train.checkpoint import Checkpoint, checkpoint_spec, save_checkpoint
from fcnkit.train.models import SegmentationNet, SubpixelConvTranspose2d, create_model
from fcnkit.train.recipe import RECIPES

CLASSES = ("a", "b", "c")


def lively(architecture: str, num_classes: int = len(CLASSES)) -> SegmentationNet:
    """Return a network in evaluation mode in which every parameter and statistic matters."""
    torch.manual_seed(0)
    net = create_model(architecture, num_classes).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.uniform_(module.bias, -0.2, 0.2)
        elif isinstance(module, nn.Conv2d | SubpixelConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
    return net


def save_network(net: SegmentationNet, architecture: str, path: Path) -> None:
    """Write a network as a checkpoint with as many classes as its head has."""
    with torch.inference_mode():
        num_classes = net.eval()(torch.zeros(1, 3, 32, 32)).shape[1]
    classes = tuple(f"class {index}" for index in range(num_classes))
    spec = checkpoint_spec(architecture, classes, tuple((i, i, i) for i in range(num_classes)))
    checkpoint = Checkpoint(
        spec=spec,
        model=net.state_dict(),
        resume=None,
        epoch=1,
        recipe=RECIPES["modern"],
        scores={},
    )
    save_checkpoint(path, checkpoint)
