"""The tiny model that ``fcnkit doctor`` runs with every backend."""

from __future__ import annotations

import base64
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["TINY_MODEL", "UnfitMachineError", "check_doubled", "ones"]

TINY_MODEL: Final = base64.b64decode(
    "CAgSBmZjbmtpdDpnCg8KAXgKAXcSAXkiBENvbnYSBXByb2JlKhMIAQgBCAEIARABIgQAAABAQgF3WhsKAXgSFgoUCAES"
    "EAoCCAEKAggBCgIIAgoCCAJiGwoBeRIWChQIARIQCgIIAQoCCAEKAggCCgIIAkIECgAQEg=="
)
"""A whole ONNX model: one 1x1 convolution that doubles a 2x2 image. A test builds it again."""


class UnfitMachineError(Exception):
    """All packages are installed, but the machine lacks the hardware."""


def ones() -> NDArray[np.float32]:
    """Return the input of the tiny model: float32 (1, 1, 2, 2)."""
    return np.ones((1, 1, 2, 2), np.float32)


def check_doubled(result: object) -> None:
    """Refuse an output of the tiny model that is not twice its input.

    Args:
        result: What the library returned for ``ones()``.

    Raises:
        RuntimeError: It is something else.
    """
    if not np.array_equal(np.asarray(result), 2 * ones()):
        raise RuntimeError(f"a wrong answer to a tiny model: {result}")
