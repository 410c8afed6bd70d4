"""``fcnkit export``: checkpoint to ONNX, ONNX to a TensorRT engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from fcnkit.cli.export_engine import engine
from fcnkit.cli.export_triton import triton
from fcnkit.errors import message, missing_extra
from fcnkit.runtime.spec import Head

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Write a trained network as ONNX or as an engine.")


@app.command()
def onnx(
    checkpoint: Annotated[Path, typer.Argument(help="best.pt or last.pt of a run.")],
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="The .onnx file to write.")],
    head: Annotated[
        str, typer.Option(help="logits, labels (uint8 in and out) or scene (any size).")
    ] = "logits",
) -> None:
    """Write ONNX, run it against PyTorch, and keep the file only if both agree."""
    if head not in get_args(Head):
        rule = f"must be one of {', '.join(get_args(Head))}"
        raise ValueError(message("--head", rule, head, "choose one of these"))
    try:
        from fcnkit.export.to_onnx import export_onnx
    except ModuleNotFoundError as error:
        raise missing_extra("fcnkit export onnx", str(error.name), "export") from error
    report = export_onnx(checkpoint, out, head=cast(Head, head))
    typer.echo(f"{out}: {report.summary()}")


app.command("engine")(engine)
app.command("triton")(triton)
