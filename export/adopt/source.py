"""One side of the comparison: a network from elsewhere, run as it was given."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from fcnkit.errors import BadValueError, message
from fcnkit.export.adopt.claims import ColorOrder, Upsampling
from fcnkit.export.adopt.probing import Facts, Run
from fcnkit.export.comparison_images import normalized
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.backends.base import BackendInfo, CheckedBackend

__all__ = ["SourceBackend"]


class SourceBackend(CheckedBackend):
    """Runs a network as it was given, and does outside of it what the adopted graph does inside.

    Nothing of the adopted graph is used: the order of channels, the upsampling and, for a network
    that gives labels, the normalization are computed here by numpy and PyTorch.
    """

    def __init__(
        self,
        run: Run,
        spec: ModelSpec,
        facts: Facts,
        *,
        color: ColorOrder,
        upsample: Upsampling,
        library: str,
        threads: int,
    ) -> None:
        """Wrap a network.

        Args:
            run: Runs it on (N, 3, H, W) in its own order of channels.
            spec: With head logits, or labels where the network gives labels.
            facts: What was found out about it.
            color: Its order of channels.
            upsample: How its scores are enlarged.
            library: What runs it.
            threads: CPU threads of one run.
        """
        name, _, version = library.partition(" ")
        info = BackendInfo(
            library=name,
            version=version,
            device="cpu",
            device_name="cpu",
            threads=threads,
            precision="fp32",
        )
        super().__init__(spec, name="source", info=info)
        self._source, self._facts = run, facts
        self._color, self._align = color, upsample == "align-corners"

    def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
        image_nchw = normalized(batch, self.spec.input) if batch.dtype == np.uint8 else batch
        if self._color == "BGR":
            image_nchw = np.ascontiguousarray(image_nchw[:, ::-1])
        result = self._source(image_nchw)
        if self._facts.gives_labels:
            return self._labels(result.reshape(len(batch), *result.shape[-2:]))
        if self._facts.stride > 1:
            fine = F.interpolate(
                torch.from_numpy(np.ascontiguousarray(result)),
                size=image_nchw.shape[2:],
                mode="bilinear",
                align_corners=self._align,
            )
            result = fine.numpy()
        return result

    def labels_of(self, image_nchw: NDArray[np.float32]) -> NDArray[Any]:
        """Label images that are normalized already, in RGB: (N, 3, H, W) to (N, H, W)."""
        result = self._run(image_nchw)
        return result if result.ndim == 3 else result.argmax(1)

    def _labels(self, labels_nhw: NDArray[Any]) -> NDArray[np.uint8]:
        low, high, classes = int(labels_nhw.min()), int(labels_nhw.max()), self.spec.num_classes
        if low < 0 or high >= classes:
            rule = f"the labels of the network must be 0..{classes - 1}"
            remedy = f"say how many there are, such as --classes {high + 1}"
            raise BadValueError(message("--classes", rule, f"{low}..{high}", remedy))
        return labels_nhw.astype(np.uint8)

    def _free(self) -> None:
        """Nothing to free: the network belongs to whoever opened it."""
