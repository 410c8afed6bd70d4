"""What tells a file or an object from another one of the same name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Stamp"]


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells a file from another of the same name."""

    bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp | None:
        """Return a file's stamp, None where there is no such file."""
        try:
            found = path.stat()
        except (OSError, ValueError):  # ValueError: a manifest may name what cannot be a path
            return None
        return cls(bytes=found.st_size, mtime_ns=found.st_mtime_ns)

    @classmethod
    def read(cls, data: object) -> Stamp | None:
        """Return the stamp that a JSON value holds, None where it holds none."""
        if not isinstance(data, dict) or set(data) != {"bytes", "mtime_ns"}:
            return None
        return cls(**data)
