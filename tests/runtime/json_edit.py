"""Damaged JSON for the readers that take nothing but what they know."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["edited_json"]


def edited_json(text: str, path: str, value: Any) -> str:
    """Return JSON with the value at a dotted path replaced; None removes the key."""
    data = json.loads(text)
    *parents, last = path.split(".")
    target = data
    for key in parents:
        target = target[key]
    if value is None:
        del target[last]
    else:
        target[last] = value
    return json.dumps(data)
