"""What fcnkit promises about bad input and faults (docs/reliability.md), tried."""

from __future__ import annotations

from tests.faults import arguments, datasets, kills, load, models, outputs, pictures
from tests.faults.table import PROMISES

__all__ = ["PROMISES", "arguments", "datasets", "kills", "load", "models", "outputs", "pictures"]
