"""The loss on val, taken from the logits that validation computes anyway."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.runtime.pixels.tile_plan import TilePlan
from fcnkit.train.backend import TorchBackend

__all__ = ["LossBackend"]


class LossBackend(TorchBackend):
    """A network that adds up its cross-entropy while it labels pictures."""

    _sum, _pixels = 0.0, 0
    _target: NDArray[np.uint8] = np.empty((0, 0), np.uint8)
    _places: tuple[tuple[int, int], ...] = ()
    """Of the tiles that are expected; with none, nothing is added up."""

    def expect(self, target_hw: NDArray[np.uint8], plan: TilePlan) -> None:
        """Say what the next picture shows.

        Args:
            target_hw: Its true labels (H, W), 255 = void.
            plan: Of its tiles, which come in this order.
        """
        self._target = target_hw
        self._places = tuple((top, left) for top in plan.tops for left in plan.lefts)

    @property
    def loss(self) -> float:
        """Mean over the pixels of all tiles that are not void: cross-entropy, natural logarithm.

        A pixel in the overlap of tiles counts once per tile.
        """
        return self._sum / max(1, self._pixels)

    def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
        logits_tchw = super()._run(batch)
        for logits_chw in logits_tchw:
            if self._places:
                (top, left), *rest = self._places
                self._add(logits_chw, self._target, top, left)
                self._places = tuple(rest)
        return logits_tchw

    def _add(
        self, logits_chw: NDArray[Any], target_hw: NDArray[np.uint8], top: int, left: int
    ) -> None:
        height, width = logits_chw.shape[1:]
        known_hw = target_hw[top : top + height, left : left + width].astype(np.int64)
        inside_chw = torch.from_numpy(logits_chw[:, : known_hw.shape[0], : known_hw.shape[1]])
        labels = torch.from_numpy(known_hw)[None]
        total = F.cross_entropy(inside_chw[None], labels, ignore_index=VOID, reduction="sum")
        self._sum += float(total)
        self._pixels += int((known_hw != VOID).sum())
