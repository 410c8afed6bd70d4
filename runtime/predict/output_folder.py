"""An output folder that a run writes into: its manifest, and the way of results to their names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fcnkit.runtime.predict.claims import read_claim
from fcnkit.runtime.predict.file_task import Place
from fcnkit.runtime.predict.manifest import Manifest, Options, Record, line_of
from fcnkit.runtime.predict.parts import Part, partial_name
from fcnkit.runtime.predict.staging import Publishable, Staging

__all__ = ["opened_folder"]


@contextmanager
def opened_folder(
    options: Options,
    sha256: str,
    out: Path,
    *,
    resume: bool,
    part: Part | None = None,
    hashed: bool = False,
) -> Iterator[tuple[Manifest, Place, Staging]]:
    """Open the manifest of an output folder, and the place beside it for results.

    Args:
        options: Of the run.
        sha256: Of its model.
        out: The folder, made where needed.
        resume: Whether results of earlier runs count as done.
        part: The part that the run labels; None for all inputs.
        hashed: Whether inputs are told by their hash.

    Yields:
        The manifest, where results go, and where they are written until they are whole.

    Raises:
        DataError: Another run writes into the folder.
        OSError: The folder or the manifest cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (
        Manifest(
            out,
            options=options,
            model_sha256=sha256,
            resume=resume,
            part=part,
            hashed=hashed,
        ) as manifest,
        Staging(out, name=partial_name(part)) as staging,
    ):

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

        place = Place(staging=staging, publish=publish, keep=keep, resume=resume)
        yield manifest, place, staging
