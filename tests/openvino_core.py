"""One Core of OpenVINO for all tests of a process."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

__all__ = ["openvino_core"]


@cache
def openvino_core() -> Any:
    """Return a Core that is never let go; skip the test without OpenVINO.

    A Core that goes frees its signal stack, even if that is in use again because another one gave
    it back: two whose lives overlap are enough. The next signal then ends the process.
    """
    return pytest.importorskip("openvino").Core()
