"""Tests of the export trace a checkpoint that many of them share once."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def _traced(traced_once: None) -> None:
    pass
