"""What the commands of the benchmarks share."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def parser_of(doc: str) -> argparse.ArgumentParser:
    """Begin a command that is described by the first line of its module, with ``--json``."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser


def save(found: Any, path: Path | None) -> None:
    """Write the figures of a run, if there is a file for them."""
    if path:
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
