"""What the C++ extension was built with and what it uses here."""

from __future__ import annotations

from typing import Any

from fcnkit.runtime.pixels import _kernels

__all__ = ["build_info"]


def build_info() -> dict[str, Any]:
    """Say how the kernels were built and which instruction set they use; for bug reports.

    Returns:
        ``compiler``; ``asserts``, whether C++ assertions are on; ``variants``, the instruction
        sets this machine can run, best first; ``active``, the one in use, which the environment
        variable FCNKIT_FORCE_ISA can choose.

    Raises:
        ValueError: FCNKIT_FORCE_ISA does not name a variant.
    """
    return dict(_kernels.build_info())
