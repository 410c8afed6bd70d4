"""Which picture each result of ``Predictor`` was made from, for processes that share a folder.

They share no manifest, so every result has a small file below ``OUT/.fcnkit-inputs`` that names
its picture. It is made before the result, by whoever is first.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

from fcnkit.runtime.predict.identity import Origin, check_replaces
from fcnkit.runtime.predict.manifest import MANIFEST, Record, read_origins

__all__ = ["CLAIMS", "Claims", "read_claim"]

CLAIMS: Final = ".fcnkit-inputs"
"""Name of the folder in the output folder."""


def _claim_path(out: Path, output: Path) -> Path:
    return out / CLAIMS / output.with_name(f"{output.name}.json")


def read_claim(out: Path, output: Path) -> Origin | None:
    """Return the picture that a result was made from; None where no ``Predictor`` made it.

    Args:
        out: The output folder.
        output: Name of the result in it.
    """
    try:
        data = json.loads(_claim_path(out, output).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return Origin.read(data) if isinstance(data, dict) else None


class Claims:
    """The claims of one output folder."""

    def __init__(self, out: Path) -> None:
        """Look at an output folder; it exists."""
        self._out = out
        self._listed: dict[str, Origin] | None = None

    def check(self, source: Path, output: Path) -> None:
        """Refuse a picture whose result would replace another picture's.

        Raises:
            DataError: See ``check_replaces``.
        """
        before = read_claim(self._out, output)
        listed = None if before is not None else self._by_predict(output)
        check_replaces(self._out / output, (before, listed), Origin.of(source))

    def _by_predict(self, output: Path) -> Origin | None:
        """Return what ``fcnkit predict`` said of a result, where it worked in this folder."""
        if self._listed is None:
            self._listed = read_origins(self._out / MANIFEST)
        return self._listed.get(output.as_posix())

    def take(self, record: Record) -> None:
        """Say which picture a result is made from, just before it comes under its name.

        Raises:
            DataError: Another process has meanwhile written another picture's result.
            OSError: It cannot be written.
        """
        origin = Origin(
            input=record.input, input_path=record.input_path, input_stamp=record.input_stamp
        )
        output = Path(record.output)
        path = _claim_path(self._out, output)
        path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(asdict(origin)).encode()
        try:
            with path.open("xb") as file:
                file.write(line)
        except FileExistsError:
            self.check(Path(record.input), output)
            path.write_bytes(line)
