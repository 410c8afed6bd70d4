"""What fcnkit promises about bad input and faults (docs/reliability.md), tried."""

from __future__ import annotations

from tests.faults import datasets, kills, models, outputs, pictures
from tests.faults.table import PROMISES

__all__ = ["PROMISES", "datasets", "kills", "models", "outputs", "pictures"]
