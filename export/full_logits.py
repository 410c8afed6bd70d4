"""The logits that class scores stand for, all of them, in float64 and without the kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.artifacts.last_layer import LastLayerWeights

__all__ = ["full_logits"]


def full_logits(scores_nchw: NDArray[Any], layer: LastLayerWeights) -> NDArray[np.float64]:
    """Compute the last layer in its sub-pixel form, see ``train/models/upsample.py``.

    Args:
        scores_nchw: (N, C, h, w).
        layer: The last layer, with stride s.

    Returns:
        float64 (N, C, s*h, s*w).
    """
    batch, classes, height, width = scores_nchw.shape
    stride, margin = layer.stride, layer.stride // 2
    around = np.pad(
        scores_nchw.astype(np.float64),
        ((0, 0), (0, 0), (1, 1), (1, 1)),
        mode="edge" if layer.border == "edge" else "constant",
    )
    weight = layer.weight.astype(np.float64)
    parts = weight.reshape(*weight.shape[:-2], 2, stride, 2, stride)
    rule = "nchw,cRS->nchRwS" if weight.ndim == 3 else "nchw,coRS->nohRwS"
    fine = np.zeros((batch, classes, height + 1, stride, width + 1, stride))
    for row in (0, 1):
        for column in (0, 1):
            # Kernel rows from stride on belong to the scores above.
            near = around[:, :, 1 - row : height + 2 - row, 1 - column : width + 2 - column]
            fine += np.einsum(rule, near, parts[..., row, :, column, :], optimize=True)
    wide = fine.reshape(batch, classes, (height + 1) * stride, (width + 1) * stride)
    logits: NDArray[np.float64] = wide[..., margin:-margin, margin:-margin]
    return logits + layer.bias.astype(np.float64)[:, None, None]
