"""Which picture each result of ``Predictor`` was made from, for processes that share a folder.

They share no manifest, so every result has a small file below ``OUT/.fcnkit-inputs`` that names
its image: the claim. It is written before the result. A process holds it locked from the check
until the result is under its name, so that of two images with one name only the first gets it.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict
from pathlib import Path
from typing import IO, Final

from fcnkit.runtime.files import lock_file
from fcnkit.runtime.predict.history import History
from fcnkit.runtime.predict.identity import Origin, check_replaces, refuse_another
from fcnkit.runtime.predict.manifest import Record
from fcnkit.runtime.predict.parts import found_in
from fcnkit.runtime.predict.staging import Publishable

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
        return _origin_in(_claim_path(out, output).read_bytes())
    except OSError:
        return None


def _origin_in(content: bytes) -> Origin | None:
    try:
        # Only the first line: a kill may leave the end of a longer one behind it.
        data = json.loads(content.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return None
    return Origin.read(data) if isinstance(data, dict) else None


class Claims:
    """The claims of one output folder."""

    def __init__(self, out: Path) -> None:
        """Look at an output folder; it exists."""
        self._out = out
        self._listed: History | None = None
        self._reading = threading.Lock()

    def check(self, source: Path, output: Path) -> None:
        """Refuse a picture whose result would replace another picture's.

        Raises:
            DataError: See ``check_replaces``.
        """
        before = read_claim(self._out, output)
        check_replaces(self._out / output, self._known(before, output), Origin.of(source))

    def _known(self, claimed: Origin | None, output: Path) -> tuple[Origin | None, ...]:
        """Return what is known of the image of a result: its claim, else what predict listed."""
        if claimed is not None:
            return (claimed,)
        with self._reading:
            if self._listed is None:
                self._listed = History(found_in(self._out).readable)
            return tuple(self._listed.origins(self._out, output.as_posix()))

    def close(self) -> None:
        """Close the manifests that were read; they are opened again where they are needed."""
        with self._reading:
            if self._listed is not None:
                self._listed.close()
            self._listed = None

    def publish(self, record: Record, result: Publishable) -> None:
        """Claim a result's name for its image and put the result under it; on any thread.

        Args:
            record: Says the image and the name.
            result: Whole.

        Raises:
            DataError: The result of another image is there: another process was first.
            OSError: The claim or the result cannot be written.
        """
        now = Origin(
            input=record.input,
            input_path=record.input_path,
            input_stamp=record.input_stamp,
            input_sha256=record.input_sha256,
        )
        output = Path(record.output)
        target, path = self._out / output, _claim_path(self._out, output)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Opened without emptying it: what is there counts until the lock is held.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0) as file:
            lock_file(file, wait=True)
            file.seek(0)
            content = file.read()
            claimed = _origin_in(content)
            check_replaces(target, self._known(claimed, output), now)

            def check() -> None:
                self.close()  # a run of predict may have listed it since
                try:
                    refuse_another(target, self._known(claimed, output), now)
                except BaseException:
                    _overwrite(file, content)
                    raise

            _overwrite(file, json.dumps(asdict(now)).encode() + b"\n")
            result.publish(output, check=check)


def _overwrite(file: IO[bytes], content: bytes) -> None:
    file.seek(0)
    file.write(content)
    file.truncate()
