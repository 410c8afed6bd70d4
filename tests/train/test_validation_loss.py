"""The loss on val against a slow one from the network's own logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.train.checkpoint import checkpoint_spec
from fcnkit.train.validation_loss import LossBackend
from tests.train.networks import CLASSES, lively


def slow(logits_chw: np.ndarray, labels_hw: np.ndarray) -> tuple[float, int]:
    """Sum of the cross-entropy in float64, and its number of pixels."""
    total, pixels = 0.0, 0
    for (row, column), label in np.ndenumerate(labels_hw):
        if label != 255:
            scores = logits_chw[:, row, column].astype(np.float64)
            total += float(np.log(np.exp(scores - scores.max()).sum()) + scores.max())
            total -= float(scores[label])
            pixels += 1
    return total, pixels


@pytest.mark.parametrize("cover", ["pad", "average"])
def test_it_is_the_mean_over_the_pixels_of_the_tiles(cover: str) -> None:
    random = np.random.default_rng(1)
    net = lively("fcn32s-resnet18")
    spec = checkpoint_spec("fcn32s-resnet18", CLASSES, ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    backend = LossBackend(net, spec, device=torch.device("cpu"), threads=1)
    tile = (32, 64) if cover == "average" else None
    segmenter = Segmenter(backend, cover=cover, tile=tile)  # type: ignore[arg-type]
    total, pixels = 0.0, 0
    for height, width in ((40, 70), (33, 64), (32, 64)):
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        labels = random.integers(0, 3, (height, width)).astype(np.uint8)
        labels[:, :5] = 255
        plan = segmenter.plan(height, width)
        backend.expect(labels, plan)
        segmenter(image)
        for top in plan.tops:
            for left in plan.lefts:
                part = image[top : top + plan.tile_height, left : left + plan.tile_width]
                missing = (plan.tile_height - part.shape[0], plan.tile_width - part.shape[1])
                padded = np.pad(part, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="reflect")
                x = (padded / 255 - np.array(spec.input.mean)) / np.array(spec.input.std)
                with torch.no_grad():
                    logits = net(torch.from_numpy(x.astype(np.float32).transpose(2, 0, 1))[None])
                own = labels[top : top + plan.tile_height, left : left + plan.tile_width]
                more = slow(logits[0].numpy()[:, : own.shape[0], : own.shape[1]], own)
                total, pixels = total + more[0], pixels + more[1]
    assert backend.loss == pytest.approx(total / pixels, rel=1e-4)
