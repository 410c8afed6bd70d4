"""Pictures to compare models on, and what the logits head is fed of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.artifacts.spec import InputSpec, Shape

__all__ = ["noise_pictures", "normalised"]


def noise_pictures(shape: Shape) -> NDArray[np.uint8]:
    """Return deterministic pictures (N, H, W, 3) with coarse and fine structure."""
    batch, height, width = shape
    random = np.random.default_rng(height * 4099 + width)
    coarse = random.integers(0, 256, (batch, -(-height // 16), -(-width // 16), 3))
    coarse = coarse.repeat(16, 1).repeat(16, 2)[:, :height, :width]
    fine = random.integers(-40, 41, (batch, height, width, 3))
    return (coarse + fine).clip(0, 255).astype(np.uint8)


def normalised(image_nhwc: NDArray[np.uint8], given: InputSpec) -> NDArray[np.float32]:
    """Return (N, 3, H, W) as a model with head ``logits`` takes it, computed in float64."""
    scaled = (image_nhwc / 255 - np.array(given.mean)) / np.array(given.std)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)
