"""The runtime: numpy and C++ around whatever library runs the model.

Importing this package imports numpy and Pillow and nothing heavier.
"""

from __future__ import annotations

from fcnkit.runtime._build import build_info

__all__ = ["build_info"]
