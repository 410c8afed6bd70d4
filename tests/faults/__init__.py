"""What fcnkit promises about bad input and faults (docs/reliability.md), tried."""

from __future__ import annotations

from tests.faults import (
    arguments,
    backends,
    bands,
    datasets,
    kills,
    load,
    models,
    options,
    outputs,
    pictures,
)
from tests.faults.table import PROMISES

__all__ = [
    "PROMISES",
    "arguments",
    "backends",
    "bands",
    "datasets",
    "kills",
    "load",
    "models",
    "options",
    "outputs",
    "pictures",
]
