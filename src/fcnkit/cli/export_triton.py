"""``fcnkit export triton``: a repository for NVIDIA Triton Inference Server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fcnkit.cli.options import choice
from fcnkit.cli.say import say
from fcnkit.export.triton import Device

__all__ = ["triton"]


def triton(
    model: Annotated[Path, typer.Argument(help="An .onnx file, or an engine for tensorrt.")],
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="The model repository.")],
    name: Annotated[str | None, typer.Option(help="What clients call it; the file's name.")] = None,
    version: Annotated[int, typer.Option(help="The version's folder.")] = 1,
    device: Annotated[Device, choice("--device", Device, "where the model runs.")] = "auto",
    instances: Annotated[int, typer.Option(help="Requests computed at the same time.")] = 1,
    queue_delay: Annotated[
        int, typer.Option(help="Microseconds that a request may wait to share a batch.")
    ] = 1000,
) -> None:
    """Write a model and its config.pbtxt for NVIDIA Triton Inference Server."""
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
