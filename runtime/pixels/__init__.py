"""The compiled kernels and their numpy API: color maps, tiling, argmax, confusion matrices.

Everything that touches every pixel is here; the C++ behind it is in ``csrc``.
"""

from __future__ import annotations
