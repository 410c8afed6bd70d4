"""``fcnkit export triton``: a repository for NVIDIA Triton Inference Server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from fcnkit.cli.say import say

__all__ = ["triton"]


def triton(
    model: Annotated[Path, typer.Argument(help="An .onnx file, or an engine for tensorrt.")],
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="The model repository.")],
    name: Annotated[str | None, typer.Option(help="What clients call it; the file's name.")] = None,
    version: Annotated[int, typer.Option(help="The version's folder.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or gpu.")] = "auto",
    instances: Annotated[int, typer.Option(help="Requests computed at the same time.")] = 1,
    queue_delay: Annotated[
        int, typer.Option(help="Microseconds that a request may wait to share a batch.")
    ] = 1000,
) -> None:
    """Write a model and its config.pbtxt for NVIDIA Triton Inference Server."""
    from fcnkit.export.triton import Device, write_triton_repository

    report = write_triton_repository(
        model,
        out,
        name=name,
        version=version,
        device=cast(Device, device),
        instances=instances,
        queue_delay=queue_delay,
    )
    batches = f"batches up to {report.max_batch_size}" if report.max_batch_size else "no batching"
    say(f"{report.folder}: model {report.name}, version {version}, {batches}")
    say(f"serve it with tritonserver --model-repository {out}")
