"""The train stage."""

from __future__ import annotations
