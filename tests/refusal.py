"""Errors asserted in full."""

from __future__ import annotations

import re
from typing import Any

import pytest


def refusal(kind: type[Exception], text: str) -> Any:
    """Expect an error of this type whose whole text is this."""
    return pytest.raises(kind, match=rf"\A{re.escape(text)}\Z")
