"""The compiled kernels and their numpy API: color maps, tiling, argmax, confusion matrices."""

from __future__ import annotations
