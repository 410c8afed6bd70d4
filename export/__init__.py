"""The export stage."""

from __future__ import annotations
