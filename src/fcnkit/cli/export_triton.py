"""``fcnkit export triton``: a repository for NVIDIA Triton Inference Server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fcnkit.cli.documented import documented
from fcnkit.cli.say import say
from fcnkit.export.triton import Device

__all__ = ["triton"]


@documented
def triton(
    model: Annotated[Path, typer.Argument(help="An .onnx file, or an engine for tensorrt.")],
    *,
    out: Annotated[Path, typer.Option("-o", "--out")],
    name: str | None = None,
    version: int = 1,
    device: Device = "auto",
    instances: int = 1,
    queue_delay: int = 1000,
) -> None:
    """Write a model and its config.pbtxt for NVIDIA Triton Inference Server.

    Options:
        out: The model repository.
        name: What clients call it; the file's name.
        version: The version's folder.
        device: where the model runs.
        instances: Requests computed at the same time.
        queue_delay: Microseconds that a request may wait to share a batch.
    """
    from fcnkit.export.triton import write_triton_repository

    report = write_triton_repository(
        model,
        out,
        name=name,
        version=version,
        device=device,
        instances=instances,
        queue_delay=queue_delay,
    )
    batches = f"batches up to {report.max_batch_size}" if report.max_batch_size else "no batching"
    say(f"{report.folder}: model {report.name}, version {version}, {batches}")
    say(f"serve it with tritonserver --model-repository {out}")
