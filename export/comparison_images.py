"""Pictures to compare models on, and what the logits head is fed of them."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fcnkit.runtime.artifacts.spec import InputSpec, Shape

__all__ = ["SMALL", "comparison_pictures", "flat_pictures", "noise_pictures", "normalized"]


SMALL: Final = 2**15
"""Pixels of a batch up to which a comparison does more than once over: a fault that only large
batches have is rare, and the time of an export counts."""


def comparison_pictures(shape: Shape) -> tuple[NDArray[np.uint8], ...]:
    """Return the batches (N, H, W, 3) to compare models on in one shape."""
    if shape[0] * shape[1] * shape[2] > SMALL:
        return (noise_pictures(shape),)
    return noise_pictures(shape), flat_pictures(shape)


def noise_pictures(shape: Shape) -> NDArray[np.uint8]:
    """Return deterministic pictures (N, H, W, 3) with coarse and fine structure."""
    batch, height, width = shape
    random = np.random.default_rng(height * 4099 + width)
    coarse = random.integers(0, 256, (batch, -(-height // 16), -(-width // 16), 3))
    coarse = coarse.repeat(16, 1).repeat(16, 2)[:, :height, :width]
    fine = random.integers(-40, 41, (batch, height, width, 3))
    return (coarse + fine).clip(0, 255).astype(np.uint8)


def flat_pictures(shape: Shape) -> NDArray[np.uint8]:
    """Return deterministic pictures (N, H, W, 3) of flat patches, each channel 0 or 255."""
    batch, height, width = shape
    random = np.random.default_rng(height * 4099 + width + 1)
    patches = random.integers(0, 2, (batch, -(-height // 48), -(-width // 48), 3))
    flat = patches.repeat(48, 1).repeat(48, 2)[:, :height, :width]
    return (255 * flat).astype(np.uint8)


def normalized(image_nhwc: NDArray[np.uint8], given: InputSpec) -> NDArray[np.float32]:
    """Return (N, 3, H, W) as a model with head ``logits`` takes it, computed in float64."""
    scaled = (image_nhwc / 255 - np.array(given.mean)) / np.array(given.std)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)
