"""A network small enough to be trained dozens of times in a test, and runs of it elsewhere."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from fcnkit.train import loop
from fcnkit.train.models import SegmentationNet, SubpixelConvTranspose2d
from fcnkit.train.models.base import Stage
from fcnkit.train.recipe import RECIPES, Recipe

RECIPE = replace(
    RECIPES["modern"], epochs=4, batch=8, crop=(32, 32), precision="fp32", scale=(1.0, 1.0)
)

_CONTEXT = multiprocessing.get_context("forkserver")
# One server imports torch once for all; what it forks are processes like any other.
_CONTEXT.set_forkserver_preload(["fcnkit.train.loop", "tests.train.tiny"])


class TinyNet(SegmentationNet):
    """A convolution of stride 4 with batch normalization, and the way back to full size."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, stride=4), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.transpose_conv = SubpixelConvTranspose2d(8, num_classes, stride=4)

    def body(self, image_nchw: Tensor) -> Tensor:
        features: Tensor = self.features(image_nchw)
        return features

    @property
    def last_step(self) -> SubpixelConvTranspose2d:
        return self.transpose_conv

    @property
    def inner_stage(self) -> Stage:
        return Stage(self.features, 8, 4, len(self.transpose_conv.bias))


def train_tiny(data: Path, run: Path, recipe: Recipe, **options: Any) -> list[dict[str, Any]]:
    """Train the tiny network with the real loop; options are those of ``train``."""
    torch.set_num_threads(1)
    opened = loop.open_data(data, recipe)
    with mock.patch.object(loop, "initial_model", lambda _, classes: (TinyNet(classes), None)):
        return loop.train(opened, run, recipe, device="cpu", workers=0, **options)


def start_tiny(
    data: Path, run: Path, recipe: Recipe, *, log: Path, environment: dict[str, str] | None = None
) -> ForkServerProcess:
    """Start a run that resumes, in its own process that appends finished epochs to log."""
    process = _CONTEXT.Process(target=_main, args=(data, run, recipe, log, environment or {}))
    process.start()
    return process


def start_group(
    data: Path, run: Path, recipe: Recipe, *, world: int, log: Path
) -> Sequence[ForkServerProcess]:
    """Start what torchrun starts: processes that know of each other by the environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
    return [
        start_tiny(
            data,
            run,
            recipe,
            log=log,
            environment={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(world)
    ]


def _main(data: Path, run: Path, recipe: Recipe, log: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    with log.open("a", encoding="utf-8", buffering=1) as file:
        file.write("start\n")
        train_tiny(
            data, run, recipe, resume=True, on_epoch=lambda result: print(result.epoch, file=file)
        )
