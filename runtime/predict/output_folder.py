"""An output folder that a run writes into: its manifest, and the way of results to their names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fcnkit.runtime.predict.claims import read_claim
from fcnkit.runtime.predict.file_task import Place
from fcnkit.runtime.predict.manifest import Manifest, Record, line_of
from fcnkit.runtime.predict.parts import Part, partial_name
from fcnkit.runtime.predict.staging import Publishable, Staging

__all__ = ["opened_folder"]


@contextmanager
def opened_folder(
    manifest: Manifest, out: Path, *, resume: bool, part: Part | None = None
) -> Iterator[tuple[Place, Staging]]:
    """Open the place beside the manifest of an output folder where results are written.

    Args:
        manifest: Of the run; it is closed at the end.
        out: The output folder.
        resume: Whether results of earlier runs count as done.
        part: The part that the run labels; None for all inputs.

    Yields:
        Where results go, and where they are written until they are whole.

    Raises:
        OSError: Nothing can be written there.
    """
    with manifest, Staging(out, name=partial_name(part)) as staging:

        def publish(record: Record, result: Publishable) -> None:
            source, output = Path(record.input), Path(record.output)
            staging.announce(record.output, line_of(record))
            result.publish(
                output, check=lambda: manifest.check(source, output, read_claim(out, output))
            )

        def keep(record: Record) -> None:
            if record.status == "skipped":  # it has a line
                return
            manifest.append(record)
            staging.listed(record.output)

        yield Place(staging=staging, publish=publish, keep=keep, resume=resume), staging
